package world

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// What the kernel does not let anybody set, or what its defaults are.
const (
	mss         = 1448
	initialRTO  = time.Second            // RFC 6298 2.1, TCP_TIMEOUT_INIT
	minRTO      = 200 * time.Millisecond // below RFC 6298 2.4 as Linux has it, TCP_RTO_MIN
	maxRTO      = 120 * time.Second      // TCP_RTO_MAX, RFC 6298 2.5 allows any above 60 s
	linearSYNs  = 4                      // tcp_syn_linear_timeouts: so many attempts a second apart before the back-off begins
	synRetries  = 6                      // tcp_syn_retries
	window      = 65536
	congestion  = 10 // segments in flight, the initial window of RFC 6928
	maxMessages = 64 // that an application has written and nobody acknowledged, before it waits
)

// States of an end, in the order of ss's names.
const (
	established = iota
	synSent
	synRecv
	finWait1
	finWait2
	closeWait
	lastAck
	closed
)

var stateNames = [...]string{"established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "close_wait", "last_ack", "close"}

// What the transmission timer is armed for.
const (
	timerNone = iota
	timerRTO
	timerTail
	timerProbe0
)

// conn is a connection with the truth of it.
type conn struct {
	load         *load
	talks        bool
	dialer       *end
	server       *end // nil until it is accepted
	via, gateway *node
	pod          *pod // that dials, nil outside
	extra        time.Duration
	nodes        []int16 // that have translated it
	blamed       int     // the fault that broke it last
	blamedAt     instant
}

func (c *conn) cross(n *node) {
	for _, k := range c.nodes {
		if int(k) == n.id {
			return
		}
	}
	c.nodes = append(c.nodes, int16(n.id))
}

func (c *conn) blame(fault int, at instant) { c.blamed, c.blamedAt = fault, at }

// segment is one that was sent and not acknowledged yet.
type segment struct {
	seq, end uint64
	sent     instant
	sacked   bool
	again    bool // sent more than once: no sample of the round trip (RFC 6298 3, Karn)
	lost     bool // waits to be sent again
	flags    uint8
}

// end is one socket.
type end struct {
	cookie      uint64
	place       *place
	local, peer endpoint
	conn        *conn
	server      bool
	state       uint8
	orphan      bool
	why         string // closed: fin, rst, abort, app
	limits      *event.Limits

	una, nxt, write uint64
	peerWnd         int
	segs            []segment
	rto, srtt       time.Duration
	backoff         uint8
	retrans         uint8
	probes          uint8
	stamp           instant // of the first retransmission of the running series, 0: none
	begun           instant // of the first attempt to set the connection up
	zeroAt          instant // of the first probe of a window that is shut
	timer           uint8
	probed          bool // a tail loss probe is out
	timerAt         instant
	timerSet        instant // when the queue will look at it, 0: it will not
	keepAt          instant
	keepSet         instant

	rcv      uint64
	ooo      []segment
	unread   int
	hung     bool
	received instant // anything at all
	sentAt   instant // data
	segsOut  uint64
	segsIn   uint64
	resent   uint64
	finRcv   bool

	talks    bool
	lostBy   int // the fault that lost the newest packet of this end
	lostAt   instant
	hungAt   instant // truth: the oldest byte or probe that is not answered was sent then, 0: all is answered
	told     told
	opened   instant
	endedAt  instant
	absent   bool // its machine has vanished with it
	absentBy int
}

// accept makes the socket of a connection that somebody dials.
func (w *World) accept(at *place, p *packet) {
	if p.conn == nil {
		return
	}
	e := w.newEnd(at, p.dst, p.src, p.conn)
	e.server, e.state, e.rcv = true, synRecv, 1
	e.hung = at.listeners[p.dst.port].hung
	p.conn.server = e
	e.received, e.segsIn = w.now, 1
	e.emit(w, syn|ack, 1)
	e.arm(w, timerRTO, e.rto)
}

func (w *World) newEnd(at *place, local, peer endpoint, c *conn) *end {
	w.cookies++
	e := &end{
		cookie: w.cookies, place: at, local: local, peer: peer, conn: c, rto: initialRTO, peerWnd: window,
		limits: c.load.limitsOf(at), opened: w.now,
	}
	if old := at.socks[tuple{local, peer}]; old != nil && old.state != closed {
		old.finish(w, "app", "")
	}
	at.socks[tuple{local, peer}] = e
	at.ends = append(at.ends, e)
	return e
}

// emit sends a segment of flags, new in the sequence by n (a SYN or a FIN is 1).
func (e *end) emit(w *World, flags uint8, n uint64) {
	s := segment{seq: e.nxt, end: e.nxt + n, sent: w.now, flags: flags}
	e.nxt = s.end
	if e.write < e.nxt {
		e.write = e.nxt
	}
	e.segs = append(e.segs, s)
	if e.hungAt == 0 {
		e.hungAt = w.now
	}
	e.transmit(w, &s)
}

// transmit puts one segment on the wire.
func (e *end) transmit(w *World, s *segment) {
	p := w.packet()
	p.tuple, p.from, p.conn = tuple{e.local, e.peer}, e, e.conn
	p.flags, p.seq, p.ack, p.wnd = s.flags|ack, s.seq, e.rcv, e.room()
	if e.state == synSent {
		p.flags = s.flags
	}
	if s.flags&(syn|fin) == 0 {
		p.n = int(s.end - s.seq)
	}
	e.segsOut++
	w.send(e.place, p)
}

// answer sends an acknowledgement without data.
func (e *end) answer(w *World, sack *packet) {
	p := w.packet()
	p.tuple, p.from, p.conn = tuple{e.local, e.peer}, e, e.conn
	p.flags, p.seq, p.ack, p.wnd = ack, e.nxt, e.rcv, e.room()
	if sack != nil {
		p.sackFrom, p.sackTo = sack.seq, sack.seq+uint64(sack.n)
	}
	e.segsOut++
	w.send(e.place, p)
}

// room is the window that is told: nothing before a whole segment fits (RFC 1122 4.2.3.3).
func (e *end) room() int {
	if left := window - e.unread; left >= mss {
		return left
	}
	return 0
}

// push sends what is written as far as the peer's window and the congestion window allow.
func (e *end) push(w *World) {
	if e.state != established && e.state != closeWait {
		return
	}
	first := len(e.segs) == 0
	sent := false
	for e.nxt < e.write && e.retrans == 0 && len(e.segs) < congestion {
		n := min(e.write-e.nxt, mss)
		if e.nxt+n > e.una+uint64(e.peerWnd) {
			break
		}
		e.emit(w, 0, n)
		e.sentAt = w.now
		sent = true
	}
	switch {
	case sent:
		if first {
			e.arm(w, timerRTO, e.rto)
		}
		e.tail(w)
	case len(e.segs) == 0 && e.nxt < e.write && e.timer == timerNone: // the window is shut
		e.arm(w, timerProbe0, e.probe0())
	}
}

// tail arms the tail loss probe (RFC 8985 7.2): two round trips, and what a delayed acknowledgement may take where one
// segment is out, but not later than the retransmission.
func (e *end) tail(w *World) {
	if e.srtt == 0 || e.retrans > 0 || e.probed || e.segs[0].lost { // one probe a flight
		return
	}
	pto := 2 * e.srtt
	if len(e.segs) == 1 {
		pto += minRTO
	} else {
		pto += 8 * time.Millisecond
	}
	if left := time.Duration(e.segs[0].sent + int64(e.rto) - w.now); pto >= left {
		pto = max(0, left)
	}
	e.arm(w, timerTail, pto)
}

// probe0 is the pause before the next probe of a window that is shut.
func (e *end) probe0() time.Duration {
	return min(max(e.rto, minRTO)<<min(e.backoff, 16), maxRTO)
}

func (e *end) arm(w *World, what uint8, d time.Duration) {
	e.timer, e.timerAt = what, w.now+int64(d)
	if what == timerNone {
		return
	}
	if user := e.limits.UserTimeout.Duration(); user > 0 && what == timerRTO && e.stamp != 0 {
		// Cut to fire just when the user timeout has gone by (tcp_clamp_rto_to_user_timeout).
		e.timerAt = min(e.timerAt, max(w.now+int64(time.Millisecond), e.stamp+int64(user)))
	}
	if e.timerSet == 0 || e.timerSet > e.timerAt {
		e.timerSet = e.timerAt
		w.queue.push(due{at: e.timerAt, kind: doXmit, end: e})
	}
}

// fire is called when the queue looks at the transmission timer, which may have been moved since.
func (e *end) fire(w *World, at instant) {
	if e.timerSet != at || e.state == closed || e.absent {
		return
	}
	e.timerSet = 0
	if !e.place.runs() {
		e.timerSet = w.now + int64(100*time.Millisecond) // a machine that stands still goes on later
		w.queue.push(due{at: e.timerSet, kind: doXmit, end: e})
		return
	}
	if e.timer == timerNone {
		return
	}
	if e.timerAt > w.now {
		e.timerSet = e.timerAt
		w.queue.push(due{at: e.timerAt, kind: doXmit, end: e})
		return
	}
	switch e.timer {
	case timerRTO:
		e.retransmit(w)
	case timerTail:
		e.probeTail(w)
	case timerProbe0:
		e.probeWindow(w)
	}
}

func (p *place) runs() bool {
	return (p.node == nil || p.node.runs()) && (p.pod == nil || !p.pod.dead)
}

// probeTail sends new data, or the last segment again.
func (e *end) probeTail(w *World) {
	e.timer = timerNone
	if len(e.segs) == 0 {
		return
	}
	if e.nxt < e.write && len(e.segs) < congestion && e.nxt+min(e.write-e.nxt, mss) <= e.una+uint64(e.peerWnd) {
		e.emit(w, 0, min(e.write-e.nxt, mss))
		e.sentAt = w.now
	} else {
		last := &e.segs[len(e.segs)-1]
		last.again = true
		e.resent++
		e.tellRetransmit(w, "tail_loss")
		e.transmit(w, last)
	}
	e.probed = true
	// The retransmission comes when it would have come without the probe (tcp_rearm_rto).
	e.arm(w, timerRTO, max(4*time.Millisecond, time.Duration(e.segs[0].sent-w.now)+e.rto))
}

// retransmit is the firing of the retransmission timer (RFC 6298 5.4 to 5.6).
func (e *end) retransmit(w *World) {
	if len(e.segs) == 0 {
		e.timer = timerNone
		return
	}
	if e.outOfTime(w) {
		e.giveUp(w)
		return
	}
	if e.retrans == 0 {
		e.stamp = w.now
		if e.state == synSent || e.state == synRecv {
			e.stamp = e.begun
		}
		for i := range e.segs {
			e.segs[i].lost = !e.segs[i].sacked
		}
	}
	e.retrans++
	head := &e.segs[0]
	head.again, head.lost = true, false
	e.resent++
	kind := "rto"
	if e.state == synSent {
		kind = "syn"
	}
	e.tellRetransmit(w, kind)
	e.transmit(w, head)
	if !(e.state == synSent && e.retrans <= linearSYNs) {
		e.backoff++
		e.rto = min(2*e.rto, maxRTO)
	}
	e.arm(w, timerRTO, e.rto)
}

// resend sends again what the last timeout has marked as lost, one segment for each acknowledgement.
func (e *end) resend(w *World, kind string) {
	for i := range e.segs {
		if s := &e.segs[i]; s.lost && !s.sacked {
			s.lost, s.again = false, true
			e.resent++
			e.tellRetransmit(w, kind)
			e.transmit(w, s)
			return
		}
	}
}

// probeWindow asks a peer whose window is shut whether it still is.
func (e *end) probeWindow(w *World) {
	if e.nxt >= e.write || len(e.segs) > 0 {
		e.timer = timerNone
		return
	}
	user := e.limits.UserTimeout.Duration()
	if int(e.probes) >= int(e.limits.Retries2) || user > 0 && e.zeroAt != 0 && w.now-e.zeroAt >= int64(user) {
		e.giveUp(w)
		return
	}
	if e.zeroAt == 0 {
		e.zeroAt = w.now
	}
	e.probes++
	e.backoff = min(e.backoff+1, e.limits.Retries2)
	e.tellProbe(w, "window")
	e.ping(w)
	e.arm(w, timerProbe0, e.probe0())
}

// ping sends a segment that the peer has had already, so that it answers.
func (e *end) ping(w *World) {
	p := w.packet()
	p.tuple, p.from, p.conn = tuple{e.local, e.peer}, e, e.conn
	p.flags, p.seq, p.ack, p.wnd = ack, e.una-1, e.rcv, e.room()
	e.segsOut++
	if e.hungAt == 0 {
		e.hungAt = w.now
	}
	w.send(e.place, p)
}
