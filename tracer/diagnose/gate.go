package diagnose

import (
	"time"

	"github.com/midhop/midhop/tracer/model"
)

// gate compares times with the instant of a judgement and remembers the next moment at which one of its answers would
// change. A judge that asks the gate, and nothing else, about time knows when it has to look again though no fact came.
type gate struct {
	at  model.Instant
	due model.Instant // 0: never
}

// reached says whether t is not in the future.
func (g *gate) reached(t model.Instant) bool {
	if t <= g.at {
		return true
	}
	if g.due == 0 || t < g.due {
		g.due = t
	}
	return false
}

// passed says whether d has gone by since t.
func (g *gate) passed(t model.Instant, d time.Duration) bool { return g.reached(t.Add(d)) }

// whole says whether this is a whole multiple of every since 1970, and asks for the next one if not. What is looked at on
// such a grid of its own does not depend on the grid of judgement.
func (g *gate) whole(every time.Duration) bool {
	d := model.Instant(every)
	return g.at%d == 0 || g.reached((g.at/d+1)*d)
}
