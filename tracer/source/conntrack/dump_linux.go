package conntrack

import (
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// dumpDue says whether to dump now: when the last is old enough for the budget, at once where something was lost or
// vanished, but never for more than a twentieth of the time.
func (s *Source) dumpDue(now time.Time) bool {
	since := now.Sub(s.dumped)
	if s.wanted {
		return since >= 20*s.cost
	}
	return since >= s.opts.Redump && since >= time.Duration(float64(s.cost)/s.opts.Budget)
}

// mostReserved bounds what is made room for before it is known how many entries are translated.
const mostReserved = 1 << 18

// settleAfter is how long after a dump all facts of the probes have come that tell of anything which the dump saw or did
// not see: they pass a ring that is read every 50 ms at worst.
const settleAfter = time.Second

// dump reads the whole table. Events are held back meanwhile: an entry that the dump tells of and that has ended by then
// is ended by its event afterwards.
func (s *Source) dump() error {
	begin := time.Now()
	s.wanted = false
	s.ledger.timeouts, s.timeoutsAt = readTimeouts(), time.Now()
	s.ledger.beginDump()
	if s.ledger.dumps == 1 {
		s.ledger.index.Reserve(int(min(s.table.last.Entries, mostReserved)))
	}
	held, err := s.readDump()
	if err != nil {
		return err
	}
	for i := range held {
		s.apply(held[i].kind, &held[i].entry, held[i].at)
	}
	switch {
	case s.opts.Probed:
		s.missing, s.settle = s.ledger.missing(), time.Now().Add(settleAfter)
	default:
		if err := s.endMissing(); err != nil {
			return err
		}
		s.ledger.settle(time.Now())
	}
	s.dumped = time.Now()
	s.cost = s.dumped.Sub(begin)
	s.tellOverruns()
	s.tell(s.ledger.take()...)
	s.log.Debug("conntrack dumped", "translated", s.ledger.index.Len(), "put_right", s.ledger.repairs, "took", s.cost)
	return nil
}

// endMissing ends what the dump should have seen and did not. The kernel is asked for each by name: a dump of a table
// that changes may miss an entry, and an entry wrongly called gone would make its node look as if it had lost its table.
// An entry's own event says more, and wins: the kernel sends it before it takes the entry out (nf_ct_delete), and asking
// for an entry that has expired takes it out (nf_ct_gc_expired).
func (s *Source) endMissing() error {
	if err := s.drain(); err != nil {
		return err
	}
	missing := s.ledger.missing()
	absent := missing[:0]
	for i, m := range missing {
		if i%256 == 255 {
			if err := s.drain(); err != nil {
				return err
			}
		}
		if s.absent(m) {
			absent = append(absent, m)
		}
	}
	if err := s.drain(); err != nil {
		return err
	}
	for _, m := range absent {
		s.ledger.gone(m, time.Now())
	}
	return nil
}

// settleDump decides what a dump left open where probes tell.
func (s *Source) settleDump(now time.Time) {
	for _, m := range s.missing {
		if r := s.ledger.find(m.key); r != nil && r.id == m.id && r.dump != s.ledger.dumps && s.absent(m) {
			s.ledger.gone(m, now)
		}
	}
	s.missing = nil
	s.ledger.settle(now)
}

// drain takes all events that the kernel has for now.
func (s *Source) drain() error {
	for {
		drained, err := s.receive(false, s.apply)
		if drained || err != nil {
			return err
		}
	}
}

// tellOverruns tells that events were lost, and how many at least: what the dump after it had to put right.
func (s *Source) tellOverruns() {
	if s.overruns == 0 {
		return
	}
	s.tell(event.Event{Type: event.StreamLost, Time: time.Now().UTC(),
		Body: &event.Lost{Stage: "netlink", Count: max(s.overruns, s.ledger.repairs), Since: s.lostFrom.UTC()}})
	s.overruns = 0
}

type heldEvent struct {
	entry entry
	kind  uint16
	at    time.Time
}

// readDump feeds the ledger with the table, and returns the events that came meanwhile.
func (s *Source) readDump() (held []heldEvent, err error) {
	each := func(m message) {
		if e, ok := parse(m.attributes()); ok && m.kind == msgNew {
			s.ledger.seen(&e, time.Now())
		}
	}
	between := func() error {
		if s.opts.Probed {
			return nil
		}
		_, err := s.receive(false, func(kind uint16, e *entry, at time.Time) {
			held = append(held, heldEvent{*e, kind, at})
		})
		if len(s.ledger.out) >= fullBatch {
			s.tell(s.ledger.take()...)
		}
		return err
	}
	if err := s.dumps.query(msgGet, netlink.Dump, unix.AF_UNSPEC, nil, each, between); err != nil {
		return nil, fmt.Errorf("dumping the conntrack table: %w", err)
	}
	return held, nil
}

// absent says whether the kernel has no such entry, or another with the same tuple. Not knowing is not absence.
func (s *Source) absent(m missing) bool {
	family := byte(unix.AF_INET)
	if m.key.original.endpoints().Src.IP.Is6() {
		family = unix.AF_INET6
	}
	same := false
	err := s.dumps.query(msgGet, 0, family, appendKey(nil, m.key), func(answer message) {
		if e, ok := parse(answer.attributes()); ok && (e.id == m.id || m.id == 0) {
			same = true
		}
	}, nil)
	if err != nil {
		return errors.Is(err, unix.ENOENT)
	}
	return !same
}
