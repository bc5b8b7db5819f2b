package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// untilNamed reads what a lab tells until its incident has been open for so long. It returns the rest of it, a nodes file,
// and the node that the lab broke.
func untilNamed(t *testing.T, stream io.Reader, lasts time.Duration) (lines *bufio.Scanner, nodes, target string) {
	t.Helper()
	var text strings.Builder
	lines = bufio.NewScanner(stream)
	lines.Buffer(nil, event.MaxLine)
	for opened, over := (time.Time{}), false; !over; {
		if !lines.Scan() {
			t.Fatal("the lab ended before its incident had been open for as long as it should: ", lines.Err())
		}
		e, err := event.Decode(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		switch b := e.Body.(type) {
		case *event.NodeFact:
			if b.What == "added" {
				fmt.Fprintf(&text, "- name: %s\n  addresses: [%s]\n", b.Node.Name, b.Node.Addresses[0].IP)
			}
		case *event.Fault:
			target = b.Target
		case *event.IncidentFinding:
			if e.Type == event.IncidentOpened {
				opened = e.Time
			}
		}
		over = !opened.IsZero() && !e.Time.Before(opened.Add(lasts))
	}
	nodes = filepath.Join(t.TempDir(), "nodes.yaml")
	if err := os.WriteFile(nodes, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return lines, nodes, target
}

// TestRelief lets the lab's incident happen and closes what hangs: exactly sockets that cross the dead node, each told as
// a fact, no faster than asked for, and without --yes none at all. What is left of them afterwards is nothing, and who dialled
// through the dead node has connected again through the others.
func TestRelief(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the lab makes network namespaces: needs root")
	}
	lab := exec.Command(binary, "lab", "node-gone", "--seed", "90417", "--connections", "100", "--fault-after", "9s", "--duration", "10m", "--whole", "--reconnect", "-o", "jsonl")
	stdout, err := lab.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = lab.Process.Signal(unix.SIGINT)
		_ = lab.Wait()
	}()
	// Whoever looks afterwards has to see for itself that the silence lasts: the lab's own agents, which hear the node's agent
	// fall silent, name it within a second.
	lines, file, target := untilNamed(t, stdout, 2*time.Second)
	nodes, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var again dialledAgain
	go again.read(lines, target)
	relieve := func(args ...string) (stdout, stderr string) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"relief", "--nodes", file, "--node", "somewhere-else", "--via", target}, args...)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("relief %v: %v\n%s%s", args, err, &out, &errs)
		}
		return out.String(), errs.String()
	}
	// A look takes three seconds, in which a machine that has too much to do may see too little: then it says so, and is asked
	// again.
	for try := 1; ; try++ {
		plan, _ := relieve()
		if strings.Contains(plan, target) && strings.Contains(plan, "nothing was closed: this is the plan") && strings.Contains(plan, "left alone: ") {
			break
		}
		little := strings.Contains(plan, "nothing to relieve: no open incident names "+target+" as gone") || strings.Contains(plan, ": close 0 sockets, ")
		if !little || try == 10 {
			t.Fatalf("the plan is\n%s", plan)
		}
	}
	// Idle ones are not proven dead before their second probe in a row, so some may be added with every look, and it is over
	// when two looks in a row find nothing.
	dialled := 0
	for round, nothing := 0, 0; nothing < 2 || dialled == 0; round++ {
		if round == 30 {
			t.Fatalf("there is always something left to relieve; %d of the closed sockets had dialled the dead node", dialled)
		}
		n := closeSockets(t, string(nodes), target, relieve)
		dialled += n.dialled
		if nothing++; n.closed > 0 {
			nothing = 0
		}
	}
	again.await(t, dialled)
}

// closedSockets counts what one relief closed.
type closedSockets struct {
	closed, dialled int // dialled: of whom had dialled a port of the node
}

// closeSockets relieves once: what is closed is what was planned, all of it crosses the target, no faster than asked for.
func closeSockets(t *testing.T, nodes, target string, relieve func(...string) (stdout, stderr string)) (n closedSockets) {
	t.Helper()
	began := time.Now()
	const rate = 100
	out, said := relieve("--yes", "--rate", strconv.Itoa(rate), "-o", "jsonl")
	t.Logf("in %s: %s", time.Since(began), said)
	var first, last time.Time
	for line := range strings.Lines(out) {
		e, err := event.Decode([]byte(strings.TrimSpace(line)))
		if err != nil {
			t.Fatal(err)
		}
		fact, ok := e.Body.(*event.TCPFact)
		if !ok || e.Type != event.TCPClosed || fact.How != "relief" {
			t.Fatalf("line %s", line)
		}
		if !strings.Contains(nodes, fmt.Sprintf("- name: %s\n  addresses: [%s]", target, fact.Socket.Peer.IP)) {
			t.Errorf("%s is no address of %s", fact.Socket.Peer.IP, target)
		}
		n.closed++
		if fact.Socket.Local.Port >= firstEphemeral && fact.Socket.Peer.Port < firstEphemeral {
			n.dialled++
		}
		if last = e.Time; first.IsZero() {
			first = e.Time
		}
	}
	// Both ends of this machine's namespaces are paced by themselves, so the least that all of them took is the longest of these.
	if least := time.Duration(max(n.dialled, n.closed-n.dialled)-1) * time.Second / rate * 9 / 10; last.Sub(first) < least {
		t.Errorf("%d sockets were closed within %s, want at least %s", n.closed, last.Sub(first), least)
	}
	if n.closed == 0 {
		if !strings.Contains(said, "nothing to relieve") && !strings.Contains(said, "close 0 sockets") {
			t.Fatalf("nothing was closed, and it says\n%s", said)
		}
		return n
	}
	if many := plural(n.closed, "socket"); !strings.Contains(said, "gone: close "+many+",") || !strings.Contains(said, "closed "+many) {
		t.Errorf("%s were closed; it says:\n%s", many, said)
	}
	return n
}

// firstEphemeral is below every port that the kernel chooses for who dials, and above those of nodes' services.
const firstEphemeral = 32768

// dialledAgain counts the connections that pods make to nodes other than the dead one after its incident has opened.
type dialledAgain struct {
	mu sync.Mutex
	n  int
}

// read reads the lab's stream until it ends.
func (d *dialledAgain) read(lines *bufio.Scanner, dead string) {
	for lines.Scan() {
		e, err := event.Decode(lines.Bytes())
		if err != nil {
			return // the end of a lab that was told to stop
		}
		body, ok := e.Body.(*event.Sockets)
		if !ok {
			continue
		}
		d.mu.Lock()
		for i := range body.Rows {
			r := &body.Rows[i]
			if r.Change == event.SocketSeen && r.Role == event.RoleDialled && r.Via != nil && r.Via.Node != "" && r.Via.Node != dead && r.TCP.State == "established" {
				d.n++
			}
		}
		d.mu.Unlock()
	}
}

// await waits until so many have connected again.
func (d *dialledAgain) await(t *testing.T, n int) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.After(hang); ; {
		d.mu.Lock()
		got := d.n
		d.mu.Unlock()
		if got >= n {
			t.Logf("%d of %d connected again through other nodes", got, n)
			return
		}
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("%d of %d connected again through other nodes", got, n)
		}
	}
}
