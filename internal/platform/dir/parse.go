package dir

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v2"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/platform"
)

// Parse reads the objects of a directory, by file name, into a state without
// Version and Issuer. It is pure:
//
//	files ─▶ documents ─▶ objects ─▶ checked alone ─▶ checked together ─▶ state
//	         (YAML)       (decode)   (check.go)       (claims.go)
//
// Its error is Problems: every one there is, not the first.
func Parse(files map[string][]byte) (*platform.State, error) {
	var p parser
	for _, name := range slices.Sorted(maps.Keys(files)) {
		p.file(name, files[name])
	}
	p.checkAlone()
	p.checkTogether()
	if err := p.problems.err(); err != nil {
		return nil, err
	}
	return &platform.State{
		Mesh:      p.meshes[0].object,
		Bundles:   ordered(p.bundles, func(o mesh.TrustBundle) mesh.Metadata { return o.Metadata }),
		Nodes:     ordered(p.nodes, func(o mesh.Node) mesh.Metadata { return o.Metadata }),
		Workloads: ordered(p.workloads, func(o mesh.Workload) mesh.Metadata { return o.Metadata }),
		Services:  ordered(p.services, func(o mesh.Service) mesh.Metadata { return o.Metadata }),
	}, nil
}

// parser gathers objects and problems.
type parser struct {
	problems  Problems
	meshes    []placed[mesh.Mesh]
	bundles   []placed[mesh.TrustBundle]
	nodes     []placed[mesh.Node]
	workloads []placed[mesh.Workload]
	services  []placed[mesh.Service]
}

// placed is an object and where it stands.
type placed[T any] struct {
	place
	object T
	// clean: it was decoded without a problem, so its fields are worth checking.
	clean bool
}

// kinds that an object may have.
var kinds = []string{mesh.KindMesh, mesh.KindTrustBundle, mesh.KindNode, mesh.KindWorkload, mesh.KindService}

// file reads the documents of one file. A file without a byte is taken for one
// that is being written or was cut off by a crash: obeying it would revoke
// everything it held.
func (p *parser) file(name string, content []byte) {
	at := place{file: name}
	if len(content) == 0 {
		p.add(at.problem("", "is empty: remove the file if its objects are meant to go"))
		return
	}
	documents := yaml.NewDecoder(bytes.NewReader(content))
	documents.SetStrict(true)
	for {
		var document any
		at.document++
		err := documents.Decode(&document)
		var mistyped *yaml.TypeError
		switch {
		case errors.Is(err, io.EOF):
			return
		case errors.As(err, &mistyped): // a name given twice; the rest of the file can be read
			for _, e := range mistyped.Errors {
				p.add(at.problem("", "%s", e))
			}
		case err != nil:
			p.add(at.problem("", "%s", strings.TrimPrefix(err.Error(), "yaml: ")))
			return
		case document != nil:
			p.document(at, document)
		}
	}
}

// document reads one object.
func (p *parser) document(at place, document any) {
	fields, ok := document.(map[any]any)
	if !ok {
		p.add(at.problem("", "is not an object with apiVersion, kind and metadata"))
		return
	}
	kind, _ := fields["kind"].(string)
	if !slices.Contains(kinds, kind) {
		p.add(at.problem("kind", "%s: must be one of %s", shown(fields["kind"]), strings.Join(kinds, ", ")))
		return
	}
	at.object = label(kind, fields["metadata"])
	if version, _ := fields["apiVersion"].(string); version != mesh.GroupVersion {
		p.add(at.problem("apiVersion", "%s: must be %s", shown(fields["apiVersion"]), mesh.GroupVersion))
	}
	switch kind {
	case mesh.KindMesh:
		p.meshes = append(p.meshes, decode[mesh.Mesh](p, at, fields))
	case mesh.KindTrustBundle:
		p.bundles = append(p.bundles, decode[mesh.TrustBundle](p, at, fields))
	case mesh.KindNode:
		p.nodes = append(p.nodes, decode[mesh.Node](p, at, fields))
	case mesh.KindWorkload:
		p.workloads = append(p.workloads, decode[mesh.Workload](p, at, fields))
	case mesh.KindService:
		p.services = append(p.services, decode[mesh.Service](p, at, fields))
	}
}

func decode[T any](p *parser, at place, fields map[any]any) placed[T] {
	o := placed[T]{place: at}
	before := len(p.problems)
	decoder{at: at, problems: &p.problems}.value("", fields, reflect.ValueOf(&o.object).Elem())
	o.clean = len(p.problems) == before
	return o
}

func (p *parser) add(problem Problem) { p.problems = append(p.problems, problem) }

// label is what an object calls itself, before anything of it is checked.
func label(kind string, metadata any) string {
	fields, _ := metadata.(map[any]any)
	name, _ := fields["name"].(string)
	if namespace, ok := fields["namespace"].(string); ok {
		name = namespace + "/" + name
	}
	return strings.TrimSpace(kind + " " + name)
}

// shown is a value as an error shows it.
func shown(v any) string {
	if v == nil {
		return "is missing"
	}
	return fmt.Sprintf("%#v", v)
}

// ordered are the objects by namespace and name.
func ordered[T any](objects []placed[T], name func(T) mesh.Metadata) []T {
	out := make([]T, 0, len(objects))
	for _, o := range objects {
		out = append(out, o.object)
	}
	slices.SortFunc(out, func(a, b T) int {
		return cmp.Or(cmp.Compare(name(a).Namespace, name(b).Namespace), cmp.Compare(name(a).Name, name(b).Name))
	})
	return out
}
