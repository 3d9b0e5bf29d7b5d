package capture

import (
	"net/netip"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// Frame is one packet as it was captured.
type Frame struct {
	// Data is what was kept of it; valid until the source's next Next.
	Data []byte
	// Length on the wire.
	Length int
	Time   time.Time
	Link   layers.LinkType
	// Vantage is where it was captured: an interface by its name, a file if there
	// are several, or empty if all comes from one place.
	Vantage string
	// Number of the packet in its file, from 1. Where it is 0, the table counts.
	Number int
}

// Source yields frames. At its end it returns io.EOF, where a file breaks off
// io.ErrUnexpectedEOF.
type Source interface {
	Next(*Frame) error
}

// Dropping is a source that knows how many packets the capture itself lost, as
// far as it has been read.
type Dropping interface{ Dropped() int }

// Secretive is a source that carries key log text, as the decryption secrets
// blocks of pcapng do, as far as it has been read.
type Secretive interface{ Secrets() []byte }

// Naming is a source that knows names of addresses, as the name resolution blocks
// of pcapng do, as far as it has been read.
type Naming interface {
	Names() map[netip.Addr][]string
}
