package verify

import "slices"

// Doubtful reports whether a finding that is no plaintext keeps a capture from
// being called sealed.
func (f *Finding) Doubtful() bool {
	if f.Exempt != "" {
		return false
	}
	return f.Verdict == Unknown || f.Verdict.Seals() && len(f.Weak) > 0 && !f.expected ||
		f.Unattested() || slices.Contains(f.Notes, noteDisagree)
}

// Unattested reports whether a flow claims to be sealed by proxies, which were
// asked, and none attests it.
func (f *Finding) Unattested() bool { return slices.Contains(f.Notes, noteUnattested) }
