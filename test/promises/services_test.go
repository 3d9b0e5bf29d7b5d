package promises

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	api "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/test/lab"
)

// A service is a virtual address that no machine has: what is sent to it goes to
// one of the workloads behind it, sealed like anything else.
//
//	 node n1                         node n2
//	┌──────────┐   10.99.0.1:80     ┌──────────────────────┐
//	│ sender ───── [fd99::1]:80 ───────▶ shop-1 :2929      │
//	│          │          └────────────▶ shop-2 :2929      │
//	│          │   10.99.0.2:80  ✗     ╳ outside, unsealed │
//	└──────────┘                    └──────────────────────┘
//
// Broken twin: under permissive the unsealed endpoint is reached, and what it is
// sent is on the wire.
func TestServices(t *testing.T) {
	m := newMesh(t)
	s := &shop{mesh: m}
	for i := range s.endpoints {
		s.endpoints[i] = m.add(t, 2, fmt.Sprintf("shop-%d", i+1), sealed)
		m.objects.workload(s.endpoints[i]).Metadata.Labels = map[string]string{"app": "shop"}
	}
	s.outside = m.add(t, 2, "outside", unsealed)
	m.objects.workload(s.outside).Metadata.Labels = map[string]string{"app": "outside"}
	m.objects.services = []api.Service{
		service("shop", "shop", 80, appPort, shop4, shop6),
		service("outside", "outside", 80, appPort, outside4),
	}
	m.write(t)
	m.start(t)
	for _, w := range append(s.endpoints[:], s.outside) {
		serve(t, w, appPort, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, w.Name+"\n")
			echo(c)
		})
	}
	t.Run("spread over all and sealed to each", s.spread)
	t.Run("other ports", s.otherPorts)
	t.Run("unsealed endpoint", s.unsealedEndpoint)
	t.Run("endpoint removed", s.removed)
}

// The virtual addresses.
var (
	shop4    = netip.MustParseAddr("10.99.0.1")
	shop6    = netip.MustParseAddr("fd99::1")
	outside4 = netip.MustParseAddr("10.99.0.2")
)

func service(name, app string, port, target uint16, addresses ...netip.Addr) api.Service {
	o := api.Service{
		Header: header(api.KindService, name, namespace),
		Spec: api.ServiceSpec{
			Selector: map[string]string{"app": app},
			Ports:    []api.ServicePort{{Port: port, TargetPort: target}},
		},
	}
	for _, a := range addresses {
		o.Spec.Addresses = append(o.Spec.Addresses, a.String())
	}
	return o
}

// shop is a mesh with services.
type shop struct {
	*mesh
	endpoints [2]*lab.Workload
	outside   *lab.Workload
}

// call reaches an endpoint of a service, says text and hears it back. It returns
// which endpoint answered; the connection stays until the test ends.
func (s *shop) call(t *testing.T, to netip.Addr, text string) (name string, err error) {
	t.Helper()
	conn, err := tryDial(t.Context(), s.Sender, netip.AddrPortFrom(to, 80))
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fscanln(conn, &name); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(conn, back); err != nil {
		return "", err
	}
	if string(back) != text {
		return "", fmt.Errorf("%s: heard %q, said was %q", name, back, text)
	}
	return name, nil
}

// several calls in a row: how often each endpoint answered.
func (s *shop) several(t *testing.T, n int, to netip.Addr, text string) map[string]int {
	t.Helper()
	answered := map[string]int{}
	for range n {
		name, err := s.call(t, to, text)
		must(t, err)
		answered[name]++
	}
	return answered
}

