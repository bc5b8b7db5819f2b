package main

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/stream"
	"github.com/midhop/midhop/ui"
)

// session is one fold of a recording, from its beginning: the same Engine code path as live.
type session struct {
	engine  *tracer.Engine
	pace    *stream.Pace
	log     *sessionLog
	rec     *recording
	lab     faults
	bad     *badLines
	stopped context.Context
	stop    context.CancelFunc
	done    chan struct{} // the Engine has returned
	handed  atomic.Int64  // largest time of the facts handed to the Engine, ns since 1970
}

// newSession folds rec. Facts before to are folded at once.
func newSession(p *replayPlan, rec *recording, speed float64, paused bool, to time.Time) (*session, error) {
	s := &session{
		engine: rec.engine(p.ranges, p.verbose), pace: stream.NewPace(speed, to), log: &sessionLog{log: ui.NewLog(logLines)},
		rec: rec, done: make(chan struct{}), bad: &badLines{name: rec.name, held: new(strings.Builder)},
	}
	s.pace.Pause(paused)
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.lab.show = func(e event.Event) { _ = s.log.Write([]event.Event{e}) }
	flow := newFlow()
	s.engine.AddSink("screen", flow.sink(s.lab.before(s.log)), tracer.Policy{Wait: patience})
	from := stream.New(rec.in, stream.Options{Pace: s.pace, To: p.end, Bad: s.bad.tell, Others: func(e event.Event) {
		if e.Type == event.LabFault {
			s.lab.hold(e)
		}
	}})
	s.engine.AddSource("recording", flow.source(noted{withNodes{from, p.names, rec.opening.Time}, &s.handed}))
	return s, nil
}

// run folds until the recording ends or nobody wants it any more.
func (s *session) run(ctx context.Context) error {
	defer close(s.done)
	defer s.rec.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopped, cancel)()
	err := s.engine.Run(ctx)
	s.lab.rest()
	return err
}

// over says whether nothing more comes.
func (s *session) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// reached is the time of the newest fact that was handed out.
func (s *session) reached() time.Time {
	if ns := s.handed.Load(); ns != 0 {
		return time.Unix(0, ns).UTC()
	}
	return time.Time{}
}

// arrived says whether all facts before the moment that is sought are folded.
func (s *session) arrived() bool {
	if s.over() {
		return true
	}
	return s.pace.Reached() && !s.engine.Snapshot().Clock.Before(s.reached())
}

// noted notes the time of the facts that it hands on.
type noted struct {
	from   tracer.Source
	newest *atomic.Int64
}

// Run implements tracer.Source.
func (n noted) Run(ctx context.Context, emit func([]event.Event)) error {
	return n.from.Run(ctx, func(batch []event.Event) {
		for i := range batch {
			if t := batch[i].Time.UnixNano(); t > n.newest.Load() {
				n.newest.Store(t)
			}
		}
		emit(batch)
	})
}
