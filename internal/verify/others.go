package verify

import (
	"bytes"

	"github.com/sealmesh/sealmesh/internal/capture"
)

func judgeDTLS(*capture.Flow, Knowledge, *Finding) bool   { return false }
func judgeIPsec(*capture.Flow, Knowledge, *Finding) bool  { return false }
func judgeMACsec(*capture.Flow, Knowledge, *Finding) bool { return false }

// judgeSSH recognises the banner of RFC 4253, section 4.2.
func judgeSSH(f *capture.Flow, _ Knowledge, found *Finding) bool {
	banner := []byte("SSH-2.0-")
	if !bytes.HasPrefix(f.ToServer.Start(), banner) || !bytes.HasPrefix(f.ToClient.Start(), banner) {
		return false
	}
	found.Verdict, found.Reason = Unknown, "ssh, whose records are not read here"
	return true
}
