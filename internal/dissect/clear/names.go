package clear

import (
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// wording is a protocol whose messages are lines of text. Each pattern that fits
// counts; two make a name. A pattern that no other protocol has counts twice.
type wording struct {
	name string
	// client and server patterns count once, sure ones of either side twice.
	client, server, sure *pattern
}

// pattern is a regular expression, and the bytes that what it matches can begin
// with: most streams are ruled out by their first.
type pattern struct {
	*regexp.Regexp
	first [256]bool
}

// re compiles a pattern, of which every alternative must begin with ^.
func re(expression string) *pattern {
	p := &pattern{Regexp: regexp.MustCompile(expression)}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		panic(err) // regexp has just parsed it
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		panic(err)
	}
	p.follow(prog, uint32(prog.Start), false, map[uint32]bool{})
	return p
}

// follow finds the first bytes that a program can take from an instruction on.
func (p *pattern) follow(prog *syntax.Prog, at uint32, anchored bool, seen map[uint32]bool) {
	if seen[at] {
		return
	}
	seen[at] = true
	switch in := &prog.Inst[at]; in.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		p.follow(prog, in.Out, anchored, seen)
		p.follow(prog, in.Arg, anchored, seen)
	case syntax.InstEmptyWidth:
		p.follow(prog, in.Out, anchored || syntax.EmptyOp(in.Arg)&syntax.EmptyBeginText != 0, seen)
	case syntax.InstCapture, syntax.InstNop:
		p.follow(prog, in.Out, anchored, seen)
	case syntax.InstFail:
	default:
		if !anchored {
			panic("a pattern that is not anchored: " + p.String())
		}
		for b := range p.first {
			// Of a rune beyond ASCII any byte may be the first.
			p.first[b] = p.first[b] || in.Op == syntax.InstMatch || b >= utf8.RuneSelf || in.MatchRune(rune(b))
		}
	}
}

// in reports whether a stream matches.
func (p *pattern) in(b []byte) bool {
	return p != nil && len(b) > 0 && p.first[b[0]] && p.Match(b)
}

