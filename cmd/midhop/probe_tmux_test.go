//go:build tmux

package main

import (
	"strings"
	"testing"
)

// TestProbeInATerminal is asked, says no, then yes, and sees the screen. q and Ctrl-C leave it, and everything is removed.
func TestProbeInATerminal(t *testing.T) {
	a := serveProbeAPI(t)
	a.agent = playAgent
	config := a.kubeconfig()
	p := openPane(t, 120, 70)
	line := midhop(t) + " probe pod/chat-1 --kubeconfig " + config + "; echo code=$?"
	p.run(line)
	p.await("kind: Pod", "hostPID: true", "Should this midhop be killed", "Start 1 pod? [y/N]")
	p.keys("n", "Enter")
	p.await("nothing was started", "code=0")
	a.left()

	for _, leave := range []struct{ key, code string }{{"q", "code=0"}, {"C-c", "code=0"}} {
		p.run("clear; " + line)
		p.await("Start 1 pod? [y/N]")
		p.keys("y", "Enter")
		shown := p.await("probe node-b", "LIVE", "node-a", "DOOMED")
		if strings.Contains(shown, "starting pod") {
			t.Errorf("what was said before stands in the screen:\n%s", shown)
		}
		p.press(leave.key, "removed what was started", leave.code)
		a.left()
	}
}
