package verify

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// side is one end of a Matcher.
type side struct {
	any      bool // of addresses
	prefix   netip.Prefix
	from, to uint16 // ports
}

// compile reads both sides.
func (m *Matcher) compile() error {
	var err1, err2 error
	if m.from, err1 = parseSide(m.From); err1 != nil {
		err1 = fmt.Errorf("from %q: %w", m.From, err1)
	}
	if m.to, err2 = parseSide(m.To); err2 != nil {
		err2 = fmt.Errorf("to %q: %w", m.To, err2)
	}
	return errors.Join(err1, err2)
}

// matches reports whether a flow is meant.
func (m *Matcher) matches(found *Finding, r *record) bool {
	if m.Proto != "" && m.Proto != string(found.Proto) || m.Vantage != "" && m.Vantage != found.Vantage {
		return false
	}
	src, dst := r.addresses()
	return m.from.matches(src) && m.to.matches(dst)
}

func (s side) matches(a netip.AddrPort) bool {
	if !s.any && !s.prefix.Contains(a.Addr().Unmap()) {
		return false
	}
	return s.to == 0 || s.from <= a.Port() && a.Port() <= s.to
}

var errSide = errors.New("must be an address, a prefix or *, with :port or :port-port behind it (IPv6 in brackets then)")

// parseSide reads "address", "prefix" or "*", with or without ports.
func parseSide(s string) (side, error) {
	host, ports, err := splitPorts(s)
	if err != nil {
		return side{}, err
	}
	out := side{any: host == "*" || host == ""}
	if !out.any {
		if out.prefix, err = parsePrefix(host); err != nil {
			return side{}, err
		}
	}
	if ports == "" {
		return out, nil
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || b < a {
		return side{}, fmt.Errorf("port %q: must be 1 to 65535, or two of them with a dash between", ports)
	}
	out.from, out.to = uint16(a), uint16(b)
	return out, nil
}

// splitPorts cuts the ports off the end.
func splitPorts(s string) (host, ports string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, rest, ok := strings.Cut(inner, "]")
		ports, colon := strings.CutPrefix(rest, ":")
		if !ok || rest != "" && (!colon || ports == "") {
			return "", "", errSide
		}
		return host, ports, nil
	}
	if strings.Count(s, ":") != 1 { // none, or IPv6
		return s, "", nil
	}
	host, ports, _ = strings.Cut(s, ":")
	if ports == "" {
		return "", "", errSide
	}
	return host, ports, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p != p.Masked() {
			return p, fmt.Errorf("%s has bits behind its prefix: must be %s", p, p.Masked())
		}
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errSide
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}
