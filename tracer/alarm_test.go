package tracer

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// TestRests: an Engine to which nobody says anything, and that has nothing to judge, wakes a few times a second at most, and
// still says within a second that the clock was set.
func TestRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const span = time.Minute
		var looks atomic.Int64
		e := New(Options{Live: true, Now: func() time.Time { looks.Add(1); return time.Now() }})
		e.steady = newSteady()
		var set atomic.Int64
		e.steady.wall = func() time.Time { return time.Now().Round(0).Add(time.Duration(set.Load())) }
		var got collector
		e.AddSink("all", &got, Policy{Queue: 1000})
		ctx, cancel := context.WithCancel(t.Context())
		e.AddSource("s", sourceFunc(func(ctx context.Context, emit func([]event.Event)) error {
			emit([]event.Event{{Type: event.StreamSynced, Time: time.Now(), Source: "agent/x", Body: &event.Synced{Fact: "nat"}}})
			time.Sleep(2 * time.Second) // what follows from it is judged
			before := looks.Load()
			time.Sleep(span)
			// Two looks at the clock for each waking, and two wakings a second.
			if n := looks.Load() - before; n > 2*3*int64(span/time.Second) {
				t.Errorf("%d looks at the clock in %s of rest", n, span)
			}
			set.Store(int64(time.Hour))
			time.Sleep(time.Second)
			synctest.Wait()
			said := false
			for _, ev := range got.all() {
				if b, ok := ev.Body.(*event.Heartbeat); ok && b.ClockSet.OK {
					said = true
				}
			}
			if !said {
				t.Error("a second after the clock was set nothing was said of it")
			}
			cancel()
			return nil
		}))
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAlarm rings when it was set for last, also when it is set to that again and again, as it is after each batch.
func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlarm()
		defer a.stop()
		began := time.Now()
		a.set(time.Hour)
		for range 40 {
			a.set(100*time.Millisecond - time.Since(began))
			select {
			case <-a.C:
				if d := time.Since(began); d != 100*time.Millisecond {
					t.Errorf("it rang after %s", d)
				}
				a.rang()
				a.set(time.Second)
				<-a.C
				if d := time.Since(began); d != 1100*time.Millisecond {
					t.Errorf("it rang again after %s", d)
				}
				return
			case <-time.After(3 * time.Millisecond):
			}
		}
		t.Error("it did not ring")
	})
}
