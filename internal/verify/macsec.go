package verify

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sealmesh/sealmesh/internal/capture"
)

const (
	macsecICV = 16
	// macsecFrames of one channel show it.
	macsecFrames = 3
	// macsecBytes are the least that must be seen of what should be sealed.
	macsecBytes = 64
)

// judgeMACsec recognises frames of IEEE 802.1AE that say they are encrypted.
func judgeMACsec(f *capture.Flow, _ Knowledge, found *Finding) bool {
	channels := map[macsecChannel]*counter{}
	var sealed [][]byte
	for side, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		for c := range datagrams(d) {
			tag, body, err := parseSecTAG(c.Data, len(c.Data)+c.Cut)
			if err == nil {
				to := macsecChannel{side, tag.channel, tag.association}
				if channels[to] == nil {
					channels[to] = newCounter()
				}
				sealed = append(sealed, body)
				err = channels[to].add(uint64(tag.number), len(body))
			}
			if err != nil {
				found.Reason = fmt.Sprintf("looks like MACsec, but packet %d: %v", c.Packet(0), err)
				return false
			}
		}
	}
	if err := macsecShown(channels, sealed); err != nil {
		found.Reason = "looks like MACsec, but " + err.Error()
		return false
	}
	found.Verdict, found.Seal = MACsec, string(MACsec)
	return true
}

// macsecChannel is who sends, by what the frames say, and with which key.
type macsecChannel struct {
	side        int
	channel     uint64
	association byte
}

// macsecShown says why frames do not show a sealed channel, or nil if they do.
func macsecShown(channels map[macsecChannel]*counter, sealed [][]byte) error {
	if err := refute(sealed, macsecICV); err != nil {
		return err
	}
	several := false
	for _, c := range channels {
		if !c.rises() {
			return errors.New("its packet numbers do not rise")
		}
		several = several || len(c.seen) >= macsecFrames && c.bytes >= macsecBytes
	}
	if !several {
		return fmt.Errorf("%d frames are too few to tell", len(sealed))
	}
	return nil
}

// secTAG is the header of a frame (IEEE 802.1AE, clause 9.3).
type secTAG struct {
	association byte
	number      uint32
	channel     uint64 // 0 if the frame does not say
}

var errSecTAG = errors.New("its header is none of an encrypted frame")

// parseSecTAG reads the header of an encrypted frame of a length on the wire, and
// returns what should be sealed.
func parseSecTAG(frame []byte, length int) (tag secTAG, sealed []byte, err error) {
	const (
		version, explicit, encrypted, changed = 0x80, 0x20, 0x08, 0x04

		shortest = 48 // bytes from which on the frame does not say how many they are
	)
	if len(frame) < 6 || frame[0]&version != 0 || frame[0]&encrypted == 0 || frame[0]&changed == 0 || frame[1] >= shortest {
		return tag, nil, errSecTAG
	}
	header, short := 6, int(frame[1])
	tag.association, tag.number = frame[0]&3, binary.BigEndian.Uint32(frame[2:])
	if frame[0]&explicit != 0 {
		if header = 14; len(frame) < header {
			return tag, nil, errSecTAG
		}
		tag.channel = binary.BigEndian.Uint64(frame[6:])
	}
	end := length
	if short > 0 { // what follows is padding
		end = header + short + macsecICV
	}
	if tag.number == 0 || end > length || end <= header+macsecICV {
		return tag, nil, errSecTAG
	}
	return tag, frame[header:min(end, len(frame))], nil
}
