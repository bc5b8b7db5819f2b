package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestAgentsOwnScope: an agent asks the API for its own Node object and its own pods, and tells them in its own name.
func TestAgentsOwnScope(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an agent loads probes: needs root")
	}
	a := serveProbeAPI(t)
	p := &probing{t: t, cmd: exec.Command(binary, "agent", "--kubeconfig", a.kubeconfig(), "--node", "node-b", "-o", "jsonl"), err: &lockedBuffer{}}
	p.cmd.Stderr = p.err
	var err error
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() }()
	p.until(`"type":"pod.changed"`, `"source":"agent/node-b"`, `"name":"chat-1"`)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, asked := range a.asked {
		if !slices.Contains([]string{"nodes metadata.name=node-b", "pods spec.nodeName=node-b", "ciliumnodes metadata.name=node-b"}, asked) {
			t.Errorf("it asks for %q", asked)
		}
	}
	if !slices.ContainsFunc(a.asked, func(s string) bool { return strings.HasPrefix(s, "pods") }) {
		t.Errorf("it asked for %q", a.asked)
	}
}
