package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/midhop/midhop/tracer/event"
)

// Options says how a stream is read. The zero value hands on every fact as soon as it is read.
type Options struct {
	// Bad is told of every line that cannot be used, from the goroutine of Run. Nil: they are only counted.
	Bad func(*LineError)
	// Others receives findings and lab.* lines, from the goroutine of Run and in their order among themselves. Nil:
	// they are only counted.
	Others func(event.Event)
	// Pace delays facts as their times say. Nil: no delay.
	Pace *Pace
	// To ends the reading at the first line whose time is later. Zero: read to the end.
	To time.Time
}

// LineError says why one line is left out.
type LineError struct {
	Line int // from 1
	Err  error
}

// Error implements error.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause, such as an [event.ErrVersion].
func (e *LineError) Unwrap() error { return e.Err }

// ErrTooLong is the cause of a [LineError] for a line of more than [event.MaxLine] bytes.
var ErrTooLong = fmt.Errorf("longer than %d bytes", event.MaxLine)

// ErrTruncated is the cause of a [LineError] for a last line that does not end: whoever wrote it was cut off.
var ErrTruncated = errors.New("the input ends inside the line")

// ErrNothing is wrapped by Run's error where there were lines and none of them could be used.
var ErrNothing = errors.New("no line can be used")

// Stats counts lines. Empty ones are not counted.
type Stats struct {
	Facts   uint64 // handed on, those of stage "stream" included
	Others  uint64 // findings and lab.* lines
	Unknown uint64 // of types that this version does not know
	Bad     uint64 // left out, see Options.Bad
}

// Source reads one stream once.
type Source struct {
	from io.Reader
	opts Options

	facts, others, unknown, bad atomic.Uint64
}

// New returns a Source that reads from r, which stays the caller's to close.
func New(r io.Reader, opts Options) *Source { return &Source{from: r, opts: opts} }

// Stats says what was read so far. It may be called at any time.
func (s *Source) Stats() Stats {
	return Stats{Facts: s.facts.Load(), Others: s.others.Load(), Unknown: s.unknown.Load(), Bad: s.bad.Load()}
}

// piece is what one read brought.
type piece struct {
	events []event.Event
	bad    []*LineError
	err    error // the reading ends here; io.EOF at the end of the input
}

// Run reads to the end of the input or of ctx. Lines that cannot be used are no error unless all are ([ErrNothing]);
// they become stream.lost facts of stage "stream". A reader without SetReadDeadline that blocks when ctx ends keeps one
// goroutine until its Read returns.
func (s *Source) Run(ctx context.Context, emit func([]event.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if d, ok := s.from.(interface{ SetReadDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = d.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	pieces := make(chan piece, 1)
	go s.read(ctx, pieces)
	var first *LineError
	for {
		var p piece
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p = <-pieces:
		}
		for _, bad := range p.bad {
			if first == nil {
				first = bad
			}
			s.bad.Add(1)
			if s.opts.Bad != nil {
				s.opts.Bad(bad)
			}
		}
		facts, end := s.sort(p.events)
		if err := s.opts.Pace.emit(ctx, facts, emit); err != nil {
			return err
		}
		switch {
		case end || p.err == io.EOF:
			if st := s.Stats(); first != nil && st.Bad == st.Facts+st.Others+st.Unknown+st.Bad {
				return fmt.Errorf("%w: %w", ErrNothing, first)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case p.err != nil:
			return p.err
		}
	}
}

// sort keeps the facts, in place, and hands out the rest. It says whether a line later than Options.To was met.
func (s *Source) sort(events []event.Event) (facts []event.Event, end bool) {
	facts = events[:0]
	for _, e := range events {
		if !s.opts.To.IsZero() && e.Time.After(s.opts.To) {
			return facts, true
		}
		switch {
		case e.Type.IsFact():
			s.facts.Add(1)
			facts = append(facts, e)
		case e.Type == event.Unknown:
			s.unknown.Add(1)
		default:
			s.others.Add(1)
			if s.opts.Others != nil {
				s.opts.Others(e)
			}
		}
	}
	return facts, false
}

// read reads and decodes until the input or ctx ends.
func (s *Source) read(ctx context.Context, out chan<- piece) {
	hand := func(p piece) bool {
		select {
		case out <- p:
			return p.err == nil
		case <-ctx.Done():
			return false
		}
	}
	in, done, err := decompress(s.from)
	if err != nil {
		hand(piece{err: err})
		return
	}
	defer done()
	var lines splitter
	buf := make([]byte, 256<<10)
	for {
		n, err := in.Read(buf)
		var p piece
		lines.split(buf[:n], &p)
		if err != nil {
			cutOff := errors.Is(err, io.ErrUnexpectedEOF) // as zstd says
			if cutOff {
				err = io.EOF
			}
			lines.finish(cutOff, &p)
			p.err = err
			if err != io.EOF {
				p.err = fmt.Errorf("reading after line %d: %w", lines.number, err)
			}
		}
		if !hand(p) {
			return
		}
	}
}

// zstdMagic opens a zstd frame (RFC 8878, 3.1.1).
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// maxWindow bounds the memory that a compressed file can ask for; midhop writes windows of 8 MiB at most.
const maxWindow = 32 << 20

func decompress(r io.Reader) (io.Reader, func(), error) {
	peek := bufio.NewReader(r)
	if start, _ := peek.Peek(len(zstdMagic)); !bytes.Equal(start, zstdMagic) {
		return peek, func() {}, nil
	}
	d, err := zstd.NewReader(peek, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, nil, fmt.Errorf("reading zstd: %w", err)
	}
	return d, d.Close, nil
}
