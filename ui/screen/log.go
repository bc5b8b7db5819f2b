package screen

import (
	"slices"
	"sync"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
)

// Log keeps the newest events for the log screen. Writers never wait for a reader: both hold the lock for a copy only.
// Notable events (report.Notable) are kept apart, so that a flood of facts does not push them out.
type Log struct {
	mu      sync.Mutex
	notable ring
	all     ring
	total   uint64
	life    uint64 // how often it began anew
}

// NewLog returns a log of the newest size notable events and as many of any kind.
func NewLog(size int) *Log {
	return &Log{notable: ring{size: size}, all: ring{size: size}}
}

// Write adds events; it keeps no reference to the slice.
func (l *Log) Write(events []event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range events {
		l.total++
		l.all.add(l.total, events[i])
		if report.Notable(&events[i]) {
			l.notable.add(l.total, events[i])
		}
	}
}

// Total is how many events were written so far.
func (l *Log) Total() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Life tells whether the log has begun anew since it was looked at.
func (l *Log) Life() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// Become takes over what another log holds, which must not be used any more.
func (l *Log) Become(other *Log) {
	other.mu.Lock()
	defer other.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notable, l.all, l.total = other.notable, other.all, other.total
	l.life++
}

// About returns the newest n events, oldest first, that are about one socket: those that carry its cookie, or its flow
// where the kernel could not tell a cookie.
func (l *Log) About(cookie uint64, flow string, until uint64, n int) []Entry {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Entry
	count := len(l.all.items)
	for i := count - 1; i >= 0 && len(out) < n; i-- {
		e := &l.all.items[(l.all.next+i)%count]
		if until > 0 && e.N > until {
			continue
		}
		if about(&e.Event, cookie, flow) {
			out = append(out, *e)
		}
	}
	slices.Reverse(out)
	return out
}

func about(e *event.Event, cookie uint64, flow string) bool {
	var s *event.Socket
	switch b := e.Body.(type) {
	case *event.TCPFact:
		s = &b.Socket
	case *event.Stall:
		s = &b.Socket
	default:
		return false
	}
	if cookie != 0 && s.Cookie != 0 {
		return s.Cookie == cookie
	}
	return event.FlowID(s.Local, s.Peer) == flow
}

// Entry is one event with its number in the log.
type Entry struct {
	N uint64
	event.Event
}

// Tail returns the newest n events up to number until, oldest first; until 0 means all.
func (l *Log) Tail(n int, until uint64, notable bool) []Entry {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.all
	if notable {
		r = &l.notable
	}
	return r.tail(n, until)
}

// ring grows up to size, then overwrites the oldest.
type ring struct {
	size  int
	next  int
	items []Entry
}

func (r *ring) add(n uint64, e event.Event) {
	if len(r.items) < r.size {
		r.items = append(r.items, Entry{n, e})
		return
	}
	r.items[r.next] = Entry{n, e}
	r.next = (r.next + 1) % r.size
}

func (r *ring) tail(n int, until uint64) []Entry {
	count := len(r.items)
	end := count // positions counted from the oldest
	for until > 0 && end > 0 && r.items[(r.next+end-1)%count].N > until {
		end--
	}
	start := max(0, end-n)
	out := make([]Entry, 0, end-start)
	for i := start; i < end; i++ {
		out = append(out, r.items[(r.next+i)%count])
	}
	return out
}
