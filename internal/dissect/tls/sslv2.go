package tls

import "errors"

// Messages of SSL 2.0 (draft-hickman-netscape-ssl-00; RFC 5246, appendix E.2).
const (
	HelloClientV2     = 1
	ClientMasterKeyV2 = 2
	HelloServerV2     = 4
)

// RecordV2 is one record of SSL 2.0; the last one of a stream may be cut off.
type RecordV2 struct {
	Offset  int // of its body in the stream
	Body    []byte
	Whole   bool
	Length  int
	Padding int
}

// RecordsV2 takes a stream apart, up to the first byte that cannot be SSL 2.0.
// What begins a record says so little that nearly anything can be one.
func RecordsV2(stream []byte) (all []RecordV2, rest []byte) {
	offset := 0
	for len(stream) >= 3 {
		header, length, padding := 2, int(stream[0]&0x7F)<<8|int(stream[1]), 0
		if stream[0]&0x80 == 0 { // of three bytes, with padding
			header, length, padding = 3, int(stream[0]&0x3F)<<8|int(stream[1]), int(stream[2])
		}
		if length == 0 || padding >= length {
			return all, stream
		}
		stream, offset = stream[header:], offset+header
		n := min(length, len(stream))
		all = append(all, RecordV2{offset, stream[:n], n == length, length, padding})
		stream, offset = stream[n:], offset+n
	}
	return all, stream
}

// BeginsV2 reports whether a stream begins with a ClientHello in the form of
// SSL 2.0, which may ask for SSL 3.0 or TLS.
func BeginsV2(stream []byte) bool {
	all, _ := RecordsV2(stream[:min(len(stream), 1<<10)])
	if len(all) == 0 {
		return false
	}
	_, err := ParseClientHelloV2(all[0].Body)
	return err == nil
}

var errV2 = errors.New("the hello of SSL 2.0 is malformed")

// ClientHelloV2 is a ClientHello in the form of SSL 2.0.
type ClientHelloV2 struct {
	Version   uint16
	Ciphers   []uint32
	Session   []byte
	Challenge []byte
}

// ParseClientHelloV2 reads a record that holds a ClientHello and nothing else.
func ParseClientHelloV2(record []byte) (ClientHelloV2, error) {
	r := reader(record)
	typ, _ := r.u8()
	version, ok := r.u16()
	ciphers, _ := r.u16()
	session, _ := r.u16()
	challenge, ok2 := r.u16()
	if !ok || !ok2 || typ != HelloClientV2 || version != VersionSSL2 && version>>8 != 3 ||
		ciphers == 0 || ciphers%3 != 0 || session != 0 && session != 16 || challenge < 16 || challenge > 32 ||
		len(r) != int(ciphers)+int(session)+int(challenge) {
		return ClientHelloV2{}, errV2
	}
	h := ClientHelloV2{Version: version}
	specs, _ := r.bytes(int(ciphers))
	h.Session, _ = r.bytes(int(session))
	h.Challenge, _ = r.bytes(int(challenge))
	h.Ciphers = kinds(specs)
	return h, nil
}

// kinds reads numbers of three bytes.
func kinds(specs []byte) []uint32 {
	all := make([]uint32, 0, len(specs)/3)
	for ; len(specs) >= 3; specs = specs[3:] {
		all = append(all, uint32(specs[0])<<16|uint32(specs[1])<<8|uint32(specs[2]))
	}
	return all
}

// Hello is the same hello in the form of later versions.
func (h ClientHelloV2) Hello() ClientHello {
	hello := ClientHello{Versions: []uint16{h.Version}, Session: h.Session, SSL2: true}
	copy(hello.Random[32-len(h.Challenge):], h.Challenge)
	for _, c := range h.Ciphers {
		if c>>16 == 0 {
			hello.Ciphers = append(hello.Ciphers, uint16(c))
		}
	}
	return hello
}

// ServerHelloV2 is a ServerHello of SSL 2.0.
type ServerHelloV2 struct {
	Resumed     bool
	Version     uint16
	Certificate []byte // in DER
	Ciphers     []uint32
}

// ParseServerHelloV2 reads a record that holds a ServerHello and nothing else.
func ParseServerHelloV2(record []byte) (ServerHelloV2, error) {
	r := reader(record)
	typ, _ := r.u8()
	hit, _ := r.u8()
	_, _ = r.u8() // type of certificate
	version, _ := r.u16()
	cert, _ := r.u16()
	specs, _ := r.u16()
	id, ok := r.u16()
	if !ok || typ != HelloServerV2 || hit > 1 || version != VersionSSL2 || specs%3 != 0 || len(r) != int(cert)+int(specs)+int(id) {
		return ServerHelloV2{}, errV2
	}
	h := ServerHelloV2{Resumed: hit == 1, Version: version}
	h.Certificate, _ = r.bytes(int(cert))
	list, _ := r.bytes(int(specs))
	h.Ciphers = kinds(list)
	return h, nil
}

// ParseMasterKeyV2 reads the kind of cipher a client chose for SSL 2.0.
func ParseMasterKeyV2(record []byte) (cipher uint32, ok bool) {
	r := reader(record)
	typ, _ := r.u8()
	kind, _ := r.bytes(3)
	clear, _ := r.u16()
	secret, _ := r.u16()
	arg, ok := r.u16()
	if !ok || typ != ClientMasterKeyV2 || len(r) != int(clear)+int(secret)+int(arg) {
		return 0, false
	}
	return kinds(kind)[0], true
}
