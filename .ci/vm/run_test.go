package main

import "testing"

// What -pkg names is taken alone, and -run chooses among it.
func TestChosen(t *testing.T) {
	for _, c := range []struct{ text, run, pkg, pattern string }{
		{"./bpf", "", "bpf", ""},
		{"./bpf", "TestNAT/fexit", "bpf", "TestNAT/fexit"},
		{"./cmd/midhop TestA TestB", "", "cmd/midhop", "^(TestA|TestB)$"},
		{"./cmd/midhop TestA TestB", "B", "cmd/midhop", "^(TestB)$"},
		{"./cmd/midhop TestA", "TestNAT", "cmd/midhop", nothing},
		{"./cmd/midhop TestA", "TestA/x", "cmd/midhop", "^(TestA)$"},
	} {
		if pkg, pattern, err := chosen(c.text, c.run); err != nil || pkg != c.pkg || pattern != c.pattern {
			t.Errorf("%q with -run %q: %q %q, %v; want %q %q", c.text, c.run, pkg, pattern, err, c.pkg, c.pattern)
		}
	}
	for _, bad := range [][2]string{{" ", ""}, {"./bpf TestA", "("}} {
		if pkg, pattern, err := chosen(bad[0], bad[1]); err == nil {
			t.Errorf("%q with -run %q: taken as %q %q", bad[0], bad[1], pkg, pattern)
		}
	}
}
