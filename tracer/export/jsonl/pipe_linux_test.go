package jsonl

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// longLine is an event of about n bytes.
func longLine(n int) event.Event {
	e := event.Event{Type: event.PathTraffic, Time: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), Source: "s"}
	row := event.TrafficRow{Local: event.Endpoint{IP: netip.IPv6Loopback()}, Peer: event.Endpoint{IP: netip.IPv6Loopback()}}
	body := &event.Traffic{}
	for len(event.AppendJSON(nil, &event.Event{Type: e.Type, Body: body}))+200 < n {
		body.Rows = append(body.Rows, row)
	}
	e.Body = body
	return e
}

// standing is how many bytes stand in a pipe right now.
func standing(t *testing.T, r *os.File) (n int) {
	t.Helper()
	raw, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// inPipe is what stands in a pipe right now.
func inPipe(t *testing.T, r *os.File) []byte {
	t.Helper()
	b := make([]byte, standing(t, r))
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStoppedReaderFindsWholeLines stops reading until the writer is stuck, gives up, and looks at what is in the pipe:
// what a reader finds that goes on after midhop has ended.
func TestStoppedReaderFindsWholeLines(t *testing.T) {
	for name, batch := range map[string][]event.Event{
		"short lines":      examples(t),
		"long lines":       {longLine(20_000)},
		"longest":          {longLine(event.MaxLine)},
		"short and long":   append(examples(t), longLine(9_000)),
		"longer by and by": {longLine(5_000), longLine(30_000), longLine(60_000)},
	} {
		t.Run(name, func(t *testing.T) {
			r, out, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			w := New(out, Options{Grace: 20 * time.Millisecond})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for w.Write(batch) == nil {
				}
			}()
			defer func() { r.Close(); <-ended; out.Close() }()
			// Who has written nothing yet is not stuck, but may have no processor.
			deadline := time.Now().Add(time.Minute)
			for standing(t, r) == 0 || !errors.Is(w.Close(), ErrStuck) {
				if time.Now().After(deadline) {
					t.Fatal("the writer was never stuck")
				}
				time.Sleep(time.Millisecond) // a pipe tells its reader that there is something, not that it is full
			}
			found := inPipe(t, r)
			if len(found) == 0 || found[len(found)-1] != '\n' {
				t.Fatalf("%d bytes in the pipe, which end inside a line", len(found))
			}
			decodeAll(t, bytes.NewReader(found))
		})
	}
}

// TestPipeCarriesEverything has a reader that reads in odd pieces.
func TestPipeCarriesEverything(t *testing.T) {
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	batch := append(examples(t), longLine(9_000), longLine(event.MaxLine-500))
	failed := make(chan error, 1)
	go func() {
		w := New(out, Options{})
		var err error
		for range 20 {
			err = errors.Join(err, w.Write(batch))
		}
		failed <- errors.Join(err, w.Close(), out.Close())
	}()
	got := decodeAll(t, r)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if len(got) != 20*len(batch) {
		t.Fatalf("%d lines, want %d", len(got), 20*len(batch))
	}
	for i, e := range got {
		if e.Seq != uint64(i+1) || e.Type != batch[i%len(batch)].Type {
			t.Fatalf("line %d is %s with seq %d", i+1, e.Type, e.Seq)
		}
	}
}

// TestReaderThatGoesWhileALongLineWaits must end with ErrClosed.
func TestReaderThatGoesWhileALongLineWaits(t *testing.T) {
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := New(out, Options{})
	if err := w.Write(examples(t)[:1]); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		err := w.Write([]event.Event{longLine(20_000)})
		ended <- errors.Join(err, w.Close())
	}()
	select {
	case err := <-ended:
		t.Fatalf("the line did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	r.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the writer waits for a reader that has gone")
	}
}
