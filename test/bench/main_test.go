package main

import (
	"os"
	"testing"
)

// TestMain lets the test binary be started again as an agent, as bench does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == roleServe || os.Args[1] == roleDrive) {
		exit(playRole(os.Args[1:]))
	}
	os.Exit(m.Run())
}
