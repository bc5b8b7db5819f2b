package conntrack

import (
	"context"
	"errors"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/tick"
)

func (s *Source) run(ctx context.Context) error {
	if err := s.dump(); err != nil {
		return err
	}
	s.tell(event.Event{Type: event.StreamSynced, Time: time.Now().UTC(), Body: &event.Synced{Fact: "nat"}})
	nextPoll := time.Now()
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(nextPoll) {
			next := tick.Next(s.opts.Poll)
			nextPoll = time.Now().Add(next) // asked for after it, or it would come a little too soon, and twice
			if err := s.poll(now); err != nil {
				return err
			}
		}
		if s.dumpDue(now) {
			if err := s.dump(); err != nil {
				return err
			}
		}
		if err := s.wait(ctx, nextPoll); err != nil {
			return err
		}
		s.tell(s.ledger.take()...)
		if want := s.again.Swap(nil); want != nil {
			s.ledger.restate(*want, time.Now(), func() { s.tell(s.ledger.take()...) })
		}
	}
	return nil
}

// wait takes what is told until a moment, or returns earlier with something.
func (s *Source) wait(ctx context.Context, until time.Time) error {
	if !s.opts.Probed {
		if err := s.events.deadline(until); err != nil {
			return err
		}
		return s.listen(true)
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-s.inbox.more:
	}
	s.empty()
	if now := time.Now(); !s.settle.IsZero() && !now.Before(s.settle) {
		s.settle = time.Time{}
		s.settleDump(now)
	}
	return nil
}

func (s *Source) tell(batch ...event.Event) {
	if len(batch) > 0 {
		s.emit(batch)
	}
}

// listen reads the events that there are; with wait, it first waits for one.
func (s *Source) listen(wait bool) error {
	_, err := s.receive(wait, s.apply)
	return err
}

func (s *Source) apply(kind uint16, e *entry, at time.Time) {
	switch kind {
	case msgNew:
		s.ledger.created(e, at)
	case msgDelete:
		if at.Sub(s.timeoutsAt) >= time.Second { // whoever shortens them makes entries go earlier than was known
			s.ledger.timeouts, s.timeoutsAt = readTimeouts(), at
		}
		s.ledger.destroyed(e, at)
	}
}

// batch is how many datagrams of events are read in one go.
const batch = 1024

// receive hands events to take. Drained says that the kernel has no more for now.
func (s *Source) receive(wait bool, take func(kind uint16, e *entry, at time.Time)) (drained bool, err error) {
	var now time.Time
	for range batch {
		datagram, err := s.events.receive(wait)
		wait = false
		if now.IsZero() {
			now = time.Now()
		}
		switch {
		case errors.Is(err, errOverrun):
			if s.overruns == 0 {
				s.lostFrom = now
			}
			s.overruns++
			s.wanted = true
			continue
		case err != nil:
			return false, err
		case datagram == nil:
			return true, nil
		}
		err = messages(datagram, func(m message) error {
			if e, ok := parse(m.attributes()); ok {
				take(m.kind, &e, now)
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// poll looks at the table's fill and losses.
func (s *Source) poll(now time.Time) error {
	fact, shrunk, err := s.table.look(now)
	if err != nil {
		return err
	}
	s.translated = s.translated || s.ledger.rows.Len() > 0
	if fact != nil {
		fact.Translates = event.Known(s.translated)
		s.tell(event.Event{Type: event.NATTable, Time: now.UTC(), Body: fact})
	}
	if shrunk && s.ledger.older > 0 && !s.opts.Probed {
		s.wanted = true // entries may have gone whose end no event tells
	}
	return nil
}
