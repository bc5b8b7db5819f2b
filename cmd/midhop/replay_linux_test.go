package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
)

// self is this test binary as the command midhop, as testscript runs it: no second build is needed, and no root.
func self(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "midhop")
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	return exec.Command(link, args...)
}

// withPipe starts a command whose stdout is a small pipe, and returns its reading end.
func withPipe(t *testing.T, cmd *exec.Cmd) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return r
}

// ended waits for a command, but not for ever.
func ended(t *testing.T, cmd *exec.Cmd, within time.Duration) int {
	t.Helper()
	late := time.AfterFunc(within, func() {
		t.Errorf("%v does not end within %s", cmd.Args[1:], within)
		cmd.Process.Kill()
	})
	defer late.Stop()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// TestAReaderThatLeaves reads one line and closes the pipe, as head -1 does: the command ends at once, quietly, with 0.
func TestAReaderThatLeaves(t *testing.T) {
	for _, output := range [][]string{{"-o", "jsonl", "--complete"}, {"-o", "table"}} {
		var stderr bytes.Buffer
		cmd := self(t, append([]string{"replay", "testdata/recordings/node-gone.jsonl.zst", "--speed", "20x"}, output...)...)
		cmd.Stderr = &stderr
		r := withPipe(t, cmd)
		if _, err := bufio.NewReaderSize(r, 16).ReadSlice('\n'); err != nil && err != bufio.ErrBufferFull {
			t.Fatal(err)
		}
		r.Close()
		if code := ended(t, cmd, hang); code != exitOK || stderr.Len() > 0 {
			t.Errorf("%v: exit %d, stderr %q", output, code, &stderr)
		}
	}
}

// TestAGateKeepsItsCode closes a gate's stdout before it answers.
func TestAGateKeepsItsCode(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"check", "--file", "testdata/recordings/node-gone.jsonl.zst"}, exitFindings},
		{[]string{"check", "--file", "testdata/recordings/node-gone.jsonl.zst", "-o", "json"}, exitFindings},
		{[]string{"check", "--file", "testdata/recordings/healthy.jsonl.zst"}, exitOK},
		{[]string{"impact", "node-a", "--file", "testdata/recordings/healthy.jsonl.zst"}, exitFindings},
		{[]string{"incidents", "--file", "testdata/recordings/healthy.jsonl.zst"}, exitOK},
	} {
		cmd := self(t, c.args...)
		withPipe(t, cmd).Close()
		if code := ended(t, cmd, hang); code != c.code {
			t.Errorf("%v: exit %d, want %d", c.args, code, c.code)
		}
	}
}

// TestAReplayWaitsForItsReader leaves a replay standing at a full pipe for a while, and then reads on: nothing is lost.
func TestAReplayWaitsForItsReader(t *testing.T) {
	path := "testdata/recordings/node-gone.jsonl.zst"
	whole, err := self(t, "replay", path, "-o", "jsonl", "--complete").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Count(whole, []byte{'\n'})
	cmd := self(t, "replay", path, "-o", "jsonl", "--complete")
	r := withPipe(t, cmd)
	awaitFull(t, r)
	lines := readSeq(t, r)
	if code := ended(t, cmd, hang); code != exitOK {
		t.Errorf("exit %d", code)
	}
	if lines != want {
		t.Errorf("%d lines came of %d", lines, want)
	}
}

// awaitFull waits until a pipe holds as much as it can.
func awaitFull(t *testing.T, r *os.File) {
	t.Helper()
	deadline := time.Now().Add(hang)
	for {
		held, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if held >= 4096 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pipe holds %d bytes only", held)
		}
		time.Sleep(time.Millisecond) // a pipe tells its reader that there is something, never that it is full
	}
}

// readSeq reads lines to the end and holds them to be whole and numbered without holes.
func readSeq(t *testing.T, r io.Reader) int {
	t.Helper()
	in := bufio.NewScanner(r)
	in.Buffer(nil, event.MaxLine)
	n := 0
	for in.Scan() {
		e, err := event.Decode(in.Bytes())
		if err != nil {
			t.Fatalf("line %d: %v: %s", n+1, err, in.Text())
		}
		if n++; e.Seq != uint64(n) {
			t.Fatalf("line %d has seq %d", n, e.Seq)
		}
	}
	if err := in.Err(); err != nil {
		t.Error(err)
	}
	return n
}

