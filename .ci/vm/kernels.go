package main

import (
	"fmt"
	"slices"
)

// A kernel is a line of the matrix: which packages may serve it. The newest of its suites is taken, never an exact version, because
// old versions vanish from the archive.
type kernel struct {
	name   string // what -kernel says and what the columns of the result are called
	on     *machine
	series string   // major.minor of the package's version; empty: any, so the newest of all
	suites []string // Debian suites that carry it; a suite that is gone is no error while another serves
}

// newest is where Debian's newest kernel is found. The release candidates of experimental are newer than the rest for a part of
// each cycle, and are where a change shows first.
var newest = []string{"trixie-backports", "sid", "experimental"}

// matrix is in the order in which guests are run and columns are printed.
var matrix = []kernel{
	{"5.10", amd64, "5.10", []string{"bullseye-security", "bullseye"}},
	{"6.1", amd64, "6.1", []string{"bookworm-security", "bookworm"}},
	{"6.12", amd64, "6.12", []string{"trixie-security", "trixie"}},
	{"6.18", amd64, "6.18", []string{"trixie-backports"}},
	{"newest", amd64, "", newest},
	{"arm64", arm64, "6.12", []string{"trixie-security", "trixie"}},
	{"arm64-newest", arm64, "", newest},
}

func kernelNames() []string {
	var names []string
	for _, k := range matrix {
		names = append(names, k.name)
	}
	return names
}

// findKernels gives the matrix' lines with these names, each once and in the matrix' order; without names all of them.
func findKernels(names []string) ([]kernel, error) {
	for _, n := range names {
		if !slices.Contains(kernelNames(), n) {
			return nil, fmt.Errorf("no kernel %q in the matrix, only %v", n, kernelNames())
		}
	}
	var found []kernel
	for _, k := range matrix {
		if len(names) == 0 || slices.Contains(names, k.name) {
			found = append(found, k)
		}
	}
	return found, nil
}
