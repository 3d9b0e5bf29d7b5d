package verify

import "github.com/sealmesh/sealmesh/internal/capture"

// judgeClear names what is in clear, with the bytes that show it.
func judgeClear(f *capture.Flow, _ Knowledge, found *Finding) bool {
	protocol, evidence := readable(f)
	if evidence == nil {
		return false
	}
	found.Verdict, found.Protocol, found.Evidence = Plaintext, protocol, evidence
	return true
}
