package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"strings"
)

// How large things may grow. A file or an interface may be larger if its comment
// gives the reason on a line that begins with "Size:"; a function may not.
const (
	MaxFileLines        = 500
	MaxFunctionLines    = 100
	MaxInterfaceMethods = 3
	// MaxCommandLines bounds the code of one program in cmd/.
	MaxCommandLines = 200
)

// TLSPackage is the one package that builds a tls.Config.
const TLSPackage = "./internal/mtls"

// Finding is one place where the code is out of shape.
type Finding struct {
	Where string // file:line
	What  string
}

// String is the finding in one line.
func (f Finding) String() string { return f.Where + ": " + f.What }

// CheckShape reads the files of the module's own packages and returns what is
// out of shape. Generated files are free.
func CheckShape(packages map[string]*Package) ([]Finding, error) {
	var found []Finding
	for _, p := range packages {
		lines := 0
		for _, path := range p.Files {
			f, err := readFile(path)
			if err != nil {
				return nil, err
			}
			if ast.IsGenerated(f.tree) {
				continue
			}
			found = append(found, f.size()...)
			if !f.isTest() {
				lines += f.lines()
				found = append(found, f.tlsConfigs(p.Name)...)
				found = append(found, f.keyLogs(p.Name)...)
			}
		}
		if strings.HasPrefix(p.Name, "./cmd/") && lines > MaxCommandLines {
			found = append(found, Finding{p.Name, fmt.Sprintf(
				"%d lines, at most %d: a program wires parts together, and what is more belongs in a part where tests reach it", lines, MaxCommandLines)})
		}
	}
	return found, nil
}

// file is one Go file, parsed.
type file struct {
	path string
	set  *token.FileSet
	tree *ast.File
}

func readFile(path string) (*file, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %v", path, err)
	}
	return &file{path: path, set: set, tree: tree}, nil
}

func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

func (f *file) lines() int { return f.set.File(f.tree.FileStart).LineCount() }

// span is how many lines a node covers.
func (f *file) span(n ast.Node) int {
	return f.set.Position(n.End()).Line - f.set.Position(n.Pos()).Line + 1
}

func (f *file) at(n ast.Node, format string, args ...any) Finding {
	pos := f.set.Position(n.Pos())
	return Finding{fmt.Sprintf("%s:%d", pos.Filename, pos.Line), fmt.Sprintf(format, args...)}
}

// size returns what is too large in the file.
func (f *file) size() []Finding {
	var found []Finding
	if n := f.lines(); n > MaxFileLines && !f.headerGivesReason() {
		found = append(found, f.at(f.tree, "file of %d lines, at most %d without a line \"Size: reason\" in its header", n, MaxFileLines))
	}
	for _, decl := range f.tree.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if n := f.span(d); n > MaxFunctionLines {
				found = append(found, f.at(d, "function %s of %d lines, at most %d", d.Name.Name, n, MaxFunctionLines))
			}
		case *ast.GenDecl:
			found = append(found, f.interfaces(d)...)
		}
	}
	return found
}

// headerGivesReason looks at every comment before the first declaration.
func (f *file) headerGivesReason() bool {
	for _, c := range f.tree.Comments {
		if len(f.tree.Decls) > 0 && c.Pos() > f.tree.Decls[0].Pos() {
			return false
		}
		if givesReason(c) {
			return true
		}
	}
	return false
}

func givesReason(c *ast.CommentGroup) bool {
	for line := range strings.Lines(c.Text()) {
		if reason, ok := strings.CutPrefix(line, "Size:"); ok && strings.TrimSpace(reason) != "" {
			return true
		}
	}
	return false
}

// interfaces returns the interfaces of a declaration with too many methods.
func (f *file) interfaces(d *ast.GenDecl) []Finding {
	var found []Finding
	for _, spec := range d.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		i, ok := t.Type.(*ast.InterfaceType)
		if !ok || givesReason(t.Doc) || givesReason(d.Doc) {
			continue
		}
		methods := 0
		for _, m := range i.Methods.List {
			methods += len(m.Names)
		}
		if methods > MaxInterfaceMethods {
			found = append(found, f.at(t, "interface %s of %d methods, at most %d without a line \"Size: reason\" in its comment", t.Name.Name, methods, MaxInterfaceMethods))
		}
	}
	return found
}

// tlsConfigs returns every place that makes a tls.Config outside TLSPackage.
func (f *file) tlsConfigs(pkg string) []Finding {
	local := f.importName("crypto/tls")
	if pkg == TLSPackage || local == "" {
		return nil
	}
	isConfig := func(e ast.Expr) bool {
		s, ok := e.(*ast.SelectorExpr)
		if !ok || s.Sel.Name != "Config" {
			return false
		}
		x, ok := s.X.(*ast.Ident)
		return ok && x.Name == local
	}
	var found []Finding
	ast.Inspect(f.tree, func(n ast.Node) bool {
		made := false
		switch n := n.(type) {
		case *ast.CompositeLit:
			made = isConfig(n.Type)
		case *ast.ValueSpec:
			made = isConfig(n.Type)
		case *ast.CallExpr:
			fn, ok := n.Fun.(*ast.Ident)
			made = ok && fn.Name == "new" && len(n.Args) == 1 && isConfig(n.Args[0])
		}
		if made {
			found = append(found, f.at(n, "makes a tls.Config: only %s does, so that tickets are off and VerifyConnection is on everywhere", TLSPackage))
		}
		return true
	})
	return found
}

// keyLogs returns every place outside TLSPackage that has a handshake write its
// secrets.
func (f *file) keyLogs(pkg string) []Finding {
	if pkg == TLSPackage || f.importName("crypto/tls") == "" {
		return nil
	}
	var found []Finding
	ast.Inspect(f.tree, func(n ast.Node) bool {
		if i, ok := n.(*ast.Ident); ok && i.Name == "KeyLogWriter" {
			found = append(found, f.at(i, "names KeyLogWriter: only %s does, so that secrets are kept where the mesh allows it and nowhere else", TLSPackage))
		}
		return true
	})
	return found
}

// importName is the name under which the file knows an import, or "".
func (f *file) importName(importPath string) string {
	for _, i := range f.tree.Imports {
		if i.Path.Value != `"`+importPath+`"` {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}
