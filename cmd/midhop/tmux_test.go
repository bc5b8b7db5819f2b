//go:build tmux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// These tests drive the built program in a real terminal, as its user does: make test-tmux runs them.

// pane is a shell in a tmux of its own.
type pane struct {
	t      *testing.T
	socket string
}

const prompt = "midhop-test$" // without the space, which tmux cuts off

// openPane starts a shell of w columns and h rows.
func openPane(t *testing.T, w, h int) *pane {
	t.Helper()
	p := &pane{t, filepath.Join(t.TempDir(), "tmux")}
	cmd := exec.Command("tmux", "-S", p.socket, "-f", "/dev/null", "new-session", "-d", "-x", strconv.Itoa(w), "-y", strconv.Itoa(h),
		"env", "-u", "NO_COLOR", "PS1="+prompt+" ", "LC_ALL=C.UTF-8", "XDG_STATE_HOME="+t.TempDir(), "bash", "--norc", "--noprofile")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() { p.tmux("kill-server") })
	p.tmux("set", "-g", "window-size", "manual")
	p.await(prompt)
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

func (p *pane) text() string { return p.tmux("capture-pane", "-p") }

// keys presses keys, named as tmux does.
func (p *pane) keys(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		p.tmux("send-keys", "--", k)
	}
}

// run types a command line.
func (p *pane) run(line string) {
	p.t.Helper()
	p.tmux("send-keys", "-l", "--", line)
	p.keys("Enter")
}

func (p *pane) size(w, h int) {
	p.t.Helper()
	p.tmux("resize-window", "-x", strconv.Itoa(w), "-y", strconv.Itoa(h))
}

// patienceInTmux is how long a text is waited for: the lab has to be built meanwhile, on a busy machine.
const patienceInTmux = 60 * time.Second

// await waits until all texts stand on the pane and returns what it shows.
func (p *pane) await(texts ...string) string {
	p.t.Helper()
	return p.awaitIn(p.text, texts...)
}

// history is what the pane shows and has shown.
func (p *pane) history() string { return p.tmux("capture-pane", "-p", "-S", "-") }

func (p *pane) awaitIn(where func() string, texts ...string) string {
	p.t.Helper()
	deadline := time.Now().Add(patienceInTmux)
	for {
		shown, missing := where(), ""
		for _, text := range texts {
			if !strings.Contains(shown, text) {
				missing = text
			}
		}
		if missing == "" {
			return shown
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("no %q within %s; the pane shows\n%s", missing, patienceInTmux, shown)
		}
		time.Sleep(20 * time.Millisecond) // tmux tells nobody when a pane changes
	}
}

// press presses keys and waits for what they lead to.
func (p *pane) press(key string, texts ...string) string {
	p.t.Helper()
	p.keys(key)
	return p.await(texts...)
}

func midhop(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/midhop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	return path
}

// TestLabInATerminal breaks the lab and leads from the nodes screen to the culprit, its evidence and one victim's path
// with its client, and back, by keys alone, at three sizes. Then the terminal is given back, twice.
func TestLabInATerminal(t *testing.T) {
	p := openPane(t, 80, 24)
	p.run(midhop(t) + " lab node-gone --duration 9s")
	p.await("midhop  ", "node-a", "LIVE")
	for _, size := range []struct {
		w, h  int
		nodes []string // what the nodes screen promises at this size
		path  []string
	}{
		{80, 24, []string{"GONE BY", "HEARD", "LEFT"}, nil},
		{120, 40, []string{"known by status InternalIP", "gone by", "incident.opened", "conntrack "}, []string{"WHAT HAPPENED TO IT", "Seen by"}},
		{200, 60, []string{"CONNTRACK", "NODE IS", "SHARE", "preemptible 13h", "EVIDENCE FOR", "gone by"}, []string{"WHAT HAPPENED TO IT", "tcp.stall"}},
	} {
		p.size(size.w, size.h)
		p.await(append(size.nodes, "INCIDENT critical: node-a gone", "connections dead", ">x node-a", "DOOMED", "STALL", "? help")...)
		p.press("i", "CRITICAL", "node-a gone", "EVIDENCE FOR", "Culprit", "Clock", "take node-a out")
		p.press("p", append(size.path, "path of", "ENTRY NODE", "SOCKET", "nothing comes back", "via node-a", "x==x", "SHARED WITH OTHERS")...)
		if shown := p.text(); !strings.Contains(shown, "CLIENT") && !strings.Contains(shown, "BALANCER") {
			t.Errorf("the path has no client:\n%s", shown)
		}
		p.press("Escape", "EVIDENCE FOR")
		p.press("Escape", "DOOMED", "of 4")
		p.press("Enter", "node-a > sockets", "dead, not noticed", "Owner", "Left", "of 66")
		p.press("Enter", "path of", "ENTRY NODE")
		p.press("Escape", "Owner", "of 66")
		p.press("Escape", "DOOMED", "of 4")
	}
	p.size(39, 9)
	if shown := p.await("INCIDENT critical"); strings.Contains(shown, "DOOMED") {
		t.Errorf("a terminal of 39x9 has more than a line of summary:\n%s", shown)
	}
	p.size(100, 30)
	p.press("6", "COVERAGE", "NODE-", "task_file", "precise")
	p.press("5", "tcp.stall", "via node-a")
	p.press("1", "DOOMED")
	p.press("C-z", "Stopped", prompt)
	p.run("fg")
	p.await("DOOMED", "LIVE")
	p.press("q", prompt)
	p.run("stty -a; echo exit=$?")
	if shown := p.await("exit=0"); !strings.Contains(shown, " icanon") || !strings.Contains(shown, " echo ") {
		t.Errorf("the terminal is not as it was before:\n%s", shown)
	}
}

