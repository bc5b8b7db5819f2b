package tracer

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestQuestions: a node is asked for only where nothing comes through it, other ways go on, and nothing else shows its life
// or death.
func TestQuestions(t *testing.T) {
	for _, c := range []struct {
		file string
		want []string // nodes asked for
	}{
		{"one-agent", []string{"node-a"}},
		{"node-gone", nil},      // its agent's silence says it
		{"front-gone", nil},     // its agent's life says it
		{"uplink", nil},         // nothing else makes progress
		{"healthy-churn", nil},  // nothing is silent
		{"mobile-clients", nil}, // single clients are
		{"hiccup", nil},
		{"pod-dead-alone", nil}, // no node's silence
		{"asked-answers", nil},  // somebody has asked already
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			world, until := buildWorld(t, readArchive(t, "testdata/scenario/"+c.file+".txtar").section("world"), 1)
			m := model.New(model.Options{})
			j := diagnose.New(m)
			var asked []string
			j.OnQuestion(func(q diagnose.Question) {
				if !slices.Contains(asked, q.Node.Node) {
					asked = append(asked, q.Node.Node)
				}
				if q.Node.Node != "node-a" || q.Node.IP != netip.MustParseAddr("10.146.0.11") {
					t.Errorf("asks for %v", q.Node)
				}
				if len(q.Healthy) != 1 || q.Healthy[0].Node != "node-c" || q.Healthy[0].IP != netip.MustParseAddr("10.146.0.13") {
					t.Errorf("healthy: %v", q.Healthy)
				}
				if !slices.Equal(q.From, []string{"node-b"}) {
					t.Errorf("from %v", q.From)
				}
				if _, ok := m.AskedOf("node-a"); ok {
					t.Error("asks although it was answered")
				}
			})
			r := newRiver(m, j, DefaultTick, newNumbers("local", "t"))
			for _, f := range world.run(until) {
				r.fold([]event.Event{f})
			}
			if !slices.Equal(asked, c.want) {
				t.Errorf("asked for %q, want %q", asked, c.want)
			}
		})
	}
}
