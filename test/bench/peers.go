package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"text/template"
)

// The peers' configuration, one file for either end.
//
//go:embed haproxy/*.cfg nginx/*.cfg
var peerConfigs embed.FS

// Ports of the peers: the client connects to loopback, the proxies to each other.
const (
	peerPlainPort  = 7001
	peerSealedPort = 7443
)

// peer is haproxy or nginx as a pair of proxies that do mutual TLS between them.
type peer struct {
	program string
	// args run the program in the foreground with a configuration file.
	args func(config string) []string
	dir  string // with the certificates, and for the configuration
}

func newHAProxy(dir string) peer {
	return peer{"haproxy", func(config string) []string { return []string{"-db", "-f", config} }, dir}
}

func newNginx(dir string) peer {
	return peer{"nginx", func(config string) []string { return []string{"-e", "stderr", "-c", config} }, dir}
}

func (p peer) name() string { return p.program }

// ends are the two proxies of a peer and what each connects.
type ends struct {
	clientListen, serverListen, app netip.AddrPort
}

// start runs the proxy of either end in its workload's namespace.
func (p peer) start(ctx context.Context, at pair) (*deployment, error) {
	e := ends{
		clientListen: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), peerPlainPort),
		serverListen: netip.AddrPortFrom(at.server.Addr4, peerSealedPort),
		app:          netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), appPort),
	}
	program, err := find(p.program)
	if err != nil {
		return nil, err
	}
	clientConfig, serverConfig, err := p.configure(e)
	if err != nil {
		return nil, err
	}
	server := newProcess(ctx, at.server.Host, program, p.args(serverConfig)...)
	if err := server.start(); err != nil {
		return nil, err
	}
	client := newProcess(ctx, at.client.Host, program, p.args(clientConfig)...)
	if err := client.start(); err != nil {
		return nil, errors.Join(err, server.stop())
	}
	return &deployment{
		target: e.clientListen, client: client.pid(), server: server.pid(),
		failure: func() error { return errors.Join(client.failure(), server.failure()) },
		stop:    func() error { return errors.Join(client.stop(), server.stop()) },
	}, nil
}

// configure writes the configuration of both ends and returns the files.
func (p peer) configure(e ends) (client, server string, err error) {
	if client, err = p.writeConfig("client", e.clientListen, e.serverListen); err != nil {
		return "", "", err
	}
	server, err = p.writeConfig("server", e.serverListen, e.app)
	return client, server, err
}

// writeConfig fills in the template of one end.
func (p peer) writeConfig(end string, listen, target netip.AddrPort) (string, error) {
	t, err := template.ParseFS(peerConfigs, p.program+"/"+end+".cfg")
	if err != nil {
		return "", fmt.Errorf("%s: %v", p.program, err)
	}
	file, err := os.Create(filepath.Join(p.dir, p.program+"-"+end+".cfg"))
	if err != nil {
		return "", fmt.Errorf("%s: %v", p.program, err)
	}
	defer file.Close()
	err = t.Execute(file, struct {
		Listen, Target  netip.AddrPort
		Dir, ServerName string
		Processors      int
	}{listen, target, p.dir, serverName, runtime.NumCPU()})
	if err != nil {
		return "", fmt.Errorf("%s: %v", p.program, err)
	}
	return file.Name(), nil
}