// TestInterruptsAReplay sends Ctrl-C to a replay at the pace of its recording.
func TestInterruptsAReplay(t *testing.T) {
	cmd := self(t, "replay", "testdata/recordings/node-gone.jsonl.zst", "-o", "jsonl", "--complete", "--speed", "1x")
	r := withPipe(t, cmd)
	if _, err := bufio.NewReader(r).ReadSlice('\n'); err != nil && err != bufio.ErrBufferFull {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, cmd, hang); code != exitInterrupted {
		t.Errorf("exit %d, want %d", code, exitInterrupted)
	}
}

// TestALivePipeIsShownAtItsOwnPace writes a recording into a pipe line by line and expects each finding before more is
// written than it takes: nothing is held back for company.
func TestALivePipeIsShownAtItsOwnPace(t *testing.T) {
	cmd := self(t, "replay", "-", "-o", "jsonl")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	opened := make(chan event.Event, 10)
	go func() {
		defer close(opened)
		in := bufio.NewScanner(stdout)
		in.Buffer(nil, event.MaxLine)
		for in.Scan() {
			if e, err := event.Decode(in.Bytes()); err == nil && e.Type == event.IncidentOpened {
				opened <- e
			}
		}
	}()
	path := "testdata/recordings/node-gone.jsonl.zst"
	lines, events := readLines(t, path), readEvents(t, path)
	upTo := 0
	for i, e := range events {
		if e.Type == event.IncidentOpened {
			upTo = i + 20 // the incident, and lines whose time is beyond it
		}
	}
	for _, line := range lines[:upTo] {
		if _, err := stdin.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case e := <-opened:
		if in := e.Body.(*event.IncidentFinding).Incident; in.Culprit.Name != "node-a" {
			t.Errorf("%s is blamed", in.Culprit.Name)
		}
	case <-time.After(hang):
		t.Error("the incident is not told while the pipe stands")
	}
	stdin.Close()
	if code := ended(t, cmd, hang); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// TestAStoppedReaderLosesAndIsTold lets a watch run into a reader that has stopped. The Engine goes on, what there is no
// room for is counted, and when the reader goes on it gets whole lines and a stream.lost for the others.
func TestAStoppedReaderLosesAndIsTold(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	engine := tracer.New(tracer.Options{})
	out, err := newOutput(engine, outJSONL, outputOptions{complete: true})
	if err != nil {
		t.Fatal(err)
	}
	flood := make(chan event.Event)
	engine.AddSource("flood", source(func(ctx context.Context, emit func([]event.Event)) error {
		for e := range flood {
			emit([]event.Event{e})
		}
		return nil
	}))
	ran := make(chan error, 1)
	go func() { ran <- engine.Run(context.Background()) }()
	start := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	rows := make([]event.TrafficRow, 20) // so that few lines fill the pipe and what is before it
	for i := range rows {
		rows[i] = event.TrafficRow{Local: event.Endpoint{IP: netip.MustParseAddr("10.0.0.1")}, Peer: event.Endpoint{IP: netip.MustParseAddr("10.0.0.2")}}
	}
	n := 0
	send := func(count int) {
		for range count {
			n++
			flood <- event.Event{
				Type: event.PathTraffic, Time: start.Add(time.Duration(n) * 200 * time.Millisecond), Source: "agent/n1",
				Body: &event.Traffic{Pass: uint64(n), Rows: rows},
			}
		}
	}
	// The Engine takes batches as long as it lives, however long the reader sleeps: each costs it recordWait at most.
	const queues = 1024 + 64 // of the sink and of the sources
	send(queues + 30)
	read := make(chan []event.Event)
	go func() {
		var all []event.Event
		in := bufio.NewScanner(r)
		in.Buffer(nil, event.MaxLine)
		for in.Scan() {
			e, err := event.Decode(in.Bytes())
			if err != nil {
				t.Errorf("line %d: %v", len(all)+1, err)
			}
			all = append(all, e)
		}
		read <- all
	}()
	send(200)
	close(flood)
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := out.close(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	all := <-read
	var kept, lost uint64
	for _, e := range all {
		switch b := e.Body.(type) {
		case *event.Traffic:
			kept++
		case *event.Lost:
			lost += b.Count
		}
	}
	if lost == 0 || kept+lost < uint64(n) || kept == uint64(n) {
		t.Errorf("%d lines written, %d came, %d are told lost", n, kept, lost)
	}
}

type source func(ctx context.Context, emit func([]event.Event)) error

// Run implements tracer.Source.
func (s source) Run(ctx context.Context, emit func([]event.Event)) error { return s(ctx, emit) }
