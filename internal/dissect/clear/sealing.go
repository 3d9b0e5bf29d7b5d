package clear

import (
	"bytes"
	"slices"

	"github.com/sealmesh/sealmesh/internal/dissect/random"
)

// Sealing says why the content of a talk may be sealed although its framing is in
// clear, or "" if nothing suggests it. Such a talk is not to be called plaintext
// for what can be read in it, such as names in a handshake.
func Sealing(t *Talk) string {
	if t.Datagrams {
		return sealingDatagrams(t)
	}
	for _, check := range []func(*Talk) string{smbSealing, rpcSealing, dceSealing, openVPNStream, rdpSealing, vncSealing, gssSealing} {
		if reason := check(t); reason != "" {
			return reason
		}
	}
	return ""
}

func sealingDatagrams(t *Talk) string {
	if reason := openVPNDatagrams(t); reason != "" {
		return reason
	}
	for _, side := range t.sides() {
		for _, p := range side.Parts {
			switch {
			case snmpSealed(p.Data):
				return "SNMPv3 with privacy: only its envelope is in clear"
			case gssSealed(p.Data):
				return rpcReason
			}
		}
	}
	if bodies := rtpBodies(t); bodies != nil && rtpSealed(bodies) {
		return "RTP, whose headers do not tell whether its payload is encrypted (SRTP)"
	}
	return ""
}

func (t *Talk) sides() [2]*Side { return [2]*Side{&t.Client, &t.Server} }

// head is the beginning of a direction of a stream.
func (s *Side) head() []byte {
	if len(s.Parts) == 0 {
		return nil
	}
	return s.Parts[0].Data
}

// smbSealing finds the transform header of SMB 3, and SMB of which nothing but the
// negotiation was seen: whether it will be encrypted is agreed on there.
func smbSealing(t *Talk) string {
	seen, later := false, false
	for _, side := range t.sides() {
		for b := side.head(); len(b) >= 16 && b[0] == 0; {
			length := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
			body := b[4:]
			switch string(body[:4]) {
			case "\xfdSMB":
				return "SMB 3, encrypted behind the set-up of its session"
			case "\xfeSMB":
				seen = true
				later = later || len(body) > 12 && body[12] > 1
			case "\xffSMB":
				seen = true
				later = later || body[4] != 0x72 && body[4] != 0x73
			default:
				length = len(body) // the end
			}
			b = body[min(length, len(body)):]
		}
	}
	if seen && !later {
		return "SMB, of which nothing but the negotiation was seen"
	}
	return ""
}

const rpcReason = "RPC with GSS or TLS, which may encrypt what it carries"

// rpcSealing finds RPC calls whose flavor is GSS with privacy, or TLS.
func rpcSealing(t *Talk) string {
	b := t.Client.head()
	for len(b) >= 32 && b[0]&0x80 != 0 {
		length := int(uint32At(b, 0) &^ rpcFragments)
		body := b[4:]
		if gssSealed(body) {
			return rpcReason
		}
		b = body[min(length, len(body)):]
	}
	return ""
}

// gssSealed reads the credentials of a call.
func gssSealed(b []byte) bool {
	if len(b) < 44 || uint32At(b, 4) != rpcCall || uint32At(b, 8) != 2 || uint32At(b, 12)>>24 != 0 && uint32At(b, 12)>>30 != 1 {
		return false
	}
	switch uint32At(b, 24) {
	case rpcTLS:
		return true
	case rpcGSS: // version, procedure, sequence, service
		return uint32At(b, 32) == 1 && uint32At(b, 44) == rpcPrivacy
	}
	return false
}

// dceSealing finds DCE/RPC packets that end in an authentication of the level of
// privacy.
func dceSealing(t *Talk) string {
	const privacy = 6
	for _, side := range t.sides() {
		b := side.head()
		for len(b) >= 16 && b[0] == 5 && b[1] == 0 && b[4] == 0x10 {
			length, auth := int(b[9])<<8|int(b[8]), int(b[11])<<8|int(b[10])
			if trailer := length - auth - 8; auth > 0 && trailer >= 16 && trailer+1 < len(b) && b[trailer+1] == privacy {
				return "DCE/RPC with privacy: only its headers are in clear"
			}
			if length < 16 {
				break
			}
			b = b[min(length, len(b)):]
		}
	}
	return ""
}

// rdpSealing finds the request for RDP's own or TLS's encryption in X.224.
func rdpSealing(t *Talk) string {
	b := t.Client.head()
	if len(b) >= 11 && b[0] == 3 && b[1] == 0 && b[5] == 0xe0 && int(b[4])+5 == int(b[2])<<8|int(b[3]) && uint32At(b, 6)>>16 == 0 &&
		(bytes.Contains(b[11:min(len(b), 128)], []byte("mstshash=")) || bytes.Contains(b[11:min(len(b), 128)], []byte("\x01\x00\x08\x00"))) {
		return "RDP, which encrypts behind its negotiation"
	}
	return ""
}

