package tracer

import (
	"time"

	"github.com/midhop/midhop/tracer/tick"
)

// rest is how long a live Engine does nothing at most while nothing comes: it says then what was lost, and whether somebody
// has set the clock.
const rest = 500 * time.Millisecond

// due is how long it is until passing time may let the judge find something. Facts are a little late, so an instant is left
// to them for half a tick before the timer judges it.
func (e *Engine) due() time.Duration {
	most := tick.Next(rest)
	if !e.river.started {
		return most
	}
	wait := time.Duration(e.river.next() - e.opts.Now().UnixNano())
	return max(0, min(wait+e.opts.Tick/2, most))
}

// alarm is a timer that is set again and again, mostly to where it stands.
type alarm struct {
	C     <-chan time.Time // rings
	timer *time.Timer
	at    time.Time // zero: not set
}

func newAlarm() *alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &alarm{C: t.C, timer: t}
}

// set lets it ring after d, unless it will already, give or take a millisecond.
func (a *alarm) set(d time.Duration) {
	at := time.Now().Add(d)
	if !a.at.IsZero() && at.Sub(a.at).Abs() < time.Millisecond {
		return
	}
	a.at = at
	a.timer.Reset(d)
}

// rang says that it has rung.
func (a *alarm) rang() { a.at = time.Time{} }

func (a *alarm) stop() { a.timer.Stop() }
