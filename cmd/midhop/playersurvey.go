package main

import (
	"context"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/tracer/source/stream"
	"github.com/midhop/midhop/ui"
)

// survey looks a recording through once, beside the one that is shown and as fast as it goes, for what the strip above
// the log shows and for where incidents open. Findings are computed as everywhere: those that were recorded do not count.
type survey struct {
	plan   *replayPlan
	engine *tracer.Engine

	size int64 // of the file

	mu    sync.Mutex
	found ui.Play
}

func newSurvey(p *replayPlan) *survey { return &survey{plan: p} }

// play is what was found so far; where the recording is, is not the survey's to know.
func (s *survey) play() ui.Play {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.found
	out.Moments, out.Stalled = slices.Clip(out.Moments), slices.Clip(out.Stalled)
	return out
}

func (s *survey) run(ctx context.Context) {
	rec, err := openRecording(ctx, s.plan.file)
	if err != nil {
		return
	}
	defer rec.close()
	if info, err := os.Stat(s.plan.file); err == nil {
		s.size = info.Size()
	}
	s.engine = rec.engine(s.plan.ranges, false)
	flow := newFlow()
	s.engine.AddSink("survey", flow.sink(s), tracer.Policy{Wait: patience})
	from := stream.New(counted{rec, s}, stream.Options{To: s.plan.end})
	s.engine.AddSource("recording", flow.source(withNodes{from, s.plan.names, rec.opening.Time}))
	if s.engine.Run(ctx) == nil && ctx.Err() == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.found.Surveyed = 1
	}
}

// Write implements tracer.Sink.
func (s *survey) Write(batch []event.Event) error {
	s.mu.Lock()
	for i := range batch {
		s.see(&batch[i])
	}
	levels := s.found.Stalled
	due := len(levels) == 0 || s.found.End.Sub(levels[len(levels)-1].Time) >= time.Second
	s.mu.Unlock()
	if due {
		now := s.engine.Snapshot()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.found.Stalled = append(s.found.Stalled, ui.Level{Time: now.Clock, Stalled: now.Totals.Doomed()})
	}
	return nil
}

// maxTimeouts bounds the timeouts that are marked; there is no room for more anyway.
const maxTimeouts = 2000

func (s *survey) see(e *event.Event) {
	f := &s.found
	if e.Time.After(f.End) {
		f.End = e.Time
	}
	mark := func(m byte, text string) {
		f.Moments = append(f.Moments, ui.Moment{Time: e.Time, Mark: m, Text: text})
	}
	switch b := e.Body.(type) {
	case *event.IncidentFinding:
		c := report.Case{Incident: b.Incident}
		switch e.Type {
		case event.IncidentOpened:
			mark('!', c.Title())
		case event.IncidentClosed:
			mark('+', c.Title())
		}
	case *event.Stall:
		if n := len(f.Moments); e.Type == event.TCPTimeout && n < maxTimeouts && (n == 0 || f.Moments[n-1].Mark != 'x' || e.Time.Sub(f.Moments[n-1].Time) > time.Second/10) {
			mark('x', report.Subject(&b.Socket)+" timed out")
		}
	}
	if !e.Type.IsFact() {
		return
	}
	// Whoever wants to see an incident open has to be past the fact that lets its instant be judged.
	for i := len(f.Moments) - 1; i >= 0 && f.Moments[i].After.IsZero(); i-- {
		f.Moments[i].After = e.Time.Add(1)
	}
}

// counted counts what is read of a recording's file, compressed as it may be.
type counted struct {
	rec *recording
	to  *survey
}

// Read implements io.Reader.
func (c counted) Read(b []byte) (int, error) {
	n, err := c.rec.in.Read(b)
	if at, seekErr := c.rec.file.Seek(0, io.SeekCurrent); seekErr == nil && c.to.size > 0 {
		c.to.mu.Lock()
		c.to.found.Surveyed = min(0.99, float64(at)/float64(c.to.size))
		c.to.mu.Unlock()
	}
	return n, err
}
