package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	route "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func contextWithStop(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	return ctx, stop
}

// processes lists the processes in whose command line a run's id stands.
func processes(id string) []string {
	var out []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(id)) {
			out = append(out, filepath.Base(filepath.Dir(f)))
		}
	}
	return out
}

// traces is what a lab must leave as it was.
type traces struct{ mounts, links, named, locks string }

func lookAround(t *testing.T, dir string) traces {
	t.Helper()
	var tr traces
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	tr.mounts = string(b)
	links, err := route.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		tr.links += l.Attrs().Name + " "
	}
	for what, where := range map[*string]string{&tr.named: "/run/netns", &tr.locks: dir} {
		entries, _ := os.ReadDir(where)
		for _, e := range entries {
			*what += e.Name() + " "
		}
	}
	return tr
}

// without is what came to be since before.
func (tr traces) without(before traces) (left traces) {
	for _, kind := range []struct {
		left        *string
		now, before string
		cut         func(string) []string
	}{
		{&left.mounts, tr.mounts, before.mounts, func(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }},
		{&left.links, tr.links, before.links, strings.Fields},
		{&left.named, tr.named, before.named, strings.Fields},
		{&left.locks, tr.locks, before.locks, strings.Fields},
	} {
		known := kind.cut(kind.before)
		for _, s := range kind.cut(kind.now) {
			if !slices.Contains(known, s) {
				*kind.left += s + "\n"
			}
		}
	}
	return left
}

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestCloseLeavesNothing(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	before, fds := lookAround(t, o.StateDir), 0
	for round := range 2 { // the first one opens files that the runtime keeps
		c, err := Start(t.Context(), o, testLog(t))
		if err != nil {
			t.Fatal(err)
		}
		pipe := <-c.Agents()
		if len(processes(c.ID())) < 5 {
			t.Errorf("processes of %s: %v", c.ID(), processes(c.ID()))
		}
		if round == 1 {
			if _, err := c.Fault(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error("second close:", err)
		}
		for p := pipe; ; p = <-c.Agents() {
			if _, err := io.Copy(io.Discard, p.R); err != nil { // ends with the lab
				t.Error(err)
			}
			p.R.Close()
			if len(c.agents) == 0 {
				break
			}
		}
		if left := processes(c.ID()); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
		left := lookAround(t, o.StateDir).without(before)
		if s := fmt.Sprint(left); left.locks != "" || strings.Contains(s, c.ID()) {
			t.Errorf("left behind: %s", s)
		}
		// What does not say whose it is may be another program's, which comes and goes.
		for deadline := time.Now().Add(patience); left != (traces{}); left = lookAround(t, o.StateDir).without(before) {
			if time.Now().After(deadline) {
				t.Fatalf("left behind: %+v", left)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if round == 0 {
			fds = openFDs(t)
		} else if now := openFDs(t); now > fds {
			t.Errorf("%d open files, %d after the lab before", now, fds)
		}
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	ctx, stop := contextWithStop(t)
	stop()
	c, err := Start(ctx, o, testLog(t))
	if err == nil {
		c.Close()
		t.Fatal("a cancelled start succeeded")
	}
	if tr := lookAround(t, o.StateDir); tr.locks != "" {
		t.Errorf("locks left: %s", tr.locks)
	}
}

// wholeLab is a process with a lab in it: it says the id and waits to be killed.
func wholeLab() {
	o := Defaults()
	o.Connections, o.StateDir = 30, os.Getenv("LAB_STATE")
	o.AgentArgv = func(node string) []string { return []string{os.Args[0], "fake-agent", node} }
	c, err := Start(context.Background(), o, quietLog())
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(c.ID())
	select {}
}

// kill9 starts a process with a lab in it and kills it once that is up.
func kill9(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "whole-lab")
	cmd.Env = append(os.Environ(), "LAB_STATE="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := bufio.NewReader(out).ReadString('\n')
	id = strings.TrimSpace(id)
	if err != nil || !strings.HasPrefix(id, "mh") {
		t.Fatalf("lab in a process: %q, %v", id, err)
	}
	if len(processes(id)) < 5 {
		t.Errorf("processes of %s: %v", id, processes(id))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
	return id
}

func TestKilledLabTakesItsTreesDown(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	id := kill9(t, dir)
	eventually(t, "the killed lab's processes end", func() bool { return len(processes(id)) == 0 })
	if tr := lookAround(t, dir); !strings.Contains(tr.locks, id) {
		t.Errorf("the killed lab's lock is not there to be swept: %q", tr.locks)
	}
	o := testOptions(t)
	o.StateDir = dir
	c := start(t, o)
	if tr := lookAround(t, dir); tr.locks != c.ID()+lockSuffix+" " {
		t.Errorf("locks %q, want only that of %s", tr.locks, c.ID())
	}
}

func TestSideBySide(t *testing.T) {
	needRoot(t)
	o := testOptions(t)
	first, second := start(t, o), start(t, o)
	if first.ID() == second.ID() {
		t.Fatal("two labs have the same id")
	}
	if _, err := first.Fault(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := second.ServiceTally()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second lab's service hears 50 more messages", func() bool {
		now, err := second.ServiceTally()
		if err != nil {
			t.Fatal(err)
		}
		if now.Open != o.Connections {
			t.Fatalf("%d connections of %d are left", now.Open, o.Connections)
		}
		return now.Received > before.Received+50
	})
}

// A sweep kills what a dead holder left and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	sleeper := exec.Command("sleep", "600")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	t.Cleanup(func() { _ = sleeper.Process.Kill() })
	born, err := startTime(sleeper.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	self, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	write := func(id, text string) string {
		path := filepath.Join(dir, id+lockSuffix)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	alive := write("mhalive", fmt.Sprintf("%d %d\n%d %d\n", os.Getpid(), self, sleeper.Process.Pid, born))
	reused := write("mhreuse", fmt.Sprintf("%d %d\n%d %d\n", os.Getpid(), self+1, sleeper.Process.Pid, born+1))
	broken := write("mhbroke", "not numbers\n1 1\n-5 3\n")
	held := write("mhheld", fmt.Sprintf("%d %d\n%d %d\n", os.Getpid(), self+1, sleeper.Process.Pid, born))
	f, err := os.Open(held)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	sweep(dir, testLog(t))
	for path, want := range map[string]bool{alive: true, held: true, reused: false, broken: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("after the sweep %s: %v", filepath.Base(path), err)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("the sweep ended a process of a run that lives: %v", err)
	default:
	}
	dead := write("mhdead", fmt.Sprintf("%d %d\n%d %d\n", os.Getpid(), self+1, sleeper.Process.Pid, born))
	sweep(dir, testLog(t))
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the sweep left a dead run's process")
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("the sweep left a dead run's lock")
	}
}

func TestLockIDs(t *testing.T) {
	dir := t.TempDir()
	var ids []string
	for range 5 {
		id, l, err := takeLock(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.release()
		if len(id) > 7 || slices.Contains(ids, id) { // link names have 15 bytes
			t.Errorf("id %q after %q", id, ids)
		}
		ids = append(ids, id)
	}
	sweep(dir, testLog(t))
	if tr := lookAround(t, dir); len(strings.Fields(tr.locks)) != 5 {
		t.Errorf("locks %q", tr.locks)
	}
}
