package kernel

import (
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

type fakeSpaces struct {
	known  map[uint32]bool
	passes uint64
}

func (f *fakeSpaces) Known(netns uint32) bool  { return f.known[netns] }
func (f *fakeSpaces) Passes() uint64           { return f.passes }
func (f *fakeSpaces) Changed() <-chan struct{} { return nil }

func of(netns uint32, n uint64) *told {
	return &told{event: event.Event{ID: event.ID{N: n}}, netns: netns}
}

// An event of an unknown namespace waits until a look that began after it is over.
func TestHeld(t *testing.T) {
	spaces := &fakeSpaces{known: map[uint32]bool{1: true}}
	h := held{spaces: spaces}
	if h.keeps(of(1, 1)) {
		t.Fatal("an event of a known namespace waits")
	}
	if !h.keeps(of(2, 2)) || !h.keeps(of(3, 3)) || !h.keeps(of(2, 4)) {
		t.Fatal("an event of an unknown namespace does not wait")
	}
	if out, dropped := h.release(); len(out) != 0 || dropped != 0 {
		t.Fatalf("released %d, dropped %d before any look", len(out), dropped)
	}
	spaces.passes = 1 // was under way when the events came
	if out, dropped := h.release(); len(out) != 0 || dropped != 0 {
		t.Fatalf("released %d, dropped %d after a look that began before", len(out), dropped)
	}
	spaces.known[2] = true
	out, dropped := h.release()
	if len(out) != 2 || out[0].event.ID.N != 2 || out[1].event.ID.N != 4 || dropped != 0 {
		t.Fatalf("released %+v, dropped %d", out, dropped)
	}
	spaces.passes = 2
	if out, dropped := h.release(); len(out) != 0 || dropped != 1 {
		t.Fatalf("released %d, dropped %d, want the one of namespace 3 dropped", len(out), dropped)
	}
	if len(h.queue) != 0 {
		t.Error("something is still held")
	}
}

func TestHeldIsBounded(t *testing.T) {
	h := held{spaces: &fakeSpaces{}}
	for i := range maxHeld + 10 {
		h.keeps(of(9, uint64(i)))
	}
	if len(h.queue) != maxHeld || h.queue[0].event.ID.N != 10 {
		t.Errorf("%d are held, the oldest is %d", len(h.queue), h.queue[0].event.ID.N)
	}
	if _, dropped := h.release(); dropped != 10 {
		t.Errorf("%d counted as dropped, want 10", dropped)
	}
}

// Without a set of namespaces everything is kept.
func TestNothingHeld(t *testing.T) {
	h := held{}
	if h.keeps(of(9, 1)) {
		t.Error("held")
	}
}
