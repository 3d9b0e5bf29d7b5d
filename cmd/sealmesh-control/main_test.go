package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatCannotWorkIsRefusedByName(t *testing.T) {
	mesh := t.TempDir()
	yaml := "apiVersion: sealmesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: default}\nspec: {trustDomain: demo.local}\n"
	if err := os.WriteFile(filepath.Join(mesh, "mesh.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no directory":   {nil, `"dir" not set`},
		"gone directory": {[]string{"--dir", filepath.Join(mesh, "none")}, "none"},
		"log level":      {[]string{"--dir", mesh, "--log-level", "loud"}, `log level "loud"`},
		"metrics":        {[]string{"--dir", mesh, "--socket", "s", "--metrics", "192.0.2.1:80"}, "loopback"},
		"argument":       {[]string{"--dir", mesh, "more"}, `"more"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := command()
			c.SetArgs(tt.args)
			c.SetErr(&bytes.Buffer{})
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // whatever gets through ends at once
			if err := c.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
