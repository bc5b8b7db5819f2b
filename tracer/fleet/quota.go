package fleet

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// A quota is what one agent may tell. It goes by the times at which messages were stored, so that every reader of the stream comes
// to the same. What is over it is not folded, the newest of that agent and nobody else's; its heartbeats are, once a second.
//
// An agent in the worst storm that was measured (see docs/architecture.md) tells 30 kB and 4,000 events a second. After an hour
// without its hub it has 8 MiB to tell at once.
const (
	quotaBytes, quotaBytesBurst     = 256 << 10, 32 << 20 // compressed, a second and at once
	quotaBatches, quotaBatchesBurst = 50, 2_000
	quotaEvents, quotaEventsBurst   = 20_000, 2_000_000
)

// bucket is what is left of a quota.
type bucket struct{ left float64 }

// take takes n out, where that much is there.
func (b *bucket) take(n, burst float64) bool {
	if b.left < min(n, burst) {
		return false
	}
	b.left -= n
	return true
}

func (b *bucket) fill(n, burst float64) { b.left = min(burst, b.left+n) }

// spent is what one agent has told of its quota.
type spent struct {
	at                     time.Time // until when it was filled
	bytes, batches, events bucket
	beat                   time.Time // the last batch that was read for its heartbeat alone
	over                   uint64    // events that were not folded
}

// maxAgents bounds the accounts of agents: as many names of nodes as a hub may meet.
const maxAgents = 50_000

// spentBy returns the account of a node as of a message.
func (in *intake) spentBy(node string, at time.Time) *spent {
	s := in.agents[node]
	if s == nil {
		if len(in.agents) >= maxAgents {
			clear(in.agents)
		}
		s = &spent{at: at, bytes: bucket{quotaBytesBurst}, batches: bucket{quotaBatchesBurst}, events: bucket{quotaEventsBurst}}
		in.agents[node] = s
	}
	if d := at.Sub(s.at).Seconds(); d > 0 {
		s.at = at
		s.bytes.fill(d*quotaBytes, quotaBytesBurst)
		s.batches.fill(d*quotaBatches, quotaBatchesBurst)
		s.events.fill(d*quotaEvents, quotaEventsBurst)
	}
	return s
}

// admits says whether a message is within its agent's quota, and otherwise whether it is read for a heartbeat.
func (s *spent) admits(m *message) (whole, beat bool) {
	bytes := s.bytes.take(float64(len(m.data)), quotaBytesBurst)
	if s.batches.take(1, quotaBatchesBurst) && bytes {
		return true, false
	}
	if m.stored.Sub(s.beat) < time.Second {
		return false, false
	}
	s.beat = m.stored
	return false, true
}

// heartbeats leaves the newest heartbeat of some events.
func heartbeats(events []event.Event) []event.Event {
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].Type == event.StreamHeartbeat {
			return events[i : i+1]
		}
	}
	return nil
}
