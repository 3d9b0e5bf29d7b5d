// Package arch keeps the shape of the code: which packages may depend on which,
// and how large anything may grow. Its tests are the only readers; a change that
// breaks a rule fails them with the rule's reason.
//
//	Load    the packages of a module, with all they depend on  (go list)
//	Layers  which may not depend on which, and why             (pure)
//	Shape   files, functions, interfaces, tls.Config literals  (go/parser)
//
// Only what is built is judged for its imports: a test may import anything.
package arch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
)

// Package is one package of the module, or one that the module depends on.
type Package struct {
	// Name is "./internal/lane" for a package of the module, its import path for
	// any other.
	Name string
	// Own reports whether the package is the module's, Standard whether it is of
	// the standard library.
	Own, Standard bool
	// Imports are names, as above, of what the package itself imports.
	Imports []string
	// Files are the paths of the package's Go files, tests included. Only own
	// packages have them.
	Files []string
}

// listed is what we ask `go list` for.
type listed struct {
	ImportPath                         string
	Dir                                string
	Standard                           bool
	Module                             *struct{ Path string }
	Imports                            []string
	ImportMap                          map[string]string
	GoFiles, TestGoFiles, XTestGoFiles []string
}

const listFields = "-json=ImportPath,Dir,Standard,Module,Imports,ImportMap,GoFiles,TestGoFiles,XTestGoFiles"

// Load reads the packages of the module in dir and everything they depend on,
// by name.
func Load(ctx context.Context, dir string) (map[string]*Package, error) {
	module, err := goList(ctx, dir, "-m")
	if err != nil {
		return nil, err
	}
	out, err := goList(ctx, dir, "-deps", listFields, "./...")
	if err != nil {
		return nil, err
	}
	own := strings.TrimSpace(string(module))
	packages := map[string]*Package{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		switch err := dec.Decode(&l); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, fmt.Errorf("go list in %s: %v", dir, err)
		}
		p := l.asPackage(own)
		packages[p.Name] = p
	}
}

func goList(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %v: %s", dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// asPackage turns what go list says into our terms; module is our module's path.
func (l listed) asPackage(module string) *Package {
	p := &Package{
		Name:     name(module, l.ImportPath),
		Standard: l.Standard,
		Own:      l.Module != nil && l.Module.Path == module,
	}
	for _, path := range l.Imports {
		if mapped, ok := l.ImportMap[path]; ok { // the standard library's vendored packages
			path = mapped
		}
		p.Imports = append(p.Imports, name(module, path))
	}
	if p.Own {
		for _, files := range [...][]string{l.GoFiles, l.TestGoFiles, l.XTestGoFiles} {
			for _, f := range files {
				p.Files = append(p.Files, filepath.Join(l.Dir, f))
			}
		}
	}
	return p
}

// name is a package's name in the rules.
func name(module, path string) string {
	if rest, ok := strings.CutPrefix(path, module); ok && (rest == "" || rest[0] == '/') {
		return "." + rest
	}
	return path
}
