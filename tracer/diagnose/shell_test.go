package diagnose

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArg has a shell read what is printed to be copied.
func TestArg(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"node-a", "node-b.example", "x; touch " + dir + "/a $(touch " + dir + "/b)", "`touch " + dir + "/c`", "it's", `"`, "a\\", "*", "~", "#x", "", " ", "$HOME", "!!", "a&b|c>d",
	} {
		out, err := exec.Command("sh", "-c", "printf %s "+arg(name)).Output()
		if err != nil || string(out) != name {
			t.Errorf("%q is read as %q, %v: %s", name, out, err, arg(name))
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%d commands were run", len(left))
	}
	for name, want := range map[string]string{"--all": "all", "a\x1b[2Jb": "'a[2Jb'", "a\u009bb": "ab", "node-a": "node-a"} {
		if got := arg(name); got != want {
			t.Errorf("%q becomes %s, want %s", name, got, want)
		}
	}
}

// TestCommandsQuote reads the rules' source: whatever is put into a command goes through arg.
func TestCommandsQuote(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			if !regexp.MustCompile(`Command(:| =) `).MatchString(line) {
				continue
			}
			commands++
			rest := regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|arg\\((?:[^()]|\\(\\))*\\)").ReplaceAllString(line, "")
			if regexp.MustCompile(`\+ *[a-z]`).MatchString(rest) {
				t.Errorf("%s:%d: %s", path, n+1, strings.TrimSpace(line))
			}
		}
	}
	if commands < 8 {
		t.Errorf("%d commands were found", commands)
	}
}
