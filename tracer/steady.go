package tracer

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// steady keeps an Engine's time going evenly when somebody sets the clock of the machine: facts that follow a step back
// would be older than all before, for as long as the step was, and a step ahead would make every agent silent. Their times
// go on from where they were until midhop is started anew. The clock of a fleet's hub is measured by its agents, so a step
// of it comes with their facts and is taken out here too.
//
// A source dates what it tells by the machine's clock as far as it knows it: what turns the probes' time into the time of
// day compares the two once a second, and lines wait in pipes and queues. So when the clock is set a second time, facts still
// come that are dated by what it was set to first, and after it was set right again some that are dated wrong.
type steady struct {
	start time.Time
	since func() time.Duration // that have really passed since start
	wall  func() time.Time     // what the clock shows
	told  time.Duration        // the step that the stream knows of
	set   time.Duration        // the step, by the newest look
	left  []setting            // steps that were in force shortly before, the oldest first
}

// setting is a step that is no longer in force, by which facts may be dated until then.
type setting struct{ step, until time.Duration }

const (
	// leastStep is how much a clock that is not set may differ: what is slewed moves CLOCK_MONOTONIC with it
	// (timekeeping_adjust), and facts of other machines may differ by as much.
	leastStep = 2 * time.Second
	// lookWithin is how long the two readings of a look may take: longer, and one is not of the other's moment.
	lookWithin = 50 * time.Millisecond
	// leftBehind is how long facts may come that are dated by a step that is no longer in force: agents measure the clock of
	// their hub every 30 s (clockEvery in fleet), and facts are told within seconds.
	leftBehind = time.Minute
	// maxLeft bounds the steps that are remembered: whoever sets a clock more often within a minute gets wrong times.
	maxLeft = 16
)

func newSteady() *steady {
	start := time.Now()
	return &steady{
		start: start.Round(0), // without the reading of the monotonic clock
		since: func() time.Duration { return time.Since(start) },
		wall:  func() time.Time { return time.Now().Round(0) },
	}
}

// now is the time that the clock would show if nobody had set it.
func (s *steady) now() time.Time { return s.start.Add(s.since()) }

// step is by how much the clock has been set, ahead or back; 0 where it has not.
func (s *steady) step() time.Duration {
	before := s.since()
	shown := s.wall()
	passed := s.since()
	if passed-before > lookWithin {
		return s.set // by readings of two moments; the next look comes soon
	}
	for len(s.left) > 0 && s.left[0].until < passed {
		s.left = s.left[1:]
	}
	step := shown.Sub(s.start.Add(passed))
	if step.Abs() < leastStep {
		step = 0
	}
	if (step - s.set).Abs() >= leastStep {
		if len(s.left) == maxLeft {
			s.left = s.left[1:]
		}
		s.left = append(s.left, setting{step: s.set, until: passed + leftBehind})
	}
	s.set = step
	return step
}

// news is the step to tell, if it is not the one that was told last.
func (s *steady) news() (step time.Duration, ok bool) {
	if step = s.step(); (step - s.told).Abs() < leastStep {
		return 0, false
	}
	s.told = step
	return step, true
}

// correct takes the step out of times that were read after it.
func (s *steady) correct(batch []event.Event) {
	step := s.step()
	if step == 0 && len(s.left) == 0 {
		return
	}
	now := s.now()
	for i := range batch {
		e := &batch[i]
		e.Time = s.even(e.Time, now)
		if b, ok := e.Body.(*event.Lost); ok {
			b.Since = s.even(b.Since, now)
		}
	}
}

// even takes the step out of t. Of the times that t may be, by the clock that nobody set, as it is now and as it was shortly
// before, the nearest to now is right, as facts are told within seconds.
func (s *steady) even(t, now time.Time) time.Time {
	best := t
	try := func(step time.Duration) {
		if u := t.Add(-step); now.Sub(u).Abs() < now.Sub(best).Abs() {
			best = u
		}
	}
	try(s.set)
	for _, l := range s.left {
		try(l.step)
	}
	return best
}

// Now is the time of the stream: for a live Engine what the machine's clock would show if nobody had set it since [New].
func (e *Engine) Now() time.Time { return e.opts.Now() }

// Even is a reading of time.Now as the stream would tell it, whoever has set the clock since.
func (e *Engine) Even(t time.Time) time.Time {
	if e.steady == nil {
		return t
	}
	return e.Now().Add(-time.Since(t))
}
