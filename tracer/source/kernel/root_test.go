package kernel

import (
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// The rungs of the TCP facts, as a kernel has them: all of one kind. The error of a kernel before 5.15 comes from the state.
var (
	typed = map[bpf.Fact]string{
		bpf.FactRetransmit: "tp_btf", bpf.FactError: "tp_btf", bpf.FactReset: "tp_btf", bpf.FactState: "tp_btf",
	}
	untyped = map[bpf.Fact]string{bpf.FactRetransmit: "raw_tp", bpf.FactReset: "raw_tp", bpf.FactState: "raw_tp"}
)

// bothRungs runs a test on typed and on raw tracepoints.
func bothRungs(t *testing.T, test func(t *testing.T, o bpf.Options)) {
	needRoot(t)
	t.Run("tp_btf", func(t *testing.T) { test(t, bpf.Options{Rungs: typed}) })
	t.Run("raw_tp", func(t *testing.T) { test(t, bpf.Options{Rungs: untyped}) })
}

// soon is how long a test waits for something that takes seconds at most on a machine that is free.
const soon = time.Minute

// What is written into a hole is retransmitted, told with who it was, and told again when it gets through.
func TestRetransmit(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name, network, listen, dial string
		family                      event.Family
		rungs                       map[bpf.Fact]string
	}{
		{"IPv4", "tcp4", farIP, farIP, event.IPv4, typed},
		{"IPv6", "tcp6", farIP6, farIP6, event.IPv6, nil},
		{"mapped", "tcp", "::", "::ffff:" + farIP, event.IPv4, nil},
		{"raw_tp", "tcp6", farIP6, farIP6, event.IPv6, untyped},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoad(t)
			near, _ := r.connect(t, c.network, c.listen, c.dial)
			w := startWatch(t, bpf.Options{Rungs: c.rungs})
			is := r.whoIs(near)
			w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))

			r.hole(t)
			written := time.Now()
			if _, err := near.Write([]byte("into the hole")); err != nil {
				t.Fatal(err)
			}
			e := w.wait(t, "a retransmission after a timeout", soon, fact(event.TCPRetransmit, is, func(f *event.TCPFact) bool {
				return f.TCP.Kind == "rto"
			}))
			f := e.Body.(*event.TCPFact)
			if f.Socket.Local != endpoint(near.LocalAddr()) || f.Socket.Peer != endpoint(near.RemoteAddr()) || f.Socket.Family != c.family {
				t.Errorf("told of %+v, want %v to %v, %s", f.Socket, near.LocalAddr(), near.RemoteAddr(), c.family)
			}
			if f.Socket.Netns != r.near.inum || e.Flow != event.FlowID(f.Socket.Local, f.Socket.Peer) {
				t.Errorf("namespace %d flow %s, want namespace %d", f.Socket.Netns, e.Flow, r.near.inum)
			}
			if f.TCP.Retransmits != 1 || f.TCP.Unacked != 13 || f.TCP.State != "established" {
				t.Errorf("progress %+v", f.TCP)
			}
			if e.Time.Before(written.Add(-time.Millisecond)) || e.Time.After(time.Now()) {
				t.Errorf("happened at %v, written at %v", e.Time, written)
			}
			w.wait(t, "the census showing trouble", soon, row(is, func(r *event.SocketRow) bool {
				return r.Change == event.SocketChanged && r.TCP.Retransmits > 0 && r.TCP.StalledAge.OK
			}))
			w.rewind()
			w.wait(t, "the second timeout", soon, fact(event.TCPRetransmit, is, func(f *event.TCPFact) bool {
				return f.TCP.Retransmits == 2
			}))

			r.mend(t)
			w.wait(t, "the census showing progress", soon, row(is, func(r *event.SocketRow) bool {
				return r.Change == event.SocketChanged && r.TCP.Retransmits == 0 && r.TCP.Unacked == 0
			}))
		})
	}
}

// No tracepoint fires for a keepalive probe that goes unanswered: the census sees it, and the end is an error.
func TestUnansweredKeepalive(t *testing.T) {
	needRoot(t)
	for _, rung := range bpf.Rungs(bpf.FactProbe) {
		t.Run(rung, func(t *testing.T) { testUnansweredKeepalive(t, rung) })
	}
}

