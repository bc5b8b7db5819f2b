package world

import (
	"time"
)

// outOfTime says whether the retransmission timer finds that it has tried for long enough. For connections being set up that
// is a number of attempts; for others tcp_retries2 stands for the time that so many retransmissions would take that begin
// TCP_RTO_MIN apart and double (ip-sysctl.rst: 15 are 924.6 seconds); TCP_USER_TIMEOUT says a time itself (tcp(7)).
func (e *end) outOfTime(w *World) bool {
	user := e.limits.UserTimeout.Duration()
	switch {
	case e.state == synSent:
		return int(e.retrans) >= synRetries || user > 0 && w.now-e.begun >= int64(user)
	case e.state == synRecv:
		return e.retrans >= 5 // tcp_synack_retries
	case e.retrans == 0:
		return false
	case user > 0:
		return w.now-e.stamp >= int64(user)
	}
	tries := int(e.limits.Retries2)
	if e.orphan {
		tries = 8 // tcp_orphan_retries: what 0 means
	}
	limit, pause := time.Duration(0), minRTO
	for range tries + 1 {
		limit += pause
		pause = min(2*pause, maxRTO)
	}
	return w.now-e.stamp >= int64(limit)
}

// giveUp ends a socket whose peer does not answer.
func (e *end) giveUp(w *World) { e.finish(w, "abort", "ETIMEDOUT") }

// reset ends a socket that got a reset.
func (e *end) reset(w *World) {
	errno := "ECONNRESET"
	if e.state == synSent {
		errno = "ECONNREFUSED"
	}
	e.received = w.now
	if e.conn.blamed == 0 && e.lostBy != 0 {
		e.conn.blame(e.lostBy, w.now)
	}
	e.tellReset(w)
	e.finish(w, "rst", errno)
}

// finish ends a socket. Errno is empty where nobody is told of an error.
func (e *end) finish(w *World, how, errno string) {
	if e.state == closed {
		return
	}
	trouble := e.retrans > 0 || e.probes > 0
	e.tellClosed(w, how, trouble || errno != "")
	before := e.state
	e.state = closed
	if errno != "" && before != synRecv {
		e.tellError(w, errno)
	}
	e.why, e.endedAt, e.timer = how, w.now, timerNone
	w.ended(e, how)
	delete(e.place.socks, tuple{e.local, e.peer})
}

// watch arms the keepalive timer.
func (e *end) keep(w *World) {
	if !e.limits.Keepalive {
		return
	}
	e.keepAt = w.now + int64(e.limits.KeepaliveTime)
	if e.keepSet == 0 {
		e.keepSet = e.keepAt
		w.queue.push(due{at: e.keepAt, kind: doKeep, end: e})
	}
}

// keepalive is the firing of that timer: after keepalive_time of silence it probes, and gives up when keepalive_probes went
// unanswered, keepalive_intvl apart (tcp(7)). Data in flight keeps it from judging; TCP_USER_TIMEOUT takes the place of the
// number of probes.
func (e *end) keepalive(w *World) {
	e.keepSet = 0
	if e.absent || e.state == closed || e.state == synSent || e.state == synRecv {
		return
	}
	time0 := int64(e.limits.KeepaliveTime)
	next := time0
	switch elapsed := w.now - e.received; {
	case !e.place.runs():
		next = int64(100 * time.Millisecond)
	case len(e.segs) > 0 || e.nxt < e.write:
	case elapsed < time0:
		next = time0 - elapsed
	default:
		user := e.limits.UserTimeout.Duration()
		if user > 0 && elapsed >= int64(user) && e.probes > 0 || user == 0 && e.probes >= e.limits.KeepaliveProbes {
			p := w.packet() // it says goodbye with a reset (tcp_send_active_reset)
			p.tuple, p.flags, p.seq, p.conn = tuple{e.local, e.peer}, rst, e.nxt, e.conn
			w.send(e.place, p)
			e.giveUp(w)
			return
		}
		e.probes++
		e.tellProbe(w, "keepalive")
		e.ping(w)
		next = int64(e.limits.KeepaliveInterval)
	}
	e.keepAt = w.now + next
	e.keepSet = e.keepAt
	w.queue.push(due{at: e.keepAt, kind: doKeep, end: e})
}

// close is what an application does with a socket that it does not need any more.
func (e *end) close(w *World) {
	switch e.state {
	case established:
		e.state = finWait1
	case closeWait:
		e.state = lastAck
	case synSent, synRecv:
		e.finish(w, "app", "")
		return
	default:
		return
	}
	e.orphan = true
	e.write = e.nxt // what was not sent yet is let go: a simplification that no verdict reads
	e.emit(w, fin, 1)
	if e.timer == timerNone {
		e.arm(w, timerRTO, e.rto)
	}
}

func (e *end) finAcked(w *World) {
	switch e.state {
	case finWait1:
		e.state = finWait2
		if e.finRcv {
			e.finish(w, "fin", "")
		}
	case lastAck:
		e.finish(w, "fin", "")
	}
}

func (e *end) takeFin(w *World, p *packet) {
	if p.seq != e.rcv && !(p.seq < e.rcv && e.finRcv) {
		return
	}
	if !e.finRcv {
		e.rcv++
		e.finRcv = true
	}
	e.answer(w, nil)
	switch e.state {
	case established:
		e.state = closeWait
		if !e.hung {
			e.close(w)
		}
	case finWait2: // time_wait, of which the census sees nothing
		e.finish(w, "fin", "")
	}
}
