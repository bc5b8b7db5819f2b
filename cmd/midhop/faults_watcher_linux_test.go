//go:build faults

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// watcher is a running `midhop watch` whose complete stream is read.
type watcher struct {
	cmd    *exec.Cmd
	began  time.Time
	stderr bytes.Buffer
	ended  chan struct{}

	mu     sync.Mutex
	met    map[event.Type]int
	lost   map[string]uint64
	opened []event.Incident
	first  time.Duration   // from the start to the first incident
	open   map[string]bool // sockets of faultsPort that were told and not yet told as gone
	seen   int             // of them, ever
	more   chan struct{}
}

// faultsPort is the port of those connections that a test makes for midhop to meet and to forget.
const faultsPort = 18619

// startWatch starts midhop; prefix is the command that it is run by, if any.
func startWatch(t *testing.T, prefix []string, args ...string) *watcher {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	w := &watcher{met: map[event.Type]int{}, lost: map[string]uint64{}, open: map[string]bool{}, more: make(chan struct{}, 1), ended: make(chan struct{})}
	argv := append(append(prefix, binary, "watch", "-o", "jsonl", "--complete"), args...)
	w.cmd = exec.Command(argv[0], argv[1:]...)
	w.cmd.Stderr = &w.stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.began = time.Now()
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.ended)
		in := bufio.NewScanner(out)
		in.Buffer(nil, event.MaxLine)
		for in.Scan() {
			e, err := event.Decode(in.Bytes())
			if err != nil {
				continue // the last line of a process that was killed
			}
			w.note(&e)
		}
	}()
	t.Cleanup(func() {
		if w.cmd.ProcessState == nil {
			_ = w.cmd.Process.Signal(os.Interrupt)
			<-w.ended
			_ = w.cmd.Wait()
		}
	})
	return w
}

func (w *watcher) note(e *event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met[e.Type]++
	switch b := e.Body.(type) {
	case *event.Lost:
		w.lost[b.Stage] += b.Count
	case *event.Sockets:
		for i := range b.Rows {
			s := &b.Rows[i].Socket
			if s.Local.Port != faultsPort && s.Peer.Port != faultsPort {
				continue
			}
			id := fmt.Sprint(s.Netns, " ", s.Cookie, " ", s.Local, " ", s.Peer)
			switch b.Rows[i].Change {
			case event.SocketSeen:
				w.open[id] = true
				w.seen++
			case event.SocketGone:
				delete(w.open, id)
			}
		}
	case *event.IncidentFinding:
		if e.Type == event.IncidentOpened {
			if len(w.opened) == 0 {
				w.first = time.Since(w.began)
			}
			w.opened = append(w.opened, b.Incident)
		}
	}
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// await waits until what was read fulfils a condition.
func (w *watcher) await(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.After(within)
	for {
		w.mu.Lock()
		is := ok()
		w.mu.Unlock()
		if is {
			return
		}
		select {
		case <-w.more:
		case <-w.ended:
			t.Fatalf("midhop ended before %s: %s", what, &w.stderr)
		case <-deadline:
			t.Fatalf("%s: not within %s; it says %s", what, within, &w.stderr)
		}
	}
}

func (w *watcher) synced() bool { return w.met[event.StreamSynced] > 0 }

// looksAgain waits for two more looks at all sockets: the first may be under way.
func (w *watcher) looksAgain(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	w.met[event.PathTraffic] = 0
	w.mu.Unlock()
	w.await(t, "two more looks", 2*time.Minute, func() bool { return w.met[event.PathTraffic] > 1 })
}

// forgets waits until the end of all connections of faultsPort has been told, of which many must have been met.
func (w *watcher) forgets(t *testing.T, met int) {
	t.Helper()
	w.await(t, "the end of all that came and went", 2*time.Minute, func() bool { return len(w.open) == 0 })
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.Logf("%d sockets of the test were met, and forgotten", w.seen); w.seen < met {
		t.Errorf("only %d sockets were met, so nothing is shown", w.seen)
	}
}

// takes returns the descriptors and threads of the process, and its anonymous memory in bytes.
func (w *watcher) takes(t *testing.T) (files, threads int, anon float64) {
	t.Helper()
	pid := w.cmd.Process.Pid
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if n, ok := strings.CutPrefix(line, "Threads:"); ok {
			threads, _ = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	return len(list), threads, kilobytes(status, "RssAnon:")
}

// blamesNobody fails where anybody was named. Labs of others on this machine may have incidents: those name somebody of
// theirs, so only what the test itself made may be looked at by address.
func (w *watcher) blamesNobody(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.opened {
		if ip := in.Culprit.IP; ip.IsLoopback() || strings.HasPrefix(ip.String(), "10.79.") {
			t.Errorf("%s is named: %s", ip, in.Title)
		}
	}
	if n := w.lost["model.sockets"] + w.lost["model.strangers"]; n > 0 {
		t.Errorf("%d sockets were turned away", n)
	}
}
