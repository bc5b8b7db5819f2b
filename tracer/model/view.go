package model

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Instant is a moment of event time in nanoseconds since 1970; 0 is unknown.
type Instant int64

// Time returns the instant as a time in UTC, the zero time where it is unknown.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i)).UTC()
}

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// InstantOf returns a time as an instant.
func InstantOf(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixNano())
}

// view shows a socket as tables do. named tells hops that incidents name; it may be nil.
func (m *Model) view(id uint32, named map[HopKey]Named) SocketView {
	r := m.socks.At(id)
	d := m.deadline(r)
	v := SocketView{
		Key: m.key(r, id), Source: m.watchers[m.own(r).src].source, Socket: m.socketOf(r),
		Role: event.Role(m.words.text[r.role]), Status: StatusOK,
		TCP: m.progressOf(r), Limits: m.limits[m.own(r).limits],
		Seen: Instant(r.seen).Time(), LastHeard: Instant(r.received).Time(), Since: Instant(m.pend(r).since).Time(), Clock: d.Clock,
	}
	v.Client, v.VIP = m.clientOf(r)
	if r.cell != 0 {
		v.Via = *m.viaOf(r)
		m.behindService(r, &v.Via)
	}
	switch r.status {
	case atRisk:
		v.Status = StatusAtRisk
		if r.flags&fCounted != 0 && named[m.behind(m.cells.At(r.cell)).key].Gone {
			v.Status = StatusPresumed
		}
	case stalled:
		v.Status = StatusStalled
	default:
		if r.flags&fCounted == 0 {
			return v
		}
		h := m.behind(m.cells.At(r.cell))
		n := named[h.key]
		if !n.Gone && r.flags&fStranded == 0 {
			return v
		}
		v.Status = StatusPresumed
		d = presumedDeadline(v, n.Since)
	}
	v.Deadline, v.DeadlineIs = d.At, d.Is
	return v
}

// presumedDeadline is when a socket gives up that has not noticed yet that its hop has been gone since then. A socket with
// keepalive has received something in the keepalive time before that, or it would have noticed.
func presumedDeadline(v SocketView, since Instant) Deadline {
	received := v.LastHeard
	if at := since.Time().Add(-v.Limits.KeepaliveTime.Duration()); received.Before(at) {
		received = at
	}
	d := DeadlineOf(v.TCP, v.Limits, v.Seen, received)
	if received != v.LastHeard && !d.At.IsZero() {
		d.Is = LowerBound
	}
	return d
}

// key tells a socket from all others while it lives: by its cookie, else by its place in the table.
func (m *Model) key(r *row, id uint32) uint64 {
	if r.cookie == 0 {
		return uint64(m.own(r).src)<<40 ^ uint64(id) ^ 1<<63
	}
	return uint64(m.own(r).src)<<40 ^ r.cookie
}

// behindService adds what the own node's ledger knows of a socket that dialled a service: the backend that the node
// translated it to, and where that stands.
func (m *Model) behindService(r *row, via *event.Via) {
	if via.Role != event.ViaLocal || r.entry != 0 {
		return
	}
	e := m.dialled(m.tuple(r))
	if e == 0 || m.ledger.entries.At(e).node != m.watchers[m.own(r).src].node {
		return
	}
	backend := m.hosts.Addr(m.ledger.entries.At(e).replySrc).IP()
	to := backend.String()
	if pod := m.inv.podByIP[backend]; pod != "" {
		to = pod + " at " + to
		if node := m.inv.pods[pod].Node; node != "" {
			to += " on " + node
		}
	}
	via.Because += ", to " + to
	via.Sure = event.Proved
}