func testUnansweredKeepalive(t *testing.T, rung string) {
	r := newRoad(t)
	near, _ := r.connect(t, "tcp4", farIP, farIP)
	if err := near.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}); err != nil {
		t.Fatal(err)
	}
	w := startWatch(t, bpf.Options{Rungs: map[bpf.Fact]string{bpf.FactProbe: rung}})
	is := r.whoIs(near)
	w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
	r.hole(t)
	w.wait(t, "an unanswered probe", soon, row(is, func(r *event.SocketRow) bool {
		return r.Change == event.SocketChanged && r.TCP.ProbesOut >= 1 && r.TCP.Unacked == 0
	}))
	e := w.wait(t, "the timeout", soon, fact(event.TCPError, is, nil))
	f := e.Body.(*event.TCPFact)
	if f.Errno != "ETIMEDOUT" || f.Socket.Local != endpoint(near.LocalAddr()) || f.Socket.Peer != endpoint(near.RemoteAddr()) {
		t.Errorf("told %s of %+v", f.Errno, f.Socket)
	}
	if !f.Limits.Keepalive || f.Limits.KeepaliveProbes != 3 {
		t.Errorf("limits %+v", f.Limits)
	}
	if rung != bpf.RungCensus { // told by itself: the second probe finds the first unanswered
		w.rewind()
		e := w.wait(t, "the probe", soon, fact(event.TCPProbe, is, nil))
		if f := e.Body.(*event.TCPFact); f.TCP.Kind != "keepalive" || f.TCP.ProbesOut == 0 {
			t.Errorf("told as %+v", f.TCP)
		}
	}
	w.rewind()
	w.wait(t, "the socket gone from the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketGone }))
}

// A reset is told with the socket that got it.
func TestReset(t *testing.T) { bothRungs(t, testReset) }

func testReset(t *testing.T, o bpf.Options) {
	r := newRoad(t)
	near, far := r.connect(t, "tcp4", farIP, farIP)
	w := startWatch(t, o)
	is := r.whoIs(near)
	w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	far.Close()
	e := w.wait(t, "the reset", soon, fact(event.TCPReset, is, nil))
	f := e.Body.(*event.TCPFact)
	if f.Reset == nil || f.Reset.By != "peer" || f.Socket.Local != endpoint(near.LocalAddr()) || f.Socket.Peer != endpoint(near.RemoteAddr()) {
		t.Errorf("told %+v of %+v", f.Reset, f.Socket)
	}
	w.rewind()
	e = w.wait(t, "the error", soon, fact(event.TCPError, is, nil))
	if errno := e.Body.(*event.TCPFact).Errno; errno != "ECONNRESET" {
		t.Errorf("error %s", errno)
	}
	w.rewind()
	e = w.wait(t, "the end", soon, fact(event.TCPClosed, is, nil))
	if f := e.Body.(*event.TCPFact); f.How != "rst" || f.Socket.Local != endpoint(near.LocalAddr()) {
		t.Errorf("ended by %s: %+v", f.How, f.Socket)
	}
}

// A writer gives up when its user timeout is over; its own port is told though the kernel has taken it back by then.
func TestTimeout(t *testing.T) { bothRungs(t, testTimeout) }

func testTimeout(t *testing.T, o bpf.Options) {
	r := newRoad(t)
	near, _ := r.connect(t, "tcp6", farIP6, farIP6)
	option(t, near, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 700)
	w := startWatch(t, o)
	is := r.whoIs(near)
	w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
	r.hole(t)
	if _, err := near.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	e := w.wait(t, "the end", soon, fact(event.TCPClosed, is, nil))
	f := e.Body.(*event.TCPFact)
	if f.How != "abort" || f.Socket.Local != endpoint(near.LocalAddr()) {
		t.Errorf("ended by %s: %+v", f.How, f.Socket)
	}
	w.rewind()
	e = w.wait(t, "the timeout", soon, fact(event.TCPError, is, nil))
	f = e.Body.(*event.TCPFact)
	if f.Errno != "ETIMEDOUT" || f.Socket.Local != endpoint(near.LocalAddr()) || f.Limits.UserTimeout.Duration() != 700*time.Millisecond {
		t.Errorf("told %s of %+v with %+v", f.Errno, f.Socket, f.Limits)
	}
}

