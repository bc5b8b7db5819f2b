package trial

import (
	"context"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/world"
)

// feed is a source that hands facts over as a recording would.
type feed struct {
	facts []event.Event
	chunk int
}

func (f *feed) Run(ctx context.Context, emit func([]event.Event)) error {
	for all := f.facts; len(all) > 0 && ctx.Err() == nil; {
		n := min(f.chunk, len(all))
		emit(all[:n:n])
		all = all[n:]
	}
	return nil
}

// catch is a sink that keeps the findings.
type catch struct{ found []event.Event }

func (c *catch) Write(batch []event.Event) error {
	for i := range batch {
		if batch[i].Type.IsFinding() && batch[i].Type != event.PathCensus {
			c.found = append(c.found, batch[i])
		}
	}
	return nil
}

// Fold gives facts to an Engine as a replay does and returns what it found. Tick is the grid of judgement, 0 for the
// usual; chunk is how many facts it gets at a time. The facts are used up.
func Fold(facts []event.Event, tick time.Duration, chunk int) ([]event.Event, error) {
	e := tracer.New(tracer.Options{Tick: tick, Boot: "w"})
	out := &catch{}
	e.AddSource("world", &feed{facts, chunk})
	e.AddSink("trial", out, tracer.Policy{Wait: time.Minute})
	err := e.Run(context.Background())
	return out.found, err
}

// Try lets a plan happen, lets the Engine see it, and judges what it found.
func Try(p *world.Plan) (*Verdict, error) {
	o, err := world.Run(p)
	if err != nil {
		return nil, err
	}
	found, err := Fold(o.Facts, 0, 256)
	if err != nil {
		return nil, err
	}
	return Judge(p, &o.Truth, found), nil
}
