package tracer

import (
	"context"
	"testing"
	"testing/synctest"
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

// lagging is a machine's clock that is set, and what reads it: sources know of a setting only a while after it.
type lagging struct {
	passed   time.Duration
	settings []setting // step is in force from until on
}

// by is the step in force at a moment.
func (l *lagging) by(at time.Duration) (step time.Duration) {
	for _, s := range l.settings {
		if s.until <= at {
			step = s.step
		}
	}
	return step
}

func (l *lagging) steady() *steady {
	return &steady{
		start: t0,
		since: func() time.Duration { return l.passed },
		wall:  func() time.Time { return t0.Add(l.passed + l.by(l.passed)) },
	}
}

// A clock that is set again is taken out of facts that are still dated by what it was set to before, also once it is right; after
// a while none can come any more.
func TestSetAgain(t *testing.T) {
	const h = time.Hour
	l := &lagging{settings: []setting{{h, 10 * time.Second}, {-h, 11 * time.Second}, {2 * h, 12 * time.Second}, {0, 13 * time.Second}}}
	s := l.steady()
	for l.passed = 9 * time.Second; l.passed < 16*time.Second; l.passed += 50 * time.Millisecond {
		for _, lag := range []time.Duration{0, 300 * time.Millisecond, time.Second, 2900 * time.Millisecond} {
			told := l.passed - 20*time.Millisecond // when it happened
			batch := []event.Event{
				{Time: t0.Add(told + l.by(l.passed-lag))},
				{Time: t0.Add(told + l.by(l.passed)), Body: &event.Lost{Since: t0.Add(told + l.by(l.passed-lag))}},
			}
			s.correct(batch)
			for _, got := range []time.Time{batch[0].Time, batch[1].Time, batch[1].Body.(*event.Lost).Since} {
				if want := t0.Add(told); !got.Equal(want) {
					t.Fatalf("at %s, %s after its source looked: of %s, want %s", l.passed, lag, got, want)
				}
			}
		}
	}
	l.passed += leftBehind
	early := []event.Event{{Time: t0.Add(l.passed + h)}}
	if s.correct(early); !early[0].Time.Equal(t0.Add(l.passed + h)) {
		t.Error("a step is taken out of facts long after it was left")
	}
}

// Somebody sets the clock without end: what is remembered of it is bounded, and the newest is what counts.
func TestSetWithoutEnd(t *testing.T) {
	l := &lagging{}
	for i := range 10 * maxLeft {
		l.settings = append(l.settings, setting{time.Duration(i+1) * time.Hour, time.Duration(i+1) * 100 * time.Millisecond})
	}
	s := l.steady()
	for _, set := range l.settings {
		l.passed = set.until
		batch := []event.Event{{Time: t0.Add(l.passed + set.step)}, {Time: t0.Add(l.passed + set.step - time.Hour)}}
		s.correct(batch)
		if len(s.left) > maxLeft {
			t.Fatalf("%d steps are remembered", len(s.left))
		}
		for i := range batch {
			if got := batch[i].Time.Sub(t0); got != l.passed {
				t.Fatalf("after %s fact %d is of %s", l.passed, i, got)
			}
		}
	}
}

// A process that does not run between its two readings of the time has seen no step.
func TestSlowLook(t *testing.T) {
	l := &lagging{}
	s := l.steady()
	wall := s.wall
	s.wall = func() time.Time { at := wall(); l.passed += 3 * time.Second; return at }
	if step, told := s.news(); told {
		t.Errorf("told as set by %s, by readings that are 3 s apart", step)
	}
	if s.wall = wall; s.step() != 0 {
		t.Error("a step is left of it")
	}
}

// What a source says when it is told to stop, or has ended, is corrected like everything before.
func TestLastWordsAfterAStep(t *testing.T) {
	for name, stop := range map[string]bool{"told to stop": true, "ended": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := New(Options{Live: true})
				start := e.Now()
				e.steady.wall = func() time.Time { return time.Now().Round(0).Add(time.Hour) }
				var got collector
				e.AddSink("test", &got, Policy{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				e.AddSource("talker", sourceFunc(func(ctx context.Context, emit func([]event.Event)) error {
					tell := func() {
						emit([]event.Event{{Type: event.StreamHeartbeat, Time: time.Now().UTC().Add(time.Hour), Source: "agent/a", Body: &event.Heartbeat{}}})
					}
					tell()
					if stop {
						<-ctx.Done()
					}
					synctest.Wait() // until the Engine has taken note of it
					tell()
					return nil
				}))
				time.AfterFunc(time.Second, cancel)
				if err := e.Run(ctx); err != nil {
					t.Fatal(err)
				}
				told := 0
				for _, ev := range got.all() {
					if ev.Source == "agent/a" {
						told++
					}
					if off := ev.Time.Sub(start); off > 2*time.Second {
						t.Errorf("%s of %s is %s ahead", ev.Type, ev.Source, off)
					}
				}
				if told != 2 {
					t.Errorf("%d facts came, want 2", told)
				}
			})
		})
	}
}

// The clock of the machine is set by an hour, once and again and again, in the middle of an incident, and on a healthy day: what
// is found is what is found with a clock that nobody sets, although sources know of a setting up to a second later.
func TestClockIsSet(t *testing.T) {
	const h = time.Hour
	for _, name := range []string{"node-gone", "node-rebooted", "mobile-clients", "healthy-churn"} {
		for _, steps := range [][]time.Duration{{h}, {-h}, {h, -h, h}, {-h, h, -h}, {h, 0}, {-h, 0}} {
			ar := readArchive(t, "testdata/scenario/"+name+".txtar")
			world, until := buildWorld(t, ar.section("world"), 1)
			facts := world.run(until)
			l := &lagging{}
			for i, step := range steps {
				l.settings = append(l.settings, setting{step, until/2 + time.Duration(i)*1500*time.Millisecond})
			}
			s := l.steady()
			for i := range facts {
				l.passed = max(l.passed, facts[i].Time.Sub(t0))
				lag := time.Duration(i%3) * 500 * time.Millisecond
				facts[i].Time = facts[i].Time.Add(l.by(l.passed - lag))
				s.correct(facts[i : i+1])
			}
			if diff := cmp.Diff(ar.section("findings"), describe(world, replay(facts, DefaultTick, nil))); diff != "" {
				t.Errorf("%s, set by %v: findings (-want +got):\n%s", name, steps, diff)
			}
		}
	}
}