// TestFirstPaint starts midhop on this machine: within 300 ms there is a screen, while probes are still being attached. The
// best of three counts, since the shell, tmux and whatever else runs take their time too.
func TestFirstPaint(t *testing.T) {
	p := openPane(t, 100, 30)
	best := time.Hour
	for range 3 {
		p.run("clear")
		p.await(prompt)
		p.tmux("send-keys", "-l", "--", midhop(t))
		p.await("bin/midhop")
		began := time.Now()
		p.press("Enter", "q quit", "midhop  this machine")
		best = min(best, time.Since(began))
		p.await("probes ", "look ") // they are all settled, and the first census is in
		p.press("q", prompt)
	}
	t.Logf("first paint after %s", best.Round(time.Millisecond))
	if best > 300*time.Millisecond {
		t.Errorf("the first paint took %s", best)
	}
}

// TestIdleCPU has a recording stand at its end: the screen costs less than one percent of a core.
func TestIdleCPU(t *testing.T) {
	p := openPane(t, 120, 40)
	p.run(midhop(t) + " replay testdata/screens/node-gone-4000.jsonl.zst --speed max & echo pid=$!; fg")
	p.await("REPLAY END", "node-a gone")
	pid := p.child()
	const span = 5 * time.Second
	before := cpu(t, pid)
	time.Sleep(span) // that is what is measured
	used := cpu(t, pid) - before
	t.Logf("standing still: %.2f %% of a core", 100*used.Seconds()/span.Seconds())
	if used > span/100 {
		t.Errorf("an idle screen used %s in %s", used, span)
	}
	p.press("q", prompt)
}

// child is the process that the shell runs.
func (p *pane) child() int {
	p.t.Helper()
	shell := strings.TrimSpace(p.tmux("display", "-p", "#{pane_pid}"))
	data, err := os.ReadFile(fmt.Sprintf("/proc/%s/task/%s/children", shell, shell))
	if err != nil {
		p.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(bytes.Fields(data)[0])))
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// cpu is what all threads of a process have used: the first figure of schedstat, in nanoseconds.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("process %d: %v", pid, err)
	}
	sum := time.Duration(0)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// Whatever ends the program leaves the terminal as it was: a panic outside of the screen's own goroutines, which SIGQUIT
// stands for (the runtime ends both in the same way), and kill -9.
func TestTerminalAfterACrash(t *testing.T) {
	for signal, says := range map[string]string{"QUIT": "SIGQUIT: quit", "KILL": "midhop was killed; the terminal is as before"} {
		t.Run(signal, func(t *testing.T) {
			p := openPane(t, 100, 40)
			p.tmux("set", "-g", "history-limit", "5000")
			p.run(midhop(t))
			p.await("q quit", "midhop  this machine")
			if out, err := exec.Command("kill", "-"+signal, strconv.Itoa(p.child())).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			p.awaitIn(p.history, says)
			p.run("clear; stty -a | grep -o ' icanon'; printf '%s\\n' back")
			p.await("icanon", "back")
			if got := strings.TrimSpace(p.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}")); got != "0 1" {
				t.Errorf("alternate screen and cursor: %s", got)
			}
		})
	}
}
