package world

import (
	"slices"
	"time"
)

// receive takes a packet that has arrived.
func (e *end) receive(w *World, p *packet) {
	e.segsIn++
	if p.flags&rst != 0 {
		if e.state == synSent || p.seq+window >= e.rcv { // a blind reset far from the window is left aside (RFC 5961)
			e.reset(w)
		}
		return
	}
	switch e.state {
	case synSent:
		if p.flags&(syn|ack) != syn|ack || p.ack != 1 {
			return
		}
		e.rcv = 1
		e.state = established
		e.heard(w, p)
		e.answer(w, nil)
		e.begin(w)
		return
	case synRecv:
		if p.flags&syn != 0 { // it did not hear our answer
			e.transmit(w, &e.segs[0])
			return
		}
		if p.ack < 1 {
			return
		}
		e.state = established
		e.heard(w, p)
		e.begin(w)
	default:
		if p.flags&syn != 0 { // our acknowledgement was lost
			e.answer(w, nil)
			return
		}
		e.heard(w, p)
	}
	if e.state == closed {
		return
	}
	switch {
	case p.n > 0:
		e.take(w, p)
	case p.flags&fin != 0:
		e.takeFin(w, p)
	case p.seq < e.rcv: // a probe
		e.answer(w, nil)
	}
}

// heard folds the acknowledgement of a packet.
func (e *end) heard(w *World, p *packet) {
	e.received = w.now
	e.probes = 0
	if p.sackTo > 0 {
		e.sack(w, p)
	}
	if p.ack > e.nxt || p.ack < e.una {
		return
	}
	opened := e.peerWnd == 0 && p.wnd > 0
	if p.ack >= e.una {
		e.peerWnd = p.wnd
	}
	if p.wnd > 0 {
		e.zeroAt = 0
	}
	if p.ack > e.una {
		e.acked(w, p.ack)
	} else if len(e.segs) == 0 {
		e.hungAt = 0 // a probe is answered
	}
	if opened && e.timer == timerProbe0 {
		e.timer, e.backoff = timerNone, 0
	}
	e.push(w)
}

// acked takes what is acknowledged off the queue.
func (e *end) acked(w *World, upTo uint64) {
	n := 0
	var sample time.Duration
	finished := false
	for n < len(e.segs) && e.segs[n].end <= upTo {
		if s := &e.segs[n]; !s.again {
			sample = time.Duration(w.now - s.sent)
		}
		finished = finished || e.segs[n].flags&fin != 0
		n++
	}
	e.segs = slices.Delete(e.segs, 0, n)
	e.una = upTo
	if sample > 0 || e.srtt == 0 {
		if e.srtt == 0 {
			e.srtt = max(sample, time.Millisecond)
		} else {
			e.srtt += (sample - e.srtt) / 8
		}
	}
	e.rto = e.srtt + minRTO
	wasLost := e.retrans > 0
	e.retrans, e.backoff, e.stamp, e.probed = 0, 0, 0, false
	e.hungAt = 0
	if len(e.segs) > 0 {
		e.hungAt = e.segs[0].sent
		e.arm(w, timerRTO, e.rto)
		if wasLost || e.segs[0].lost {
			e.resend(w, "rto")
			e.resend(w, "rto")
		}
		if !e.segs[0].lost && !e.segs[0].again {
			e.tail(w)
		}
	} else if e.timer != timerProbe0 {
		e.timer = timerNone
	}
	if finished {
		e.finAcked(w)
	}
}

// sack notes what arrived out of order; what was sent before it and is still out is lost (RFC 8985 6).
func (e *end) sack(w *World, p *packet) {
	for i := range e.segs {
		if s := &e.segs[i]; s.seq >= p.sackFrom && s.end <= p.sackTo {
			s.sacked = true
		}
	}
	if e.retrans > 0 {
		return
	}
	for i := range e.segs {
		s := &e.segs[i]
		if s.sacked || s.end > p.sackFrom || s.again && w.now-s.sent < int64(e.srtt) {
			continue
		}
		s.again, s.sent = true, w.now
		e.resent++
		e.tellRetransmit(w, "fast")
		e.transmit(w, s)
	}
}

// take takes data in.
func (e *end) take(w *World, p *packet) {
	end := p.seq + uint64(p.n)
	switch {
	case end <= e.rcv:
		e.answer(w, nil) // again what we have
		return
	case p.seq > e.rcv:
		e.ooo = append(e.ooo, segment{seq: p.seq, end: end})
		e.answer(w, p)
		return
	case e.unread+p.n > window:
		e.answer(w, nil) // no room
		return
	}
	before := e.rcv
	e.rcv = end
	for again := true; again; {
		again = false
		for i, s := range e.ooo {
			if s.seq <= e.rcv {
				e.rcv = max(e.rcv, s.end)
				e.ooo = slices.Delete(e.ooo, i, i+1)
				again = true
				break
			}
		}
	}
	got := int(e.rcv - before)
	if e.hung || e.place.listeners[e.local.port] != nil && e.place.listeners[e.local.port].hung && e.server {
		e.unread += got
	}
	if e.replies() && e.state == established && len(e.segs) < congestion {
		e.write += uint64(e.conn.load.size())
		before := e.segsOut
		e.push(w)
		if e.segsOut > before {
			return // the answer carries the acknowledgement
		}
	}
	e.answer(w, nil)
}

// replies says whether the application answers what it is told.
func (e *end) replies() bool {
	return e.server && !e.hung && e.conn.load.answers()
}

// read lets an application read all that waits.
func (e *end) read(w *World) {
	e.hung = false
	if e.unread > 0 && e.state == established {
		shut := e.room() < mss
		e.unread = 0
		if shut {
			e.answer(w, nil)
		}
	}
}
