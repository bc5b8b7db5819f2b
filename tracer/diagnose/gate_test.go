package diagnose

import (
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestGate: whatever was asked about and is still to come decides when to look again.
func TestGate(t *testing.T) {
	second := model.Instant(time.Second)
	g := gate{at: 100 * second}
	if !g.reached(100*second) || !g.passed(98*second, 2*time.Second) || g.due != 0 {
		t.Errorf("the past asks for another look at %d", g.due)
	}
	if g.reached(105*second) || g.reached(103*second) || g.reached(109*second) || g.due != 103*second {
		t.Errorf("due at %v, want 103 s", g.due.Time())
	}
	if !g.whole(time.Second) || g.whole(7*time.Second) || g.due != 103*second {
		t.Errorf("100 s on a grid of seven: due at %v", g.due.Time())
	}
	late := gate{at: 100*second + 1}
	if late.whole(time.Second) || late.due != 101*second {
		t.Errorf("due at %v, want the next whole second", late.due.Time())
	}
}

// TestAlike: a census is told again when shares move by about a percent, or trouble comes or goes.
func TestAlike(t *testing.T) {
	rows := func(a, b, stalled int) []event.CensusRow {
		return []event.CensusRow{
			{Pod: "n/p", Via: event.Via{Node: "a"}, Established: a, Stalled: stalled},
			{Pod: "n/p", Via: event.Via{Node: "b"}, Established: b},
		}
	}
	for _, test := range []struct {
		name string
		x, y []event.CensusRow
		want bool
	}{
		{"equal", rows(100, 100, 0), rows(100, 100, 0), true},
		{"both grow", rows(100, 100, 0), rows(200, 200, 0), true},
		{"a little", rows(1000, 1000, 0), rows(1001, 1000, 0), true},
		{"shares move", rows(100, 100, 0), rows(120, 100, 0), false},
		{"one stalls", rows(1000, 1000, 0), rows(1000, 1000, 1), false},
		{"a row less", rows(100, 100, 0), rows(100, 100, 0)[:1], false},
		{"another node", rows(100, 100, 0)[:1], rows(100, 100, 0)[1:], false},
	} {
		if got := alike(test.x, test.y); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestDiffers: an incident is told again for what a reader would want to know, not for the jitter of a date.
func TestDiffers(t *testing.T) {
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	base := event.Incident{Rule: ruleNodeGone, SilentSince: event.Known(at), Sockets: event.SocketCounts{Crossing: 5}}
	for name, test := range map[string]struct {
		change func(*event.Incident)
		want   bool
	}{
		"nothing":     {func(*event.Incident) {}, false},
		"jitter":      {func(i *event.Incident) { i.SilentSince.V = at.Add(4 * time.Millisecond) }, false},
		"later":       {func(i *event.Incident) { i.SilentSince.V = at.Add(200 * time.Millisecond) }, true},
		"count":       {func(i *event.Incident) { i.Sockets.TimedOut++ }, true},
		"sure":        {func(i *event.Incident) { i.Culprit.Sure = event.Proved }, true},
		"look's age":  {func(i *event.Incident) { i.Coverage.LookAge = event.Known(event.Seconds(1)) }, false},
		"another pod": {func(i *event.Incident) { i.Pods = []event.Hit{{Name: "n/p", Sockets: 1}} }, true},
	} {
		after := base
		test.change(&after)
		if got := differs(&base, &after); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
