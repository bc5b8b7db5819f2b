package prom

import (
	"sync"

	"github.com/midhop/midhop/tracer/event"
)

// Counters is a sink that counts what passes. It is safe for concurrent use; the zero value is ready.
type Counters struct {
	mu        sync.Mutex
	types     map[string]uint64
	lost      map[string]uint64
	ops       map[string]uint64
	retrans   map[string]uint64
	incidents map[string]uint64
	probes    map[string]*event.Started // by source: what it stands on
	tables    map[string]event.Table    // by node
	stalls    uint64
	recovered uint64
	timeouts  uint64
	buckets   []uint64
	stalled   float64 // seconds in all
}

// Write implements a sink of the Engine. It never fails.
func (c *Counters) Write(batch []event.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	for i := range batch {
		c.count(&batch[i])
	}
	return nil
}

func (c *Counters) init() {
	if c.types != nil {
		return
	}
	c.types, c.lost, c.ops = make(map[string]uint64), make(map[string]uint64), make(map[string]uint64)
	c.retrans, c.incidents = make(map[string]uint64), make(map[string]uint64)
	c.probes, c.tables = make(map[string]*event.Started), make(map[string]event.Table)
	c.buckets = make([]uint64, len(buckets)+1)
}

func (c *Counters) count(e *event.Event) {
	c.types[e.Type.String()]++
	switch b := e.Body.(type) {
	case *event.Started:
		if len(b.Probes) == 0 {
			return
		}
		if c.probes[e.Source] == nil && len(c.probes) >= maxNodes {
			return
		}
		c.probes[e.Source] = &event.Started{Probes: b.Probes, Machine: b.Machine}
	case *event.Lost:
		c.lost[stageOf(b.Stage)] += b.Count
	case *event.NATFact:
		c.ops[e.Type.String()[len("nat."):]]++
	case *event.Table:
		if _, ok := c.tables[b.Node]; ok || len(c.tables) < maxNodes {
			c.tables[b.Node] = *b
		}
	case *event.TCPFact:
		if e.Type == event.TCPRetransmit {
			role := event.ViaUnknown
			if b.Via != nil {
				role = b.Via.Role
			}
			c.retrans[string(role)]++
		}
	case *event.Stall:
		switch e.Type {
		case event.TCPStall:
			c.stalls++
		case event.TCPTimeout:
			c.timeouts++
		case event.TCPRecovered:
			c.recovered++
			c.observe(b.Stalled.V.Duration().Seconds())
		}
	case *event.IncidentFinding:
		if e.Type == event.IncidentOpened {
			c.incidents[oneOf(rules, b.Incident.Rule)]++
		}
	}
}

func (c *Counters) observe(seconds float64) {
	c.stalled += seconds
	for i, le := range buckets {
		if seconds <= le {
			c.buckets[i]++
			return
		}
	}
	c.buckets[len(buckets)]++
}
