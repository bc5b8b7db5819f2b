package main

import (
	"bytes"
	"context"
	wire "encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/source/kernel"
)

// The storm of the benchmarks: so many sockets behind so many nodes, all retransmitting.
const (
	stormSockets = 20_000
	stormNodes   = 100
	stormBatch   = 256     // records that a ring hands over at once, as bpf.Ring does
	stormRing    = 4 << 20 // bytes, as bpf.Options.EvidenceBytes if nobody asks for more
	stormLook    = 10 * time.Millisecond
	stormAhead   = 8192 // records under way: what a ring gathers in the 10 ms between two looks
)

// stormRecords are the bytes that the probes write, one retransmission after a timeout of each socket.
func stormRecords() [][]byte {
	out := make([][]byte, stormSockets)
	for i := range out {
		r := bpf.TCPRecord{Sock: bpf.Sock{
			Cookie: uint64(i + 1), BytesAcked: 81_234, BytesReceived: 4_321,
			Local:     netip.AddrFrom4([4]byte{10, 48, 2, 5}).As16(),
			Peer:      netip.AddrFrom4([4]byte{10, 146, 0, byte(1 + i%stormNodes)}).As16(),
			LocalPort: 8080, PeerPort: uint16(20_000 + i/stormNodes), Netns: 4026532281,
			SegsOut: 412, SegsIn: 400, TotalRetrans: 3, Unacked: 1448, SndWnd: 64256,
			ReceivedMS: 412, SentMS: 204, RetransMS: 204, TimerMS: 408, SRTTUS: 812, RTOMS: 408,
			RTOMinMS: 200, RTOMaxMS: 120_000, KeepaliveTimeMS: 15_000, KeepaliveIntvlMS: 15_000,
			Family: bpf.FamilyIPv4, State: bpf.StateEstablished, Flags: bpf.FlagKeepalive, Timer: bpf.TimerRetransmit,
			Retransmits: 1, Backoff: 1, KeepaliveProbes: 9, Retries2: 15, SynRetries: 6,
		}}
		size := int(unsafe.Sizeof(r))
		r.Header = bpf.Header{Kind: bpf.KindRetransmit, Len: uint16(size)}
		out[i] = bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&r)), size))
	}
	return out
}

// storm is a ring of records that are there already.
type storm struct {
	records [][]byte
	n       int           // how many to tell, after one of each socket
	rate    int           // a second; 0: as fast as they are taken
	ahead   int           // with no rate, how many records may be under way; 0: any number
	seen    *tally        // where they come out
	calm    func()        // awaits what was told so far
	began   func()        // called when every socket has been told once
	told    atomic.Uint64 // records so far
	over    atomic.Uint64 // records that found no room, where there is a rate
	late    time.Duration // the longest that a look was overdue
}

func (s *storm) Name() string { return "evidence" }

func (s *storm) Run(ctx context.Context, record func([]byte), flush func()) error {
	s.tell(ctx, len(s.records), record, flush)
	s.calm()
	s.began()
	if s.rate == 0 {
		s.tell(ctx, s.n, record, flush)
	} else {
		s.steadily(ctx, record, flush)
	}
	<-ctx.Done()
	return nil
}

// steadily tells at every look what is due, as the reader of a real ring finds it.
func (s *storm) steadily(ctx context.Context, record func([]byte), flush func()) {
	room := stormRing / (len(s.records[0]) + 8) // a record in a ring has a header of 8 bytes
	began, done := time.Now(), 0
	looked := began
	tick := time.NewTicker(stormLook)
	defer tick.Stop()
	for done < s.n && ctx.Err() == nil {
		<-tick.C
		now := time.Now()
		s.late = max(s.late, now.Sub(looked)-stormLook)
		looked = now
		due := min(int(now.Sub(began).Seconds()*float64(s.rate)), s.n) - done
		if over := due - room; over > 0 { // a real ring has no room for these
			s.over.Add(uint64(over))
			done, due = done+over, room
		}
		s.tell(ctx, due, record, flush)
		done += due
	}
}

