package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Real packages are run by the real go command, so that a change of its format is seen.
func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name, code string
		last       string
		failed     bool
		has        []string
		hasNot     []string
	}{
		{"green", `
func TestA(t *testing.T) { t.Log("chatter") }
func TestB(t *testing.T) { t.Run("one", func(t *testing.T) {}); t.Run("two", func(t *testing.T) { t.Skip("no kprobes here") }) }
func TestC(t *testing.T) { t.Skip("no kprobes here") }
func TestD(t *testing.T) { t.Skip("no root") }`,
			"2 passed, 0 failed, 3 skipped (2: no kprobes here | 1: no root)", false, []string{"ok  \t"}, []string{"chatter"}},
		{"red", `
func TestA(t *testing.T) { t.Run("deep", func(t *testing.T) { t.Log("on the way"); t.Error("it is wrong") }); t.Run("well", func(*testing.T) {}) }
func TestB(t *testing.T) { t.Log("chatter") }`,
			"2 passed, 1 failed, 0 skipped", true, []string{"on the way", "it is wrong", "--- FAIL: TestA/deep", "FAIL\t"}, []string{"chatter"}},
		{"panic", `func TestA(t *testing.T) { t.Log("just before"); var m map[int]int; m[1] = 1 }`,
			"0 passed, 1 failed, 0 skipped", true, []string{"just before", "assignment to entry in nil map"}, nil},
		{"exit", `func TestA(t *testing.T) { t.Log("just before"); os.Exit(3) }`,
			"0 passed, 1 failed, 0 skipped", true, []string{"just before"}, nil},
		{"no build", `func TestA(t *testing.T) { nothing() }`,
			"0 passed, 0 failed, 0 skipped", true, []string{"undefined: nothing"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, failed := run(t, c.code)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if got := lines[len(lines)-1]; got != c.last || failed != c.failed {
				t.Errorf("ended with %q (failed: %t), want %q", got, failed, c.last)
			}
			for _, want := range c.has {
				if !strings.Contains(out, want) {
					t.Errorf("no %q", want)
				}
			}
			for _, unwanted := range c.hasNot {
				if strings.Contains(out, unwanted) {
					t.Errorf("it says %q", unwanted)
				}
			}
			if t.Failed() {
				t.Log(out)
			}
		})
	}
}

func run(t *testing.T, code string) (out string, failed bool) {
	t.Helper()
	dir := t.TempDir()
	imports := "import \"testing\"\n"
	if strings.Contains(code, "os.") {
		imports = "import (\"os\"; \"testing\")\n"
	}
	for name, text := range map[string]string{"go.mod": "module sample\n\ngo 1.24\n", "a_test.go": "package sample\n\n" + imports + code} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-vet=off", "-json", "./...")
	cmd.Dir = dir
	stream, _ := cmd.Output() // it fails where a test does
	var b strings.Builder
	failed, err := summarize(strings.NewReader(string(stream)), &b)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), failed
}

func TestCutOff(t *testing.T) {
	var b strings.Builder
	failed, err := summarize(strings.NewReader(`{"Action":"start","Package":"p"}`+"\n"+`go: no such module`+"\n"), &b)
	if err != nil || !failed || !strings.Contains(b.String(), "p: it did not come to an end") || !strings.Contains(b.String(), "go: no such module") {
		t.Errorf("failed: %t, %v: %s", failed, err, b.String())
	}
}
