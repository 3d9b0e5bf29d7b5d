package dir

import (
	"bytes"
	"regexp"

	"sigs.k8s.io/yaml"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
)

// bundleText is a file of objects, taken apart at the document that is a
// TrustBundle.
type bundleText struct {
	before, comment, after []byte
	bundle                 mesh.TrustBundle
}

var (
	// separator is a line that ends a YAML document. None can be inside of one:
	// whatever stands at the beginning of a line there is not "---".
	separator = regexp.MustCompile(`(?m)^---[ \t]*(?:#.*)?(?:\r?\n|\z)`)
	// comments are the lines of a document before its first key.
	comments = regexp.MustCompile(`\A(?:[ \t]*(?:#.*)?\r?\n)*`)
)

// findBundle finds the document that is the TrustBundle of a name.
func findBundle(file []byte, name string) (text bundleText, found bool) {
	begin := 0
	for _, end := range append(separator.FindAllIndex(file, -1), []int{len(file), len(file)}) {
		document := file[begin:end[0]]
		var p parser
		p.file("", document)
		if len(p.bundles) == 1 && p.bundles[0].object.Metadata.Name == name {
			return bundleText{
				before: file[:begin], comment: comments.Find(document), after: file[end[0]:],
				bundle: p.bundles[0].object,
			}, true
		}
		begin = end[1]
	}
	return bundleText{}, false
}

// with is the file with other anchors. Comments inside the document are lost,
// those before it and all other documents are as they were.
func (t bundleText) with(anchors []byte) []byte {
	t.bundle.Spec.Anchors = string(anchors)
	document, err := yaml.Marshal(t.bundle)
	if err != nil {
		panic(err) // plain structs always encode
	}
	return bytes.Join([][]byte{t.before, t.comment, document, t.after}, nil)
}
