package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
)

// TestWithoutRights runs every command that looks at the machine as a user who may not: it says what is missing, what
// follows and what helps, and exits with 3.
func TestWithoutRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	for _, args := range [][]string{
		{"watch"}, {"watch", "-o", "jsonl"}, {"agent"}, {"doctor"}, {"lab", "node-gone"}, {},
		{"record", filepath.Join(os.TempDir(), "midhop-without-rights.jsonl")}, {"check"}, {"impact", "node-a"}, {"incidents"},
	} {
		cmd := exec.Command(binary, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != exitBlind {
			t.Errorf("%v: exit %d, want %d", args, code, exitBlind)
		}
		if !regexp.MustCompile(`(?s)^midhop: .+\n  effect: .+\n  remedy: .+\n$`).Match(stderr.Bytes()) {
			t.Errorf("%v: no cause, effect and remedy in:\n%s", args, &stderr)
		}
		if slices.Equal(args, []string{"doctor"}) { // what does not work here is its answer
			if !regexp.MustCompile(`(?s)\nsockets +sock_diag .*\ncapabilities +none`).Match(stdout.Bytes()) {
				t.Errorf("doctor says:\n%s", &stdout)
			}
			continue
		}
		if stdout.Len() > 0 {
			t.Errorf("%v: wrote to stdout: %s", args, &stdout)
		}
	}
}

// TestViaWithoutRights: one look needs no probes. sock_diag shows the own namespace to everybody, and the answer says that
// it is no more than that.
func TestViaWithoutRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	cmd := exec.Command(binary, "via")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, &stderr)
	}
	if !regexp.MustCompile(`(?s)^midhop: .+CAP_BPF.+\n  effect: .*sock_diag.+\n  remedy: .+\n$`).Match(stderr.Bytes()) {
		t.Errorf("no cause, effect and remedy in:\n%s", &stderr)
	}
	if !regexp.MustCompile(`(?m)^\(this node\) .*\n(.*\n)*seen from this network namespace only, .*not seen here: `).Match(stdout.Bytes()) {
		t.Errorf("stdout:\n%s", &stdout)
	}
}
