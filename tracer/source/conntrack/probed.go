package conntrack

import (
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// maxInbox is how many facts of the probes may wait while a dump is read; more are lost, counted, and made good by a dump.
const maxInbox = 1 << 16

// inbox is where the probes' facts wait for the ledger.
type inbox struct {
	mu    sync.Mutex
	facts []event.Event
	lost  uint64
	since time.Time // the first of these
	more  chan struct{}
}

// Take hands over what probes tell of the table, with [Options.Probed]: entries that come and go, and the loss of such
// facts. It may be called from any goroutine and does not wait.
func (s *Source) Take(batch []event.Event) {
	b := &s.inbox
	b.mu.Lock()
	for i := range batch {
		if len(b.facts) >= maxInbox {
			if b.lost == 0 {
				b.since = batch[i].Time
			}
			b.lost++
			continue
		}
		b.facts = append(b.facts, batch[i])
	}
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// empty folds what waits in the inbox into the ledger.
func (s *Source) empty() {
	b := &s.inbox
	b.mu.Lock()
	facts, lost, since := b.facts, b.lost, b.since
	b.facts, b.lost = nil, 0
	b.mu.Unlock()
	for i := range facts {
		switch body := facts[i].Body.(type) {
		case *event.NATFact:
			s.ledger.probed(&facts[i], body)
		case *event.Lost:
			s.wanted = true
			s.ledger.out = append(s.ledger.out, facts[i])
		}
	}
	if lost > 0 {
		s.wanted = true
		s.ledger.out = append(s.ledger.out, event.Event{Type: event.StreamLost, Time: time.Now().UTC(),
			Body: &event.Lost{Stage: "ledger.inbox", Count: lost, Since: since}})
	}
}

// probed takes what a probe told of one entry, and hands it on unless it has been told already.
func (l *ledger) probed(e *event.Event, fact *event.NATFact) {
	k := key{original: tupleOf(fact.NAT.Original), zone: fact.NAT.Zone}
	reply := tupleOf(fact.NAT.Reply)
	delete(l.doubt, k)
	r := l.find(k)
	switch e.Type {
	case event.NATCreated:
		if r != nil && l.reply(r) == reply {
			return // a dump was faster
		}
		if r != nil {
			l.missed(k, r, e.Time)
		}
		l.put(k, reply, record{mark: fact.NAT.Mark, looked: e.Time.UnixNano(), created: e.Time.UnixNano(), dump: l.dumps,
			nat: natOf(fact.NAT.Kinds), state: stateOf(fact.State)})
		l.out = append(l.out, *e)
	case event.NATDestroyed:
		if r == nil || l.reply(r) != reply {
			return // never told of, or told as gone
		}
		if r.created != 0 {
			fact.Age = event.Known(event.Seconds(max(0, e.Time.UnixNano()-r.created)))
		}
		l.drop(k)
		l.out = append(l.out, *e)
	}
}

func tupleOf(t event.Tuple) tuple {
	return tuple{src: t.Src.IP.As16(), dst: t.Dst.IP.As16(), srcPort: t.Src.Port, dstPort: t.Dst.Port}
}

// natOf is the inverse of kinds.
func natOf(kinds []string) (nat uint8) {
	for _, k := range kinds {
		switch k {
		case "snat":
			nat |= statusSrcNAT
		case "dnat":
			nat |= statusDstNAT
		}
	}
	return nat
}

// stateOf is the inverse of stateName.
func stateOf(name string) uint8 {
	for state, n := range stateNames {
		if n == name {
			return uint8(state)
		}
	}
	return 0
}
