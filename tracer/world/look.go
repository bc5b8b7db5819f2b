package world

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// told is what an agent's census remembers of a socket.
type told struct {
	seen           bool
	sign           sign
	segsIn         uint64
	segsOut, again uint64
}

// sign is what makes two looks at one socket differ enough to be told.
type sign struct {
	state, retrans, backoff, probes uint8
	shut                            bool
}

func (s sign) trouble() bool { return s.retrans|s.backoff|s.probes != 0 || s.shut }

func (e *end) sign() sign {
	return sign{e.state, e.retrans, e.backoff, e.probes, e.timer == timerProbe0 && e.peerWnd == 0}
}

func (e *end) progress(w *World, kind string) event.Progress {
	p := event.Progress{
		State: stateNames[e.state], Kind: kind, Retransmits: e.retrans, Backoff: e.backoff, ProbesOut: e.probes,
		RTO: event.Seconds(e.rto), Unacked: uint32(e.nxt - e.una), Unsent: uint32(e.write - e.nxt),
		SendWindow: event.Known(uint32(e.peerWnd)), Orphan: e.orphan,
		ReceivedAge: event.Known(event.Seconds(w.now - e.received)),
	}
	if e.srtt > 0 {
		p.SRTT = event.Known(event.Seconds(e.srtt))
	}
	if e.sentAt != 0 {
		p.SentAge = event.Known(event.Seconds(w.now - e.sentAt))
	}
	if e.stamp != 0 && e.retrans > 0 {
		p.StalledAge = event.Known(event.Seconds(w.now - e.stamp))
	}
	switch {
	case e.timer == timerNone:
		if e.limits.Keepalive && e.state == established {
			p.Timer, p.TimerIn = event.TimerKeepalive, event.Known(event.Seconds(e.keepAt-w.now))
		}
	default:
		p.Timer = [...]event.Timer{"", event.TimerRetransmit, event.TimerTailLoss, event.TimerProbe0}[e.timer]
		p.TimerIn = event.Known(event.Seconds(e.timerAt - w.now))
	}
	return p
}

func (w *World) socket(e *end, a *agent) event.Socket {
	s := event.Socket{Netns: e.place.netns, Local: w.end(e.local), Peer: w.end(e.peer), Family: w.family()}
	if a.n.Rung != "bare" {
		s.Cookie = e.cookie
	}
	return s
}

func (e *end) role() event.Role {
	if e.server {
		return event.RoleAccepted
	}
	return event.RoleDialled
}

const rowsPerLine, trafficPerLine = 24, 200

// look is one census.
func (a *agent) look() {
	w := a.w
	a.pass++
	l := look{agent: a, rows: &event.Sockets{Pass: a.pass}, traffic: &event.Traffic{Pass: a.pass, Span: event.Seconds(a.pace()), Took: event.Seconds(time.Millisecond)}}
	trouble := false
	for _, p := range a.places() {
		open := p.ends[:0]
		for _, e := range p.ends {
			if e.state == closed || p.pod != nil && p.pod.dead {
				if e.told.seen {
					l.row(e, event.SocketGone)
				}
				continue
			}
			open = append(open, e)
			if e.state == synRecv || e.orphan { // no file: the walk over files does not meet it
				if e.told.seen {
					e.told.seen = false
					l.row(e, event.SocketGone)
				}
				continue
			}
			now := e.sign()
			trouble = trouble || now.trouble()
			switch {
			case !e.told.seen:
				l.row(e, event.SocketSeen)
				if a.pass == 1 {
					e.told.segsOut, e.told.again = e.segsOut, e.resent
				}
			case now != e.told.sign || now.trouble() && e.segsIn != e.told.segsIn:
				l.row(e, event.SocketChanged)
			}
			l.count(e)
			e.told.seen, e.told.sign, e.told.segsIn, e.told.segsOut, e.told.again = true, now, e.segsIn, e.segsOut, e.resent
		}
		clear(p.ends[len(open):])
		p.ends = open
	}
	if trouble && w.now > a.alert {
		a.alert = w.now + int64(30*time.Second)
	}
	l.end()
	if !a.synced {
		a.synced = true
		a.tell(event.StreamSynced, &event.Synced{Fact: "sockets"})
	}
}

// look is a census that is being made.
type look struct {
	agent   *agent
	rows    *event.Sockets
	traffic *event.Traffic
	of      []trafficKey
}

type trafficKey struct {
	netns       uint32
	local, peer endpoint
}

