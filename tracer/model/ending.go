package model

import (
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// fail folds an error that the kernel reported: the end of a connection.
func (m *Model) fail(id uint32, errno string, t int64) {
	r := m.socks.At(id)
	switch errno {
	case "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH": // tcp_write_err: sk_err_soft where one was noted
		if r.flags&(fFailed|fReset) == 0 {
			if m.pend(r).since == 0 {
				m.owe(r).since = t
			}
			m.finish(id, fFailed, EndTimedOut, t)
			m.turn(id, event.TCPTimeout, t, errno)
		}
	case "ECONNRESET", "EPIPE": // tcp_reset
		m.finish(id, fReset, EndReset, t)
	}
	if r.flags&fClosed != 0 {
		m.remove(id)
	}
}

// closed folds the end of a socket. One that its application closed while it was in trouble has been given up. The kernel
// may tell the close before the error that caused it (tcp_done_with_error), so a socket in trouble lingers for it.
func (m *Model) closed(id uint32, how string, t int64) {
	r := m.socks.At(id)
	switch {
	case r.flags&(fFailed|fReset) != 0 || r.status == healthy:
		m.remove(id)
	case how == "app" || how == "relief":
		m.finish(id, fFailed, EndGaveUp, t)
		m.remove(id)
	case how == "rst":
		m.finish(id, fReset, EndReset, t)
		m.remove(id)
	case r.flags&fClosed == 0:
		m.uncount(id)
		r.flags |= fClosed
		m.lingering = append(m.lingering, linger{id, t})
	}
	m.rev++
}

// lingerTime is how long a closed socket waits for the error that closed it: both come from one function of the kernel.
const lingerTime = int64(time.Second)

type linger struct {
	id uint32
	at int64
}

// endLingering lets closed sockets go whose error has not come.
func (m *Model) endLingering(t int64) {
	for len(m.lingering) > 0 && m.lingering[0].at+lingerTime < t {
		l := m.lingering[0]
		m.lingering = m.lingering[1:]
		r := m.socks.At(l.id)
		if r.cell == 0 || r.flags&fClosed == 0 {
			continue // gone meanwhile
		}
		m.finish(l.id, fFailed, EndUnknown, l.at)
		m.remove(l.id)
	}
}

// vanish folds a socket that a census no longer found.
func (m *Model) vanish(id uint32, t int64) {
	r := m.socks.At(id)
	if r.flags&fClosed != 0 {
		return
	}
	if r.status != healthy {
		m.finish(id, fFailed, EndUnknown, t)
	}
	m.remove(id)
	m.rev++
}

// EndKind says how a socket ended.
type EndKind uint8

// The ends.
const (
	EndUnknown  EndKind = iota // gone between two looks
	EndTimedOut                // the kernel gave it up
	EndReset
	EndGaveUp // its application closed it while it was in trouble
	numEnds
)

// Endings counts ends by kind.
type Endings [numEnds]int

// ending is one socket that ended, as incidents count it.
type ending struct {
	at       int64
	received int64 // newest receive, 0 unknown
	kind     EndKind
	lost     Loss   // what had taken its node's entry before, if that was told
	pod, svc uint32 // names
	client   addr   // of a socket that accepted, where a ledger knows it
	far      addr   // of one that dialled, the pod where a ledger knows it
	fact     event.ID
}

// Ended is one socket that ended in trouble or by a reset.
type Ended struct {
	At       Instant
	Received Instant // newest receive, 0 unknown
	Kind     EndKind
	Lost     Loss // what had taken its node's entry before
	Fact     string
}

// EachEnded calls f for the sockets through a hop that ended since then, newest first, until f returns false.
func (m *Model) EachEnded(h *Hop, since Instant, f func(Ended) bool) {
	for _, x := range slices.Backward(m.hops.At(h.id).lost) {
		e := Ended{At: Instant(x.at), Received: Instant(x.received), Kind: x.kind, Lost: x.lost, Fact: idText(x.fact)}
		if e.At < since || !f(e) {
			return
		}
	}
}

// WentOn counts the stalled sockets through a hop that went on since then: what they had sent was acknowledged.
func (m *Model) WentOn(h *Hop, since Instant) (n int, last Instant) {
	for _, at := range slices.Backward(m.hops.At(h.id).wentOn) {
		if Instant(at) < since {
			break
		}
		n, last = n+1, max(last, Instant(at))
	}
	return n, last
}

// maxEndings bounds what a hop remembers of ended sockets; the oldest go first.
const maxEndings = 1 << 16

// finishReset is finish for a socket that its peer's side has reset.
func (m *Model) finishReset(id uint32, ev *event.Event, t int64) {
	r := m.socks.At(id)
	if r.flags&(fFailed|fReset) == 0 && r.flags&fMirror != 0 {
		m.showEnd(id) // the connection ends here, whatever its other end knows
		r = m.socks.At(id)
	}
	m.resetDialled(id, t)
	if r.flags&(fFailed|fReset) == 0 && r.flags&fStranded == 0 && r.flags&fCounted != 0 {
		if node, ok := m.refusedBy(r, t); ok {
			m.recount(id, func(r *row) { r.flags |= fRefused })
			silent := int64(0)
			if r.received != 0 {
				silent = t - r.received
			}
			m.lose(m.strs.text[node], LossRefused, ev, silent, true)
		}
	}
	m.finish(id, fReset, EndReset, t)
}

// finish takes a socket out of the tallies for good and remembers its end, if it was a connection that counts.
func (m *Model) finish(id uint32, flag uint16, kind EndKind, t int64) {
	r := m.socks.At(id)
	if r.flags&(fFailed|fReset) != 0 {
		return
	}
	counted := r.flags&(fCounted|fClosed) != 0
	m.uncount(id)
	r.flags |= flag
	if !counted || r.flags&fSecond != 0 {
		return
	}
	if other := m.otherEnd(id); other != 0 {
		m.socks.At(other).flags |= fSecond
	}
	c := m.cells.At(r.cell)
	e := m.ends.At(c.end)
	x := ending{
		at: t, received: r.received, kind: kind, lost: m.lossOf(id), pod: m.strs.of(e.pod), svc: m.strs.of(e.service),
		fact: event.ID{Origin: m.strs.text[m.own(r).origin], N: r.factN},
	}
	if r.entry != 0 {
		x.client = m.hosts.Addr(m.ledger.entries.At(r.entry).origSrc)
	} else if way := m.wayOf(r); way != 0 {
		x.far = m.hosts.Addr(m.ledger.entries.At(way).replySrc)
	}
	h := m.behind(c)
	h.lost = append(h.lost, x)
	if len(h.lost) > maxEndings {
		h.lost = append([]ending(nil), h.lost[len(h.lost)-maxEndings/2:]...)
		m.evicted["model.endings"] += maxEndings / 2
	}
	m.history.add(kind, t)
	m.remember(id, kind)
	m.urgent++
}
