package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui"
)

// player plays a recording on the screen. State is a fold over facts and knows no way back: to go back is to fold the
// file again from its beginning up to that moment, with another Engine, while what was there stays on the screen.
type player struct {
	plan   *replayPlan
	opts   ui.Options
	log    *ui.Log
	ctx    context.Context
	cancel context.CancelFunc
	survey *survey
	wg     sync.WaitGroup

	mu     sync.Mutex
	shown  *session
	next   *session  // on the way to where the user wants to be; nil: there is none
	at     time.Time // where it is: the clock of what is shown, or where it was told to stop
	target time.Time // of the last seek, until something later is shown
	begun  bool      // a seek is under way
	speed  float64
	paused bool
	last   *model.Snapshot
	err    error // of a session that was shown
}

// newPlayer makes a player of a recording that is complete and open.
func newPlayer(p *replayPlan) *player {
	return &player{
		plan: p, log: ui.NewLog(logLines), speed: p.speedOnScreen(), at: p.rec.opening.Time,
		opts: screenOptions(outputOptions{title: "replay " + p.rec.name, replay: true, ascii: p.ascii}),
	}
}

// run plays until the user leaves.
func (p *player) run(ctx context.Context) error {
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.survey = newSurvey(p.plan)
	first, err := p.start(p.plan.rec, p.plan.start)
	if err != nil {
		return err
	}
	first.log.become(p.log)
	p.shown, p.begun, p.target = first, !p.plan.start.IsZero(), p.plan.start
	if !p.plan.rec.pipe {
		p.wg.Go(func() { p.survey.run(p.ctx) })
	}
	p.opts.View, p.opts.Player, p.opts.Log, p.opts.LogFilter = p, p, p.log, p.plan.filter
	err = showScreens(p.ctx, p.opts)
	p.cancel()
	p.wg.Wait()
	p.shown.bad.end()
	switch {
	case errors.Is(err, ui.ErrInterrupted):
		err = nil
	case err == nil && ctx.Err() == nil:
		err = p.err
	}
	return err
}

// start folds a recording from its beginning, at once up to a moment and from there at the player's pace.
func (p *player) start(rec *recording, to time.Time) (*session, error) {
	s, err := newSession(p.plan, rec, p.speed, p.paused, to)
	if err != nil {
		return nil, err
	}
	p.wg.Go(func() {
		err := s.run(p.ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil && p.err == nil && s.stopped.Err() == nil {
			p.err = err
		}
	})
	return s, nil
}

// Snapshot implements ui.View. Where another session has arrived, it is shown from now on.
func (p *player) Snapshot() *model.Snapshot {
	p.mu.Lock()
	shown, next := p.shown, p.next
	p.mu.Unlock()
	if next != nil && next.arrived() {
		p.mu.Lock()
		if p.next == next { // nobody has gone elsewhere meanwhile
			shown.stop()
			next.log.become(p.log)
			p.shown, p.next, p.begun = next, nil, false
			shown = next
		}
		p.mu.Unlock()
	}
	s := shown.engine.Snapshot()
	arrived := shown.arrived()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown == shown {
		if p.next == nil && p.begun && arrived {
			p.begun = false
		}
		p.last, p.at = s, s.Clock
		if p.target.After(p.at) && !p.begun && p.next == nil {
			p.at = p.target
		}
	}
	return s
}

// Page implements ui.Pager.
func (p *player) Page(ctx context.Context, q model.PageQuery) (model.Page, error) {
	return p.engine().Page(ctx, q)
}

// Share implements ui.Sharer.
func (p *player) Share(ctx context.Context, key uint64) (model.Share, bool, error) {
	return p.engine().Share(ctx, key)
}

func (p *player) engine() *tracer.Engine {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.engine
}

// Play implements ui.Player.
func (p *player) Play() ui.Play {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.survey.play()
	out.Begin, out.At, out.Speed, out.Paused = p.plan.rec.opening.Time, p.at, p.speed, p.paused
	out.Ended = p.next == nil && p.shown.over()
	if to := p.plan.end; !to.IsZero() && out.End.After(to) {
		out.End = to
	}
	on := p.shown
	if p.next != nil {
		on = p.next
	}
	if p.begun {
		out.Seeking = p.target
		if whole := p.target.Sub(out.Begin); whole > 0 {
			out.Way = min(1, max(0, float64(on.reached().Sub(out.Begin))/float64(whole)))
		}
	}
	return out
}

// Seek implements ui.Player.
func (p *player) Seek(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := p.plan.rec.opening.Time
	if t.Before(begin) {
		t = begin
	}
	on := p.shown
	if p.next != nil {
		on = p.next
	}
	if on.over() && t.After(on.reached()) {
		return errors.New("the recording ends here")
	}
	if !t.Before(on.reached()) && !t.Before(p.at) || p.next != nil && !t.Before(p.target) {
		on.pace.Skip(t)
		p.target, p.begun = t, true
		return nil
	}
	if p.plan.rec.pipe {
		return errors.New("a pipe cannot be read again: record it into a file to go back")
	}
	rec, err := openRecording(p.ctx, p.plan.file)
	if err != nil {
		return err
	}
	s, err := p.start(rec, t)
	if err != nil {
		return err
	}
	if p.next != nil {
		p.next.stop()
	}
	p.next, p.target, p.begun = s, t, true
	return nil
}

// Speed implements ui.Player.
func (p *player) Speed(x float64) {
	p.each(func(s *session) { s.pace.SetSpeed(x) }, func() { p.speed = x })
}

// Pause implements ui.Player.
func (p *player) Pause(paused bool) {
	p.each(func(s *session) { s.pace.Pause(paused) }, func() { p.paused = paused })
}

func (p *player) each(f func(*session), note func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	note()
	f(p.shown)
	if p.next != nil {
		f(p.next)
	}
}

// speedOnScreen is the speed that --speed says, for whoever watches: 1x, but a pipe comes as it comes.
func (p *replayPlan) speedOnScreen() float64 {
	speed, _ := parseSpeed(p.speed)
	if p.speed == "" && !p.rec.pipe {
		speed = 1
	}
	return speed
}

// sessionLog is where a session's events go: a log of its own until it is shown, then the screen's.
type sessionLog struct {
	mu  sync.Mutex
	log *ui.Log
}

// Write implements tracer.Sink.
func (l *sessionLog) Write(batch []event.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Write(batch)
	return nil
}

// become lets the screen's log hold what this one does, and take what comes from now on.
func (l *sessionLog) become(shown *ui.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	shown.Become(l.log)
	l.log = shown
}