// vncSealing finds a security type of VNC that is none of those without encryption:
// none, a password, Tight's and Apple's.
func vncSealing(t *Talk) string {
	const version = 12
	b := t.Client.head()
	if len(b) <= version || !bytes.HasPrefix(b, []byte("RFB 00")) || bytes.HasPrefix(b, []byte("RFB 003.003")) {
		return ""
	}
	if slices.Contains([]byte{1, 2, 16, 30}, b[version]) {
		return ""
	}
	return "VNC, which may encrypt behind its negotiation"
}

// gssSealing finds PostgreSQL whose server agreed to encrypt with GSSAPI, and the
// tokens of GSSAPI with the flag for what is sealed (RFC 4121, section 4.2.6.2) behind
// a length, as LDAP and others have them with SASL (RFC 4752).
func gssSealing(t *Talk) string {
	const request = "\x00\x00\x00\x08\x04\xd2\x16\x30"
	if bytes.HasPrefix(t.Client.head(), []byte(request)) && bytes.HasPrefix(t.Server.head(), []byte("G")) {
		return "PostgreSQL, encrypted with GSSAPI"
	}
	for _, side := range t.sides() {
		b := side.head()
		for at := 4; ; at++ {
			next := bytes.Index(b[min(at, len(b)):], []byte("\x05\x04"))
			if next < 0 {
				break
			}
			at += next
			if at+16 <= len(b) && b[at+2]&^7 == 0 && b[at+2]&2 != 0 && b[at+3] == 0xff && uint32At(b, at-4)>>16 == 0 && uint32At(b, at-4) > 16 {
				return "messages in clear and then such as GSSAPI encrypts"
			}
		}
	}
	return ""
}

// OpenVPN's packets begin with an opcode and a key number.
const (
	vpnClientReset2 = 7 << 3
	vpnClientReset3 = 10 << 3
	vpnServerReset2 = 8 << 3
)

const vpnReason = "OpenVPN, whose encryption is not read here"

func openVPNDatagrams(t *Talk) string {
	if len(t.Client.Parts) > 0 && openVPNReset(t.Client.Parts[0].Data, vpnClientReset2, vpnClientReset3) ||
		len(t.Server.Parts) > 0 && openVPNReset(t.Server.Parts[0].Data, vpnServerReset2) {
		return vpnReason
	}
	for _, side := range t.sides() {
		for _, p := range side.Parts {
			if openVPNControl(p.Data) {
				return vpnReason
			}
		}
	}
	return ""
}

// openVPNControl is a packet that carries TLS, or acknowledges some: the HMAC of
// tls-auth and its packet number may stand behind the session.
func openVPNControl(b []byte) bool {
	const session, control, acknowledgment, most, numbers = 1 + 8, 4, 5, 8, 1 << 16
	if len(b) < session+1 || b[0]>>3 != control && b[0]>>3 != acknowledgment {
		return false
	}
	for _, hmac := range []int{0, 20 + 8, 32 + 8, 64 + 8} {
		at := session + hmac
		if at >= len(b) || b[at] > most {
			continue
		}
		n := int(b[at])
		at++
		small := true
		for i := range n {
			small = small && uint32At(b, at+4*i) < numbers
		}
		if at += 4 * n; n > 0 {
			at += 8
		}
		if b[0]>>3 == acknowledgment {
			if n > 0 && small && at == len(b) {
				return true
			}
			continue
		}
		if tls := b[min(at+4, len(b)):]; small && uint32At(b, at) < numbers && len(tls) >= 3 && tls[0] >= 20 && tls[0] <= 23 && tls[1] == 3 && tls[2] <= 4 {
			return true
		}
	}
	return false
}

// openVPNStream has a length before each packet.
func openVPNStream(t *Talk) string {
	for i, side := range t.sides() {
		b := side.head()
		if len(b) < 16 || int(b[0])<<8|int(b[1]) > len(b)-2 {
			continue
		}
		packet := b[2 : 2+int(b[0])<<8|int(b[1])]
		if i == 0 && openVPNReset(packet, vpnClientReset2, vpnClientReset3) || i == 1 && openVPNReset(packet, vpnServerReset2) {
			return vpnReason
		}
	}
	return ""
}

// openVPNReset is the first packet of either side: its own number in the last four
// bytes is 0, or, if that is encrypted (tls-crypt), a counter behind the session
// is 1.
func openVPNReset(b []byte, opcodes ...byte) bool {
	const session, plain = 1 + 8, 1 + 8 + 1 + 4
	if len(b) < plain || len(b) > 1280 || !slices.Contains(opcodes, b[0]) {
		return false
	}
	counter := uint32At(b, session)
	return uint32At(b, len(b)-4) == 0 && len(b) <= 128 || counter == 1 || counter == 0x0f000001
}

// snmpSealed reads the flags of version 3.
func snmpSealed(b []byte) bool { return len(b) > 0 && b[0] == 0x30 && snmpFlags(b)&snmpPrivate != 0 }

