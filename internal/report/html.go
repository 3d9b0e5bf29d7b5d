package report

import (
	"bufio"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"time"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// page.html is the whole page: styles, words and places. It loads nothing and
// runs nothing, and says so in its own content security policy.
//
//go:embed page.html
var pageSource string

// pageTemplate escapes everything it is given, by where it stands. What captures
// hold is cleaned before that, so that text cannot turn around or hide either.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"clean":     clean,
	"count":     count[int],
	"count64":   count[int64],
	"size":      Size[int64],
	"sum":       func(b [2]int64) int64 { return b[0] + b[1] },
	"flows":     countFlows,
	"moment":    moment,
	"sealed":    sealedHow,
	"proto":     protoName,
	"by":        byWords,
	"peers":     peersWords,
	"where":     whereWords,
	"problem":   outcomeWords,
	"hexdump":   hexdump,
	"seenFrom":  seenFrom,
	"shortRest": func(e *Edge) int { return e.Flows - len(e.Examples) },
}).Parse(pageSource))

// pageData is what the page shows.
type pageData struct {
	*Document
	Headline, Meaning, Tone, DoubtsTitle string

	Facts    []fact
	Tallies  []tallied
	Leaks    []*Edge
	Sections []section
	Took     string
	Exit     int
	AllEdges int
	// FilesLast: there are too many for the first screen.
	FilesLast bool
}

// tallied is how many edges are of a class.
type tallied struct {
	Tone, Words string
	Edges       int
}

// section is a table of the edges of one class.
type section struct {
	Title, Lead, Tone string
	Edges             []*Edge
	// Why: its edges have a reason that is worth a column of its own.
	Why bool
}

// writeHTML writes the page.
func writeHTML(w *bufio.Writer, d *Document) error {
	edges := edgesOf(d.Flows)
	of := map[Class][]*Edge{}
	for _, e := range edges {
		of[e.Class] = append(of[e.Class], e)
	}
	p := pageData{
		Document: d, Tone: toneOf(d.Result), DoubtsTitle: doubtsTitle(d.Result),
		Facts: facts(d.Coverage), Leaks: of[Leaks], AllEdges: len(edges), Exit: exitCode(d.Result), FilesLast: len(d.Meta.Files) > 5,
	}
	p.Headline, p.Meaning = verdictWords(d.Result)
	if !d.Meta.First.IsZero() {
		p.Took = span(d.Meta.Last.Sub(d.Meta.First))
	}
	for _, c := range classes {
		if len(of[c]) > 0 {
			p.Tallies = append(p.Tallies, tallied{toneOfClass(c), c.String(), len(of[c])})
		}
	}
	for _, s := range []section{
		{"In doubt", "What could not be shown to be encrypted, or is encrypted by something weak. None of it counts as sealed.", "doubt", of[Doubtful], true},
		{"Sealed", "What was encrypted on the wire, and how. Names marked seen were in clear on the wire; names marked attested are the word of the proxies at the ends.", "good", of[Holds], false},
		{"Exempt", "What is excused by the file of expectations, with the reason it gives.", "quiet", of[Excused], true},
		{"Silent", "Connections that carried no payload in either direction.", "quiet", of[Quiet], false},
	} {
		if len(s.Edges) > 0 {
			p.Sections = append(p.Sections, s)
		}
	}
	return pageTemplate.Execute(w, p)
}

// toneOf is the colour of a result.
func toneOf(r verify.Result) string {
	switch r {
	case verify.Sealed:
		return "good"
	case verify.Inconclusive:
		return "doubt"
	}
	return "bad"
}

func toneOfClass(c Class) string {
	return [...]string{"bad", "doubt", "good", "quiet", "quiet"}[c]
}

// span is a duration as a person reads it.
func span(d time.Duration) string {
	if days := d / (24 * time.Hour); days > 1 {
		return countOf(int(days), "day")
	}
	return d.Round(time.Millisecond).String()
}

// moment is a time as a person reads it, in UTC.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2 January 2006, 15:04:05.000 UTC")
}

// hexdump is evidence in lines of sixteen bytes: offset, hex, text.
func hexdump(e *verify.Evidence) string {
	raw, err := hex.DecodeString(e.Hex)
	if err != nil {
		return ""
	}
	return dump(raw)
}

func dump(raw []byte) string {
	var out []byte
	for at := 0; at < len(raw); at += 16 {
		line := raw[at:min(at+16, len(raw))]
		out = fmt.Appendf(out, "%04x  ", at)
		for i := range 16 {
			if i < len(line) {
				out = fmt.Appendf(out, "%02x ", line[i])
			} else {
				out = append(out, "   "...)
			}
			if i == 7 {
				out = append(out, ' ')
			}
		}
		out = append(out, ' ')
		for _, c := range line {
			if c < ' ' || c > '~' {
				c = '.'
			}
			out = append(out, c)
		}
		out = append(out, '\n')
	}
	return string(out)
}