// spread: the endpoint with fewer connections is the likelier one, so that of
// forty that stay open neither has many more than the other.
func (s *shop) spread(t *testing.T) {
	uplink := s.record(t, 2, "tcp")
	for _, to := range []netip.Addr{shop4, shop6} {
		t.Run(to.String(), func(t *testing.T) {
			const calls, least = 40, 10
			answered := s.several(t, calls, to, "secret to a service")
			for _, w := range s.endpoints {
				if answered[w.Name] < least {
					t.Errorf("%s answered %d of %d, expected at least %d", w.Name, answered[w.Name], calls, least)
				}
			}
		})
	}
	seen := uplink.stop(t)
	if seen.shows(t, "secret to a service") {
		t.Error("it is on the wire in clear")
	}
	names := map[string]int{}
	for _, h := range seen.handshakes(t, appPort) {
		if h.sealed(s.endpoints[0]) != nil && h.sealed(s.endpoints[1]) != nil {
			t.Errorf("handshake with neither endpoint: %+v", h)
		}
		names[h.sni]++
	}
	for _, w := range s.endpoints {
		if names[serverName(w)] == 0 {
			t.Errorf("no lane to %s among %v", w.Name, names)
		}
	}
	virtual := "ip.addr == " + shop4.String() + " || ipv6.addr == " + shop6.String()
	if rows := seen.tshark(t, virtual, "frame.number"); len(rows) > 0 {
		t.Errorf("%d packets bear the virtual address", len(rows))
	}
}

// otherPorts of a virtual address lead nowhere, not even to the port that the
// service's own is mapped to.
func (s *shop) otherPorts(t *testing.T) {
	conn, err := tryDial(t.Context(), s.Sender, netip.AddrPortFrom(shop4, appPort))
	if err == nil {
		defer conn.Close()
		err = readOn(conn)
	}
	if err == nil {
		t.Error("a port that the service has not was answered")
	}
}

// unsealedEndpoint behind a virtual address is refused under strict.
func (s *shop) unsealedEndpoint(t *testing.T) {
	from := s.mark()
	if name, err := s.call(t, outside4, "not to be sent"); err == nil {
		t.Errorf("%s answered", name)
	}
	s.waitLog(t, from, "refusal", has("msg", "connection", "reason", "unsealed_destination"))

	s.setModes(t, strict, permissive) // the twin
	uplink := s.record(t, 2, "tcp")
	name, err := s.call(t, outside4, "sent in clear")
	must(t, err)
	if seen := uplink.stop(t); name != s.outside.Name || !seen.shows(t, "sent in clear") {
		t.Error("the twin shows nothing: the experiment proves nothing")
	}
	s.setModes(t, strict, strict)
}

// removed: an endpoint that is taken out of a service, while calls go on, gets no
// new connection once the proxies know, and not one call fails.
func (s *shop) removed(t *testing.T) {
	gone, kept := s.endpoints[0], s.endpoints[1]
	stop := make(chan struct{})
	var calls sync.WaitGroup
	calls.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				if n == 0 {
					t.Error("no call was made meanwhile")
				}
				return
			default:
			}
			if err := s.once(t); err != nil {
				t.Errorf("call %d while the endpoint is removed: %v", n, err)
				return
			}
		}
	})
	open, err := s.toEndpoint(t, gone)
	must(t, err)
	s.change(t, func(o *objects) { o.workload(gone).Metadata.Labels = nil })
	close(stop)
	calls.Wait()
	if answered := s.several(t, 20, shop4, "x"); answered[gone.Name] > 0 || answered[kept.Name] != 20 {
		t.Errorf("after it was removed: %v", answered)
	}
	say(t, open, "what it had before goes on")
	hear(t, open, "what it had before goes on")
}

// once is a call to the service that ends in order.
func (s *shop) once(t *testing.T) error {
	conn, err := tryDial(t.Context(), s.Sender, netip.AddrPortFrom(shop4, 80))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	_, err = io.ReadAll(conn)
	return err
}

// toEndpoint calls the service until an endpoint answers.
func (s *shop) toEndpoint(t *testing.T, w *lab.Workload) (net.Conn, error) {
	for {
		conn, err := tryDial(t.Context(), s.Sender, netip.AddrPortFrom(shop4, 80))
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { conn.Close() })
		var name string
		if _, err := fmt.Fscanln(conn, &name); err != nil || name == w.Name {
			return conn, err
		}
	}
}