// snmpFlags are msgFlags of RFC 3412, section 6, or 0.
func snmpFlags(b []byte) int {
	m := message{b: b, open: true}
	m.tlv()
	version := m.integer()
	m.tlv()
	m.integer()
	m.integer()
	tag, n := m.tlv()
	flags := m.u8()
	if version != 3 || tag != 4 || n != 1 || m.done() {
		return 0
	}
	return flags
}

// rtpBodies are the payloads of RTP (RFC 3550, section 5.1): one source, and
// sequence numbers that rise, in at least four datagrams of a direction. RTCP may
// stand between them (RFC 5761). What SRTP adds behind a payload is left out.
func rtpBodies(t *Talk) [][]byte {
	var bodies [][]byte
	for _, side := range t.sides() {
		if len(side.Parts) < 4 {
			continue
		}
		var source, sequence uint32
		n := 0
		for _, p := range side.Parts {
			b := p.Data
			if len(b) < 12 || b[0]>>6 != 2 {
				return nil
			}
			if b[1] >= 192 && b[1] < 224 { // RTCP
				continue
			}
			from, number := uint32At(b, 8), uint32At(b, 0)&0xffff
			if step := (number - sequence) & 0xffff; n > 0 && (from != source || step == 0 || step > 64) {
				return nil
			}
			source, sequence = from, number
			bodies = append(bodies, rtpBody(p))
			n++
		}
		if n < 4 {
			return nil
		}
	}
	return bodies
}

// rtpBody is what SRTP encrypts (RFC 3711, section 3.1): all behind the list of
// sources and the extension, but for an authentication tag and the name of a key,
// if there are any.
func rtpBody(p Part) []byte {
	const fixed, tag, key = 12, 10, 4
	b := p.Data
	at := fixed + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		at += 4 + 4*int(uint32At(b, at)&0xffff)
	}
	end := len(b)
	if !p.Cut {
		end -= tag + key
	}
	if at >= end {
		return nil
	}
	return b[at:end]
}

// rtpSealed reports payloads that could be encrypted.
func rtpSealed(bodies [][]byte) bool {
	return random.Plausible(slices.Concat(bodies...)) && random.Unrelated(bodies)
}

// isRTP reports RTP whose payload is not random, so not encrypted.
func isRTP(t *Talk) bool {
	bodies := rtpBodies(t)
	return len(slices.Concat(bodies...)) >= 64 && !rtpSealed(bodies)
}

// Framing names a protocol that encrypts, or that helps one to, by the head of a
// single datagram, or returns "". Its handshake may be readable, and tells nothing
// about what else the talk carries.
func Framing(b []byte) string {
	switch {
	case isDTLS(b):
		return "DTLS"
	case isQUIC(b):
		return "QUIC"
	case isIKE(b):
		return "IKE"
	}
	return ""
}

func isDTLS(b []byte) bool {
	return len(b) >= 13 && b[0] >= 20 && b[0] <= 26 &&
		(b[1] == 0xfe && b[2] >= 0xfc || b[1] == 1 && b[2] == 0) && int(b[11])<<8|int(b[12]) <= 1<<14+2048
}

func isQUIC(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	switch v := uint32At(b, 1); {
	case b[0]&0x80 != 0 && (v == 1 || v == 0x6b3343cf || v>>8 == 0xff0000 || v&0x0f0f0f0f == 0x0a0a0a0a && b[5] <= 20):
		return true
	case b[0]&0x80 != 0 && (v>>16 == 'Q'<<8|'0' || v>>16 == 'T'<<8|'0'):
		return true
	case b[0]&0x80 != 0 && v == 0 && b[5] <= 20 && len(b) > 6+int(b[5]):
		return true
	}
	return b[0]&1 != 0 && b[9] == 'Q' && b[10] == '0' && b[11] >= '0' && b[11] <= '9' && b[12] >= '0' && b[12] <= '9'
}

// isIKE is RFC 7296, section 3.1, with or without the marker of RFC 3948.
func isIKE(b []byte) bool {
	if uint32At(b, 0) == 0 && len(b) > 4 {
		b = b[4:]
	}
	return len(b) >= 28 && (b[17] == 0x10 || b[17] == 0x20) && (b[18] <= 6 || b[18] >= 32 && b[18] <= 43) &&
		int(uint32At(b, 24)) == len(b)
}

// Compressed says of what format the bytes are, by the head of a stream, or "".
func Compressed(b []byte) string {
	for _, f := range []struct{ head, name string }{
		{"\x1f\x8b\x08", "gzip"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"PK\x03\x04", "zip"}, {"\xfd7zXZ\x00", "xz"},
		{"BZh", "bzip2"}, {"\x04\x22\x4d\x18", "lz4"}, {"7z\xbc\xaf\x27\x1c", "7z"}, {"\x89PNG\r\n", "PNG"},
		{"\xff\xd8\xff", "JPEG"}, {"\xff\x06\x00\x00sNaPpY", "snappy"},
	} {
		if bytes.HasPrefix(b, []byte(f.head)) {
			return f.name
		}
	}
	return ""
}
