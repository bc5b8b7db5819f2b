package tracer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sourceFunc func(ctx context.Context, emit func([]event.Event)) error

func (f sourceFunc) Run(ctx context.Context, emit func([]event.Event)) error { return f(ctx, emit) }

type sinkFunc func([]event.Event) error

func (f sinkFunc) Write(batch []event.Event) error { return f(batch) }

// collector is a sink that keeps what it gets.
type collector struct {
	mu     sync.Mutex
	events []event.Event
}

func (c *collector) Write(batch []event.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, batch...)
	return nil
}

func (c *collector) all() []event.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]event.Event(nil), c.events...)
}

var t0 = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

func beat(at time.Duration) event.Event {
	return event.Event{Type: event.StreamHeartbeat, Time: t0.Add(at), Body: &event.Heartbeat{}}
}

// TestRunEndsWithItsSources: a replay ends by itself, with every fact folded and written, numbered from 1.
func TestRunEndsWithItsSources(t *testing.T) {
	e := New(Options{Source: "agent/x", Boot: "b1"})
	var got collector
	e.AddSink("test", &got, Policy{})
	e.AddSource("two", sourceFunc(func(_ context.Context, emit func([]event.Event)) error {
		emit([]event.Event{beat(0), beat(time.Second)})
		return nil
	}))
	if err := e.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := got.all()
	if len(all) != 2 {
		t.Fatalf("got %d events, want 2", len(all))
	}
	for i, ev := range all {
		want := event.ID{Origin: "agent/x-b1", N: uint64(i + 1)}
		if ev.ID != want || ev.Source != "agent/x" {
			t.Errorf("event %d: id %+v source %q, want %+v of agent/x", i, ev.ID, ev.Source, want)
		}
	}
	if s := e.Snapshot(); len(s.Agents) != 1 || !s.Clock.Equal(t0.Add(time.Second)) {
		t.Errorf("snapshot after the end: clock %v, %d agents", s.Clock, len(s.Agents))
	}
	if err := e.Do(t.Context(), func(*model.Model) {}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Do after the end: %v", err)
	}
}

// TestNumbersAreKept: what has a number keeps it, and findings or unknown lines in the input are left out.
func TestNumbersAreKept(t *testing.T) {
	e := New(Options{})
	var got collector
	e.AddSink("test", &got, Policy{})
	numbered := beat(0)
	numbered.Source, numbered.ID = "agent/far", event.ID{Origin: "agent/far-q", N: 77}
	e.AddSource("mixed", sourceFunc(func(_ context.Context, emit func([]event.Event)) error {
		emit([]event.Event{
			numbered,
			{Type: event.IncidentOpened, Time: t0, Body: &event.IncidentFinding{}},
			{Type: event.LabFault, Time: t0, Body: &event.Fault{}},
			{Time: t0},
		})
		return nil
	}))
	if err := e.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := got.all(); len(all) != 1 || all[0].ID != numbered.ID || all[0].Source != "agent/far" {
		t.Errorf("got %+v", all)
	}
}

// TestSourceError: what ends a source early is told, with its name; the others' facts are kept.
func TestSourceError(t *testing.T) {
	broken := errors.New("broken")
	e := New(Options{})
	var got collector
	e.AddSink("test", &got, Policy{})
	e.AddSource("bad", sourceFunc(func(context.Context, func([]event.Event)) error { return broken }))
	e.AddSource("good", sourceFunc(func(_ context.Context, emit func([]event.Event)) error {
		emit([]event.Event{beat(0)})
		return nil
	}))
	err := e.Run(t.Context())
	if !errors.Is(err, broken) || err.Error() != "source bad: broken" {
		t.Errorf("Run returned %v", err)
	}
	if len(got.all()) != 1 {
		t.Error("the other source's fact is lost")
	}
}

