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
	left   []formerly    // what the clock was shortly before, the oldest first
}

// formerly is a clock that was set since: what is to be added to its times, and when the last facts have come that are dated by
// it.
type formerly struct{ by, until time.Duration }

const (
	// lookWithin is how long the two readings of a look may take: longer, and one is not of the other's moment.
	lookWithin = 10 * time.Millisecond
	// stepSettled is how long after a step facts may come that are dated as before it: what turns the probes' time into the
	// time of day is a second old at most, and facts are told within another.
	stepSettled = 2 * time.Second
	// maxFormerly bounds what is remembered of a clock that is set without end.
	maxFormerly = 16
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
	for len(s.left) > 0 && s.left[0].until <= passed {
		s.left = s.left[1:]
	}
	if step.Abs() < clockNear {
		return 0
	}
	if len(s.left) == maxFormerly {
		s.left = s.left[1:]
	}
	for i := range s.left {
		s.left[i].by += step
	}
	s.left = append(s.left, formerly{by: step, until: passed + stepSettled})
	return step
}

// redate brings the times of facts that are still dated by the clock as it was before it was set to the clock as it is: of those
// that a time may be from, the one that is nearest to now is right, as facts are told within seconds.
func (s *steps) redate(batch []event.Event) {
	if len(s.left) == 0 {
		return
	}
	for i := range batch {
		best := batch[i].Time
		for _, l := range s.left {
			if t := batch[i].Time.Add(l.by); s.at.Sub(t).Abs() < s.at.Sub(best).Abs() {
				best = t
			}
		}
		batch[i].Time = best
	}
}

// Even keeps the times of a machine's facts even for a reader on another machine that measures no clocks: when somebody sets the
// machine's clock, they go on in the time that it began with. It is not safe for concurrent use.
type Even struct {
	steps *steps
	by    time.Duration // to be added to what the clock shows
}

// NewEven begins with what the clock shows now.
func NewEven() *Even {
	return &Even{steps: newSteps(wallTime, passed)}
}

// Take puts the times of a batch right. As heartbeats come twice a second, it is also who notices that the clock was set.
func (e *Even) Take(batch []event.Event) {
	e.by -= e.steps.look()
	e.steps.redate(batch)
	for i := range batch {
		batch[i].Time = batch[i].Time.Add(e.by)
	}
}

// wallTime is what this machine's clock shows.
func wallTime() time.Time { return time.Now().Round(0) }
