package model

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// applySockets folds one chunk of a census.
func (m *Model) applySockets(ev *event.Event, b *event.Sockets, src uint32, t int64) {
	for i := range b.Rows {
		r := &b.Rows[i]
		switch {
		case r.Role == event.RoleListening || r.TCP.State == "listen":
			continue
		case r.Change == event.SocketGone:
			if id := m.find(src, &r.Socket); id != 0 {
				m.name(id, &r.Socket, &r.Via)
				m.vanish(id, t)
			}
			continue
		}
		id := m.findOrAdd(src, &r.Socket, r.Role, born(&r.TCP, t))
		if id == 0 {
			continue
		}
		if r.Limits >= 0 && r.Limits < len(b.Limits) {
			m.setLimits(id, &b.Limits[r.Limits])
		}
		m.progress(id, ev, &r.TCP, t)
		m.name(id, &r.Socket, &r.Via)
	}
}

// applyTCP folds what a hook saw of one socket.
func (m *Model) applyTCP(ev *event.Event, b *event.TCPFact, src uint32, t int64) {
	if b.Reset != nil && b.Reset.By == "nobody's" {
		m.refused(ev, &b.Socket, src, t)
		return // there is no socket, and none may be found by its tuple
	}
	var id uint32
	if ev.Type == event.TCPRetransmit || ev.Type == event.TCPProbe {
		id = m.findOrAdd(src, &b.Socket, event.RoleUnknown, born(&b.TCP, t))
	} else {
		id = m.find(src, &b.Socket)
	}
	if id == 0 {
		return
	}
	if b.Limits != nil {
		m.setLimits(id, b.Limits)
	}
	if ev.Type == event.TCPRetransmit {
		m.peers.At(m.cells.At(m.socks.At(id).cell).peer).retrans++
		m.resent(id, b.TCP.Retransmits >= 2)
		if b.TCP.Kind == "syn" {
			m.behind(m.cells.At(m.socks.At(id).cell)).attempt(ev.ID, t)
			m.urgent++
		}
	}
	m.name(id, &b.Socket, &b.Via)
	switch {
	case ev.Type == event.TCPError: // before the progress, which may tell the state after the end
		m.fail(id, b.Errno, t)
	case ev.Type == event.TCPReset && b.Reset != nil && b.Reset.By == "peer":
		m.hear(id, &b.TCP, t) // before the end: how long it had been silent by then is known from this fact alone
		m.finishReset(id, ev, t)
	case ev.Type == event.TCPClosed:
		m.closed(id, b.How, t)
		return
	}
	m.progress(id, ev, &b.TCP, t)
}

// name fills in what the fold knows and the fact leaves out.
func (m *Model) name(id uint32, s *event.Socket, via **event.Via) {
	r := m.socks.At(id)
	if s.K8s == nil {
		s.K8s = m.refOf(r)
	}
	if *via == nil {
		*via = m.viaOf(r)
	}
}

func (m *Model) setLimits(id uint32, l *event.Limits) {
	n, ok := m.limitsID[*l]
	if !ok {
		n = uint32(len(m.limits))
		m.limits = append(m.limits, *l)
		m.limitsID[*l] = n
	}
	r := m.socks.At(id)
	o := *m.own(r)
	o.limits = n
	m.disown(r, o)
	m.cells.At(r.cell).limits = n
}

// hear folds when a socket received something last. Of a healthy one no fact tells that for as long as it is well.
func (m *Model) hear(id uint32, p *event.Progress, t int64) {
	r := m.socks.At(id)
	at := t - int64(p.ReceivedAge.V)
	if !p.ReceivedAge.OK || at <= r.received {
		return
	}
	r.received = at
	m.heardThrough(m.cells.At(r.cell).peer, at)
	m.rescue(id, at)
}