// TestSinkError: a sink that fails ends the run unless it is optional.
func TestSinkError(t *testing.T) {
	full := errors.New("disk full")
	for _, optional := range []bool{false, true} {
		t.Run(fmt.Sprintf("optional=%v", optional), func(t *testing.T) {
			e := New(Options{Live: true})
			failed := make(chan struct{})
			var once sync.Once
			e.AddSink("file", sinkFunc(func([]event.Event) error {
				once.Do(func() { close(failed) })
				return full
			}), Policy{Optional: optional})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			e.AddSource("s", sourceFunc(func(ctx context.Context, emit func([]event.Event)) error {
				emit([]event.Event{{Type: event.StreamHeartbeat, Time: time.Now(), Body: &event.Heartbeat{}}})
				<-failed
				if optional {
					cancel()
				}
				<-ctx.Done()
				return nil
			}))
			err := e.Run(ctx)
			if optional && err != nil {
				t.Errorf("an optional sink ended the run: %v", err)
			}
			if !optional && !errors.Is(err, full) {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

// TestSlowSink: a sink that stands still loses batches, which are counted and told at most once a second, while another
// sink gets everything and the fold goes on.
func TestSlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{Live: true})
		var fast collector
		stuck := make(chan struct{})
		e.AddSink("fast", &fast, Policy{Queue: 100000})
		e.AddSink("slow", sinkFunc(func([]event.Event) error { <-stuck; return nil }), Policy{Queue: 2})
		ctx, cancel := context.WithCancel(t.Context())
		const sent = 1000
		e.AddSource("s", sourceFunc(func(ctx context.Context, emit func([]event.Event)) error {
			for range sent {
				emit([]event.Event{{Type: event.StreamSynced, Time: time.Now(), Source: "agent/x", Body: &event.Synced{Fact: "nat"}}})
				time.Sleep(5 * time.Millisecond)
			}
			time.Sleep(2 * time.Second)
			close(stuck)
			time.Sleep(2 * time.Second)
			cancel()
			return nil
		}))
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		facts, lost, lines := 0, uint64(0), 0
		var last time.Time
		for _, ev := range fast.all() {
			switch b := ev.Body.(type) {
			case *event.Synced:
				facts++
			case *event.Lost:
				if b.Stage != "sink.slow" {
					t.Errorf("stage %q", b.Stage)
				}
				if lines > 0 && ev.Time.Sub(last) < time.Second {
					t.Errorf("two losses told within %v", ev.Time.Sub(last))
				}
				last, lost, lines = ev.Time, lost+b.Count, lines+1
			}
		}
		if facts != sent {
			t.Errorf("the fast sink got %d facts of %d", facts, sent)
		}
		if lost < sent-10 || lines < 5 {
			t.Errorf("%d losses told in %d lines, about %d were lost", lost, lines, sent)
		}
	})
}

// TestPatientPolicy: with a deadline the Engine waits for a slow sink, which then loses nothing.
func TestPatientPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{})
		got := 0
		e.AddSink("recording", sinkFunc(func(b []event.Event) error {
			time.Sleep(100 * time.Millisecond)
			got += len(b)
			return nil
		}), Policy{Queue: 1, Wait: time.Second})
		e.AddSource("s", sourceFunc(func(_ context.Context, emit func([]event.Event)) error {
			for i := range 50 {
				emit([]event.Event{beat(time.Duration(i) * time.Millisecond)})
			}
			return nil
		}))
		if err := e.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got != 50 {
			t.Errorf("the recording has %d of 50", got)
		}
	})
}

// TestLateSource: a source that is added while the Engine runs is folded too, as agents of rebooted nodes are.
func TestLateSource(t *testing.T) {
	e := New(Options{})
	var got collector
	e.AddSink("test", &got, Policy{})
	e.AddSource("first", sourceFunc(func(_ context.Context, emit func([]event.Event)) error {
		emit([]event.Event{beat(0)})
		e.AddSource("second", sourceFunc(func(_ context.Context, emit func([]event.Event)) error {
			emit([]event.Event{beat(time.Second)})
			return nil
		}))
		return nil
	}))
	if err := e.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(got.all()); n != 2 {
		t.Errorf("got %d events, want 2", n)
	}
}

