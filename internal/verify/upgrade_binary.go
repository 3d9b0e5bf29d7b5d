package verify

import (
	"bytes"
	"encoding/binary"
)

// postgresUpgrade reads SSLRequest and GSSENCRequest, which say nothing, and the
// byte that answers each (PostgreSQL documentation, 55.2.10 and 55.2.11).
func postgresUpgrade(client, server []byte) *upgrade {
	const length, ssl, gss = 8, 80877103, 80877104
	up := &upgrade{from: "postgresql", tells: fromClient}
	if len(server) == 0 && len(client) > length && binary.BigEndian.Uint32(client) == length &&
		binary.BigEndian.Uint32(client[4:]) == ssl && startsTLS(client[length:]) {
		up.at[0] = length // of one direction: what it does shows the answer
		return up
	}
	for len(client) >= up.at[0]+length && binary.BigEndian.Uint32(client[up.at[0]:]) == length {
		code := binary.BigEndian.Uint32(client[up.at[0]+4:])
		if code != ssl && code != gss || len(server) <= up.at[1] {
			return nil
		}
		answer := server[up.at[1]]
		up.at[0] += length
		up.at[1]++
		switch {
		case code == ssl && answer == 'S' && up.follows(client, server):
			return up
		case answer != 'N':
			return nil
		}
	}
	if up.at[0] == 0 {
		return nil
	}
	up.refused, up.offset = true, up.at[0]
	if len(client) == up.at[0] {
		up.tells, up.offset = fromServer, up.at[1]-1
	}
	return up
}

// mysqlUpgrade reads the greeting of a server, which names it, and the SSLRequest
// of a client, which begins like a login and ends before the name.
func mysqlUpgrade(client, server []byte) *upgrade {
	const header, protocol, useTLS = 4, 10, 1 << 11
	length := func(packet []byte) int {
		return header + int(packet[0]) + int(packet[1])<<8 + int(packet[2])<<16
	}
	if len(client) < header+4 || len(server) < header+2 || client[3] != 1 || server[3] != 0 || server[4] != protocol {
		return nil
	}
	up := &upgrade{from: "mysql", at: [2]int{length(client), length(server)}, says: true, tells: fromServer, offset: header}
	flags := binary.LittleEndian.Uint16(client[header:])
	if up.at[0] != header+32 && up.at[0] != header+5 || flags&useTLS == 0 || !up.follows(client, server) {
		return nil
	}
	return up
}

// startTLS is the name of LDAP's operation.
const startTLS = "1.3.6.1.4.1.1466.20037"

// ldapUpgrade reads the StartTLS operation (RFC 4511, section 4.14).
func ldapUpgrade(client, server []byte) *upgrade {
	const sequence, integer, extendedRequest, extendedResponse, requestName, enumerated = 0x30, 0x02, 0x77, 0x78, 0x80, 0x0A
	request, rest, ok := element(client, sequence)
	if !ok {
		return nil
	}
	up := &upgrade{from: "ldap", tells: fromClient}
	up.at[0] = len(client) - len(rest)
	_, request, ok1 := element(request, integer)
	operation, _, ok2 := element(request, extendedRequest)
	name, _, ok3 := element(operation, requestName)
	if !ok1 || !ok2 || !ok3 || string(name) != startTLS {
		return nil
	}
	if len(server) == 0 && up.follows(client, server) {
		return up // of one direction: what it does shows the answer
	}
	answer, rest, ok := element(server, sequence)
	if !ok {
		return nil
	}
	up.at[1] = len(server) - len(rest)
	_, answer, ok1 = element(answer, integer)
	operation, _, ok2 = element(answer, extendedResponse)
	code, _, ok3 := element(operation, enumerated)
	if !ok1 || !ok2 || !ok3 || len(code) != 1 || code[0] != 0 || !up.follows(client, server) {
		return nil
	}
	return up
}

// element takes one element of BER with a tag of one byte off the front.
func element(b []byte, tag byte) (value, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	length, b := int(b[1]), b[2:]
	if length >= 0x80 {
		digits := length & 0x7F
		if digits == 0 || digits > 3 || digits > len(b) {
			return nil, nil, false
		}
		length = 0
		for _, d := range b[:digits] {
			length = length<<8 | int(d)
		}
		b = b[digits:]
	}
	if length > len(b) {
		return nil, nil, false
	}
	return b[:length], b[length:], true
}

// amqpUpgrade reads the header that asks for TLS (AMQP 1.0, section 5.2).
func amqpUpgrade(client, server []byte) *upgrade {
	header := []byte("AMQP\x02\x01\x00\x00")
	up := &upgrade{from: "amqp", at: [2]int{len(header), len(header)}, tells: fromClient}
	if !bytes.HasPrefix(client, header) || !bytes.HasPrefix(server, header) || !up.follows(client, server) {
		return nil
	}
	return up
}

// socksUpgrade reads SOCKS before TLS.
func socksUpgrade(client, server []byte) *upgrade {
	up := socks(client, server)
	if up == nil || !up.follows(client, server) {
		return nil
	}
	return up
}

