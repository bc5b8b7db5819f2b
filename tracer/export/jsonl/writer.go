package jsonl

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// ErrClosed is wrapped by the error of a Writer whose reader has gone: `midhop watch | head -1` ends this way, quietly.
var ErrClosed = errors.New("the reader has closed the pipe")

// ErrStuck is wrapped by the error of Close where the reader does not read any more.
var ErrStuck = errors.New("the reader does not read")

// Options says what a Writer writes. The zero value writes every event.
type Options struct {
	// Keep chooses events; nil keeps all. stream.started and stream.lost are always written, the former with
	// complete:false where Keep is set, because findings cannot be recomputed from a part.
	Keep func(*event.Event) bool
	// Delay is how long a line may wait for company when lines come fast, 50 ms if zero. The first line after a
	// quiet Delay is written at once.
	Delay time.Duration
	// Grace is how long Close waits for a reader that does not read, 2 s if zero.
	Grace time.Duration
}

// flushAt is how many buffered bytes are written without waiting: a pipe's default capacity (pipe(7)).
const flushAt = 64 << 10

// Writer writes batches of events. Lines are whole: what reaches the underlying writer in one call ends with a newline.
// It is safe for concurrent use.
type Writer struct {
	to   io.Writer
	opts Options

	// lock guards what follows. It is a channel so that Close can give up on a write that blocks.
	lock    chan struct{}
	buf     []byte
	line    event.Event // the one being written
	seq     uint64
	flushed time.Time // when the buffer was last written
	timer   *time.Timer
	armed   bool
	err     error // the first; nothing is written after it
}

// New returns a Writer to w. Lines are numbered from 1.
func New(w io.Writer, opts Options) *Writer {
	if opts.Delay <= 0 {
		opts.Delay = 50 * time.Millisecond
	}
	if opts.Grace <= 0 {
		opts.Grace = 2 * time.Second
	}
	wr := &Writer{to: wholeLines(w), opts: opts, lock: make(chan struct{}, 1)}
	wr.timer = time.AfterFunc(time.Hour, wr.ring)
	wr.timer.Stop()
	return wr
}

// Write encodes a batch. It changes neither the events nor their bodies. An error is final, and may be that of an earlier
// batch; see [ErrClosed].
func (w *Writer) Write(batch []event.Event) error {
	w.lock <- struct{}{}
	defer func() { <-w.lock }()
	for i := range batch {
		if w.err != nil {
			return w.err
		}
		w.append(&batch[i])
		if len(w.buf) >= flushAt {
			w.flush()
		}
	}
	if len(w.buf) == 0 || w.err != nil {
		return w.err
	}
	if wait := w.opts.Delay - time.Since(w.flushed); wait <= 0 {
		w.flush()
	} else if !w.armed {
		w.armed = true
		w.timer.Reset(wait)
	}
	return w.err
}

// append encodes a copy of shared, which other sinks read too.
func (w *Writer) append(shared *event.Event) {
	e := &w.line
	*e = *shared
	if w.opts.Keep != nil {
		switch e.Type {
		case event.StreamStarted:
			if started, ok := e.Body.(*event.Started); ok && started.Complete {
				part := *started
				part.Complete = false
				e.Body = &part
			}
		case event.StreamLost:
		default:
			if !w.opts.Keep(e) {
				return
			}
		}
	}
	w.seq++
	e.Seq = w.seq
	start := len(w.buf)
	w.buf = event.AppendJSON(w.buf, e)
	if len(w.buf)-start >= event.MaxLine {
		e.Body = &event.Lost{Stage: "line." + e.Type.String(), Count: 1, Since: e.Time}
		e.Type, e.Flow = event.StreamLost, ""
		w.buf = event.AppendJSON(w.buf[:start], e)
	}
	w.buf = append(w.buf, '\n')
}

func (w *Writer) flush() {
	if w.err != nil || len(w.buf) == 0 {
		return
	}
	n, err := w.to.Write(w.buf)
	switch {
	case err != nil && isClosed(err):
		w.err = fmt.Errorf("%w: %w", ErrClosed, err)
	case err != nil:
		w.err = fmt.Errorf("writing lines: %w", err)
	case n != len(w.buf):
		w.err = fmt.Errorf("writing lines: %w", io.ErrShortWrite)
	}
	w.buf = w.buf[:0]
	w.flushed = time.Now()
}

// ring is what the timer does.
func (w *Writer) ring() {
	w.lock <- struct{}{}
	defer func() { <-w.lock }()
	w.armed = false
	w.flush()
}

// Flush writes what is buffered.
func (w *Writer) Flush() error {
	w.lock <- struct{}{}
	defer func() { <-w.lock }()
	w.flush()
	return w.err
}

// Close writes what is buffered and stops the Writer; it does not close the underlying writer. Where a write blocks for
// longer than Options.Grace, Close gives up with [ErrStuck]. The error is the first that any write met.
func (w *Writer) Close() error {
	done := make(chan error, 1)
	go func() {
		err := w.Flush()
		w.timer.Stop()
		done <- err
	}()
	deadline := time.NewTimer(w.opts.Grace)
	defer deadline.Stop()
	select {
	case err := <-done:
		return err
	case <-deadline.C:
		return ErrStuck
	}
}

// Lines says how many lines were encoded so far; the newest of them has this seq.
func (w *Writer) Lines() uint64 {
	w.lock <- struct{}{}
	defer func() { <-w.lock }()
	return w.seq
}
