package fleet

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

type sourceFunc func(ctx context.Context, emit func([]event.Event)) error

func (f sourceFunc) Run(ctx context.Context, emit func([]event.Event)) error { return f(ctx, emit) }

// TestAgentNumbersWithoutHoles lets two sources emit at once: every fact must carry the next number, in the order in
// which it was handed on, beginning with stream.started.
func TestAgentNumbersWithoutHoles(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	burst := sourceFunc(func(ctx context.Context, emit func([]event.Event)) error {
		for range 500 {
			emit([]event.Event{{Type: event.StreamSynced, Body: &event.Synced{}}, {Type: event.StreamSynced, Body: &event.Synced{}}})
		}
		<-ctx.Done()
		return nil
	})
	a := Agent{Node: "n1", Sources: []Source{burst, burst}, Interval: time.Millisecond}
	var got []event.Event
	synced := 0
	err := a.Run(ctx, func(batch []event.Event) {
		got = append(got, batch...)
		for _, e := range batch {
			if e.Type == event.StreamSynced {
				synced++
			}
			if e.Type == event.StreamHeartbeat && synced == 2000 {
				cancel()
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Type != event.StreamStarted {
		t.Errorf("first event is %s, want stream.started", got[0].Type)
	}
	for i, e := range got {
		if e.ID.N != uint64(i+1) || e.Source != "agent/n1" || e.ID.Origin != got[0].ID.Origin {
			t.Fatalf("event %d is numbered %+v from %q", i, e.ID, e.Source)
		}
	}
}

// TestAgentOutlivesASource lets one of two sources fail: the other goes on, and only when both are gone does Run end.
func TestAgentOutlivesASource(t *testing.T) {
	broken := errors.New("broken")
	release := make(chan struct{})
	var failed atomic.Int32
	a := Agent{
		Node: "n1",
		Sources: []Source{
			sourceFunc(func(context.Context, func([]event.Event)) error { return broken }),
			sourceFunc(func(context.Context, func([]event.Event)) error { <-release; return broken }),
		},
		Failed: func(err error) {
			if failed.Add(1); !errors.Is(err, broken) {
				t.Errorf("failed with %v", err)
			}
		},
		Interval: time.Millisecond,
	}
	beats := 0
	err := a.Run(context.Background(), func(batch []event.Event) {
		for _, e := range batch {
			if e.Type == event.StreamHeartbeat {
				if beats++; beats == 3 {
					close(release)
				}
			}
		}
	})
	if !errors.Is(err, errNoSource) || failed.Load() != 2 {
		t.Errorf("Run ended with %v after %d failures, want %v after 2", err, failed.Load(), errNoSource)
	}
}
