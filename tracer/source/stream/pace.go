package stream

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Pace hands facts on when their times say: at Speed 1 two facts come as far apart as they happened. A nil Pace does not
// delay. It is safe for concurrent use, so that a screen can change the speed and pause.
type Pace struct {
	mu      sync.Mutex
	from    time.Time
	met     bool    // a fact that is not before from was met
	speed   float64 // 0: no delay
	paused  bool
	anchor  time.Time // the wall clock's time...
	clock   time.Time // ...at which this time of the stream was due; the zero time before the first fact
	changed chan struct{}
}

// NewPace returns a Pace of a speed, 0 for no delay. Facts before from, which may be zero, are not delayed: they lay the
// ground for what is to be watched.
func NewPace(speed float64, from time.Time) *Pace {
	return &Pace{speed: speed, from: from, changed: make(chan struct{})}
}

// SetSpeed changes the speed from now on.
func (p *Pace) SetSpeed(speed float64) {
	p.change(func() { p.speed = speed })
}

// Pause holds all facts back, or lets them go on.
func (p *Pace) Pause(paused bool) {
	p.change(func() { p.paused = paused })
}

// Skip lets all facts before t through at once, also while it is paused. It cannot go back.
func (p *Pace) Skip(t time.Time) {
	p.change(func() {
		// From where it was the time has not gone by: the first fact that is not before t is due when it is met.
		p.from, p.met, p.clock = t, false, time.Time{}
	})
}

// Reached says whether every fact before the time of NewPace, or of the last Skip, was handed on.
func (p *Pace) Reached() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met
}

func (p *Pace) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.clock, p.anchor = p.reached(now), now
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// reached is the time of the stream that is due now; p.mu is held.
func (p *Pace) reached(now time.Time) time.Time {
	if p.clock.IsZero() || p.paused || p.speed <= 0 {
		return p.clock
	}
	ahead := float64(now.Sub(p.anchor)) * p.speed
	return p.clock.Add(time.Duration(min(ahead, math.MaxInt64/2)))
}

// ahead says how long to wait for a fact of time t, less than 0 for ever, and what to wait on beside.
func (p *Pace) ahead(t time.Time) (time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if t.Before(p.from) {
		return 0, nil
	}
	p.met = true
	switch {
	case p.paused:
		return -1, p.changed
	case p.clock.IsZero() || p.speed <= 0:
		if t.After(p.clock) {
			p.clock, p.anchor = t, now
		}
		return 0, nil
	}
	left := t.Sub(p.reached(now))
	if left <= 0 {
		return 0, nil
	}
	return time.Duration(math.Ceil(min(float64(left)/p.speed, math.MaxInt64/2))), p.changed
}

// emit hands facts on in as few batches as their times allow.
func (p *Pace) emit(ctx context.Context, facts []event.Event, emit func([]event.Event)) error {
	if p == nil {
		if len(facts) > 0 {
			emit(facts)
		}
		return nil
	}
	for len(facts) > 0 {
		n := 0
		var wait time.Duration
		var changed <-chan struct{}
		for n < len(facts) {
			if wait, changed = p.ahead(facts[n].Time); wait != 0 {
				break
			}
			n++
		}
		if n > 0 {
			emit(facts[:n:n])
			facts = facts[n:]
			continue
		}
		if err := await(ctx, wait, changed); err != nil {
			return err
		}
	}
	return nil
}

func await(ctx context.Context, wait time.Duration, changed <-chan struct{}) error {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-due:
	case <-changed:
	}
	return nil
}
