package verify

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
)

// Lane is what one proxy says of one lane: it is the proxy's word, not seen on
// the wire.
type Lane struct {
	Client, Server netip.AddrPort
	// Random of the ClientHello.
	Random [32]byte
	// ClientID and ServerID are SPIFFE IDs; the proxy verified its peer's.
	ClientID, ServerID string
	// By is "client" or "server": which end the proxy is.
	By string
}

// ParseLanes reads what a proxy answers at /connections.
func ParseLanes(answer []byte) ([]Lane, error) {
	var report struct {
		Lanes []struct {
			Direction string         `json:"direction"`
			Client    netip.AddrPort `json:"client"`
			Server    netip.AddrPort `json:"server"`
			Local     string         `json:"local"`
			Peer      string         `json:"peer"`
			Random    string         `json:"client_hello_random"`
		} `json:"lanes"`
	}
	if err := json.Unmarshal(answer, &report); err != nil {
		return nil, fmt.Errorf("not what a proxy answers at /connections: %w", err)
	}
	if report.Lanes == nil {
		return nil, fmt.Errorf("not what a proxy answers at /connections: no \"lanes\"")
	}
	lanes := make([]Lane, 0, len(report.Lanes))
	for i, r := range report.Lanes {
		l := Lane{Client: r.Client, Server: r.Server, ClientID: r.Local, ServerID: r.Peer, By: fromClient}
		switch r.Direction {
		case "outbound":
		case "inbound":
			l.ClientID, l.ServerID, l.By = r.Peer, r.Local, fromServer
		default:
			return nil, fmt.Errorf("lane %d: direction %q: must be inbound or outbound", i+1, r.Direction)
		}
		if n, err := hex.Decode(l.Random[:], []byte(r.Random)); len(r.Random) != 64 || err != nil || n != len(l.Random) {
			return nil, fmt.Errorf("lane %d: client_hello_random %q: must be 64 hex digits", i+1, r.Random)
		}
		lanes = append(lanes, l)
	}
	return lanes, nil
}

// claimedALPN is what the ClientHello of every lane offers (docs/wire.md).
const claimedALPN = "sealmesh/1"

// attestations are all that proxies have said.
type attestations struct {
	asked  bool
	random map[[32]byte][]Lane
	ends   map[laneEnds][]Lane
}

type laneEnds struct{ client, server netip.AddrPort }

// add notes lanes. One that was heard before is not noted twice.
func (a *attestations) add(lanes []Lane) {
	a.asked = true
	if a.random == nil {
		a.random, a.ends = map[[32]byte][]Lane{}, map[laneEnds][]Lane{}
	}
	for _, l := range lanes {
		if slices.Contains(a.random[l.Random], l) {
			continue
		}
		a.random[l.Random] = append(a.random[l.Random], l)
		key := laneEnds{l.Client, l.Server}
		a.ends[key] = append(a.ends[key], l)
	}
}

// join finds what proxies say of a flow, by its ends and its random. A flow
// whose handshake was not captured is joined by its ends alone, if they were
// those of one lane only. If there was too little of it to show TLS, and nothing
// else amiss, the word of both proxies makes up for that.
func (a *attestations) join(found *Finding, client, server netip.AddrPort, random [32]byte) {
	few := found.Verdict == Unknown && found.Reason == errFewRecords.Error()
	if !a.asked || found.TLS == nil || found.Verdict != TLS && !few {
		return
	}
	var lanes []Lane
	if found.TLS.Handshake == handshakeSeen {
		for _, l := range a.random[random] {
			if l.Client == client && l.Server == server {
				lanes = append(lanes, l)
			}
		}
	} else {
		lanes = a.ends[laneEnds{client, server}]
	}
	switch {
	case len(lanes) == 0:
		if slices.Contains(found.TLS.ALPNOffered, claimedALPN) {
			found.Notes = append(slices.Clip(found.Notes), noteUnattested)
		}
		return
	case !agree(lanes):
		found.Notes = append(slices.Clip(found.Notes), noteDisagree)
		return
	}
	if few {
		if by(lanes) != "both" {
			return
		}
		found.Verdict, found.Seal, found.Reason = TLS, string(TLS), ""
	}
	found.Attested = &Attestation{Client: lanes[0].ClientID, Server: lanes[0].ServerID, By: by(lanes)}
	if found.Seal != "" {
		found.Seal = sealMTLS
	}
	if found.TLS.Handshake != handshakeSeen {
		found.Notes = append(slices.Clip(found.Notes), noteByEnds)
	}
}

// What a join may note.
const (
	noteUnattested = "claims to be a lane, and no proxy attests it"
	noteDisagree   = "the proxies at its ends name different identities"
	noteByEnds     = "attested by its addresses alone: its handshake was not captured"
)

// handshakeSeen and handshakeUnseen are what TLSInfo.Handshake says.
const (
	handshakeSeen   = "seen"
	handshakeUnseen = "unseen"
)

// sealMTLS: proxies attest both ends.
const sealMTLS = "mtls"

// agree reports whether all lanes name the same two identities and none is
// another connection between the same ends.
func agree(lanes []Lane) bool {
	for _, l := range lanes[1:] {
		if l.ClientID != lanes[0].ClientID || l.ServerID != lanes[0].ServerID || l.Random != lanes[0].Random {
			return false
		}
	}
	return true
}

// by says whose word lanes are.
func by(lanes []Lane) string {
	for _, l := range lanes[1:] {
		if l.By != lanes[0].By {
			return "both"
		}
	}
	return lanes[0].By
}
