package dir

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds that no mesh meets by intent; a wrong path does.
const (
	maxFiles = 10_000
	maxFile  = 4 << 20 // bytes
)

// content is the bytes a state is made of, read in one go.
type content struct {
	objects map[string][]byte // by name relative to the directory
	issuer  issuerFiles
	folders []string // that hold them, to be watched
}

// digest tells two contents apart.
type digest [sha256.Size]byte

func (c *content) digest() digest {
	h := sha256.New()
	add := func(name string, b []byte) {
		fmt.Fprintf(h, "%d %s %d ", len(name), name, len(b))
		h.Write(b)
	}
	for _, name := range slices.Sorted(maps.Keys(c.objects)) {
		add(name, c.objects[name])
	}
	add("issuer.crt", c.issuer.cert)
	add("issuer.key", c.issuer.key)
	add("problem", []byte(c.issuer.problem()))
	return digest(h.Sum(nil))
}

// read reads everything a state is made of. Its error names every file that
// could not be read.
func (d *Dir) read() (*content, error) {
	c := &content{objects: map[string][]byte{}}
	root := d.path + "/" // so that a link to a directory is one
	var failed []error
	walk := func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			failed = append(failed, err)
		case path != root && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return filepath.SkipDir
			}
		case entry.IsDir():
			c.folders = append(c.folders, path)
		case isObjects(entry.Name()):
			b, err := readFile(path)
			if err != nil {
				failed = append(failed, err)
				break
			}
			c.objects[d.relative(path)] = b
		}
		if len(c.objects) > maxFiles || len(c.folders) > maxFiles {
			return fmt.Errorf("holds more than %d files or directories of objects: is it the right one?", maxFiles)
		}
		return nil
	}
	if err := filepath.WalkDir(root, walk); err != nil {
		return nil, err
	}
	c.folders = append(c.folders, d.own())
	c.issuer = d.readIssuer()
	return c, errors.Join(failed...)
}

func isObjects(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

func (d *Dir) relative(path string) string {
	rel, err := filepath.Rel(d.path, path)
	if err != nil {
		return path
	}
	return filepath.ToSlash(rel)
}

// readFile reads a regular file of bounded size: a pipe would hold us up, and a
// log file ending in .yaml would fill the memory.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is a %s, must be a regular file", path, info.Mode().Type())
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: is %d bytes, must be at most %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}
