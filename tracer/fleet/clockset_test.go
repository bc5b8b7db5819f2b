package fleet

import (
	"context"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// setClock is a clock that a test sets.
type setClock struct {
	now  time.Time
	gone time.Duration
}

func (c *setClock) wall() time.Time      { return c.now }
func (c *setClock) since() time.Duration { return c.gone }

func (c *setClock) pass(d time.Duration) {
	c.now = c.now.Add(d)
	c.gone += d
}

// TestSteps sets a clock by several steps, and lets it alone.
func TestSteps(t *testing.T) {
	c := &setClock{now: time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)}
	s := newSteps(c.wall, c.since)
	for _, step := range []time.Duration{0, time.Hour, -time.Minute, 50 * time.Millisecond, 0, -150 * time.Millisecond, 0} {
		c.pass(500 * time.Millisecond)
		c.now = c.now.Add(step)
		want := step
		if step.Abs() < clockNear {
			want = 0
		}
		if got := s.look(); got != want {
			t.Errorf("set by %v, noticed %v", step, got)
		}
	}
	// A process that did not run between its two readings has seen no step.
	c.pass(time.Second)
	slow := false
	s.wall = func() time.Time { at := c.now; c.pass(time.Second); slow = true; return at }
	if got := s.look(); got != 0 || !slow {
		t.Errorf("noticed %v by readings that are a second apart", got)
	}
	s.wall = c.wall
	c.pass(time.Second)
	if got := s.look(); got != 0 {
		t.Errorf("noticed %v after it", got)
	}
}

// TestSetAgain sets a clock several times within the time that facts may take which are dated by what it was before.
func TestSetAgain(t *testing.T) {
	start := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	c := &setClock{now: start}
	s := newSteps(c.wall, c.since)
	clocks := []time.Duration{0} // what it was ahead of the first, the newest last
	redated := func(by time.Duration) time.Duration {
		batch := []event.Event{{Time: start.Add(c.gone + by)}}
		s.redate(batch)
		return batch[0].Time.Sub(c.now)
	}
	for _, step := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour, 3 * time.Hour} {
		c.pass(400 * time.Millisecond)
		c.now = c.now.Add(step)
		if got := s.look(); got != step {
			t.Fatalf("set by %v, noticed %v", step, got)
		}
		clocks = append(clocks, clocks[len(clocks)-1]+step)
		for _, by := range clocks {
			if got := redated(by); got != 0 {
				t.Errorf("now that the clock is %v ahead, a fact that is dated %v ahead is put %v off", clocks[len(clocks)-1], by, got)
			}
		}
	}
	c.pass(stepSettled)
	if s.look(); redated(0) != -clocks[len(clocks)-1] {
		t.Error("facts are redated long after the clock was set")
	}
	for range 3 * maxFormerly {
		c.pass(time.Millisecond)
		c.now = c.now.Add(time.Hour)
		if s.look(); len(s.left) > maxFormerly {
			t.Fatalf("%d settings are remembered", len(s.left))
		}
	}
}

// TestEven sets a clock several times: a reader on another machine sees none of it.
func TestEven(t *testing.T) {
	start := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	c := &setClock{now: start}
	even := &Even{steps: newSteps(c.wall, c.since)}
	for _, step := range []time.Duration{0, time.Hour, -2 * time.Hour, time.Hour, 300 * time.Millisecond, 50 * time.Millisecond} {
		old := c.now.Add(400 * time.Millisecond) // by a probe's clock that does not know yet
		c.pass(400 * time.Millisecond)
		c.now = c.now.Add(step)
		batch := []event.Event{{Time: c.now}, {Time: old}}
		even.Take(batch)
		for i, e := range batch {
			if off := e.Time.Sub(start) - c.gone; off.Abs() >= clockNear {
				t.Errorf("set by %v, fact %d is dated %v off", step, i, off)
			}
		}
	}
}

// TestAClockThatIsSet publishes facts before and after this machine's clock is set: their times go on evenly by the hub's clock,
// those too that are still dated as before, and the difference is measured anew at once.
func TestAClockThatIsSet(t *testing.T) {
	for name, step := range map[string]time.Duration{"ahead": time.Hour, "back": -time.Hour, "by little": 1500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.newHub(nobody{})
			sub, err := answerClock(w.hub.nc, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			conn := w.mustDial("node-a", "secret-a")
			p, err := NewPublisher(conn, PublishOptions{Node: "node-a"})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now().Add(-10 * time.Second).UTC().Round(0) // what lies in the future is put back by readers
			c := &setClock{now: start}
			p.steps = newSteps(c.wall, c.since)
			p.clock.known.Store(true) // as measured: no difference
			tell := func(at time.Time, n uint64) {
				e := heartbeat("agent/node-a", n)
				e.Time = at
				p.Write([]event.Event{e})
			}
			tell(c.now, 1)
			before := c.now
			c.pass(400 * time.Millisecond)
			c.now = c.now.Add(step)
			tell(c.now, 2)
			tell(before.Add(400*time.Millisecond), 3) // by a probe's clock that does not know yet
			if got := time.Duration(p.clock.value.Load()); got != -step {
				t.Errorf("the hub is said to be %v from this machine, want %v", got, -step)
			}
			if len(p.clock.again) != 1 {
				t.Error("the difference is not measured anew")
			}
			c.pass(3 * time.Second)
			tell(c.now, 4)
			run(t, func(stop <-chan struct{}) {
				ctx, cancel := context.WithCancel(context.Background())
				go func() { <-stop; cancel() }()
				p.Run(ctx)
			})
			until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == 4 })
			got, _ := w.folded()
			var beats []time.Duration
			for _, e := range got {
				if e.Type == event.StreamHeartbeat && e.Source == "agent/node-a" {
					beats = append(beats, e.Time.Sub(start))
				}
			}
			want := []time.Duration{0, 400 * time.Millisecond, 400 * time.Millisecond, 3400 * time.Millisecond}
			if len(beats) != len(want) {
				t.Fatalf("%d heartbeats came", len(beats))
			}
			for i := range want {
				if (beats[i] - want[i]).Abs() > time.Millisecond {
					t.Errorf("heartbeat %d is dated %v after the first, want %v", i+1, beats[i], want[i])
				}
			}
			// The hub's server is asked again, whose clock nobody has set; this process's was not set either.
			until(t, "measured anew", func() bool { return time.Duration(p.clock.value.Load()).Abs() < time.Second })
		})
	}
}
