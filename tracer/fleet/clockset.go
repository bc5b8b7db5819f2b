package fleet

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// steps notices when somebody sets this machine's clock, by the time that has passed meanwhile. It is not safe for concurrent
// use.
type steps struct {
	wall  func() time.Time     // what the clock shows
	since func() time.Duration // that has really passed, since any moment

	at     time.Time     // the newest look
	passed time.Duration // then
	step   time.Duration // the newest
	until  time.Duration // when the last facts have come that are dated by the clock as it was before it
}

const (
	// lookWithin is how long the two readings of a look may take: longer, and one is not of the other's moment.
	lookWithin = 10 * time.Millisecond
	// stepSettled is how long after a step facts may come that are dated as before it: what turns the probes' time into the
	// time of day is a second old at most, and facts are told within another.
	stepSettled = 2 * time.Second
)

func newSteps(wall func() time.Time, since func() time.Duration) *steps {
	return &steps{wall: wall, since: since, at: wall(), passed: since()}
}

// look returns by how much the clock was set since the last look, 0 where it was not, or by less than matters.
func (s *steps) look() time.Duration {
	before := s.since()
	at := s.wall()
	passed := s.since()
	if passed-before > lookWithin {
		return 0 // the next look comes soon
	}
	step := at.Sub(s.at) - (passed - s.passed)
	s.at, s.passed = at, passed
	if step.Abs() < clockNear {
		return 0
	}
	s.step, s.until = step, passed+stepSettled
	return step
}

// redate brings the times of facts that are still dated by the clock as it was before it was set to the clock as it is: of the
// two that a time may be from, the one that is nearer to now is right, as facts are told within seconds.
func (s *steps) redate(batch []event.Event) {
	if s.passed >= s.until {
		return
	}
	for i := range batch {
		if t := batch[i].Time; s.at.Sub(t.Add(s.step)).Abs() < s.at.Sub(t).Abs() {
			batch[i].Time = t.Add(s.step)
		}
	}
}