// progress folds what the kernel knew of a socket's exchange at t.
func (m *Model) progress(id uint32, ev *event.Event, p *event.Progress, t int64) {
	m.hear(id, p, t)
	r := m.socks.At(id)
	if t < r.seen {
		return // an older look than the one that is known
	}
	r.seen = t
	r.factN = ev.ID.N
	if o := *m.own(r); m.strs.text[o.origin] != ev.ID.Origin {
		o.origin = m.strs.of(ev.ID.Origin)
		m.disown(r, o)
	}
	pe := m.peers.At(m.cells.At(r.cell).peer)
	pe.factID, pe.factAt = ev.ID, t
	before, stuck := r.state, m.pend(r).retrans >= 2 && m.pend(r).unacked >= LargeBytes
	r.state = m.words.small(p.State)
	r.timer = m.words.small(string(p.Timer))
	if r.pending != 0 || p.Kind != "" || p.Retransmits|p.Backoff|p.ProbesOut != 0 || p.Unacked|p.Unsent != 0 || p.StalledAge.OK {
		o := m.owe(r)
		if stuck && p.Retransmits < o.retrans && alive(p.State) { // each acknowledgement begins the series anew
			h := m.behind(m.cells.At(r.cell))
			h.large = max(h.large, t)
		}
		o.kind, o.retrans, o.backoff, o.probes = m.words.small(p.Kind), p.Retransmits, p.Backoff, p.ProbesOut
		o.unacked, o.unsent, o.stalledAt = p.Unacked, p.Unsent, 0
	}
	r.rto = micros(p.RTO)
	r.flags &^= fTimerIn | fSRTT | fWindow | fSent | fStalled
	if p.TimerIn.OK {
		r.flags |= fTimerIn
		r.timerAt = t + int64(p.TimerIn.V)
	}
	if p.SRTT.OK {
		r.flags |= fSRTT
		r.srtt = micros(p.SRTT.V)
	}
	if p.SendWindow.OK {
		r.flags |= fWindow
		r.window = p.SendWindow.V
	}
	if p.SentAge.OK {
		r.flags |= fSent
		r.sentAt = t - int64(p.SentAge.V)
	}
	if p.StalledAge.OK {
		r.flags |= fStalled
		m.owe(r).stalledAt = t - int64(p.StalledAge.V)
	}
	m.shutting(id, p, t)
	if p.Orphan && r.flags&fOrphan == 0 {
		m.uncount(id)
		r.flags |= fOrphan
		m.unhide(m.otherEnd(id)) // who dialled does not know yet that nobody is there any more
	}
	if before != r.state {
		if !alive(p.State) {
			m.uncount(id)
		} else if r.flags&fCounted == 0 {
			m.count(id)
		}
	}
	m.trouble(id, t)
	m.dialling(id)
	m.unpend(m.socks.At(id))
}

// trouble follows a socket into a stall and out of it. Only what is unanswered counts: a window that its peer keeps shut
// but acknowledges has no probe out (tcp_ack sets icsk_probes_out back), and is no trouble of the path.
func (m *Model) trouble(id uint32, t int64) {
	r := m.socks.At(id)
	if r.flags&(fFailed|fReset|fClosed) != 0 {
		return
	}
	is := healthy
	switch {
	case m.pend(r).retrans >= 2 || m.pend(r).probes >= 2:
		is = stalled
	case m.pend(r).retrans == 1 || m.pend(r).probes == 1:
		is = atRisk
	}
	was := r.status
	if is != healthy {
		p := m.owe(r)
		again := anew(r, p)
		if again {
			m.acknowledged(id, t)
		}
		if was == healthy || again {
			p.first, p.since = t, m.firstSign(r, t)
		}
		p.sign = t
	}
	if is == was {
		if is != healthy && r.flags&fMirror != 0 {
			m.pairUp(id) // the other end may have fallen silent meanwhile
		}
		return
	}
	if is < was {
		m.acknowledged(id, t)
	}
	m.setStatus(id, is)
	m.pairUp(id)
	r = m.socks.At(id)
	switch {
	case is == stalled:
		m.turn(id, event.TCPStall, t, "")
	case is == healthy && was == stalled:
		m.turn(id, event.TCPRecovered, t, "")
	}
	if is == healthy {
		p := m.owe(r)
		p.since, p.first, p.sign = 0, 0, 0
		if m.peers.At(m.cells.At(r.cell).peer).past {
			m.succeed(id)
		}
	}
}

