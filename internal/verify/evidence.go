package verify

import (
	"encoding/hex"
	"strconv"
)

// evidenceBytes is how much of the evidence is quoted at most.
const evidenceBytes = 64

// Who sent the bytes of evidence.
const (
	fromClient = "client"
	fromServer = "server"
)

// newEvidence quotes bytes that packet brought.
func newEvidence(raw []byte, packet int, from string) *Evidence {
	quoted := strconv.Quote(string(raw))
	return &Evidence{Text: quoted[1 : len(quoted)-1], Hex: hex.EncodeToString(raw), Packet: packet, From: from}
}
