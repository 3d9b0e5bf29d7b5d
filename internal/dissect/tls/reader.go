package tls

import (
	"errors"
	"fmt"
	"slices"
)

// reader takes values off the front of a message. Every method reports whether
// there was enough to take.
type reader []byte

func (r *reader) bytes(n int) ([]byte, bool) {
	if len(*r) < n {
		return nil, false
	}
	b := (*r)[:n]
	*r = (*r)[n:]
	return b, true
}

func (r *reader) u8() (byte, bool) {
	b, ok := r.bytes(1)
	if !ok {
		return 0, false
	}
	return b[0], true
}

func (r *reader) u16() (uint16, bool) {
	b, ok := r.bytes(2)
	if !ok {
		return 0, false
	}
	return uint16(b[0])<<8 | uint16(b[1]), true
}

// vector takes bytes that their length of size bytes precedes.
func (r *reader) vector(size int) (reader, bool) {
	b, ok := r.bytes(size)
	if !ok {
		return nil, false
	}
	length := 0
	for _, digit := range b {
		length = length<<8 | int(digit)
	}
	return r.bytes(length)
}

// maxExtensions is more than any hello has; it bounds the search for repetitions.
const maxExtensions = 256

// extensions calls read for each extension up to the end of the message. None
// may occur twice (RFC 8446, section 4.2).
func (r *reader) extensions(read func(typ uint16, data reader) bool) error {
	if len(*r) == 0 {
		return nil // before TLS 1.3 there may be none at all
	}
	block, ok := r.vector(2)
	if !ok || len(*r) != 0 {
		return errors.New("its extensions break off")
	}
	var room [32]uint16
	seen := room[:0]
	for len(block) > 0 {
		typ, ok1 := block.u16()
		data, ok2 := block.vector(2)
		if !ok1 || !ok2 || len(seen) == maxExtensions || !read(typ, data) {
			return fmt.Errorf("extension %d", typ)
		}
		if slices.Contains(seen, typ) {
			return fmt.Errorf("extension %d occurs twice", typ)
		}
		seen = append(seen, typ)
	}
	return nil
}

// serverName reads the one host name there may be (RFC 6066, section 3).
func (r reader) serverName() (string, bool) {
	if len(r) == 0 {
		return "", true // some clients name nobody
	}
	names, ok := r.vector(2)
	if !ok || len(r) != 0 {
		return "", false
	}
	kind, ok1 := names.u8()
	name, ok2 := names.vector(2)
	return string(name), ok1 && ok2 && kind == 0 && len(names) == 0
}

// protocols reads a list of names (RFC 7301, section 3.1).
func (r reader) protocols() (all []string, ok bool) {
	names, ok := r.vector(2)
	if !ok || len(r) != 0 {
		return nil, false
	}
	for len(names) > 0 {
		name, ok := names.vector(1)
		if !ok || len(name) == 0 {
			return nil, false
		}
		if len(name) == 2 && grease(uint16(name[0])<<8|uint16(name[1])) {
			continue
		}
		all = append(all, string(name))
	}
	return all, true
}

// list reads 16-bit numbers behind a length of size bytes.
func (r reader) list(size int) ([]uint16, bool) {
	body, ok := r.vector(size)
	if !ok || len(r) != 0 {
		return nil, false
	}
	return numbers(body)
}

// keyShares reads the groups of the shares a client sends.
func (r reader) keyShares() (groups []uint16, ok bool) {
	shares, ok := r.vector(2)
	if !ok || len(r) != 0 {
		return nil, false
	}
	for len(shares) > 0 {
		group, ok1 := shares.u16()
		_, ok2 := shares.vector(2)
		if !ok1 || !ok2 {
			return nil, false
		}
		if !grease(group) {
			groups = append(groups, group)
		}
	}
	return groups, true
}

// numbers reads 16-bit numbers up to the end, without those of GREASE.
func numbers(r reader) (all []uint16, ok bool) {
	all = make([]uint16, 0, len(r)/2)
	for len(r) > 0 {
		n, ok := r.u16()
		if !ok {
			return nil, false
		}
		if !grease(n) {
			all = append(all, n)
		}
	}
	return all, true
}

// grease reports whether n is one of 0x0A0A, 0x1A1A … 0xFAFA.
func grease(n uint16) bool { return n&0x0F0F == 0x0A0A && n>>8 == n&0xFF }
