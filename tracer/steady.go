package tracer

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// steady keeps an Engine's time going evenly when somebody sets the clock of the machine: facts that follow a step back
// would be older than all before, for as long as the step was, and a step ahead would make every agent silent. Their times
// go on from where they were until midhop is started anew. The clock of a fleet's hub is measured by its agents, so a step
// of it comes with their facts and is taken out here too.
type steady struct {
	start time.Time
	since func() time.Duration // that have really passed since start
	wall  func() time.Time     // what the clock shows
	told  time.Duration        // the step that the stream knows of
}

// leastStep is how much a clock that is not set may differ: what is slewed moves CLOCK_MONOTONIC with it (timekeeping_adjust),
// and facts of other machines may differ by as much.
const leastStep = 2 * time.Second

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
	step := s.wall().Sub(s.now())
	if step.Abs() < leastStep {
		return 0
	}
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

// correct takes the step out of times that were read after it: of the two that a fact may be from, the nearer one is right,
// as facts are told within seconds.
func (s *steady) correct(batch []event.Event) {
	step := s.step()
	if step == 0 {
		return
	}
	now := s.now()
	for i := range batch {
		if t := batch[i].Time; now.Sub(t).Abs() > now.Sub(t.Add(-step)).Abs() {
			batch[i].Time = t.Add(-step)
		}
	}
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
