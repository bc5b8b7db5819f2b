package world

import (
	"fmt"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// load is a number of connections that are kept up.
type load struct {
	*Load
	clients *clients // who dials: either these
	pod     *pod     // or this
	via     *node
	service *service
	to      *pod
	outside *clients
	podSide *event.Limits // of ends in pods
	farSide *event.Limits // of ends outside
	dialled int
}

func (l *load) size() int { return max(1, l.Size) }

func (l *load) answers() bool { return l.Speaks != "server" }

func (l *load) limitsOf(at *place) *event.Limits {
	if at.node == nil {
		return l.farSide
	}
	return l.podSide
}

func (w *World) newLoad(p *Load) *load {
	l := &load{Load: p, via: w.nodeOf(p.Via)}
	if p.Size == 0 {
		p.Size = 100
	}
	l.clients, l.pod = w.clientsOf(p.From), w.podOf(p.From)
	l.service, l.to, l.outside = w.serviceOf(p.To), w.podOf(p.To), w.clientsOf(p.To)
	limits := event.Limits{
		KeepaliveTime: event.Seconds(2 * time.Hour), KeepaliveInterval: event.Seconds(75 * time.Second), KeepaliveProbes: 9,
		Retries2: 15, SynRetries: synRetries, RTOMin: event.Known(event.Seconds(minRTO)), RTOMax: event.Known(event.Seconds(maxRTO)),
	}
	far := limits
	l.farSide = &far
	limits.UserTimeout = event.Seconds(p.User)
	if p.Retries > 0 {
		limits.Retries2 = uint8(p.Retries)
	}
	if p.Keepalive > 0 {
		limits.Keepalive, limits.KeepaliveTime = true, event.Seconds(p.Keepalive)
		limits.KeepaliveInterval, limits.KeepaliveProbes = event.Seconds(p.Interval), uint8(p.Probes)
	}
	l.podSide = &limits
	return l
}

// start dials all connections of a load: those that stand before anybody watches in a short while before, others in a
// burst.
func (w *World) start(l *load) {
	for i := range l.N {
		at := -int64(warmUp) + int64(w.chance(0, warmUp/2))
		if l.Starts > 0 {
			at = int64(l.Starts) + int64(w.chance(0, 500*time.Millisecond))
		}
		talks := i < l.Talkers
		w.at(at, func() { w.dial(l, talks) })
	}
}

// dial sets one connection up.
func (w *World) dial(l *load, talks bool) {
	at, local, peer := w.ends(l)
	if at == nil || !at.runs() {
		return
	}
	c := &conn{load: l, talks: talks, via: l.via, pod: l.pod, extra: w.chance(0, 200*time.Microsecond)}
	if l.Kind == LoadEgress {
		c.gateway = l.via
	}
	e := w.newEnd(at, local, peer, c)
	c.dialer = e
	w.conns = append(w.conns, c)
	e.state, e.begun, e.received = synSent, w.now, w.now
	e.emit(w, syn, 1)
	e.arm(w, timerRTO, e.rto)
}

// ends are the two ends of the next connection of a load, as who dials sees them.
func (w *World) ends(l *load) (at *place, local, peer endpoint) {
	l.dialled++
	if l.clients != nil {
		at = l.clients.place
		at.dialled++
		k := at.dialled
		local = endpoint{l.clients.base + addr(1+k%200), uint16(20000 + (k/200*211+k)%40000)}
	} else {
		if l.pod.dead {
			l.pod = w.podOf(l.From)
		}
		if l.pod.dead {
			return nil, local, peer
		}
		at = l.pod.place
		at.dialled++
		local = endpoint{l.pod.ip, uint16(32768 + at.dialled%28000)}
	}
	switch l.Kind {
	case LoadVIP:
		peer = endpoint{l.service.vip, l.service.Port}
	case LoadDirect, LoadHeadless:
		if l.to.dead {
			l.to = w.podOf(l.To)
		}
		peer = endpoint{l.to.ip, appPort}
	case LoadCluster:
		peer = endpoint{l.service.ip, l.service.Port}
	case LoadNodePort:
		if l.via == nil { // it was drained, and nobody asks there any more
			return nil, local, peer
		}
		peer = endpoint{l.via.ip, l.service.NodePort}
	case LoadEgress:
		peer = endpoint{l.outside.base + addr(1+l.dialled%6), 443}
	}
	if at.node != nil && at.node.draining || l.to != nil && l.to.node.draining {
		return nil, local, peer
	}
	for at.socks[tuple{local, peer}] != nil {
		local.port++
	}
	return at, local, peer
}

// begin is what happens when a connection stands.
func (e *end) begin(w *World) {
	e.opened = w.now
	e.keep(w)
	l := e.conn.load
	says := l.Speaks == "both" || l.Speaks == "" || (l.Speaks == "server") == e.server
	if e.talks = e.conn.talks && says && l.Every > 0; e.talks {
		w.queue.push(due{at: w.now + int64(w.chance(0, l.Every)), kind: doTalk, end: e})
	}
	if !e.server && l.Life > 0 {
		w.after(w.chance(l.Life/2, l.Life*3/2), func() { e.close(w) })
	}
}

// talk lets the application send a message.
func (e *end) talk(w *World) {
	if e.state != established || !e.talks || e.absent {
		return
	}
	l := e.conn.load
	if e.place.runs() && e.write-e.una < uint64(maxMessages*l.size()) {
		e.write += uint64(l.size())
		e.push(w)
	}
	w.queue.push(due{at: w.now + int64(w.chance(l.Every/2, l.Every*3/2)), kind: doTalk, end: e})
}

// ended follows the end of a socket: who dialled comes back after a while.
func (w *World) ended(e *end, how string) {
	if e.place.node != nil && (e.hungAt != 0 && w.now-e.hungAt > int64(time.Second) || how == "rst" || how == "abort") {
		w.lostEnd(e, how)
	}
	if e.server || how == "app" && e.conn.load.Life == 0 {
		return
	}
	l := e.conn.load
	talks := e.conn.talks
	w.after(w.chance(300*time.Millisecond, 3*time.Second), func() { w.dial(l, talks) })
}

func (p *Plan) checkLoad(l *Load) error {
	fromClients, fromPod := p.clients(l.From) != nil, p.pod(l.From) != nil
	svc, pod, out, via := p.service(l.To), p.pod(l.To), p.clients(l.To), p.node(l.Via)
	ok := false
	switch l.Kind {
	case LoadVIP:
		ok = fromClients && svc != nil && svc.VIP.IsValid()
	case LoadDirect:
		ok = fromClients && pod != nil
	case LoadCluster:
		ok = fromPod && svc != nil
	case LoadNodePort:
		ok = fromPod && svc != nil && svc.NodePort != 0 && via != nil
	case LoadEgress:
		ok = fromPod && out != nil && via != nil
	case LoadHeadless:
		ok = fromPod && pod != nil
	default:
		return fmt.Errorf("unknown kind %q", l.Kind)
	}
	if !ok {
		return fmt.Errorf("%s from %s to %s via %q: an object is not declared, or lacks an address", l.Kind, l.From, l.To, l.Via)
	}
	if l.Via != "" && via == nil {
		return fmt.Errorf("no node %s", l.Via)
	}
	return nil
}