// wordings in order: of two that fit equally the first is named.
var wordings = []wording{
	{name: "smtp", client: re(`(?i)^(EHLO|HELO|LHLO|MAIL|RSET|QUIT|NOOP|STARTTLS)\b`), server: re(`^(220|250|421|554)[ -]`),
		sure: re(`(?i)^(220[ -][^\r\n]*\bE?SMTP\b|(EHLO|HELO|LHLO) \S+\r?\n|MAIL FROM:|RCPT TO:|250[ -]?2\.\d\.\d |250-[^\r\n]*\r?\n250[ -](SIZE|PIPELINING|8BITMIME|ENHANCEDSTATUSCODES|STARTTLS))`)},
	{name: "imap", client: re(`(?i)^[A-Za-z0-9.]{1,16} (CAPABILITY|LOGIN|AUTHENTICATE|SELECT|NOOP|STARTTLS|LOGOUT|ID|FETCH|LIST|UID|IDLE|EXAMINE)\b`), server: re(`^\* `),
		sure: re(`^\* (OK|PREAUTH|BYE|CAPABILITY)[ \[][^\r\n]*IMAP|^\* CAPABILITY IMAP4`)},
	{name: "pop3", client: re(`(?i)^(USER|PASS|APOP|CAPA|AUTH|STLS|STAT|LIST|RETR|UIDL|QUIT)\b`), server: re(`^(\+OK|-ERR)\b`),
		sure: re(`(?i)^\+OK [^\r\n]*\bPOP3?\b`)},
	{name: "ftp", client: re(`(?i)^(USER|PASS|AUTH|FEAT|SYST|OPTS|PASV|EPSV|CWD|TYPE|PORT|RETR|STOR|QUIT|LIST|PWD)\b`), server: re(`^(220|230|331|211|421|530)[ -]`),
		sure: re(`(?i)^220[ -][^\r\n]*\bFTP|^(PASV|EPSV|RETR \S+|STOR \S+|TYPE [AI])\r?\n|^227 Entering|^331 `)},
	{name: "nntp", client: re(`(?i)^(MODE READER|CAPABILITIES|GROUP|ARTICLE|LIST|POST|IHAVE|AUTHINFO|QUIT)\b`), server: re(`^(200|201|400|502) `),
		sure: re(`(?i)^20[01] [^\r\n]*\b(NNTP|news)\b|^MODE READER\r?\n|^AUTHINFO `)},
	{name: "irc", client: re(`^(NICK|USER|JOIN|PASS|CAP|PING|PONG|PRIVMSG) `), server: re(`^:\S+ (NOTICE|\d{3}|PING|CAP|MODE|JOIN) `),
		sure: re(`^CAP (LS|REQ|END)\b|^:\S+ 001 |^NICK \S+\r?\nUSER |^(:\S+ )?PRIVMSG [#&]?\S+ :|^:\S+ NOTICE (AUTH|\*) :`)},
	{name: "xmpp", sure: re(`^(<\?xml[^>]*\?>\s*)?<stream:stream\b|^<[^>]*\bjabber:(client|server)`)},
	{name: "sip", sure: re(`^SIP/2\.0 \d{3} |^[A-Z]+ sips?:\S+ SIP/2\.0\r?\n`)},
	{name: "rtsp", sure: re(`^RTSP/1\.0 \d{3} |^[A-Z_]+ (rtsp://\S+|\*) RTSP/1\.0\r?\n`)},
	{name: "ssdp", sure: re(`^(M-SEARCH|NOTIFY) \* HTTP/1\.1\r?\n`)},
	{name: "stomp", sure: re(`^(CONNECT|STOMP|CONNECTED|MESSAGE|SEND|SUBSCRIBE)\r?\n[a-z-]+:[^\r\n]*\r?\n`)},
	{name: "nats", sure: re(`^INFO \{"server_id"|^CONNECT \{"|^(PUB|SUB|MSG|HPUB) [\w.>*]+ [^\r\n]*\d+\r\n`), client: re(`^CONNECT \{`), server: re(`^INFO \{`)},
	{name: "redis", client: re(`(?i)^(PING|INFO|GET|SET|AUTH|SELECT|CONFIG|KEYS|DEL|INCR|MONITOR|HELLO|QUIT|DBSIZE)\b`), server: re(`^(\+|-[A-Z]+ |\$\d+\r\n|:\d+\r\n|\*\d+\r\n|\$-1\r\n)`),
		sure: re(`^\*\d+\r\n\$\d+\r\n|^-(ERR|NOAUTH|WRONGPASS|DENIED) |^\+PONG\r\n`)},
	{name: "memcached", client: re(`^(get|gets|set|add|replace|append|incr|decr|delete|stats|version|touch|mg|ms|flush_all|quit)\b`), server: re(`^(VALUE|STORED|NOT_STORED|END|ERROR|DELETED|STAT|VERSION|OK|HD|EN)\b`),
		sure: re(`^(set|add|replace) \S+ \d+ \d+ \d+( noreply)?\r\n|^VALUE \S+ \d+ \d+|^STAT \w+ `)},
	{name: "syslog", sure: re(`^(\d{2,4} )?<\d{1,3}>(1 \S+ \S+ |[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d )`)},
	{name: "statsd", sure: re(`^[\w.\-/]+:[-+]?[\d.]+\|(c|g|ms|h|s|d)\b`)},
	{name: "git", sure: re(`^[0-9a-f]{4}git-(upload|receive)-pack `)},
	{name: "rsync", sure: re(`^@RSYNCD: `)},
	{name: "vnc", sure: re(`^RFB 00\d\.00\d\n`)},
	{name: "fix", sure: re(`^8=FIX`)},
	{name: "beanstalkd", client: re(`^(put \d+ \d+ \d+ \d+|reserve|use \S+|watch \S+)\r\n`), server: re(`^(INSERTED|RESERVED|USING|WATCHING) `)},
	{name: "zookeeper", client: re(`^(ruok|stat|srvr|mntr|conf|envi)\n?$`), server: re(`^(imok|Zookeeper version|clientPort|zk_version|Environment:)`)},
	{name: "gelf", sure: re(`^\{.*"short_message"`)},
	{name: "graphite", sure: re(`^[\w-]+(\.[\w-]+)+ -?[\d.]+ 1\d{9}\r?\n`)},
	{name: "xml", sure: re(`^<\?xml `)},
	{name: "json", sure: re(`^\s*[{\[]\s*("|\{|\[\s*["{])`)},
}

// nameAhead is how much of a direction is looked at.
const nameAhead = 256

// NameText names a talk that was found to be text by what its lines begin with;
// "text" if it is of no known protocol.
func NameText(t *Talk) string {
	c, s := t.Client.head(), t.Server.head()
	c, s = c[:min(len(c), nameAhead)], s[:min(len(s), nameAhead)]
	best, most := "text", 1
	for i := range wordings {
		if n := wordings[i].count(c, s); n > most {
			best, most = wordings[i].name, n
		}
	}
	return best
}

func (w *wording) count(c, s []byte) (n int) {
	if w.client.in(c) {
		n++
	}
	if w.server.in(s) {
		n++
	}
	if w.sure.in(c) || w.sure.in(s) {
		n += 2
	}
	return n
}
