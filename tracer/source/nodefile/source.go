package nodefile

import (
	"context"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// name is the source of every fact of this package.
const name = "nodefile"

// Source tells nodes once.
type Source struct {
	nodes []event.Node
	at    time.Time
}

// New returns a Source of nodes, see [Read]. Its facts carry the time at: that of the start for a live run; for a
// recording one that is not later than its first line, since times move the clock.
func New(nodes []event.Node, at time.Time) *Source { return &Source{nodes: nodes, at: at.UTC()} }

// Run tells every node, then that these were all, and returns.
func (s *Source) Run(_ context.Context, emit func([]event.Event)) error {
	batch := make([]event.Event, 0, len(s.nodes)+1)
	for _, n := range s.nodes {
		batch = append(batch, event.Event{Type: event.NodeChanged, Time: s.at, Source: name, Body: &event.NodeFact{What: "added", Node: n}})
	}
	batch = append(batch, event.Event{Type: event.StreamSynced, Time: s.at, Source: name, Body: &event.Synced{Fact: "nodes"}})
	emit(batch)
	return nil
}
