package world

import "time"

// States of an entry; the order is that of their names.
const (
	ctSynSent = iota
	ctSynRecv
	ctEstablished
	ctFinWait
	ctCloseWait
	ctLastAck
	ctTimeWait
	ctClose
)

var ctNames = [...]string{"syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close"}

// ctTimeouts are the defaults of net.netfilter.nf_conntrack_tcp_timeout_*.
var ctTimeouts = [...]time.Duration{
	120 * time.Second, 60 * time.Second, 5 * 24 * time.Hour, 120 * time.Second, 60 * time.Second, 30 * time.Second, 120 * time.Second, 10 * time.Second,
}

// entry is a translated connection in one node's conntrack table. Connections that are not translated are not kept: nobody
// would tell of them.
type entry struct {
	orig, reply tuple // of the packets that arrive
	state       uint8
	made, used  instant
	snat, dnat  bool
	dead        bool
	conn        *conn
	odd         bool // what conntrack thinks of its window is wrong: segments of data back are called INVALID
}

// table is a node's conntrack table with its rules of translation.
type table struct {
	node     *node
	by       map[tuple]*entry // by both tuples
	all      []*entry         // in the order of their making; dead ones are swept out now and then
	live     int
	filler   int // entries of others that fill it
	taken    int // the fault that has taken all ports of the masquerade, 0: none
	full     int // the fault that fills it
	odd      int // the fault that made entries odd
	drop     uint64
	early    uint64
	failed   uint64
	invalid  uint64
	lostBy   int           // the fault that emptied it last
	idle     time.Duration // of established connections, in place of five days
	idleBy   int
	lostPart map[tuple]int // which fault took the entry of these packets
}

func (t *table) max() int {
	if t.node.Max > 0 {
		return t.node.Max
	}
	return 262144
}

// translate does what conntrack and the rules of services do to a packet. It returns false where they drop it.
func (t *table) translate(w *World, p *packet, inside bool) (pass bool, by int) {
	e := t.by[p.tuple]
	if e != nil && w.now-e.used > int64(t.timeout(e)) {
		t.end(w, e, "timeout")
		e = nil
	}
	if e == nil {
		return t.fresh(w, p, inside)
	}
	if p.conn != nil {
		p.conn.cross(t.node)
	}
	forward := p.tuple == e.orig
	if e.odd && !forward && p.n > 0 {
		t.invalid++
		p.untranslated = true
		return !t.node.Drops, t.odd
	}
	e.used = w.now
	t.follow(e, p, forward)
	if forward {
		p.tuple = e.reply.back()
	} else {
		p.tuple = e.orig.back()
	}
	return true, 0
}

func (t *table) timeout(e *entry) time.Duration {
	if e.state == ctEstablished && t.idle > 0 {
		return t.idle
	}
	return ctTimeouts[e.state]
}

// follow moves an entry's state, as tcp_conntracks does.
func (t *table) follow(e *entry, p *packet, forward bool) {
	switch {
	case p.flags&rst != 0:
		e.state = ctClose
	case p.flags&(syn|ack) == syn|ack && e.state == ctSynSent:
		e.state = ctSynRecv
	case p.flags&fin != 0 && e.state <= ctEstablished:
		e.state = ctFinWait
	case p.flags&fin != 0 && e.state <= ctCloseWait:
		e.state = ctLastAck
	case p.flags&fin == 0 && e.state == ctFinWait:
		e.state = ctCloseWait
	case p.flags&fin == 0 && e.state == ctLastAck:
		e.state = ctTimeWait
	case p.flags&syn == 0 && forward && e.state == ctSynRecv:
		e.state = ctEstablished
	}
}

