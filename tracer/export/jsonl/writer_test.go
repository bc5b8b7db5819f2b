package jsonl

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

func examples(t testing.TB) []event.Event {
	t.Helper()
	data, err := os.ReadFile("../../event/testdata/examples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var events []event.Event
	for line := range bytes.Lines(data) {
		e, err := event.Decode(line)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func decodeAll(t testing.TB, r io.Reader) []event.Event {
	t.Helper()
	var events []event.Event
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, event.MaxLine)
	for lines.Scan() {
		e, err := event.Decode(lines.Bytes())
		if err != nil {
			t.Fatalf("%v\nline %s", err, lines.Bytes())
		}
		events = append(events, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

func TestReadingBackGivesEqualEvents(t *testing.T) {
	want := examples(t)
	var out bytes.Buffer
	w := New(&out, Options{})
	if err := w.Write(want[:3]); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(want[3:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := decodeAll(t, &out)
	for i := range want {
		want[i].Seq = uint64(i + 1)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatal("what was read back differs from what was written")
	}
}

func TestFilteredStreamSaysSo(t *testing.T) {
	all := examples(t)
	var out bytes.Buffer
	w := New(&out, Options{Keep: func(e *event.Event) bool { return e.Type == event.TCPStall }})
	if err := errors.Join(w.Write(all), w.Close()); err != nil {
		t.Fatal(err)
	}
	got := decodeAll(t, &out)
	var types []string
	for i, e := range got {
		types = append(types, e.Type.String())
		if e.Seq != uint64(i+1) {
			t.Errorf("line %d has seq %d", i+1, e.Seq)
		}
	}
	if want := "stream.started stream.lost tcp.stall"; strings.Join(types, " ") != want {
		t.Fatalf("got %s, want %s", types, want)
	}
	if got[0].Body.(*event.Started).Complete {
		t.Error("a filtered stream says that it is complete")
	}
	if !all[0].Body.(*event.Started).Complete {
		t.Error("the shared event was changed")
	}
}

func TestTooLongLineIsReplaced(t *testing.T) {
	at := time.Date(2026, 11, 23, 11, 27, 4, 0, time.UTC)
	long := event.Event{Type: event.PathSockets, Time: at, ID: event.ID{Origin: "s-1", N: 4}, Source: "s",
		Body: &event.Sockets{Rows: make([]event.SocketRow, 1000)}}
	after := event.Event{Type: event.StreamSynced, Time: at, Source: "s", Body: &event.Synced{Fact: "sockets"}}
	var out bytes.Buffer
	w := New(&out, Options{})
	if err := errors.Join(w.Write([]event.Event{long, after}), w.Close()); err != nil {
		t.Fatal(err)
	}
	got := decodeAll(t, &out)
	want := []event.Event{
		{Type: event.StreamLost, Time: at, ID: long.ID, Seq: 1, Source: "s", Body: &event.Lost{Stage: "line.path.sockets", Count: 1, Since: at}},
		{Type: event.StreamSynced, Time: at, Seq: 2, Source: "s", Body: &event.Synced{Fact: "sockets"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v", got)
	}
}

// calls records each write on its own.
type calls struct {
	mu   sync.Mutex
	all  []string
	news chan struct{}
	err  error
}

func (c *calls) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, string(b))
	select {
	case c.news <- struct{}{}:
	default:
	}
	return len(b), c.err
}

func TestLinesDoNotWaitForEver(t *testing.T) {
	out := &calls{news: make(chan struct{}, 100)}
	w := New(out, Options{Delay: 20 * time.Millisecond})
	defer w.Close()
	one := examples(t)[1:2]
	for range 3 {
		if err := w.Write(one); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the first at once, the others together without another Write
		select {
		case <-out.news:
		case <-time.After(30 * time.Second):
			t.Fatal("lines were not written")
		}
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if n := strings.Count(strings.Join(out.all, ""), "\n"); n != 3 {
		t.Fatalf("%d lines were written, want 3", n)
	}
	for _, call := range out.all {
		if !strings.HasSuffix(call, "}\n") {
			t.Errorf("a write ends inside a line: %q", call)
		}
	}
}

func TestManyLinesAreWrittenInWholeLines(t *testing.T) {
	out := &calls{}
	w := New(out, Options{Delay: time.Hour})
	batch := examples(t)
	for range 50 {
		if err := w.Write(batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if len(out.all) > 30 {
		t.Errorf("%d writes for %d lines", len(out.all), w.Lines())
	}
	for _, call := range out.all {
		if !strings.HasSuffix(call, "}\n") || len(call) > flushAt+event.MaxLine {
			t.Errorf("a write of %d bytes ends in %q", len(call), call[len(call)-1])
		}
	}
	if got := decodeAll(t, strings.NewReader(strings.Join(out.all, ""))); len(got) != 50*len(batch) {
		t.Errorf("%d lines, want %d", len(got), 50*len(batch))
	}
}

func TestClosedPipe(t *testing.T) {
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r.Close()
	w := New(out, Options{})
	err = w.Write(examples(t))
	if !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v, want ErrClosed", err)
	}
	if err := w.Write(examples(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("the error is not final: %v", err)
	}
	if err := w.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("Close says %v", err)
	}
}

func TestFullDiskIsAnError(t *testing.T) {
	full := errors.New("no space left on device")
	w := New(&calls{err: full}, Options{})
	if err := w.Write(examples(t)); !errors.Is(err, full) || errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestCloseDoesNotHangOnAStoppedReader(t *testing.T) {
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w := New(out, Options{Grace: 50 * time.Millisecond})
	written := make(chan struct{})
	go func() {
		defer close(written)
		for w.Write(examples(t)) == nil {
		}
	}()
	defer func() { r.Close(); out.Close(); <-written }()
	// A stopped reader is one that never reads: the pipe fills up and the writer blocks in write(2).
	full := time.Now().Add(time.Minute)
	for {
		if err := w.Close(); errors.Is(err, ErrStuck) {
			return
		}
		if time.Now().After(full) {
			t.Fatal("Close never met the full pipe")
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	batch := make([]event.Event, 0, 256)
	for _, e := range examples(b) {
		if e.Type == event.TCPRetransmit {
			for len(batch) < cap(batch) {
				batch = append(batch, e)
			}
		}
	}
	w := New(io.Discard, Options{})
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Write(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(w.Lines()), "ns/event")
}