// acknowledged notes that what a socket in trouble had sent was acknowledged, or its probe answered: the kernel counts its
// attempts from nothing again. That something arrived is less: the other side sends again too what it hears nothing of.
func (m *Model) acknowledged(id uint32, t int64) {
	r := m.socks.At(id)
	at := t
	if r.received > m.pend(r).sign-grain && r.received <= t {
		at = r.received
	}
	h := m.behind(m.cells.At(r.cell))
	h.revived = max(h.revived, at)
	if r.status == stalled && r.flags&fCounted != 0 {
		if h.wentOn = append(h.wentOn, at); len(h.wentOn) > maxEndings {
			h.wentOn = append([]int64(nil), h.wentOn[len(h.wentOn)-maxEndings/2:]...)
		}
	}
}

// anew says whether a socket in trouble sends again in a series that began after the newest sign of trouble: the one before
// was answered between two looks, and nobody told.
func anew(r *row, p *pending) bool {
	return p.retrans > 0 && r.flags&fStalled != 0 && p.sign != 0 && p.stalledAt > p.sign+grain && r.received > p.sign-grain
}

// firstSign dates the start of trouble that is met at t: the first retransmission of the series, or the first probe,
// which goes out keepalive_time after the newest receive.
func (m *Model) firstSign(r *row, t int64) int64 {
	since := t
	switch {
	case m.pend(r).retrans > 0 && r.flags&fStalled != 0:
		since = m.pend(r).stalledAt
	case m.pend(r).retrans == 0 && m.pend(r).probes > 0 && r.received != 0 && m.own(r).limits != 0:
		if l := &m.limits[m.own(r).limits]; l.Keepalive {
			since = r.received + int64(l.KeepaliveTime)
		}
	}
	return min(since, t)
}

func (m *Model) deadline(r *row) Deadline {
	if m.own(r).limits == 0 {
		return Deadline{Clock: event.ClockNone}
	}
	return DeadlineOf(m.progressOf(r), m.limits[m.own(r).limits], Instant(r.seen).Time(), Instant(r.received).Time())
}

// progressOf gives back the progress of a socket as it was read.
func (m *Model) progressOf(r *row) event.Progress {
	p := event.Progress{
		State: m.words.text[r.state], Kind: m.words.text[m.pend(r).kind], Timer: event.Timer(m.words.text[r.timer]),
		Retransmits: m.pend(r).retrans, Backoff: m.pend(r).backoff, ProbesOut: m.pend(r).probes,
		RTO: event.Seconds(r.rto) * event.Seconds(time.Microsecond), Unacked: m.pend(r).unacked, Unsent: m.pend(r).unsent, Orphan: r.flags&fOrphan != 0,
	}
	if r.flags&fSRTT != 0 {
		p.SRTT = event.Known(event.Seconds(r.srtt) * event.Seconds(time.Microsecond))
	}
	if r.flags&fWindow != 0 {
		p.SendWindow = event.Known(r.window)
	}
	if r.flags&fTimerIn != 0 {
		p.TimerIn = event.Known(event.Seconds(r.timerAt - r.seen))
	}
	if r.flags&fSent != 0 {
		p.SentAge = event.Known(event.Seconds(r.seen - r.sentAt))
	}
	if r.flags&fStalled != 0 {
		p.StalledAge = event.Known(event.Seconds(r.seen - m.pend(r).stalledAt))
	}
	if r.received != 0 {
		p.ReceivedAge = event.Known(event.Seconds(r.seen - r.received))
	}
	return p
}