func (l *look) row(e *end, change event.Change) {
	k := -1
	for i := range l.rows.Limits {
		if l.rows.Limits[i] == *e.limits {
			k = i
		}
	}
	if k < 0 {
		k = len(l.rows.Limits)
		l.rows.Limits = append(l.rows.Limits, *e.limits)
	}
	l.rows.Rows = append(l.rows.Rows, event.SocketRow{
		Change: change, Role: e.role(), Socket: l.agent.w.socket(e, l.agent), TCP: e.progress(l.agent.w, ""), Limits: k,
	})
	if len(l.rows.Rows) == rowsPerLine {
		l.agent.tell(event.PathSockets, l.rows)
		l.rows = &event.Sockets{Pass: l.agent.pass}
	}
}

func (l *look) count(e *end) {
	l.traffic.Total++
	k := trafficKey{e.place.netns, e.local, endpoint{ip: e.peer.ip}}
	if !e.server {
		k.local, k.peer = endpoint{ip: e.local.ip}, e.peer
	}
	var t *event.TrafficRow
	for i := range l.of {
		if l.of[i] == k {
			t = &l.traffic.Rows[i]
			break
		}
	}
	w := l.agent.w
	age := event.Seconds(w.now - e.received)
	if t == nil {
		l.of = append(l.of, k)
		l.traffic.Rows = append(l.traffic.Rows, event.TrafficRow{
			Netns: k.netns, Local: w.end(k.local), Peer: w.end(k.peer), ReceivedAge: event.Known(age),
		})
		t = &l.traffic.Rows[len(l.traffic.Rows)-1]
	}
	t.Sockets++
	t.Sent += e.segsOut - e.told.segsOut
	t.Retransmitted += e.resent - e.told.again
	t.ReceivedAge.V = min(t.ReceivedAge.V, age)
	if age < event.Seconds(10*time.Second) || e.sentAt != 0 && w.now-e.sentAt < int64(10*time.Second) {
		t.Active++
	}
}

func (l *look) end() {
	if len(l.rows.Rows) > 0 {
		l.agent.tell(event.PathSockets, l.rows)
	}
	if n := len(l.traffic.Rows); n > trafficPerLine {
		l.traffic.Omitted = n - trafficPerLine
		l.traffic.Rows = l.traffic.Rows[:trafficPerLine]
	}
	if len(l.traffic.Rows) > 0 || l.agent.pass == 1 {
		l.agent.tell(event.PathTraffic, l.traffic)
	}
}

// hook tells what a probe sees of one socket, where an agent's rung has the probe.
func (e *end) hook(w *World, t event.Type, p event.Progress, f func(*event.TCPFact)) {
	if e.place.node == nil || e.place.node.agent == nil || !e.place.node.agent.alive || e.place.node.agent.n.Rung == "bare" {
		return
	}
	a := e.place.node.agent
	l := *e.limits
	b := &event.TCPFact{Socket: w.socket(e, a), TCP: p, Limits: &l}
	if f != nil {
		f(b)
	}
	if ev := a.tell(t, b); ev != nil {
		ev.Flow = event.FlowID(b.Socket.Local, b.Socket.Peer)
	}
}

// tellRetransmit is tcp_retransmit_skb: the back-off is not reckoned in yet.
func (e *end) tellRetransmit(w *World, kind string) {
	p := e.progress(w, kind)
	p.Timer, p.TimerIn = "", event.Opt[event.Seconds]{}
	e.hook(w, event.TCPRetransmit, p, nil)
}

func (e *end) tellProbe(w *World, kind string) {
	if e.probes < 2 || e.place.node == nil || e.place.node.agent == nil || e.place.node.agent.n.Rung != "best" {
		return // the hook tells a probe when the one before it went unanswered
	}
	p := e.progress(w, kind)
	p.ProbesOut--
	e.hook(w, event.TCPProbe, p, nil)
}

func (e *end) tellReset(w *World) {
	e.hook(w, event.TCPReset, e.progress(w, ""), func(b *event.TCPFact) { b.Reset = &event.Reset{By: "peer"} })
}

// tellClosed is told of sockets in trouble only, and of those that end by an error.
func (e *end) tellClosed(w *World, how string, trouble bool) {
	if trouble {
		e.hook(w, event.TCPClosed, e.progress(w, ""), func(b *event.TCPFact) { b.How = how })
	}
}

func (e *end) tellError(w *World, errno string) {
	p := e.progress(w, "")
	p.Timer, p.TimerIn = "", event.Opt[event.Seconds]{}
	e.hook(w, event.TCPError, p, func(b *event.TCPFact) { b.Errno = errno })
}
