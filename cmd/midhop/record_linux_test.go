package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// rootOnly skips where this machine cannot be watched.
func rootOnly(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("watching the kernel needs root")
	}
}

// churn makes and ends loopback connections until the test is over, so that there is something to record.
func churn(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	go func() {
		defer close(ended)
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for range 10 {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return
				}
				open = append(open, c)
			}
			for len(open) > 200 {
				open[0].Close()
				open = open[1:]
			}
		}
	}()
	t.Cleanup(func() { close(done); <-ended; l.Close() })
}

// until waits for something that another process does.
func until(t *testing.T, what string, within time.Duration, ok func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); {
		if time.Now().After(deadline) {
			t.Errorf("%s: not within %s", what, within)
			return false
		}
		time.Sleep(20 * time.Millisecond) // other processes' files tell nobody that they have changed
	}
	return true
}

// TestRecordRotatesAndStops records this machine into small files until there are several, and stops with Ctrl-C, which is
// how a recording ends: exit 0. Every file of it can be verified alone, and Ctrl-C left whole lines.
func TestRecordRotatesAndStops(t *testing.T) {
	rootOnly(t)
	churn(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "rec.jsonl")
	cmd := exec.Command(binary, "record", path, "--max-size", "64k", "--max-files", "3")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "a fourth file", hang, func() bool {
		_, err := os.Stat(filepath.Join(dir, "rec.3.jsonl"))
		return err == nil
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, cmd, hang); code != exitOK {
		t.Errorf("exit %d: %s", code, &stderr)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 3 {
		t.Errorf("files %v, want 3", files)
	}
	schema := compileSchema(t)
	for _, f := range files {
		for i, line := range readLines(t, f) {
			var any any
			if err := json.Unmarshal(line, &any); err != nil {
				t.Fatalf("%s: line %d: %v", f, i+1, err)
			}
			if err := schema.Validate(any); err != nil {
				t.Fatalf("%s: line %d is not what the schema says: %v", f, i+1, err)
			}
		}
		events := readEvents(t, f)
		if started, ok := events[0].Body.(*event.Started); !ok || !started.Complete {
			t.Errorf("%s opens with %s", f, events[0].Type)
		}
		for i, e := range events {
			if e.Seq != uint64(i+1) {
				t.Fatalf("%s: line %d has seq %d", f, i+1, e.Seq)
			}
			if e.Type == event.StreamLost {
				t.Errorf("%s: lost: %+v", f, e.Body)
			}
		}
		if out, err := exec.Command(binary, "replay", f, "--verify").CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", f, err, out)
		}
	}
}

