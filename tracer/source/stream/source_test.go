package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/midhop/midhop/tracer/event"
)

const examplesFile = "../../event/testdata/examples.jsonl"

func examples(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(examplesFile)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// result is what one Run gave.
type result struct {
	facts, others []event.Event
	bad           []string
	stats         Stats
	err           error
}

func run(t testing.TB, r io.Reader, opts Options) result {
	t.Helper()
	var res result
	opts.Bad = func(e *LineError) { res.bad = append(res.bad, e.Error()) }
	opts.Others = func(e event.Event) { res.others = append(res.others, e) }
	s := New(r, opts)
	res.err = s.Run(context.Background(), func(batch []event.Event) {
		if len(batch) == 0 {
			t.Error("an empty batch")
		}
		res.facts = append(res.facts, batch...)
	})
	res.stats = s.Stats()
	return res
}

func TestFactsAndOthersAreTold(t *testing.T) {
	res := run(t, bytes.NewReader(examples(t)), Options{})
	if res.err != nil || res.bad != nil {
		t.Fatal(res.err, res.bad)
	}
	for _, e := range res.facts {
		if !e.Type.IsFact() {
			t.Errorf("%s was handed on as a fact", e.Type)
		}
	}
	for _, e := range res.others {
		if e.Type.IsFact() {
			t.Errorf("%s was not handed on", e.Type)
		}
	}
	if n := bytes.Count(examples(t), []byte("\n")); len(res.facts)+len(res.others) != n {
		t.Errorf("%d facts and %d others of %d lines", len(res.facts), len(res.others), n)
	}
	if want := (Stats{Facts: uint64(len(res.facts)), Others: uint64(len(res.others))}); res.stats != want {
		t.Errorf("got %+v, want %+v", res.stats, want)
	}
}

func TestHowItArrivesDoesNotMatter(t *testing.T) {
	data := append(examples(t), "{broken}\n\n"+strings.Repeat("x", 3*event.MaxLine)+"\n"...)
	data = append(data, examples(t)...)
	want := run(t, bytes.NewReader(data), Options{})
	if len(want.bad) != 2 {
		t.Fatal(want.bad)
	}
	for name, r := range map[string]io.Reader{
		"byte by byte":   iotest.OneByteReader(bytes.NewReader(data)),
		"error with EOF": iotest.DataErrReader(bytes.NewReader(data)),
		"halves":         iotest.HalfReader(bytes.NewReader(data)),
		"zstd":           bytes.NewReader(compress(t, data)),
		"CRLF":           bytes.NewReader(bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))),
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, r, Options{})
			if !reflect.DeepEqual(got.facts, want.facts) || !reflect.DeepEqual(got.bad, want.bad) || got.err != nil || got.stats != want.stats {
				t.Fatalf("got %d facts, %v, %v, %+v", len(got.facts), got.bad, got.err, got.stats)
			}
		})
	}
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc.EncodeAll(data, nil)
}

func TestBadLines(t *testing.T) {
	const good = `{"v":1,"type":"stream.synced","time":"2026-11-23T11:27:04Z","source":"s","fact":"nat"}` + "\n"
	const later = `{"v":1,"type":"stream.synced","time":"2026-11-23T11:27:09Z","source":"s","fact":"nat"}` + "\n"
	for _, test := range []struct {
		name, input string
		bad         []string
		facts       int // stream.lost among them
		err         error
	}{
		{"nothing", "", nil, 0, nil},
		{"empty lines", "\n\n \r\n", nil, 0, nil},
		{"no newline at the end", strings.TrimSuffix(good, "\n"), nil, 1, nil},
		{"cut off", good + good[:40], []string{"line 2: the input ends inside the line"}, 2, nil},
		{"in the middle", good + "garbage\n" + good, []string{"line 2: want '{', have 'g' (byte 0)"}, 3, nil},
		{"the second within a second is told at the end", good + "x\n" + good + "x\n" + good,
			[]string{"line 2: want '{', have 'x' (byte 0)", "line 4: want '{', have 'x' (byte 0)"}, 5, nil},
		{"another version", good + `{"v":2}` + "\n", []string{"line 2: v: unknown version 2, this midhop reads 1"}, 2, nil},
		{"nothing but another version", `{"v":2}` + "\n" + `{"v":3}`,
			[]string{"line 1: v: unknown version 2, this midhop reads 1", "line 2: v: unknown version 3, this midhop reads 1"}, 0, ErrNothing},
		{"not ours at all", "hello\nworld\n", []string{"line 1: want '{', have 'h' (byte 0)", "line 2: want '{', have 'w' (byte 0)"}, 0, ErrNothing},
		{"too long", good + strings.Repeat(" ", event.MaxLine) + "\n" + later,
			[]string{"line 2: longer than 65536 bytes"}, 3, nil},
		{"too long and cut off", good + strings.Repeat(" ", event.MaxLine), []string{"line 2: longer than 65536 bytes"}, 2, nil},
		{"a type of tomorrow", `{"v":1,"type":"quic.stall","time":"2026-11-23T11:27:04Z","source":"s"}`, nil, 0, nil},
		{"longest allowed", good + strings.TrimSuffix(good, "\n") + strings.Repeat(" ", event.MaxLine-len(good)) + "\n", nil, 2, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := run(t, strings.NewReader(test.input), Options{})
			if !reflect.DeepEqual(res.bad, test.bad) {
				t.Errorf("got bad lines %q, want %q", res.bad, test.bad)
			}
			if len(res.facts) != test.facts {
				t.Errorf("got %d facts, want %d", len(res.facts), test.facts)
			}
			if !errors.Is(res.err, test.err) {
				t.Errorf("got error %v, want %v", res.err, test.err)
			}
			lost := uint64(0)
			for _, e := range res.facts {
				if body, ok := e.Body.(*event.Lost); ok {
					lost += body.Count
				}
			}
			if test.err == nil && lost != uint64(len(test.bad)) {
				t.Errorf("%d lines were told as lost, want %d", lost, len(test.bad))
			}
		})
	}
}

