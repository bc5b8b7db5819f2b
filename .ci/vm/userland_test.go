package main

import (
	"os/exec"
	"regexp"
	"slices"
	"testing"
)

// TestLibraries: what this machine's own linker would load for the guests' programs is found without it.
func TestLibraries(t *testing.T) {
	here := userland{triplet: amd64.triplet}
	path := regexp.MustCompile(`(/\S+) \(0x`)
	tried := 0
	for _, name := range guestPrograms {
		program, err := here.find(name)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
		if err != nil {
			continue // a static one
		}
		tried++
		found, err := here.libraries(program)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i := range found {
			found[i] = merged(found[i])
		}
		for _, m := range path.FindAllStringSubmatch(string(out), -1) {
			if !slices.Contains(found, merged(m[1])) {
				t.Errorf("%s needs %s, found %v", name, m[1], found)
			}
		}
	}
	if tried == 0 {
		t.Skip("none of the programs is here")
	}
}
