package main

import (
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// scene is one capture: what runs in the server's and in the client's workload,
// and what the flows between them are.
//
// Scripts are for bash. Beside its defaults they have $S and $C, the addresses
// of server and client, $S6 and $C6, and $D, a directory of the scene's own in
// which ca.crt, server.crt, server.key, client.crt and client.key lie; it is the
// working directory too.
type scene struct {
	name string
	// needs are programs without which the scene cannot be recorded.
	needs []string
	// mesh runs beside the two, in the network between the nodes, until the scene
	// ends; it may be empty. $BIN is where our own programs are.
	mesh string
	// server runs until the scene ends. ready names the sockets to wait for,
	// such as "tcp/443".
	server string
	ready  []string
	// client ends by itself; unless it may fail, with success.
	client string
	fails  bool
	// keep are files of $D to keep beside the capture, as <scene>.<file>.
	keep  []string
	flows []label
}

// truth is what a flow in fact is, however much of it is seen.
type truth string

const (
	// sealed: all application bytes are encrypted.
	sealed truth = "sealed"
	// inClear: application bytes can be read by whoever sees them, or would be if
	// they were text.
	inClear truth = "in clear"
	// mixed: in clear first, sealed later.
	mixed truth = "mixed"
	// neither: nothing was sealed and nothing said, or encrypted to nobody known:
	// handshakes that failed, anonymous suites.
	neither truth = "neither"
	// mimic: in clear, of random bytes in the form of TLS: where its beginning is
	// not seen, nothing tells it from a sealed flow.
	mimic truth = "mimicry"
	// untold: the oracle of a corpus cannot tell.
	untold truth = "untold"
	// nothing: no payload.
	nothing truth = "nothing"
)

// label is what the flows toward one server port are.
type label struct {
	// at is the protocol, and the server's port where there are ports: "tcp/443".
	at      string
	truth   truth
	verdict verify.Verdict
	// What else must be found. Empty fields are not compared, except weak.
	version, cipher, group, sni, protocol, upgrade string
	resumed, retried, clientCert                   bool
	weak                                           bool
	// only are the flows, from 1 in order, that resumed is about; empty for all.
	only []int
}

// scenes are all there are.
var scenes = slices.Concat(tlsScenes, oddTLSScenes, httpScenes, laneScenes, databaseScenes, mailScenes, brokerScenes, clearScenes, datagramScenes, otherScenes)

// sceneNamed finds a scene.
func sceneNamed(name string) (scene, error) {
	i := slices.IndexFunc(scenes, func(s scene) bool { return s.name == name })
	if i < 0 {
		return scene{}, fmt.Errorf("no scene %q", name)
	}
	return scenes[i], nil
}
