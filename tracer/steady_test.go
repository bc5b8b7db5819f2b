package tracer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
)

// Whoever sets the clock, facts go on from where they were: those that were stamped before the step, and those after it.
func TestSteady(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, 3 * time.Second, -3 * time.Second} {
		passed := 10 * time.Second
		s := steady{start: t0, since: func() time.Duration { return passed }, wall: func() time.Time { return t0.Add(passed + step) }}
		batch := []event.Event{
			{Time: t0.Add(passed - 20*time.Millisecond)},        // on its way when the clock was set
			{Time: t0.Add(passed + step - 10*time.Millisecond)}, // stamped after
		}
		s.correct(batch)
		for i, want := range []time.Time{t0.Add(passed - 20*time.Millisecond), t0.Add(passed - 10*time.Millisecond)} {
			if !batch[i].Time.Equal(want) {
				t.Errorf("a step of %s: fact %d is of %s, want %s", step, i, batch[i].Time, want)
			}
		}
		if got := s.now(); !got.Equal(t0.Add(passed)) {
			t.Errorf("a step of %s: now is %s", step, got)
		}
	}
	passed := 10 * time.Second
	s := steady{start: t0, since: func() time.Duration { return passed }, wall: func() time.Time { return t0.Add(passed + time.Second) }}
	batch := []event.Event{{Time: t0.Add(passed + time.Second)}}
	if s.correct(batch); !batch[0].Time.Equal(t0.Add(passed + time.Second)) {
		t.Error("another machine's clock is taken for a step of this one")
	}
}

// A step is told once, and so is its end; what slews a clock is no step.
func TestStepIsTold(t *testing.T) {
	step := time.Duration(0)
	s := steady{start: t0, since: func() time.Duration { return time.Minute }, wall: func() time.Time { return t0.Add(time.Minute + step) }}
	for i, c := range []struct {
		step time.Duration
		told bool
	}{{0, false}, {time.Second, false}, {time.Hour, true}, {time.Hour + time.Second, false}, {-time.Hour, true}, {-time.Hour, false}, {time.Second, true}, {0, false}} {
		step = c.step
		got, told := s.news()
		want := step
		if step.Abs() < leastStep {
			want = 0
		}
		if told != c.told || told && got != want {
			t.Errorf("%d: set by %s: told %v as %s", i, step, told, got)
		}
	}
}

// The clock of the machine is set by an hour in the middle of an incident, and on a healthy day: what is found is what is
// found with a clock that nobody sets.
func TestClockIsSet(t *testing.T) {
	for _, name := range []string{"node-gone", "node-rebooted", "mobile-clients", "healthy-churn"} {
		for _, step := range []time.Duration{time.Hour, -time.Hour} {
			ar := readArchive(t, "testdata/scenario/"+name+".txtar")
			world, until := buildWorld(t, ar.section("world"), 1)
			facts := world.run(until)
			middle := until / 2
			for i := range facts {
				passed := facts[i].Time.Sub(t0)
				s := steady{start: t0, since: func() time.Duration { return passed }, wall: func() time.Time { return t0.Add(passed) }}
				if passed >= middle {
					facts[i].Time = facts[i].Time.Add(step)
					s.wall = func() time.Time { return t0.Add(passed + step) }
				}
				s.correct(facts[i : i+1])
			}
			if diff := cmp.Diff(ar.section("findings"), describe(world, replay(facts, DefaultTick, nil))); diff != "" {
				t.Errorf("%s, set by %s: findings (-want +got):\n%s", name, step, diff)
			}
		}
	}
}
