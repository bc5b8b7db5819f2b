package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/stream"
)

// showAsIs shows the lines of a stream that does not hold all facts, in their order: nothing can be computed from it.
func (p *replayPlan) showAsIs(ctx context.Context) error {
	switch {
	case p.verify:
		return fmt.Errorf("%s: holds only a part of the facts (complete:false), so nothing can be found again; record it with `midhop record`", p.rec.name)
	case len(p.names) > 0:
		return usagef("%s holds findings and not all facts: names cannot be filled in", p.rec.name)
	case p.out == outScreen:
		fmt.Fprintf(os.Stderr, "midhop: %s holds findings and not all facts: they are shown as lines\n", p.rec.name)
		p.out = outTable
	}
	engine := tracer.New(tracer.Options{}) // never runs; an output wants one to hang on
	view, err := newOutput(engine, p.out, outputOptions{complete: true, keep: p.keepLine})
	if err != nil {
		return err
	}
	to, ok := view.(tracer.Sink)
	if !ok {
		return errors.New("this output shows no lines")
	}
	bad := &badLines{name: p.rec.name}
	ended := make(chan error, 1)
	go func() { // a read of a pipe cannot be called off
		ended <- eachLine(p.rec.in, bad.tell, func(e event.Event) error {
			switch {
			case !p.end.IsZero() && e.Time.After(p.end):
				return io.EOF
			case e.Type == event.Unknown || ctx.Err() != nil:
				return ctx.Err()
			}
			return to.Write([]event.Event{e})
		})
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	if closeErr := view.close(); err == nil {
		err = closeErr
	}
	bad.end()
	return quiet(err)
}

// eachLine decodes lines and hands them on, until f returns an error; io.EOF is a quiet end.
func eachLine(r io.Reader, bad func(*stream.LineError), f func(event.Event) error) error {
	in := bufio.NewReaderSize(r, event.MaxLine)
	used := 0
	for number := 1; ; number++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			bad(&stream.LineError{Line: number, Err: stream.ErrTooLong})
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			line = nil
		}
		if len(line) > 1 {
			if e, wrong := event.Decode(line); wrong != nil {
				bad(&stream.LineError{Line: number, Err: wrong})
			} else if stop := f(e); stop != nil {
				if stop == io.EOF {
					return nil
				}
				return stop
			} else {
				used++
			}
		}
		switch {
		case err == io.EOF && used == 0:
			return stream.ErrNothing
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("reading after line %d: %w", number, err)
		}
	}
}

// faults puts the lab's own lines, which the Engine does not see, back where they stood.
type faults struct {
	mu      sync.Mutex
	waiting []event.Event
	show    func(event.Event)
}

func (f *faults) hold(e event.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, e)
}

// upTo shows the lines that came before t.
func (f *faults) upTo(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.waiting) > 0 && f.waiting[0].Time.Before(t) {
		f.show(f.waiting[0])
		f.waiting = f.waiting[1:]
	}
}

// rest shows what is left.
func (f *faults) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.waiting {
		f.show(e)
	}
	f.waiting = nil
}

// before lets the lines that are due come first.
func (f *faults) before(s tracer.Sink) tracer.Sink { return faultSink{f, s} }

type faultSink struct {
	faults *faults
	to     tracer.Sink
}

// Write implements tracer.Sink.
func (s faultSink) Write(batch []event.Event) error {
	done := 0
	for i := range batch {
		s.faults.mu.Lock()
		due := len(s.faults.waiting) > 0 && s.faults.waiting[0].Time.Before(batch[i].Time)
		s.faults.mu.Unlock()
		if !due {
			continue
		}
		if i > done {
			if err := s.to.Write(batch[done:i:i]); err != nil {
				return err
			}
			done = i
		}
		s.faults.upTo(batch[i].Time)
	}
	if done == len(batch) {
		return nil
	}
	return s.to.Write(batch[done:])
}
