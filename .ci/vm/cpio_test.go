package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCpio has busybox, which the guests run on, unpack what the writer wrote.
func TestCpio(t *testing.T) {
	busybox, err := userland{}.find("busybox")
	if err != nil {
		t.Skip(err)
	}
	var b bytes.Buffer
	c := newCpio(&b)
	c.link("/bin", "usr/bin")
	c.file("/usr/bin/tool", 0o755, []byte("odd"))
	c.file("/usr/bin/tool", 0o755, []byte("the second is left out"))
	c.file("/etc/empty", 0o600, nil)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), busybox, "cpio", "-i", "-d")
	cmd.Dir, cmd.Stdin = dir, &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "bin/tool")); err != nil || string(data) != "odd" {
		t.Errorf("bin/tool: %q, %v", data, err)
	}
	for name, want := range map[string]os.FileMode{"usr": 0o755 | os.ModeDir, "usr/bin/tool": 0o755, "etc/empty": 0o600} {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info, err, want)
		}
	}
}