// TestNothingIsLostBetweenFiles numbers every fact at its origin: from one file to the next there is no hole.
func TestNothingIsLostBetweenFiles(t *testing.T) {
	rootOnly(t)
	churn(t)
	dir := t.TempDir()
	cmd := exec.Command(binary, "record", filepath.Join(dir, "rec.jsonl.zst"), "--max-size", "8k")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "a third file", hang, func() bool {
		_, err := os.Stat(filepath.Join(dir, "rec.2.jsonl.zst"))
		return err == nil
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if code := ended(t, cmd, hang); code != exitOK {
		t.Errorf("exit %d", code)
	}
	var origin string
	var last uint64
	for i := 1; ; i++ {
		path := filepath.Join(dir, fmt.Sprintf("rec.%d.jsonl.zst", i))
		if _, err := os.Stat(path); err != nil {
			if last == 0 {
				t.Fatal("no facts")
			}
			return
		}
		for _, e := range readEvents(t, path) {
			if origin == "" {
				origin = e.ID.Origin
			}
			// What is told again at the head of a file keeps its number, or has one of the file's own.
			if e.ID.Origin != origin || !e.Type.IsFact() || e.ID.N <= last {
				continue
			}
			if e.ID.N != last+1 {
				t.Fatalf("%s: fact %d follows %d", path, e.ID.N, last)
			}
			last = e.ID.N
		}
	}
}

// TestRecordOntoAFullDisk fills a small tmpfs that only the recording sees, and gives room again.
func TestRecordOntoAFullDisk(t *testing.T) {
	rootOnly(t)
	churn(t)
	dir := t.TempDir()
	const script = `mount -t tmpfs -o size=128k tmpfs "$1" && head -c 100000 /dev/zero >"$1/ballast" || exit 99
"$2" record "$1/rec.jsonl" </dev/null & echo $!
read line; rm "$1/ballast"; read line; kill -INT $!; wait $!; code=$?; cat "$1/rec.jsonl"; exit $code`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", dir, binary)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	said := make(chan string, 1)
	go func() {
		var all strings.Builder
		for in, first := bufio.NewScanner(stderr), true; in.Scan(); {
			fmt.Fprintln(&all, in.Text())
			if first && strings.Contains(in.Text(), "no space left on device") {
				close(told)
				first = false
			}
		}
		said <- all.String()
	}()
	out := bufio.NewReader(stdout)
	pid, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(hang):
		t.Error("a full disk is not told")
	}
	fmt.Fprintln(stdin, "make room")
	file := filepath.Join("/proc", strings.TrimSpace(pid), "root", dir, "rec.jsonl")
	until(t, "a stream.lost line", hang, func() bool {
		data, err := os.ReadFile(file)
		return err == nil && bytes.Contains(data, []byte(`"stage":"file"`))
	})
	fmt.Fprintln(stdin, "end")
	data, err := io.ReadAll(out)
	if err != nil {
		t.Error(err)
	}
	code := ended(t, cmd, hang)
	text := <-said
	if code != exitOK {
		t.Errorf("exit %d: %s", code, text)
	}
	for _, want := range []string{"effect: lines are left out, whole and counted", "remedy: make room", "are missing: there was no room for them"} {
		if !strings.Contains(text, want) {
			t.Errorf("stderr does not say %q:\n%s", want, text)
		}
	}
	var last, missing, counted uint64
	for line := range bytes.Lines(data) {
		e, err := event.Decode(line)
		if err != nil {
			t.Fatalf("after line %d: %v: %s", last, err, line)
		}
		missing += e.Seq - last - 1
		last = e.Seq
		if b, ok := e.Body.(*event.Lost); ok && b.Stage == "file" {
			counted += b.Count
		}
	}
	if counted == 0 || counted != missing {
		t.Errorf("%d lines are missing, %d are counted", missing, counted)
	}
}

// TestWatchAndAReaderThatLeaves is watch | head -1.
func TestWatchAndAReaderThatLeaves(t *testing.T) {
	rootOnly(t)
	churn(t)
	cmd := exec.Command(binary, "watch", "-o", "jsonl", "--complete")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	r := withPipe(t, cmd)
	if _, err := bufio.NewReaderSize(r, 16).ReadSlice('\n'); err != nil && err != bufio.ErrBufferFull {
		t.Fatal(err)
	}
	r.Close()
	if code := ended(t, cmd, hang); code != exitOK || stderr.Len() > 0 {
		t.Errorf("exit %d, stderr %q", code, &stderr)
	}
}

// TestThisMachineAnswers asks about the machine itself. Whatever else runs on it, there is an answer, and the exit code is
// that of the answer.
func TestThisMachineAnswers(t *testing.T) {
	rootOnly(t)
	for _, c := range []struct {
		args    []string
		answers map[int]string // by exit code: how the output begins
	}{
		{[]string{"check", "--for", "1s", "--partial"}, map[int]string{exitOK: "healthy", exitFindings: "not healthy: incident"}},
		{[]string{"impact", "no-such-node"}, map[int]string{exitUsage: `midhop: no node "no-such-node"`}},
		{[]string{"incidents", "--for", "1s"}, map[int]string{exitOK: "OPENED"}},
	} {
		out, err := exec.Command(binary, c.args...).CombinedOutput()
		code := 0
		if exit, ok := err.(*exec.ExitError); ok {
			code = exit.ExitCode()
		}
		if want, ok := c.answers[code]; !ok || !strings.HasPrefix(string(out), want) {
			t.Errorf("%v: exit %d: %s", c.args, code, out)
		}
	}
}
