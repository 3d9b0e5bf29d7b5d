package clear

import (
	"encoding/hex"
	"strings"
)

// sample is what both sides of a protocol say first.
type sample struct {
	name           string
	client, server []string // messages; of a stream they are joined
	datagrams      bool
	port           uint16
}

// x reads hexadecimal with blanks; what stands in single quotes is text.
func x(s string) string {
	var out strings.Builder
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			out.WriteString(part)
			continue
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
		if err != nil {
			panic(part + ": " + err.Error())
		}
		out.Write(b)
	}
	return out.String()
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

// varied is n bytes that repeat after 251.
func varied(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i*31 + i*7 + 11)
	}
	return string(b)
}

var samples = []sample{
	{name: "http", client: []string{"BREW /pot-1 HTTP/1.1\r\nHost: a\r\n\r\n"}, server: []string{"HTTP/1.1 418 I'm a teapot\r\n\r\n"}},
	{name: "http", server: []string{"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + varied(300)}},
	{name: "http", client: []string{"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n"}, datagrams: true},
	{name: "websocket", client: []string{"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + x("81 85 01 02 03 04") + varied(5)},
		server: []string{"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + x("81 02 'hi'")}},
	{name: "http2", client: []string{preface, x("000012 04 00 00000000 0003 00000064 0004 02000000 0002 00000000"), x("000004 08 00 00000000 01ff0001")},
		server: []string{x("000006 04 00 00000000 0003 00000080"), x("000000 04 01 00000000")}},
	{name: "http2", server: []string{x("000006 04 00 00000000 0003 00000080"), x("000000 04 01 00000000")}},
	{name: "dns", client: []string{x("1a2b 0100 0001 0000 0000 0001 07 'example' 03 'com' 00 0001 0001 00 0029 1000 00000000 0000")},
		server: []string{x("1a2b 8180 0001 0001 0000 0000 07 'example' 03 'com' 00 0001 0001 c00c 0001 0001 00000e10 0004 5db8d822")}, datagrams: true},
	{name: "dns", client: []string{x("001d 1a2b 0100 0001 0000 0000 0000 07 'example' 03 'com' 00 0001 0001")}},
	{name: "mdns", client: []string{x("0000 8400 0000 0001 0000 0000 05 'host1' 05 'local' 00 0001 8001 00000078 0004 0a000001")}, datagrams: true, port: 5353},
	{name: "netbios-ns", client: []string{x("8001 0110 0001 0000 0000 0000 20") + "EKEJEEFCEFEOFHEPFCELCACACACACAAA" + x("00 0020 0001")}, datagrams: true, port: 137},
	{name: "postgresql", client: []string{x("00000020 00030000 'user' 00 'bob' 00 'database' 00 'shop' 00 00"), x("50 00000010 00 'select 1' 00 0000")}},
	{name: "postgresql", client: []string{x("00000008 04d2162f"), x("00000015 00030000 'user' 00 'alice' 00 00")}, server: []string{"N", x("52 0000000c 00000005 01020304")}},
	{name: "postgresql", server: []string{x("52 00000008 00000000"), x("53 00000017 'client_encoding' 00 'UT' 00"), x("5a 00000005 49")}},
	{name: "mysql", server: []string{x("4a 0000 00 0a '8.0.36' 00 08000000 0102030405060708 00 ffff ff 0200 ffdf 15 00000000000000000000") + varied(12) + "\x00mysql_native_password\x00"[:22]}},
	{name: "redis", client: []string{"*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n"}, server: []string{"$5\r\nworld\r\n"}},
	{name: "memcached", client: []string{x("80 00 0005 00 00 0000 00000005 00000001 0000000000000000 'hello'")}, server: []string{x("81 00 0000 04 00 0000 00000009 00000001 0000000000000001 deadbeef 'world'")}},
	{name: "mongodb", client: []string{x("25000000 01000000 00000000 dd070000 00000000 00 10000000 10 'ping' 00 01000000 00")}},
	{name: "mongodb", client: []string{x("3a000000 01000000 00000000 d4070000 00000000 'admin.$cmd' 00 00000000 ffffffff 13000000 10 'isMaster' 00 01000000 00")[:58]}},
	{name: "cassandra", client: []string{x("04 00 0000 01 00000016 0001 000b 'CQL_VERSION' 0005 '3.0.0'")}, server: []string{x("84 00 0000 02 00000000")}},
	{name: "tds", client: []string{x("12 01 0011 0000 01 00 0000 0b00 06 ff 000000"), x("01 01 0020 0000 01 00") + varied(24), x("01 01 0010 0000 02 00") + varied(8)}, server: []string{x("04 01 000f 0000 01 00 0000 0b00 06 ff 00")}},
	{name: "kafka", client: []string{x("00000016 0012 0000 00000001 000c 'consumer-one' ")[:26]}, server: []string{x("0000000a 00000001 0000 00000000")}},
	{name: "amqp", client: []string{"AMQP\x00\x00\x09\x01"}, server: []string{x("01 0000 00000008 000a 000a 00090000 ce")}},
	{name: "amqp", client: []string{x("'AMQP' 03 01 00 00")}, server: []string{x("'AMQP' 03 01 00 00 00000010 02 01 0000 00 53 40 c0 01 00 00 00")}},
	{name: "mqtt", client: []string{x("10 0f 0004 'MQTT' 04 02 003c 0003 'abc'"), x("c0 00")}, server: []string{x("20 02 00 00"), x("d0 00")}},
	{name: "mqtt", client: []string{x("10 11 0006 'MQIsdp' 03 02 003c 0003 'abc'")}},
	{name: "zookeeper", client: []string{x("0000002d 00000000 0000000000000000 00007530 0000000000000000 00000010 00000000000000000000000000000000 00")}},
	{name: "elasticsearch", client: []string{x("4553 00000010 0000000000000007 08 007a1d83 000000")}},
	{name: "thrift", client: []string{x("80010001 00000004 'ping' 00000001 00")}},
	{name: "thrift", client: []string{x("00000011 80010001 00000004 'ping' 00000001 00")}},
	{name: "zabbix", client: []string{x("'ZBXD' 01 0a00000000000000 'agent.ping'")}},
	{name: "fastcgi", client: []string{x("01 01 0001 0008 00 00 0001 00 0000000000"), x("01 04 0001 0004 00 00 01010161")[:12]}},
	{name: "bittorrent", client: []string{"\x13BitTorrent protocol" + zeros(8) + varied(40)}},
	{name: "ldap", client: []string{x("30 25 02 01 01 60 20 02 01 03 04 11 'cn=admin,dc=shop,' 80 08 'password'")[:39]}, server: []string{x("30 0c 02 01 01 61 07 0a 01 00 04 00 04 00")}},
	{name: "snmp", client: []string{x("30 26 02 01 01 04 06 'public' a0 19 02 01 05 02 01 00 02 01 00 30 0e 30 0c 06 08 2b06010201010100 05 00")}, datagrams: true},
	{name: "kerberos", client: []string{x("6a 15 30 13 a1 03 02 01 05 a2 03 02 01 0a a4 07 30 05 a0 03 02 01 00")}, datagrams: true},
	{name: "smb", client: []string{x("00 00004c fe 'SMB' 4000 0100 00000000 0300 0100 00000000 00000000 0300000000000000 00000000 00000000 0100000000000000") + varied(16) + varied(12)}},
	{name: "dcerpc", client: []string{x("05 00 0b 03 10000000 1800 0000 01000000 b810 b810 00000000")}},
	{name: "sunrpc", client: []string{x("12345678 00000000 00000002 000186a0 00000002 00000003 00000000 00000000 00000000 00000000")}, datagrams: true},
	{name: "sunrpc", client: []string{x("80000028 12345678 00000000 00000002 000186a3 00000003 00000000 00000000 00000000 00000000 00000000")}},
	{name: "radius", client: []string{x("01 05 0031 ") + varied(16) + x("01 05 'bob' 02 12") + varied(16) + x("04 06 0a000001")[:6]}, server: []string{x("02 05 0014") + varied(16)}, datagrams: true},
	{name: "diameter", client: []string{x("01 000014 80 000101 00000000 00000001 00000001")}},
	{name: "ntp", client: []string{x("23 00 06 20") + zeros(36) + varied(8)}, datagrams: true},
	{name: "ntp", client: []string{x("24 02 06 e7 00000a1b 00000c0d c0a80101 e9a1b2c3 01020304 e9a1b2c4 01020304 e9a1b2c5 01020304 e9a1b2c5 11020304")}, datagrams: true},
	{name: "dhcp", client: []string{x("01 01 06 00 12345678 0000 8000") + zeros(16) + x("020000000001") + zeros(10+64+128) + x("63825363 350101 ff")}, datagrams: true},
	{name: "tftp", client: []string{x("0001 'pxelinux.0' 00 'octet' 00")}, datagrams: true},
	{name: "tftp", client: []string{x("0003 0001 ") + varied(512), x("0003 0002 01")}, server: []string{x("0004 0001"), x("0004 0002")}, datagrams: true},
	{name: "stun", client: []string{x("0001 0000 2112a442") + varied(12)}, server: []string{x("0101 000c 2112a442") + varied(12) + x("0020 0008 0001 a147 e112a643")}, datagrams: true},
	{name: "coap", client: []string{x("44 01 1234 a1b2c3d4 b7 'sensors' 04 'temp'")}, server: []string{x("64 45 1234 a1b2c3d4 ff 'ok'")}, datagrams: true},
	{name: "bgp", client: []string{strings.Repeat("\xff", 16) + x("0013 04")}},
	{name: "rip", client: []string{x("02 02 0000 0002 0000 0a000000 ff000000 00000000 00000001")}, datagrams: true},
	{name: "telnet", client: []string{x("fffd03 fffb18 fffb1f")}, server: []string{x("fffd18 fffd20 fffd23 fffd27")}},
	{name: "vnc", client: []string{"RFB 003.008\n\x01"}, server: []string{"RFB 003.008\n\x01\x01"}},
	{name: "x11", client: []string{x("6c 00 0b00 0000 1200 1000 0000") + "MIT-MAGIC-COOKIE-1" + varied(18)}},
	{name: "modbus", client: []string{x("0001 0000 0006 11 03 006b 0003"), x("0002 0000 0006 11 03 006b 0003")}, server: []string{x("0001 0000 0009 11 03 06 022b 0000 0064")}},
	{name: "dicom", client: []string{x("01 00 000000ca 0001 0000") + "ARCHIVE         MODALITY        " + zeros(32) + varied(100)}},
	{name: "s7", client: []string{x("03 00 0016 11 e0 0000 0001 00 c1 02 0100 c2 02 0102 c0 01 0a"), x("03 00 0019 02 f0 80 32 01 0000 0400 0008 0000 f0 00 0001 0001 01e0")}, server: []string{x("03 00 0008 02 f0 80 32")[:8] + "", ""}[:0]},
	{name: "netflow", client: []string{x("0005 0001 00001000 65000000 00000000 00000001 00 00 0000") + varied(36) + x("00") + varied(9) + x("0000")}, datagrams: true},
	{name: "bacnet", client: []string{x("81 0b 000c 01 20 ffff 00 ff 10 08"), x("81 0b 000c 01 20 ffff 00 ff 10 08")}, datagrams: true},
	{name: "dhcpv6", client: []string{x("01 a1b2c3 0001 000e 0001 0001 2c3d4e5f 525400123456 0006 0004 0017 0018 0008 0002 0000 0003 000c 00123456 00000000 00000000")}, datagrams: true},
	{name: "memcached", client: []string{x("0001 0000 0001 0000 'get greeting' 0d0a")}, server: []string{x("0001 0000 0001 0000 'END' 0d0a")}, datagrams: true},
	{name: "radius", client: []string{x("01 07 0039") + varied(16) + x("01 07 'alice' 02 12") + varied(16) + x("04 06 0a000001 05 06 00000001")}, datagrams: true},
	{name: "rtp", client: rtpSample(), datagrams: true},
}

// rtpSample is silence in the companding of telephones.
func rtpSample() (all []string) {
	for i := range 6 {
		all = append(all, x("80 00 01 ")+string(rune('0'+i))+x("00000000 cafebabe")+strings.Repeat("\xff\x7f", 80))
	}
	return all
}

// talk is what a capture makes of the sample.
func (s sample) talk() *Talk {
	t := &Talk{Datagrams: s.datagrams, ServerPort: s.port}
	for i, said := range [][]string{s.client, s.server} {
		side := t.sides()[i]
		if !s.datagrams {
			said = []string{strings.Join(said, "")}
		}
		for _, m := range said {
			if m != "" {
				side.Parts = append(side.Parts, Part{Data: []byte(m)})
			}
		}
		side.Start = true
	}
	return t
}

func init() {
	samples = append(samples, []sample{
		{name: "llmnr", client: []string{x("1a2b 0000 0001 0000 0000 0000 05 'host1' 00 0001 0001")}, datagrams: true, port: 5355},
		{name: "netbios-dgm", client: []string{x("11 02 8001 0a000001 008a 0064 0000 20") + strings.Repeat("CA", 16) + x("00 20") + strings.Repeat("EB", 16) + x("00 ff 'SMB'")}, datagrams: true},
		{name: "netbios-ssn", client: []string{x("81 00 0044 20") + strings.Repeat("CA", 16) + x("00 20") + strings.Repeat("EB", 16) + x("00")}, server: []string{x("82 00 0000")}},
		{name: "fix", client: []string{"8=FIX.4.4\x019=65\x0135=A\x01"}},
		{name: "zabbix", client: []string{x("'ZBXD' 01 0a00000000000000 'agent.ping'")}},
		{name: "ajp", client: []string{x("1234 000e 02 02 0008 'HTTP/1.1' 00 00")}, server: []string{x("4142 0002 04 00")}},
		{name: "ipfix", client: []string{x("000a 0018 65000000 00000001 00000000 0002 0008 01000000"), x("000a 0018 65000001 00000002 00000000 0002 0008 01000000")}, datagrams: true},
		{name: "sflow", client: []string{x("00000005 00000001 0a000001 00000000 00000001 00001000 00000001") + varied(40)}, datagrams: true},
		{name: "dnp3", client: []string{x("0564 05 c9 0100 0000 d0a4"), x("0564 05 c9 0100 0000 d0a4"), x("0564 05 c9 0100 0000 d0a4")}},
	}...)
}