// A process that closes a connection in trouble leaves it to the kernel, which goes on trying: it is followed to its end
// though no file holds it any more, and told once as gone.
func TestOrphan(t *testing.T) {
	needRoot(t)
	for _, rung := range bpf.Rungs(bpf.FactRecovery) {
		if rung != bpf.RungCensus { // which sees files only
			t.Run(rung, func(t *testing.T) { testOrphan(t, rung) })
		}
	}
}

func testOrphan(t *testing.T, rung string) {
	r := newRoad(t)
	near, _ := r.connect(t, "tcp4", farIP, farIP)
	r.near.do(func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/tcp_orphan_retries", []byte("2"), 0); err != nil {
			t.Error(err)
		}
	})
	w := startWatch(t, bpf.Options{Rungs: map[bpf.Fact]string{bpf.FactRecovery: rung}})
	is := r.whoIs(near)
	w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
	r.hole(t)
	if _, err := near.Write([]byte("into the hole")); err != nil {
		t.Fatal(err)
	}
	w.wait(t, "a retransmission", soon, fact(event.TCPRetransmit, is, func(f *event.TCPFact) bool { return f.TCP.Retransmits > 0 }))
	near.Close()
	w.rewind()
	e := w.wait(t, "the orphan", soon, row(is, func(r *event.SocketRow) bool { return r.TCP.Orphan }))
	for _, r := range e.Body.(*event.Sockets).Rows {
		if is.matches(&r.Socket) && r.Socket.Owner.PID != int32(os.Getpid()) {
			t.Errorf("the process that closed it is told as %+v", r.Socket.Owner)
		}
	}
	w.wait(t, "its end in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketGone }))
	w.rewind()
	e = w.wait(t, "its end", soon, fact(event.TCPClosed, is, nil))
	if f := e.Body.(*event.TCPFact); f.How != "abort" || !f.TCP.Orphan {
		t.Errorf("ended by %s: %+v", f.How, f.TCP)
	}
	gone := 0
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketGone })(e) {
			gone++
		}
	}
	if gone != 1 {
		t.Errorf("told %d times as gone", gone)
	}
}

// A connection that is closed in peace, and one whose only fault is a lost segment, end without tcp.closed telling more
// than it knows. Connections are healthy if the kernel itself has sent nothing again, which it does where its own work has to wait
// for a processor.
func TestHealthySocketsAreSilent(t *testing.T) {
	needRoot(t)
	for range 5 {
		before, again := healthySockets(t)
		if again > 0 {
			t.Logf("the kernel sent %d segments again: once more", again)
			continue
		}
		if len(before) != 0 {
			t.Errorf("%d facts about healthy connections, such as %s %+v", len(before), before[0].Type, before[0].Body)
		}
		return
	}
	t.Error("this machine has no time for a healthy connection")
}

// healthySockets makes connections and ends them in peace. It returns what was told of them, and how many segments were sent again.
func healthySockets(t *testing.T) (before []event.Event, again int) {
	t.Helper()
	r := newRoad(t)
	w := startWatch(t, bpf.Options{})
	for range 20 {
		near, far := r.connect(t, "tcp4", farIP, farIP)
		if _, err := near.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 5)
		if _, err := far.Read(buf); err != nil {
			t.Fatal(err)
		}
		near.Close()
		if _, err := far.Read(buf); err == nil {
			t.Fatal("read on after the end")
		}
		far.Close()
	}
	// The probes' records come in order: one that is made last proves that nothing came before it.
	near, far := r.connect(t, "tcp4", farIP, farIP)
	is := r.whoIs(near)
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	far.Close()
	w.wait(t, "the reset", soon, func(e event.Event) bool {
		if f, ok := e.Body.(*event.TCPFact); ok && (f.Socket.Netns == r.near.inum || f.Socket.Netns == r.far.inum) {
			if is.matches(&f.Socket) {
				return true
			}
			before = append(before, e)
		}
		return false
	})
	w.stop()
	return before, r.near.resent(t) + r.far.resent(t)
}

