package tls

import (
	"fmt"
	"strings"
)

// Versions on the wire.
const (
	VersionSSL2    = 0x0002
	VersionSSL3    = 0x0300
	Version10      = 0x0301
	Version11      = 0x0302
	Version12      = 0x0303
	Version13      = 0x0304
	VersionDTLSOld = 0x0100 // OpenSSL before 0.9.8f
	VersionDTLS10  = 0xFEFF
	VersionDTLS12  = 0xFEFD
	VersionDTLS13  = 0xFEFC
)

var versions = map[uint16]string{
	VersionSSL2: "SSL 2.0", VersionSSL3: "SSL 3.0", Version10: "1.0", Version11: "1.1", Version12: "1.2", Version13: "1.3",
	VersionDTLSOld: "1.0", VersionDTLS10: "1.0", VersionDTLS12: "1.2", VersionDTLS13: "1.3",
	0x7E01: "1.3 experiment 1", 0x7E02: "1.3 experiment 2", 0x7E03: "1.3 experiment 3",
	0xFB17: "1.3 draft 23", 0xFB1A: "1.3 draft 26", // Facebook's
}

// VersionName is "1.3", "1.3 draft 23", "SSL 3.0", or the number in hex.
func VersionName(v uint16) string {
	if name, ok := versions[v]; ok {
		return name
	}
	if n, ok := draft(v); ok {
		return fmt.Sprintf("1.3 draft %d", n)
	}
	return fmt.Sprintf("0x%04X", v)
}

// draft is the number of a draft of TLS 1.3.
func draft(v uint16) (n int, ok bool) {
	return int(v & 0xFF), v>>8 == 0x7F && v&0xFF > 0 && v&0xFF <= 28
}

// earlyDraft reports whether a ServerHello with this version is of drafts before
// the 22nd, when it was made to look like that of TLS 1.2.
func earlyDraft(v uint16) bool {
	n, ok := draft(v)
	return ok && n < 22
}

// Is13 reports whether a version is TLS 1.3 or DTLS 1.3, or a draft of it.
func Is13(v uint16) bool { return strings.HasPrefix(VersionName(v), "1.3") }

// IsDraft13 reports whether a version is what came before TLS 1.3.
func IsDraft13(v uint16) bool { return Is13(v) && v != Version13 && v != VersionDTLS13 }

// KnownVersion reports whether a version has a name.
func KnownVersion(v uint16) bool { return !strings.HasPrefix(VersionName(v), "0x") }

// GroupName is the IANA name of a key-exchange group, or its number in hex.
func GroupName(g uint16) string {
	if name, ok := groups[g]; ok {
		return name
	}
	return fmt.Sprintf("0x%04X", g)
}

var groups = map[uint16]string{
	1: "sect163k1", 2: "sect163r1", 3: "sect163r2", 4: "sect193r1", 5: "sect193r2", 6: "sect233k1", 7: "sect233r1",
	8: "sect239k1", 9: "sect283k1", 10: "sect283r1", 11: "sect409k1", 12: "sect409r1", 13: "sect571k1", 14: "sect571r1",
	15: "secp160k1", 16: "secp160r1", 17: "secp160r2", 18: "secp192k1", 19: "secp192r1", 20: "secp224k1", 21: "secp224r1",
	22: "secp256k1", 23: "secp256r1", 24: "secp384r1", 25: "secp521r1",
	26: "brainpoolP256r1", 27: "brainpoolP384r1", 28: "brainpoolP512r1", 29: "x25519", 30: "x448",
	31: "brainpoolP256r1tls13", 32: "brainpoolP384r1tls13", 33: "brainpoolP512r1tls13",
	34: "GC256A", 35: "GC256B", 36: "GC256C", 37: "GC256D", 38: "GC512A", 39: "GC512B", 40: "GC512C", 41: "curveSM2",

	0x0100: "ffdhe2048", 0x0101: "ffdhe3072", 0x0102: "ffdhe4096", 0x0103: "ffdhe6144", 0x0104: "ffdhe8192",

	// Post-quantum: registered, then what drafts used.
	0x0200: "MLKEM512", 0x0201: "MLKEM768", 0x0202: "MLKEM1024",
	0x11EB: "SecP256r1MLKEM768", 0x11EC: "X25519MLKEM768", 0x11ED: "SecP384r1MLKEM1024", 0x11EE: "curveSM2MLKEM768",
	0x6399: "X25519Kyber768Draft00", 0x639A: "SecP256r1Kyber768Draft00",
	0xFE30: "X25519Kyber512Draft00", 0xFE31: "X25519Kyber768Draft00", 0x4138: "CECPQ2",

	0xFF01: "arbitrary_explicit_prime_curves", 0xFF02: "arbitrary_explicit_char2_curves",
}

// AlertName is the name of an alert's description, or its number.
func AlertName(d byte) string {
	if name, ok := alerts[d]; ok {
		return name
	}
	return fmt.Sprintf("alert %d", d)
}

var alerts = map[byte]string{
	0: "close_notify", 1: "end_of_early_data", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed",
	22: "record_overflow", 30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate",
	43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
	52: "too_many_cids_requested", 60: "export_restriction", 70: "protocol_version", 71: "insufficient_security",
	80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 114: "bad_certificate_hash_value", 115: "unknown_psk_identity",
	116: "certificate_required", 117: "general_error", 120: "no_application_protocol", 121: "ech_required",
}