// socks reads SOCKS 4 and 5 (RFC 1928), whose passwords are in clear (RFC 1929),
// where the server lets the client through.
func socks(client, server []byte) *upgrade {
	if len(client) < 2 || len(server) < 2 {
		return nil
	}
	if client[0] == 4 {
		return socks4(client, server)
	}
	const withPassword = 2
	if client[0] != 5 || server[0] != 5 || len(client) < 2+int(client[1]) {
		return nil
	}
	up := &upgrade{from: "socks5", at: [2]int{2 + int(client[1]), 2}, tells: fromClient}
	if server[1] == withPassword {
		login := client[up.at[0]:]
		if len(login) < 2 || len(login) < 3+int(login[1]) {
			return nil
		}
		name := int(login[1])
		up.says, up.offset = true, up.at[0]
		up.at[0] += 3 + name + int(login[2+name])
		up.at[1] += 2
	}
	to, ok1 := socksAddress(client, up.at[0])
	from, ok2 := socksAddress(server, up.at[1])
	if !ok1 || !ok2 || server[up.at[1]+1] != 0 {
		return nil
	}
	up.at = [2]int{to, from}
	return up
}

// socksAddress is the offset behind a request or a reply with an address.
func socksAddress(b []byte, at int) (end int, ok bool) {
	const fixed, v4, name, v6 = 4, 1, 3, 4
	if len(b) < at+fixed+1 || b[at] != 5 {
		return 0, false
	}
	end = at + fixed + 2
	switch b[at+3] {
	case v4:
		end += 4
	case v6:
		end += 16
	case name:
		end += 1 + int(b[at+fixed])
	default:
		return 0, false
	}
	return end, end <= len(b)
}

// socks4 reads a request with a user's name, and behind 0.0.0.x one of a host.
func socks4(client, server []byte) *upgrade {
	const fixed, granted = 8, 90
	if len(client) < fixed+1 || client[1] != 1 && client[1] != 2 || len(server) < fixed || server[0] != 0 || server[1] != granted {
		return nil
	}
	end := bytes.IndexByte(client[fixed:], 0)
	if end < 0 {
		return nil
	}
	up := &upgrade{from: "socks4", at: [2]int{fixed + end + 1, fixed}, says: end > 0, tells: fromClient, offset: fixed}
	if bytes.HasPrefix(client[4:], []byte{0, 0, 0}) && client[7] != 0 {
		host := bytes.IndexByte(client[up.at[0]:], 0)
		if host < 0 {
			return nil
		}
		up.at[0] += host + 1
	}
	return up
}

// rdpUpgrade reads the connection request of RDP, which may name a user, and its
// confirmation (MS-RDPBCGR, sections 2.2.1.1 and 2.2.1.2).
func rdpUpgrade(client, server []byte) *upgrade {
	const request, confirm, fixed = 0xE0, 0xD0, 11
	to, ok1 := tpkt(client, request)
	from, ok2 := tpkt(server, confirm)
	up := &upgrade{from: "rdp", at: [2]int{to, from}, tells: fromClient, offset: fixed}
	if !ok1 || !ok2 || !up.follows(client, server) {
		return nil
	}
	up.says = bytes.Contains(client[fixed:to], []byte("mstshash=")) // a user, not where to be routed
	return up
}

// tpkt is the length of a packet of RFC 1006 with an X.224 code.
func tpkt(b []byte, code byte) (length int, ok bool) {
	if len(b) < 11 || b[0] != 3 || b[1] != 0 || b[5] != code {
		return 0, false
	}
	length = int(b[2])<<8 | int(b[3])
	return length, length >= 11 && length <= len(b)
}

// vncUpgrade reads the versions and the security type of VNC: TLS, or VeNCrypt, which
// agrees on more before it (rfbproto, sections 7.1.1, 7.2.3 and 7.2.5).
func vncUpgrade(client, server []byte) *upgrade {
	const version, withTLS, veNCrypt = 12, 18, 19
	prefix := []byte("RFB 00")
	if !bytes.HasPrefix(client, prefix) || !bytes.HasPrefix(server, prefix) || len(client) <= version || len(server) <= version {
		return nil
	}
	up := &upgrade{from: "vnc", at: [2]int{version + 1, version + 1 + int(server[version])}, tells: fromClient}
	switch client[version] {
	case withTLS:
	case veNCrypt: // versions of two bytes, a number of types of four, and whether it is agreed to
		list := up.at[1] + 3
		if len(server) <= list {
			return nil
		}
		up.at[0] += 2 + 4
		up.at[1] = list + 1 + 4*int(server[list]) + 1
	default:
		return nil
	}
	if !up.follows(client, server) {
		return nil
	}
	return up
}

// tdsUpgrade reads the pre-login of SQL Server: the handshake of TLS is inside
// its packets, and the records that follow are not (MS-TDS, section 2.2.6.5).
func tdsUpgrade(client, server []byte) *upgrade {
	const prelogin, reply = 0x12, 0x04
	if len(client) < tdsHeader || len(server) < tdsHeader || client[0] != prelogin || server[0] != reply {
		return nil
	}
	to, streamC, ok1 := untds(client)
	from, streamS, ok2 := untds(server)
	if !ok1 || !ok2 || !startsTLS(streamC) || len(streamS) > 0 && !startsTLS(streamS) {
		return nil
	}
	return &upgrade{from: "tds", at: [2]int{to, from}, tells: fromClient, wrapped: &[2][]byte{streamC, streamS}}
}

const tdsHeader = 8

// untds takes the first packet off a stream, and the packets around what follows.
func untds(b []byte) (first int, inside []byte, ok bool) {
	for len(b) >= tdsHeader && (b[0] == 0x12 || b[0] == 0x04) && b[1] <= 1 {
		length := int(b[2])<<8 | int(b[3])
		if length < tdsHeader || length > len(b) {
			return 0, nil, false
		}
		if first == 0 {
			first = length
		} else {
			inside = append(inside, b[tdsHeader:length]...)
		}
		b = b[length:]
	}
	return first, append(inside, b...), first > 0
}
