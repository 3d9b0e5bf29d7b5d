package quic

import (
	"errors"
	"fmt"
)

// Types of the frames that an Initial packet may hold (RFC 9000, section 12.4).
const (
	framePadding = 0x00
	framePing    = 0x01
	frameACK     = 0x02
	frameACKECN  = 0x03
	frameCrypto  = 0x06
	frameClose   = 0x1c
)

// Payload is what the frames of an Initial packet say.
type Payload struct {
	Crypto []Piece
	Close  *Close
}

// Piece is a part of the handshake.
type Piece struct {
	Offset uint64
	Data   []byte
}

// Close is the end of a connection. An Error from 0x100 on is 0x100 and a TLS
// alert.
type Close struct {
	Error  uint64
	Reason string
}

// Alert is the TLS alert that ended the connection, if it was one.
func (c Close) Alert() (alert byte, ok bool) {
	return byte(c.Error), c.Error>>8 == 1
}

// ParseInitial reads the frames of an Initial packet's payload. There are no
// others than those that RFC 9000 allows.
func ParseInitial(payload []byte) (Payload, error) {
	var all Payload
	r := reader(payload)
	for len(r) > 0 {
		typ, ok := r.number()
		if !ok {
			return all, errFrame(typ)
		}
		switch typ {
		case framePadding, framePing:
		case frameACK, frameACKECN:
			ok = r.ack(typ == frameACKECN)
		case frameCrypto:
			var piece Piece
			piece, ok = r.piece()
			all.Crypto = append(all.Crypto, piece)
		case frameClose:
			all.Close, ok = r.close()
		default:
			return all, fmt.Errorf("a frame of type 0x%x, which no Initial packet has", typ)
		}
		if !ok {
			return all, errFrame(typ)
		}
	}
	if len(payload) == 0 {
		return all, errors.New("an Initial packet without a frame")
	}
	return all, nil
}

func errFrame(typ uint64) error { return fmt.Errorf("a frame of type 0x%x breaks off", typ) }

// ack skips what an ACK frame says.
func (r *reader) ack(ecn bool) bool {
	_, ok1 := r.number() // largest
	_, ok2 := r.number() // delay
	ranges, ok3 := r.number()
	_, ok4 := r.number() // first range
	numbers := 2 * ranges
	if ecn {
		numbers += 3
	}
	if !ok1 || !ok2 || !ok3 || !ok4 || ranges > uint64(len(*r)) {
		return false
	}
	for range numbers {
		if _, ok := r.number(); !ok {
			return false
		}
	}
	return true
}

func (r *reader) piece() (Piece, bool) {
	offset, ok1 := r.number()
	size, ok2 := r.number()
	if !ok1 || !ok2 || size > uint64(len(*r)) {
		return Piece{}, false
	}
	data, ok := r.bytes(int(size))
	return Piece{offset, data}, ok
}

func (r *reader) close() (*Close, bool) {
	code, ok1 := r.number()
	_, ok2 := r.number() // type of the frame that it is about
	size, ok3 := r.number()
	if !ok1 || !ok2 || !ok3 || size > uint64(len(*r)) {
		return nil, false
	}
	reason, ok := r.bytes(int(size))
	return &Close{Error: code, Reason: string(reason)}, ok
}
