package report

import (
	"bufio"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// The objects of SARIF 2.1.0 (OASIS Standard, 27 March 2020) that are used.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Artifacts   []sarifArtifact   `json:"artifacts,omitempty"`
		Results     []sarifResult     `json:"results"`
		Properties  map[string]any    `json:"properties"`
		ColumnKind  string            `json:"columnKind"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID            string             `json:"id"`
		Name          string             `json:"name"`
		Short         sarifMessage       `json:"shortDescription"`
		Full          sarifMessage       `json:"fullDescription"`
		Help          sarifMessage       `json:"help"`
		Configuration sarifConfiguration `json:"defaultConfiguration"`
	}
	sarifConfiguration struct {
		Level string `json:"level"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		CommandLine string `json:"commandLine,omitempty"`
		ExitCode    int    `json:"exitCode"`
		Successful  bool   `json:"executionSuccessful"`
	}
	sarifArtifact struct {
		Location sarifArtifactLocation `json:"location"`
		Length   int64                 `json:"length"`
		Hashes   map[string]string     `json:"hashes,omitempty"`
	}
	sarifArtifactLocation struct {
		URI   string `json:"uri"`
		Index *int   `json:"index,omitempty"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        string             `json:"level"`
		Kind         string             `json:"kind"`
		Message      sarifMessage       `json:"message"`
		Locations    []sarifLocation    `json:"locations,omitempty"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
		Properties   map[string]any     `json:"properties,omitempty"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifactLocation `json:"artifactLocation"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
)

// Rules of SARIF results, by their places in sarifRules.
const (
	rulePlaintext = iota
	ruleWeak
	ruleExpectation
	ruleUnattested
	ruleInconclusive
)

var sarifRules = []sarifRule{
	rulePlaintext:    newRule("plaintext", "Plaintext", "error", "Bytes of an application could be read on the wire.", "Seal the connection, or exempt it with a reason in the file given to --expect."),
	ruleWeak:         newRule("weak", "Weak", "warning", "A connection is sealed by something out of date or broken.", "Allow only newer versions and cipher suites at either end."),
	ruleExpectation:  newRule("expectation", "Expectation", "error", "A connection is missing or not sealed as it had to be.", "See the expectation of that name in the file given to --expect."),
	ruleUnattested:   newRule("unattested", "Unattested", "warning", "A connection claims to be sealed by proxies, and none attests it.", "Give --attest what the proxies at both ends answer at /connections, fetched during the capture."),
	ruleInconclusive: newRule("inconclusive", "Inconclusive", "warning", "Not enough was seen to call it sealed.", "Capture again: from before the connections begin, in both directions, and without drops."),
}

func newRule(id, name, level, text, help string) sarifRule {
	return sarifRule{ID: id, Name: name, Short: sarifMessage{text}, Full: sarifMessage{text}, Help: sarifMessage{help}, Configuration: sarifConfiguration{level}}
}

// writeSARIF writes one run: a result for each edge that is not sealed or not
// surely, for each expectation that is not met and for each doubt. What is exempt
// is a result that is suppressed.
func writeSARIF(w *bufio.Writer, d *Document) error {
	run := sarifRun{
		Tool: sarifTool{sarifDriver{
			Name: "sealmesh", Version: d.Meta.Version, InformationURI: "https://github.com/sealmesh/sealmesh", Rules: sarifRules,
		}},
		Invocations: []sarifInvocation{{
			CommandLine: clean(d.Meta.Command), ExitCode: exitCode(d.Result), Successful: true,
		}},
		Results:    []sarifResult{},
		Properties: map[string]any{"result": d.Result, "coverage": d.Coverage},
		ColumnKind: "unicodeCodePoints",
	}
	for _, f := range d.Meta.Files {
		a := sarifArtifact{Location: sarifArtifactLocation{URI: fileURI(f.Name)}, Length: f.Size}
		if f.SHA256 != "" {
			a.Hashes = map[string]string{"sha-256": f.SHA256}
		}
		run.Artifacts = append(run.Artifacts, a)
	}
	for _, e := range edgesOf(d.Flows) {
		run.Results = append(run.Results, sarifEdge(d, e)...)
	}
	for _, o := range d.Expected {
		if o.Missing {
			run.Results = append(run.Results, newResult(d, ruleExpectation, "Expected and not seen: "+o.Name+", "+o.Seal, "missing "+o.Name, ""))
		}
	}
	for _, doubt := range d.Doubts {
		run.Results = append(run.Results, newResult(d, ruleInconclusive, "Coverage: "+doubt, "coverage "+doubt, ""))
	}
	b, err := marshal(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}}, "")
	if err != nil {
		return err
	}
	if err := writePlain(w, b); err != nil {
		return err
	}
	return w.WriteByte('\n')
}

// exitCode of the command that comes to a result.
func exitCode(r verify.Result) int {
	return map[verify.Result]int{verify.Leaked: 1, verify.Violated: 1, verify.Inconclusive: 3}[r]
}

// sarifEdge is what there is to say against an edge.
func sarifEdge(d *Document, e *Edge) []sarifResult {
	var all []sarifResult
	add := func(rule int) {
		r := newResult(d, rule, e.Client+" → "+e.Server+protoName(e)+": "+edgeProblem(e), edgeName(e), e.Vantage)
		r.Locations[0].Logical = []sarifLogical{{Name: clean(e.Client + " → " + e.Server), Kind: "edge"}}
		r.Properties = map[string]any{"flows": e.Flows, "bytes": e.Bytes, "verdict": e.Verdict, "firstFlow": e.First}
		if len(e.Examples) > 0 && e.Examples[0].Evidence != nil {
			ev := e.Examples[0].Evidence
			r.Properties["packet"], r.Properties["hex"] = ev.Packet, ev.Hex
		}
		if e.Exempt != "" {
			r.Suppressions = []sarifSuppression{{Kind: "external", Status: "accepted", Justification: clean(e.Exempt)}}
		}
		all = append(all, r)
	}
	switch {
	case e.Violates != "":
		add(ruleExpectation)
	case e.Verdict == verify.Plaintext:
		add(rulePlaintext)
	case e.Weak != "" && e.Class == Doubtful:
		add(ruleWeak)
	case !e.Verdict.Seals() && e.Verdict != verify.Silent:
		add(ruleInconclusive)
	}
	if e.Unattested {
		add(ruleUnattested)
		last := &all[len(all)-1]
		last.Message.Text = clean(e.Client + " → " + e.Server + protoName(e) + ": claims to be sealed by proxies, and none attests it")
	}
	return all
}

// newResult is a result about the capture, or about one of its files by name.
func newResult(d *Document, rule int, text, fingerprint, vantage string) sarifResult {
	r := sarifResult{
		RuleID: sarifRules[rule].ID, RuleIndex: rule, Level: sarifRules[rule].Configuration.Level, Kind: "fail",
		Message:      sarifMessage{clean(text)},
		Locations:    []sarifLocation{{}},
		Fingerprints: map[string]string{"edge/v1": clean(fingerprint)},
	}
	for i, f := range d.Meta.Files {
		if i == 0 || vantage == f.Name || strings.HasPrefix(vantage, f.Name+"/") {
			r.Locations[0].Physical = &sarifPhysical{sarifArtifactLocation{URI: fileURI(f.Name), Index: &i}}
		}
	}
	if r.Locations[0].Physical == nil {
		r.Locations[0].Logical = []sarifLogical{{Name: clean(d.Meta.Where), Kind: "capture"}}
	}
	return r
}

// fileURI is a path as a URI, relative if the path is.
func fileURI(path string) string {
	if path == "-" {
		return "stdin"
	}
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}