// TestLossAfterAStep: when the clock of who writes was set back, what is lost after that is told then, and of that time.
func TestLossAfterAStep(t *testing.T) {
	const before = `{"v":1,"type":"stream.synced","time":"2026-11-23T11:27:04Z","source":"s","fact":"nat"}` + "\n"
	const after = `{"v":1,"type":"stream.synced","time":"2026-11-23T10:27:05Z","source":"s","fact":"nat"}` + "\n"
	res := run(t, strings.NewReader(before+"x\n"+before+after+"x\n"+after+after), Options{})
	var told []string
	for _, e := range res.facts {
		if e.Type == event.StreamLost {
			told = append(told, e.Time.Format(time.TimeOnly))
		}
	}
	if want := []string{"11:27:04", "10:27:05"}; !reflect.DeepEqual(told, want) {
		t.Errorf("told at %v, want %v", told, want)
	}
	if last := res.facts[len(res.facts)-1]; last.Type == event.StreamLost {
		t.Error("told at the end only")
	}
}

func TestCutOffZstd(t *testing.T) {
	var data []byte
	for range 200 {
		data = append(data, examples(t)...)
	}
	whole := compress(t, data)
	res := run(t, bytes.NewReader(whole[:len(whole)-10]), Options{})
	if res.err != nil {
		t.Fatal(res.err)
	}
	if len(res.facts) == 0 || len(res.bad) == 0 || !strings.Contains(res.bad[len(res.bad)-1], ErrTruncated.Error()) {
		t.Errorf("got %d facts and %v", len(res.facts), res.bad)
	}
}

func TestReadErrorIsAnError(t *testing.T) {
	broken := errors.New("input/output error")
	data := examples(t)
	res := run(t, io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), Options{})
	after := fmt.Sprintf("after line %d:", bytes.Count(data, []byte{'\n'}))
	if !errors.Is(res.err, broken) || !strings.Contains(res.err.Error(), after) || len(res.facts) == 0 {
		t.Fatalf("got %v and %d facts", res.err, len(res.facts))
	}
}

// TestLinesArriveAtOnce reads a pipe that stays open: a batch must not wait for the next line.
func TestLinesArriveAtOnce(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	batches := make(chan []event.Event, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- New(r, Options{}).Run(ctx, func(b []event.Event) { batches <- b })
	}()
	for i := range 3 {
		line := fmt.Sprintf(`{"v":1,"type":"stream.heartbeat","time":"2026-11-23T11:27:0%dZ","source":"s"}`+"\n", i)
		if _, err := io.WriteString(w, line); err != nil {
			t.Fatal(err)
		}
		select {
		case b := <-batches:
			if len(b) != 1 || b[0].Time.Second() != i {
				t.Fatalf("got %+v", b)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("a line does not arrive while the pipe is open")
		}
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not end with its context")
	}
}

func TestTo(t *testing.T) {
	to := time.Date(2026, 11, 23, 11, 26, 31, 5e8, time.UTC)
	res := run(t, bytes.NewReader(examples(t)), Options{To: to})
	if res.err != nil || len(res.facts) != 4 {
		t.Fatalf("got %d facts, %v", len(res.facts), res.err)
	}
	for _, e := range res.facts {
		if e.Time.After(to) {
			t.Errorf("a fact of %s", e.Time)
		}
	}
}

func FuzzSource(f *testing.F) {
	f.Add(examples(f), uint16(100))
	f.Add([]byte("{}\n\xff\n{\"v\":1"), uint16(1))
	f.Add(append(zstdMagic, "rest"...), uint16(3))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		at := min(int(cut), len(data))
		whole := run(t, bytes.NewReader(data), Options{})
		parts := run(t, io.MultiReader(bytes.NewReader(data[:at]), bytes.NewReader(data[at:])), Options{})
		if whole.stats != parts.stats || !reflect.DeepEqual(whole.facts, parts.facts) || !reflect.DeepEqual(whole.bad, parts.bad) {
			t.Fatalf("whole %+v %v, in parts %+v %v", whole.stats, whole.bad, parts.stats, parts.bad)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	data := bytes.Repeat(examples(b), 100)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := New(bytes.NewReader(data), Options{}).Run(context.Background(), func([]event.Event) {}); err != nil {
			b.Fatal(err)
		}
	}
}
