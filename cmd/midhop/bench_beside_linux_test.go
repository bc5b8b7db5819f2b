package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/source/kernel"
)

// What bpftrace's users write to see retransmissions.
const oneLiner = `tracepoint:tcp:tcp_retransmit_skb { time("%H:%M:%S "); printf("%s:%d > %s:%d state %d\n", ntop(args->saddr), args->sport, ntop(args->daddr), args->dport, args->state); }`

// besideSockets is how many connections write into a hole, each retransmitting some six times in besideSpan: a tail-loss
// probe, then timeouts at 0.2, 0.4, 0.8 s and so on.
const (
	besideSockets = 8_000
	besideSpan    = 8 * time.Second
)

// BenchmarkBesideBpftrace lets bpftrace print a line for each retransmission beside midhop's own path of a retransmission
// (hooks, source, Engine, lines), and beside all of `midhop watch` with its census, its findings and its path.* lines, in
// the same run over the same retransmissions. What counts is the CPU time of a retransmission: the programs' in the kernel
// and the process's own.
func BenchmarkBesideBpftrace(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("both need root")
	}
	if _, err := exec.LookPath("bpftrace"); err != nil {
		b.Skip("no bpftrace here: ", err)
	}
	stats, err := bpf.CountRuns()
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	for b.Loop() {
		h := newHole(b)
		whole := observe(b, "tcp.retransmit", binary, "watch", "-o", "jsonl", "--complete", "--census-budget", "0.1")
		self, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		path := observe(b, "tcp.retransmit", "env", partVariable+"=events", onlyEvents+"=1", self, "-test.run", "^TestOnlyEvents$")
		theirs := observe(b, " > ", "unshare", "-m", "sh", "-c", `mount -t tracefs tracefs /sys/kernel/tracing; exec bpftrace -e "$0"`, oneLiner)
		h.fill(b, besideSockets)
		all := []*observer{whole, path, theirs}
		var did []effort
		for _, o := range all {
			did = append(did, o.mark(b))
		}
		h.open(b)
		<-time.After(besideSpan)
		for i, o := range all {
			did[i] = o.since(b, did[i])
			did[i].report(b, [...]string{"watch", "path", "bpftrace"}[i])
			o.stop()
		}
		h.close()
		b.ReportMetric(did[2].each()/did[0].each(), "ratio-watch")
		b.ReportMetric(did[2].each()/did[1].each(), "ratio-path")
	}
}

// onlyEvents is set in the environment of the process that is midhop's path of a retransmission and nothing else.
const onlyEvents = "MIDHOP_TEST_ONLY_EVENTS"

// TestOnlyEvents is no test but that process; it runs until it is interrupted.
func TestOnlyEvents(t *testing.T) {
	if os.Getenv(onlyEvents) == "" {
		return
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	probes, _, err := bpf.Load(bpf.Options{NoNAT: true})
	if err != nil {
		t.Fatal(err)
	}
	defer probes.Close()
	agent := &fleet.Agent{Node: "node-b", Started: event.Started{Host: event.Host{Node: "node-b"}}, Sources: []fleet.Source{kernel.New(probes, kernel.Options{})}}
	engine := tracer.New(tracer.Options{Live: true, Model: model.Options{Node: "node-b"}})
	lines := jsonl.New(os.Stdout, jsonl.Options{})
	engine.AddSink("stdout", lines, tracer.Policy{Wait: recordWait})
	engine.AddSource("agent", agent)
	if err := errors.Join(engine.Run(ctx), lines.Close()); err != nil {
		t.Fatal(err)
	}
}

// observer is a process that watches retransmissions, with its programs.
type observer struct {
	cmd      *exec.Cmd
	out      string // file that it writes
	sign     []byte // stands once in each line that counts
	programs map[uint32]bool
}

// observe starts a watcher and awaits its programs.
func observe(b *testing.B, sign string, name string, args ...string) *observer {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "midhop-bench-") // no disk in the figures
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	o := &observer{out: filepath.Join(dir, "out"), sign: []byte(sign)}
	f, err := os.Create(o.out)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	o.cmd = exec.Command(name, args...)
	var stderr bytes.Buffer
	o.cmd.Stdout, o.cmd.Stderr = f, &stderr
	if err := o.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(o.stop)
	// Ready is who has had the same programs for a second: both attach one after another.
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(30 * time.Second)
	for quiet := 0; quiet < 50; {
		select {
		case <-poll.C:
		case <-deadline:
			b.Fatalf("%s attaches nothing: %s", name, &stderr)
		}
		now := programsOf(o.cmd.Process.Pid)
		if quiet++; len(now) == 0 || len(now) != len(o.programs) {
			quiet = 0
		}
		o.programs = now
	}
	return o
}

func (o *observer) stop() {
	if o.cmd.ProcessState == nil {
		_ = o.cmd.Process.Signal(unix.SIGINT)
		_ = o.cmd.Wait()
	}
}