// resent is how many segments the namespace's sockets have sent again.
func (s *space) resent(t *testing.T) (n int) {
	t.Helper()
	s.do(func() {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		var names []string
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			switch {
			case words[0] != "Tcp:":
			case names == nil:
				names = words
			default:
				i := slices.Index(names, "RetransSegs")
				if i < 0 {
					break
				}
				n, err = strconv.Atoi(words[i])
			}
		}
		if err != nil || names == nil {
			t.Errorf("segments that were sent again: %v in %q", err, text)
		}
	})
	return n
}

// Facts reach the Engine soon: the ring is drained every 10 ms, and at once after a silence. The goal of 25 ms is for a machine that
// is free; a reader that sleeps through is a second late, every time, and one that waits for a processor is not.
func TestLag(t *testing.T) {
	needRoot(t)
	const most = 200 * time.Millisecond
	p90 := time.Duration(0)
	for range 3 {
		if p90 = lagOfNine(t); p90 <= most {
			return
		}
	}
	t.Errorf("a tenth of the facts took more than %v, each of three times more than %v", p90, most)
}

// lagOfNine is the time within which nine of ten facts were told.
func lagOfNine(t *testing.T) time.Duration {
	t.Helper()
	r := newRoad(t)
	stay, _ := r.connect(t, "tcp4", farIP, farIP) // keeps the namespace known
	w := startWatch(t, bpf.Options{})
	w.wait(t, "the namespace in the census", soon, row(r.whoIs(stay), func(*event.SocketRow) bool { return true }))
	var lag []time.Duration
	for range 60 {
		near, far := r.connect(t, "tcp4", farIP, farIP)
		is := r.whoIs(near)
		if err := far.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		far.Close()
		e := w.wait(t, "the reset", soon, fact(event.TCPReset, is, nil))
		lag = append(lag, w.lagOf(e))
	}
	slices.Sort(lag)
	t.Logf("%d facts: median %v, nine of ten in %v, most %v", len(lag), lag[len(lag)/2], lag[len(lag)*9/10], lag[len(lag)-1])
	w.stop()
	return lag[len(lag)*9/10]
}

// What finds no room is counted by the probes and told as lost: nothing disappears in silence.
func TestLost(t *testing.T) {
	needRoot(t)
	r := newRoad(t)
	probes, _ := mustLoad(t, bpf.Options{NoNAT: true, EvidenceBytes: uint32(os.Getpagesize())})
	defer probes.Close()
	for range 40 { // nobody reads, and a page has room for fewer than 40 records
		_, far := r.connect(t, "tcp4", farIP, farIP)
		if err := far.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		far.Close()
	}
	_, dropped, err := probes.Counts(probes.Evidence())
	if err != nil || dropped == 0 {
		t.Fatalf("%d records were dropped (%v)", dropped, err)
	}
	w := &watch{kernel: New(probes, Options{}), more: make(chan struct{}, 1)}
	w.start(t, w.kernel.Run)
	e := w.wait(t, "the loss", soon, func(e event.Event) bool { return e.Type == event.StreamLost })
	lost := e.Body.(*event.Lost)
	if lost.Stage != "ring.evidence" || lost.Count < dropped || lost.Since.After(e.Time) {
		t.Errorf("told %+v of %d", lost, dropped)
	}
	w.stop()
	sent, dropped, err := probes.Counts(probes.Evidence())
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	facts := uint64(0)
	for _, e := range w.events {
		// Resets for nobody's segments come by the other ring, from the whole machine.
		if f, ok := e.Body.(*event.TCPFact); ok && (f.Reset == nil || f.Reset.By != "nobody's") {
			facts++
		}
	}
	if facts > sent || facts == 0 {
		t.Errorf("%d facts were read of %d sent and %d dropped", facts, sent, dropped)
	}
}
