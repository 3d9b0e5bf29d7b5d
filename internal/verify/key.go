package verify

import "strconv"

// appendKey appends what is equal for two findings exactly if they may share a
// detail: every field but those that a record holds.
func appendKey(b []byte, f *Finding) []byte {
	b = appendStrings(b, string(f.Proto), string(f.Verdict), f.Seal, f.Protocol, f.Reason, f.Vantage, f.Overlay, f.Exempt, f.Violates)
	b = appendList(b, f.Weak)
	b = appendList(b, f.Notes)
	b = appendBools(b, f.Midstream, f.OneWay, f.TLS != nil, f.WireGuard != nil, f.SSH != nil, f.Upgrade != nil, f.Attested != nil, f.Decrypted != nil)
	if t := f.TLS; t != nil {
		b = appendStrings(b, t.Version, t.Cipher, t.Group, t.SNI, t.ALPN, t.Handshake, t.Alert, t.QUICVersion)
		b = appendList(b, t.ALPNOffered)
		b = appendBools(b, t.Resumed, t.Retried, t.ECH, t.ClientCertRequested, isRandom(t.Random))
		b = appendCertificate(b, t.ServerCert)
		b = appendCertificate(b, t.ClientCert)
	}
	if w := f.WireGuard; w != nil {
		b = appendStrings(b, w.Handshake, w.Client, w.Server)
		b = strconv.AppendInt(b, int64(w.Messages), 10)
	}
	if s := f.SSH; s != nil {
		b = appendStrings(b, s.Client, s.Server, s.Kex, s.Cipher)
	}
	if u := f.Upgrade; u != nil {
		b = appendStrings(b, u.From)
		b = strconv.AppendInt(append(strconv.AppendInt(b, u.Bytes[0], 10), ' '), u.Bytes[1], 10)
	}
	if a := f.Attested; a != nil {
		b = appendStrings(b, a.Client, a.Server, a.By)
	}
	if d := f.Decrypted; d != nil {
		b = appendStrings(b, d.Client, d.Server)
	}
	if e := f.Evidence; e != nil && !quotesBytes(e) {
		b = appendStrings(b, e.Text, e.Hex, e.From)
		b = strconv.AppendInt(b, int64(e.Packet), 10)
	}
	return b
}

// quotesBytes reports whether evidence is bytes that a record can hold.
func quotesBytes(e *Evidence) bool { return e.Hex != "" && len(e.Hex) <= 2*evidenceBytes }

// isRandom reports whether a record can hold the random of a ClientHello.
func isRandom(s string) bool { return len(s) == 64 }

// appendStrings appends each string behind its length: no two lists read alike.
func appendStrings(b []byte, all ...string) []byte {
	for _, s := range all {
		b = append(strconv.AppendInt(b, int64(len(s)), 10), ':')
		b = append(b, s...)
	}
	return b
}

func appendList(b []byte, list []string) []byte {
	b = append(strconv.AppendInt(b, int64(len(list)), 10), '[')
	return appendStrings(b, list...)
}

func appendBools(b []byte, all ...bool) []byte {
	for _, v := range all {
		if v {
			b = append(b, '1')
		} else {
			b = append(b, '0')
		}
	}
	return b
}

func appendCertificate(b []byte, c *Certificate) []byte {
	if c == nil {
		return append(b, '-')
	}
	return appendList(appendStrings(append(b, '+'), c.Subject, c.Issuer, c.NotAfter, c.SHA256), c.Names)
}