func (s *storm) tell(ctx context.Context, n int, record func([]byte), flush func()) {
	var now uint64
	at := int(s.told.Load())
	for i := range n {
		if i%stormBatch == 0 {
			if i > 0 {
				flush()
			}
			for s.ahead > 0 && at+i-int(s.seen.facts.Load()) > s.ahead {
				select {
				case <-s.seen.room:
				case <-ctx.Done():
				}
				if ctx.Err() != nil {
					return
				}
			}
			now = ktime()
		}
		raw := s.records[(at+i)%len(s.records)]
		wire.NativeEndian.PutUint64(raw[8:], now)
		record(raw)
	}
	s.told.Add(uint64(n))
	flush()
}

func ktime() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}

// spent is the CPU time that this process has used so far.
func spent() (user, system time.Duration) {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}

// tally stands before a sink and counts what is written and what the stream says is lost.
type tally struct {
	over  func() uint64 // what never came
	to    tracer.Sink   // nil: nothing is written
	facts atomic.Uint64
	lost  atomic.Uint64
	more  chan struct{} // something came through
	room  chan struct{} // the same, for the storm
}

func newTally(to tracer.Sink) *tally {
	return &tally{to: to, over: func() uint64 { return 0 }, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func (t *tally) Write(batch []event.Event) error {
	if t.to != nil {
		if err := t.to.Write(batch); err != nil {
			return err
		}
	}
	n := uint64(0)
	for i := range batch {
		switch b := batch[i].Body.(type) {
		case *event.TCPFact:
			n++
		case *event.Lost:
			t.lost.Add(b.Count)
		}
	}
	t.facts.Add(n)
	for _, c := range []chan struct{}{t.more, t.room} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return nil
}

// await waits until so many facts are through, or lost.
func (t *tally) await(b *testing.B, n uint64) {
	deadline := time.After(2 * time.Minute)
	for t.facts.Load()+t.lost.Load()+t.over() < n {
		select {
		case <-t.more:
		case <-deadline:
			b.Errorf("%d of %d facts came through in 2 minutes", t.facts.Load(), n)
			return
		}
	}
}

// stormNodeFacts tells the nodes that the sockets cross, so that every event has names to be filled in.
func stormNodeFacts() told {
	var out told
	for i := range stormNodes {
		out = append(out, event.Event{Type: event.NodeChanged, Time: time.Now().UTC(), Source: "nodes", Body: &event.NodeFact{What: "added", Node: event.Node{
			Name: fmt.Sprintf("node-%d", i), Addresses: []event.Address{{IP: netip.AddrFrom4([4]byte{10, 146, 0, byte(1 + i)}), From: "status InternalIP"}},
		}}})
	}
	return out
}

// rings is a source over rings that are not the probes'.
type rings struct {
	source *kernel.Source
	ring   kernel.Ring
}

func (r rings) Run(ctx context.Context, emit func([]event.Event)) error {
	return r.source.Follow(ctx, []kernel.Ring{r.ring}, emit)
}

// weather is what one storm cost.
type weather struct {
	user, system, wall time.Duration
	lost               uint64        // as stream.lost tells
	over               uint64        // found no room in the ring
	late               time.Duration // see storm
}

// blow lets a storm through source, agent, Engine and out.
func blow(b *testing.B, n, rate int, out tracer.Sink) weather {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	seen := newTally(out)
	var w weather
	var began time.Time
	s := &storm{records: stormRecords(), n: n, rate: rate, seen: seen}
	seen.over = s.over.Load
	if rate == 0 {
		s.ahead = stormAhead
	}
	s.calm = func() { seen.await(b, stormSockets) }
	s.began = func() {
		runtime.GC()
		b.ResetTimer()
		began = time.Now()
		w.user, w.system = spent()
	}
	agent := &fleet.Agent{Node: "node-b", Started: event.Started{Host: event.Host{Node: "node-b"}}, Sources: []fleet.Source{rings{kernel.New(nil, kernel.Options{}), s}}}
	engine := tracer.New(tracer.Options{Live: true, Model: model.Options{Node: "node-b"}})
	engine.AddSink("stdout", seen, tracer.Policy{Wait: recordWait})
	engine.AddSource("nodes", stormNodeFacts())
	engine.AddSource("agent", agent)
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	seen.await(b, uint64(stormSockets+n))
	user, system := spent()
	w = weather{user: user - w.user, system: system - w.system, wall: time.Since(began), lost: seen.lost.Load(), over: s.over.Load(), late: s.late}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return w
}

func (w weather) report(b *testing.B, n int) {
	b.ReportMetric(float64(w.user.Nanoseconds())/float64(n), "user-ns/event")
	b.ReportMetric(float64(w.system.Nanoseconds())/float64(n), "sys-ns/event")
	b.ReportMetric(float64(n)/(w.user+w.system).Seconds(), "events/core-s")
	b.ReportMetric(float64(n)/w.wall.Seconds(), "events/s")
	b.ReportMetric(float64(w.lost), "lost")
}

// null is a Writer to /dev/null.
func null(b *testing.B) *jsonl.Writer {
	b.Helper()
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return jsonl.New(f, jsonl.Options{})
}

// pipe is a Writer to another process that reads and does nothing else.
func pipe(b *testing.B) *jsonl.Writer {
	b.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cat := exec.Command("cat")
	cat.Stdin = r
	if err := cat.Start(); err != nil {
		b.Fatal(err)
	}
	r.Close()
	b.Cleanup(func() { w.Close(); _ = cat.Wait() })
	return jsonl.New(w, jsonl.Options{})
}

// BenchmarkStream is what one exported event costs from the probes' bytes to the line, on one core; and the same with
// stages left out, so that the difference between two rows is the stage.
func BenchmarkStream(b *testing.B) {
	b.Run("decode", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		ctx, cancel := context.WithCancel(b.Context())
		seen := newTally(nil)
		var w weather
		s := &storm{records: stormRecords(), n: b.N, ahead: stormAhead, seen: seen, calm: func() {}}
		s.began = func() { b.ResetTimer(); w.user, w.system = spent() }
		began := time.Now()
		ended := make(chan error, 1)
		go func() {
			ended <- rings{kernel.New(nil, kernel.Options{}), s}.Run(ctx, func(batch []event.Event) { _ = seen.Write(batch) })
		}()
		seen.await(b, uint64(stormSockets+b.N))
		user, system := spent()
		weather{user: user - w.user, system: system - w.system, wall: time.Since(began)}.report(b, b.N)
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	})
	b.Run("decode-fold", func(b *testing.B) { oneCore(b, nil) })
	b.Run("whole-null", func(b *testing.B) { oneCore(b, null(b)) })
	b.Run("whole-pipe", func(b *testing.B) { oneCore(b, pipe(b)) })
}

// oneCore lets a storm through as fast as one core takes it.
func oneCore(b *testing.B, out tracer.Sink) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	blow(b, b.N, 0, out).report(b, b.N)
}

// BenchmarkSustained keeps 500,000 events a second up for 10 s and reports what was lost on the way.
func BenchmarkSustained(b *testing.B) {
	const rate, seconds = 500_000, 10
	for b.Loop() {
		w := blow(b, rate*seconds, rate, null(b))
		w.report(b, rate*seconds-int(w.over))
		b.ReportMetric(float64(w.over), "ring-lost")
		b.ReportMetric(float64(w.late.Milliseconds()), "late-ms")
		b.ReportMetric(float64(w.user+w.system)/float64(w.wall)*100, "%core")
	}
}
