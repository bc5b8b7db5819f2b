package conntrack

import (
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// probe gives a ledger what a probe would tell of a test entry.
func probe(l *ledger, typ event.Type, e *entry, seconds float64, why string) {
	fact := &event.NATFact{
		NAT:  event.NAT{Proto: "tcp", Original: e.original.endpoints(), Reply: e.reply.endpoints(), Kinds: kinds(e.nat), Zone: e.zone},
		Rung: "fexit", State: stateName(e.state), Why: why,
	}
	l.probed(&event.Event{Type: typ, Time: at(seconds), Body: fact}, fact)
}

// Whatever the order in which a dump and the probes tell of an entry, it is told once.
func TestProbedOnce(t *testing.T) {
	e := testEntry(1, stateEstablished, 100)

	l := testLedger()
	probe(l, event.NATCreated, e, 0, "")
	want(t, l, "created")
	l.beginDump()
	l.seen(e, at(1)) // now its id is known
	if m := l.missing(); len(m) != 0 {
		t.Errorf("missing %v", m)
	}
	probe(l, event.NATDestroyed, e, 2.5, "closed")
	want(t, l, "destroyed closed 2.5s")
	probe(l, event.NATDestroyed, e, 2.5, "closed")
	want(t, l, "")

	l = testLedger()
	l.beginDump()
	l.seen(e, at(1))
	want(t, l, "found")
	probe(l, event.NATCreated, e, 1, "") // was on its way
	want(t, l, "")
	probe(l, event.NATDestroyed, e, 3, "timeout")
	want(t, l, "destroyed timeout")
	if l.older != 0 || l.index.Len() != 0 {
		t.Errorf("%d older, %d known", l.older, l.index.Len())
	}
}

// An entry that only a later dump knows is in doubt until what was on its way has come.
func TestDoubt(t *testing.T) {
	created, gone, lost := testEntry(1, stateEstablished, 100), testEntry(2, stateEstablished, 100), testEntry(3, stateEstablished, 100)
	l := testLedger()
	l.beginDump()
	l.beginDump()
	for _, e := range []*entry{created, gone, lost} {
		l.seen(e, at(1))
	}
	want(t, l, "")
	probe(l, event.NATCreated, created, 0.9, "")
	probe(l, event.NATCreated, gone, 0.9, "")
	probe(l, event.NATDestroyed, gone, 1.1, "closed")
	want(t, l, "created, created, destroyed closed 200ms")
	l.settle(at(2))
	want(t, l, "found")

	l = testLedger()
	l.beginDump()
	l.beginDump()
	l.seen(created, at(1))
	l.created(created, at(1.1))
	l.settle(at(2))
	want(t, l, "created")
}

// What nobody saw end is told with the interval in which it did.
func TestMissedEnd(t *testing.T) {
	e := testEntry(1, stateEstablished, 100)
	l := testLedger()
	l.beginDump()
	l.seen(e, at(1))
	want(t, l, "found")
	l.beginDump()
	m := l.missing()
	if len(m) != 1 {
		t.Fatalf("missing %v", m)
	}
	l.gone(m[0], at(61))
	out := l.take()
	if len(out) != 1 {
		t.Fatalf("told %v", out)
	}
	f := out[0].Body.(*event.NATFact)
	if f.Why != "unknown" || !f.Since.OK || !f.Since.V.Equal(at(1)) || out[0].Time.Sub(f.Since.V) != time.Minute {
		t.Errorf("told %+v at %v", f, out[0].Time)
	}
}

// The inbox is bounded: what it cannot hold is counted, told, and made good by a dump.
func TestInboxOverflows(t *testing.T) {
	s := &Source{ledger: testLedger(), inbox: inbox{more: make(chan struct{}, 1)}}
	batch := make([]event.Event, maxInbox+5)
	for i := range batch {
		batch[i] = event.Event{Type: event.NATDestroyed, Time: at(1), Body: &event.NATFact{}}
	}
	s.Take(batch)
	s.empty()
	out := s.ledger.take()
	if len(out) != 1 || out[0].Body.(*event.Lost).Count != 5 || !s.wanted {
		t.Errorf("told %+v, dump wanted %v", out, s.wanted)
	}
}