// programsOf are the programs that a process holds, itself or through links: the kernel tells each file's (fdinfo).
func programsOf(pid int) map[uint32]bool {
	all := make(map[uint32]bool)
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "prog_id:"); ok {
				if id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
					all[uint32(id)] = true
				}
			}
		}
	}
	return all
}

// effort is what an observer has done so far, or between two moments.
type effort struct {
	programs float64 // ns of its programs in the kernel
	user     float64 // ns of its threads outside the kernel, in steps of 10 ms
	threads  float64 // ns of its threads in all
	events   float64
}

func (e effort) each() float64 { return (e.programs + e.user) / e.events }

func (e effort) report(b *testing.B, name string) {
	if e.events == 0 {
		b.Fatalf("%s has seen nothing", name)
	}
	b.ReportMetric(e.events, name+"-events")
	b.ReportMetric(e.programs/e.events, name+"-bpf-ns/event")
	b.ReportMetric(e.user/e.events, name+"-user-ns/event")
	b.ReportMetric(e.threads/e.events, name+"-threads-ns/event")
}

// mark reads the counters: run time of the programs, time of the threads (schedstat, ns), lines written.
func (o *observer) mark(b *testing.B) effort {
	b.Helper()
	var e effort
	for id := range o.programs {
		if _, took, err := bpf.Runs(id); err == nil { // else another's, gone meanwhile
			e.programs += float64(took)
		}
	}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", o.cmd.Process.Pid))
	for _, t := range threads {
		text, _ := os.ReadFile(t)
		if ran, _, ok := strings.Cut(string(text), " "); ok {
			n, _ := strconv.ParseFloat(ran, 64)
			e.threads += n
		}
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", o.cmd.Process.Pid))
	if i := bytes.LastIndexByte(stat, ')'); i > 0 { // the fields after the name; utime is field 14 (proc(5))
		if f := bytes.Fields(stat[i+1:]); len(f) > 11 {
			ticks, _ := strconv.ParseFloat(string(f[11]), 64)
			e.user = ticks * 1e7 // USER_HZ is 100
		}
	}
	data, err := os.ReadFile(o.out)
	if err != nil {
		b.Fatal(err)
	}
	e.events = float64(bytes.Count(data, o.sign))
	return e
}

func (o *observer) since(b *testing.B, then effort) effort {
	b.Helper()
	e := o.mark(b)
	return effort{e.programs - then.programs, e.user - then.user, e.threads - then.threads, e.events - then.events}
}

// hole is two network namespaces with a cable between them; what one end writes after open vanishes.
type hole struct {
	near, far *place
	conns     []net.Conn
}

// place is a network namespace, kept by the thread that works in it.
type place struct {
	work chan func()
	path string
}

func newPlace(b *testing.B) *place {
	p := &place{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		p.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		ready <- err
		for f := range p.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		b.Fatal(err)
	}
	return p
}

func (p *place) do(f func()) {
	done := make(chan struct{})
	p.work <- func() { defer close(done); f() }
	<-done
}

func (p *place) ip(b *testing.B, format string, args ...any) {
	b.Helper()
	p.do(func() {
		if out, err := exec.Command("ip", strings.Fields(fmt.Sprintf(format, args...))...).CombinedOutput(); err != nil {
			b.Errorf("ip %s: %v: %s", fmt.Sprintf(format, args...), err, out)
		}
	})
	if b.Failed() {
		b.FailNow()
	}
}

func newHole(b *testing.B) *hole {
	h := &hole{near: newPlace(b), far: newPlace(b)}
	h.near.ip(b, "link add hole type veth peer name hole netns %s", h.far.path)
	for i, p := range []*place{h.near, h.far} {
		p.ip(b, "addr add 10.78.0.%d/24 dev hole", i+1)
		p.ip(b, "link set hole up")
	}
	return h
}

// fill opens connections from the near to the far end.
func (h *hole) fill(b *testing.B, n int) {
	var ln net.Listener
	var err error
	h.far.do(func() { ln, err = net.Listen("tcp4", "10.78.0.2:0") })
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	var mu sync.Mutex
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for range n {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			h.conns = append(h.conns, c)
			mu.Unlock()
		}
	}()
	var opened []net.Conn
	h.near.do(func() {
		for range n {
			var c net.Conn
			if c, err = net.DialTimeout("tcp4", ln.Addr().String(), 10*time.Second); err != nil {
				return
			}
			opened = append(opened, c)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	<-accepted
	h.conns = append(opened, h.conns...)
}

// open makes what the near end sends vanish, and lets every connection write.
func (h *hole) open(b *testing.B) {
	h.near.ip(b, "neigh replace 10.78.0.2 lladdr 02:00:00:00:77:99 dev hole nud permanent")
	for _, c := range h.conns[:len(h.conns)/2] {
		if _, err := io.WriteString(c, "into the hole"); err != nil {
			b.Fatal(err)
		}
	}
}

func (h *hole) close() {
	for _, c := range h.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	close(h.near.work)
	close(h.far.work)
}
