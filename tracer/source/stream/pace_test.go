package stream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// beats are heartbeats at second 0, 10, 5 (late), 20 and 20 of the stream's time.
const beats = `{"v":1,"type":"stream.heartbeat","time":"2026-11-23T11:00:00Z","source":"s"}
{"v":1,"type":"stream.heartbeat","time":"2026-11-23T11:00:10Z","source":"s"}
{"v":1,"type":"stream.heartbeat","time":"2026-11-23T11:00:05Z","source":"s"}
{"v":1,"type":"stream.heartbeat","time":"2026-11-23T11:00:20Z","source":"s"}
{"v":1,"type":"stream.heartbeat","time":"2026-11-23T11:00:20Z","source":"s"}
`

// arrivals runs beats and returns at which second of the wall clock each came.
func arrivals(t *testing.T, p *Pace, each func(n int)) []time.Duration {
	t.Helper()
	start := time.Now()
	var at []time.Duration
	err := New(strings.NewReader(beats), Options{Pace: p}).Run(t.Context(), func(batch []event.Event) {
		for range batch {
			at = append(at, time.Since(start))
		}
		if each != nil {
			each(len(at))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func wantArrivals(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i]*time.Second/10 {
			t.Fatalf("got %v, want %v tenths of a second", got, want)
		}
	}
}

func TestPace(t *testing.T) {
	noon := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	t.Run("no delay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { wantArrivals(t, arrivals(t, NewPace(0, time.Time{}), nil), 0, 0, 0, 0, 0) })
	})
	t.Run("as it happened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			wantArrivals(t, arrivals(t, NewPace(1, time.Time{}), nil), 0, 100, 100, 200, 200)
		})
	})
	t.Run("ten times as fast", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { wantArrivals(t, arrivals(t, NewPace(10, time.Time{}), nil), 0, 10, 10, 20, 20) })
	})
	t.Run("from", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			wantArrivals(t, arrivals(t, NewPace(1, noon.Add(7*time.Second)), nil), 0, 0, 0, 100, 100)
		})
	})
	t.Run("another speed in the middle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPace(1, time.Time{})
			time.AfterFunc(4*time.Second, func() { p.SetSpeed(2) })
			wantArrivals(t, arrivals(t, p, nil), 0, 70, 70, 120, 120)
		})
	})
	t.Run("pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPace(1, time.Time{})
			time.AfterFunc(4*time.Second, func() { p.Pause(true) })
			time.AfterFunc(100*time.Second, func() { p.Pause(false) })
			wantArrivals(t, arrivals(t, p, nil), 0, 1060, 1060, 1160, 1160)
		})
	})
	t.Run("from no delay to one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPace(0, time.Time{})
			got := arrivals(t, p, func(n int) {
				if n == 1 {
					p.SetSpeed(1)
				}
			})
			wantArrivals(t, got, 0, 0, 0, 0, 0) // all were due before the change
		})
	})
	t.Run("ends while waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			n := 0
			err := New(strings.NewReader(beats), Options{Pace: NewPace(1, time.Time{})}).Run(ctx, func(b []event.Event) { n += len(b) })
			if !errors.Is(err, context.DeadlineExceeded) || n != 1 {
				t.Fatalf("%d facts, %v", n, err)
			}
		})
	})
}