// TestLastWords: what sources emit while they stop is folded.
func TestLastWords(t *testing.T) {
	e := New(Options{Live: true})
	var got collector
	e.AddSink("test", &got, Policy{})
	ctx, cancel := context.WithCancel(t.Context())
	e.AddSource("s", sourceFunc(func(ctx context.Context, emit func([]event.Event)) error {
		cancel()
		<-ctx.Done()
		emit([]event.Event{beat(0)})
		return ctx.Err()
	}))
	if err := e.Run(ctx); err != nil {
		t.Fatalf("the end of the context is no error: %v", err)
	}
	if n := len(got.all()); n != 1 {
		t.Errorf("got %d events, want the last word", n)
	}
}

// TestStubbornSource: a source that does not stop is left behind after a while.
func TestStubbornSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{Live: true})
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		e.AddSource("stubborn", sourceFunc(func(context.Context, func([]event.Event)) error {
			cancel()
			<-release
			return nil
		}))
		began := time.Now()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 2*stopGrace {
			t.Errorf("Run waited for %v", d)
		}
		close(release)
	})
}

// TestTimerJudges: when nothing comes any more, the timer finds that an agent has fallen silent, and writes the clock line
// that a replay needs.
func TestTimerJudges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{Live: true, Started: &event.Started{Complete: true}})
		var got collector
		e.AddSink("test", &got, Policy{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		e.AddSource("s", sourceFunc(func(ctx context.Context, emit func([]event.Event)) error {
			emit([]event.Event{{Type: event.StreamHeartbeat, Time: time.Now(), Source: "agent/x", Body: &event.Heartbeat{}}})
			<-ctx.Done()
			return nil
		}))
		began := time.Now()
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		var types []event.Type
		for _, ev := range got.all() {
			types = append(types, ev.Type)
			if ev.Type == event.StreamGap && (ev.Time.Sub(began) < 2500*time.Millisecond || ev.Time.Sub(began) > 2550*time.Millisecond) {
				t.Errorf("silence was told after %v", ev.Time.Sub(began))
			}
		}
		want := []event.Type{event.StreamStarted, event.StreamHeartbeat, event.StreamHeartbeat, event.StreamGap}
		if fmt.Sprint(types) != fmt.Sprint(want) {
			t.Errorf("written: %v, want %v", types, want)
		}
	})
}

// TestSnapshotBefore: readers may ask at any time.
func TestSnapshotBefore(t *testing.T) {
	e := New(Options{Model: model.Options{Node: "node-b"}})
	if s := e.Snapshot(); s == nil || s.Node != "node-b" || s.Complete {
		t.Errorf("before the run: %+v", s)
	}
	if _, err := e.Page(t.Context(), model.PageQuery{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Page before the run: %v", err)
	}
}

// TestReadersWhileFolding asks from many goroutines while facts pour in; run with -race it shows that the state has one
// owner.
func TestReadersWhileFolding(t *testing.T) {
	world, until := buildWorld(t, readArchive(t, "testdata/scenario/node-gone.txtar").section("world"), 1)
	facts := world.run(until)
	e := New(Options{})
	e.AddSink("drain", sinkFunc(func([]event.Event) error { return nil }), Policy{})
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			last := uint64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				s := e.Snapshot()
				if s.Version < last {
					t.Error("versions go backwards")
				}
				last = s.Version
				e.Page(context.Background(), model.PageQuery{Limit: 10})
			}
		})
	}
	e.AddSource("s", sourceFunc(func(_ context.Context, emit func([]event.Event)) error {
		for len(facts) > 0 {
			n := min(len(facts), 7)
			emit(facts[:n:n])
			facts = facts[n:]
		}
		return nil
	}))
	if err := e.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stop)
	readers.Wait()
	s := e.Snapshot()
	if s.Totals.Sockets != 200 || s.Totals.Crossing != 133 {
		t.Errorf("totals %+v, want 200 sockets, 133 of them across another node", s.Totals)
	}
	if len(s.Incidents) != 1 || s.Vias[0].Via != "node-a" || s.Vias[0].Incident == "" || s.Vias[0].Doomed() != 66 {
		t.Errorf("incidents %d, first via %+v", len(s.Incidents), s.Vias[0])
	}
}