// fresh handles a packet that belongs to no entry: the rules see it where it may begin a connection, which in mid-stream an
// acknowledgement may (nf_conntrack_tcp_loose).
func (t *table) fresh(w *World, p *packet, inside bool) (pass bool, by int) {
	n := t.node
	reply := p.back()
	var e entry
	if s := w.target(n, p.dst, inside); s != nil && n.rules {
		o := w.pickBackend(s)
		if o == nil {
			if p.flags&rst == 0 && inside { // REJECT with a reset, as kube-proxy does for services without endpoints
				w.refuse(n.host, p)
			}
			return false, s.by
		}
		reply.src = endpoint{o.ip, appPort}
		e.dnat = true
		if masqueraded := !inside || reply.src.ip == p.src.ip; masqueraded {
			e.snat = true
			reply.dst.ip = n.ip
			if n.pods[o.ip] != nil {
				reply.dst.ip = n.bridge
			}
		}
	} else if c := p.conn; c != nil && c.gateway == n && c.pod != nil && p.src.ip == c.pod.ip {
		e.snat = true
		reply.dst.ip = n.ip
	}
	if !e.snat && !e.dnat {
		return true, 0
	}
	if p.flags&(rst|fin) != 0 || p.flags&(syn|ack) == syn|ack {
		t.invalid++ // none of these begins a connection
		p.untranslated = true
		return !n.Drops, t.cause(p)
	}
	if t.live+t.filler >= t.max() {
		t.drop++
		return false, t.full
	}
	if e.snat && !t.port(w, &reply) {
		t.failed++
		return false, t.taken
	}
	for t.by[reply] != nil { // another connection answers so already: conntrack changes the source port
		reply.dst.port = uint16(1024 + w.rng.IntN(64511))
	}
	e.orig, e.reply, e.conn = p.tuple, reply, p.conn
	e.made, e.used = w.now, w.now
	e.state = ctSynSent
	if p.flags&syn == 0 {
		e.state = ctEstablished
	}
	made := &e
	t.by[e.orig], t.by[e.reply] = made, made
	t.all = append(t.all, made)
	t.live++
	if p.conn != nil {
		p.conn.cross(n)
	}
	if n.agent != nil {
		n.agent.natMade(made)
	}
	p.tuple = reply.back()
	return true, 0
}

// cause is the fault that took the entry to which a packet belonged.
func (t *table) cause(p *packet) int {
	if by := t.lostPart[p.tuple]; by != 0 {
		return by
	}
	return t.lostBy
}

// port finds a source port of the masquerade that is free, the connection's own if it is.
func (t *table) port(w *World, reply *tuple) bool {
	if t.taken != 0 {
		return false
	}
	for range 64 {
		if t.by[*reply] == nil {
			return true
		}
		reply.dst.port = uint16(1024 + w.rng.IntN(64511))
	}
	return false
}

// end takes an entry out of the table.
func (t *table) end(w *World, e *entry, why string) {
	if e.dead {
		return
	}
	e.dead = true
	if why == "timeout" && t.idleBy != 0 {
		t.lostPart[e.orig], t.lostPart[e.reply] = t.idleBy, t.idleBy
		if e.conn != nil {
			e.conn.blame(t.idleBy, w.now)
		}
	}
	delete(t.by, e.orig)
	delete(t.by, e.reply)
	t.live--
	if t.node.agent != nil {
		t.node.agent.natEnded(e, why)
	}
}

// forget takes entries away because of a fault, those that the choice takes.
func (t *table) forget(w *World, fault int, why string, choose func(*entry) bool) int {
	n := 0
	for _, e := range t.all {
		if !e.dead && choose(e) {
			t.lostPart[e.orig], t.lostPart[e.reply] = fault, fault
			t.end(w, e, why)
			if e.conn != nil {
				e.conn.blame(fault, w.now)
			}
			n++
		}
	}
	return n
}

// sweep is the collector of conntrack: it ends what has expired.
func (t *table) sweep(w *World) {
	keep := t.all[:0]
	for _, e := range t.all {
		if !e.dead && w.now-e.used > int64(t.timeout(e)) {
			why := "closed"
			if e.state == ctEstablished {
				why = "timeout"
			}
			t.end(w, e, why)
		}
		if !e.dead {
			keep = append(keep, e)
		}
	}
	clear(t.all[len(keep):])
	t.all = keep
}

// target is the service that a node's rules find behind a packet's destination.
func (w *World) target(n *node, dst endpoint, inside bool) *service {
	if s := w.services[dst]; s != nil {
		return s
	}
	if s := w.nodePorts[dst.port]; s != nil && w.holders[dst.ip] == n {
		return s
	}
	return nil
}

// pickBackend chooses a pod of a service, as rules with random probabilities do.
func (w *World) pickBackend(s *service) *pod {
	if len(s.backends) == 0 {
		return nil
	}
	return s.backends[w.rng.IntN(len(s.backends))]
}

// appPort is the port on which pods serve.
const appPort = 8080
