package world

import "time"

// addr is an IPv4 address as plans write them; telling makes it IPv6 where the plan wants that.
type addr uint32

type endpoint struct {
	ip   addr
	port uint16
}

// tuple is one direction of a connection.
type tuple struct{ src, dst endpoint }

func (t tuple) back() tuple { return tuple{t.dst, t.src} }

// Flags of a packet.
const (
	syn = 1 << iota
	ack
	fin
	rst
)

// packet is one segment on its way. It is evaluated on the whole way at the moment when it is sent, and arrives later.
type packet struct {
	tuple
	flags        uint8
	seq, ack     uint64 // sequence numbers count from 0 at each end; a SYN takes the first
	n            int    // bytes of payload
	wnd          int
	sackFrom     uint64 // what came out of order, if sackTo is not 0
	sackTo       uint64
	from         *end // who sent it, nil for the reset of a kernel that has no socket
	conn         *conn
	lat          time.Duration
	hops         int8
	to           *place
	untranslated bool // conntrack called it INVALID on its way
}

// overhead is what a segment weighs beside its payload.
const overhead = 52

// place is a network namespace: of a node's host, of a pod, of a network outside.
type place struct {
	netns     uint32
	node      *node // nil outside
	pod       *pod
	clients   *clients
	socks     map[tuple]*end // by local and peer
	listeners map[uint16]*listener
	ends      []*end // in the order in which they came, for looks
	dialled   int    // connections so far, each by a port of its own
	hungBy    int    // the fault for whose sake nobody reads here
}

// listener is an application that accepts.
type listener struct {
	hung bool // what it accepted is not read
}

type node struct {
	*Node
	id         int
	ip, bridge addr
	boot       int
	up         bool // has power
	frozen     bool
	draining   bool // nobody dials its pods any more, nor do they
	uplink     bool
	rules      bool // its service rules stand
	down       int  // the fault that took the power, froze it or cut its uplink
	host       *place
	pods       map[addr]*pod
	table      table
	filters    []*filter
	agent      *agent
}

func (n *node) runs() bool { return n.up && !n.frozen }

type pod struct {
	*Pod
	ip    addr
	node  *node
	place *place
	dead  bool
	by    int // the fault that ended it
	uid   int
}

type clients struct {
	*Clients
	place *place
	base  addr
	bits  int
	gone  bool
	by    int
}

type service struct {
	*Service
	vip, ip  addr
	backends []*pod
	entries  []*node
	flows    map[tuple]*flow // of the balancer before it
	resets   bool            // the balancer answers what it has forgotten with a reset
	by       int             // the fault that made it forget
}

// flow is a connection as a balancer remembers it.
type flow struct {
	to   *node
	used instant
	gone bool
}

// filter drops packets at a node.
type filter struct {
	fault   int
	in, out bool
	share   float64 // 0 to 1
	larger  int     // only packets of more than so many bytes, headers included
	only    addr    // only to or from this address, 0: all
	fresh   bool    // only what sets connections up
	old     bool    // only what belongs to connections that stand
}

func (w *World) filtered(n *node, p *packet, in bool) int {
	for _, f := range n.filters {
		if in && !f.in || !in && !f.out || p.n+overhead <= f.larger {
			continue
		}
		if f.only != 0 && p.src.ip != f.only && p.dst.ip != f.only {
			continue
		}
		if fresh := p.flags&syn != 0; f.fresh && !fresh || f.old && fresh {
			continue
		}
		if f.share >= 1 || w.rng.Float64() < f.share {
			return f.fault
		}
	}
	return 0
}

// send puts a packet on its way from a place.
func (w *World) send(from *place, p *packet) {
	if p.conn != nil {
		p.lat = p.conn.extra
	}
	if from.node != nil {
		w.through(from.node, p, true)
		return
	}
	if from.clients.gone {
		w.lose(p, from.clients.by)
		return
	}
	p.lat += from.clients.Latency
	w.fabric(p)
}

// fabric is what lies between nodes and networks: it knows who holds which address.
func (w *World) fabric(p *packet) {
	if p.hops++; p.hops > 8 {
		w.lose(p, 0)
		return
	}
	dst := p.dst.ip
	if n := w.holders[dst]; n != nil {
		w.through(n, p, false)
		return
	}
	if s := w.vips[dst]; s != nil {
		w.balance(s, p)
		return
	}
	if r := w.routes[dst>>8]; r != nil {
		if r.by != 0 {
			w.lose(p, r.by)
			return
		}
		w.through(r.node, p, false)
		return
	}
	for _, c := range w.clients {
		if dst>>(32-c.bits) != c.base>>(32-c.bits) {
			continue
		}
		if s := w.vips[p.src.ip]; s != nil && !s.keeps(p.back(), w.now) {
			w.lose(p, s.by)
			return
		}
		if c.gone {
			w.lose(p, c.by)
			return
		}
		p.lat += c.Latency
		w.deliver(c.place, p)
		return
	}
	w.lose(p, w.vacant[dst])
}

// balance hands a packet for a service's outer address to a node: the same one as long as the connection is remembered.
func (w *World) balance(s *service, p *packet) {
	f := s.flows[p.tuple]
	if f != nil && s.Idle > 0 && w.now-f.used > int64(s.Idle) {
		f.gone = true
		s.by = w.idleFault(s)
	}
	switch {
	case p.flags&syn != 0 && (f == nil || f.gone || !f.to.up):
		to := w.entry(s, p.conn)
		if to == nil {
			w.lose(p, s.by)
			return
		}
		f = &flow{to: to}
		s.flows[p.tuple] = f
	case f == nil || f.gone:
		if s.resets && p.flags&rst == 0 {
			w.refuse(nil, p)
		}
		w.lose(p, s.by)
		return
	}
	f.used = w.now
	w.through(f.to, p, false)
}

// entry chooses the node to which a balancer hands a new connection.
func (w *World) entry(s *service, c *conn) *node {
	if c != nil && c.via != nil && c.via.up {
		return c.via
	}
	n := 0
	for _, e := range s.entries {
		if e.up {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	k := w.rng.IntN(n)
	for _, e := range s.entries {
		if e.up {
			if k == 0 {
				return e
			}
			k--
		}
	}
	return nil
}

// keeps says whether the balancer still knows a connection, and notes that it was used.
func (s *service) keeps(t tuple, now instant) bool {
	f := s.flows[t]
	if f == nil || f.gone || s.Idle > 0 && now-f.used > int64(s.Idle) {
		return f == nil // it never saw the connection come in: nothing to forget
	}
	f.used = now
	return true
}

// Latencies within the cluster.
const (
	wire  = 150 * time.Microsecond // between two nodes
	stack = 20 * time.Microsecond  // up or down one
)

// through lets a node handle a packet: of its own sockets and pods, or from outside.
func (w *World) through(n *node, p *packet, inside bool) {
	if !n.runs() {
		w.lose(p, n.down)
		return
	}
	if !inside {
		if !n.uplink {
			w.lose(p, n.down)
			return
		}
		if by := w.filtered(n, p, true); by != 0 {
			w.lose(p, by)
			return
		}
	}
	p.lat += stack
	if pass, by := n.table.translate(w, p, inside); !pass {
		w.lose(p, by)
		return
	}
	dst := p.dst.ip
	if w.holders[dst] == n || dst == n.bridge {
		w.deliver(n.host, p)
		return
	}
	if o := n.pods[dst]; o != nil {
		if o.dead {
			w.lose(p, o.by)
			return
		}
		w.deliver(o.place, p)
		return
	}
	if r := w.routes[dst>>8]; r != nil && r.node == n {
		w.lose(p, w.vacant[dst])
		return
	}
	if !n.uplink {
		w.lose(p, n.down)
		return
	}
	if by := w.filtered(n, p, false); by != 0 {
		w.lose(p, by)
		return
	}
	p.lat += wire
	if inside && p.conn != nil && p.conn.gateway != nil && p.conn.gateway != n && p.conn.pod != nil && p.src.ip == p.conn.pod.ip {
		w.through(p.conn.gateway, p, false)
		return
	}
	w.fabric(p)
}

// deliver lets a packet arrive at a place after its latency.
func (w *World) deliver(to *place, p *packet) {
	p.to = to
	w.queue.push(due{at: w.now + int64(p.lat), kind: doArrive, pack: p})
}

// lose drops a packet. By is the fault that is to blame, 0 for nobody.
func (w *World) lose(p *packet, by int) {
	if p.from != nil && by != 0 {
		p.from.lostBy, p.from.lostAt = by, w.now
	}
	w.free = append(w.free, p)
}

func (w *World) packet() *packet {
	if k := len(w.free); k > 0 {
		p := w.free[k-1]
		w.free = w.free[:k-1]
		*p = packet{}
		return p
	}
	return new(packet)
}

// refuse answers a packet for which there is no socket with a reset, as from its destination. Place is nil for a balancer.
func (w *World) refuse(at *place, p *packet) {
	r := w.packet()
	r.tuple, r.flags, r.seq, r.conn = p.back(), rst, p.ack, p.conn
	if at != nil && at.node != nil && at.node.agent != nil {
		at.node.agent.refused(at, r)
	}
	if at != nil {
		w.send(at, r)
		return
	}
	w.fabric(r)
}

// arrive hands a packet to the socket that it is for.
func (w *World) arrive(p *packet) {
	at := p.to
	switch {
	case at.node != nil && !at.node.runs():
		w.lose(p, at.node.down)
		return
	case at.pod != nil && at.pod.dead:
		w.lose(p, at.pod.by)
		return
	}
	e := at.socks[p.back()]
	switch {
	case e != nil && e.absent:
		w.lose(p, e.absentBy)
		return
	case e != nil && e.state != closed:
		e.receive(w, p)
	case p.flags&(syn|ack) == syn && at.listeners[p.dst.port] != nil:
		w.accept(at, p)
	case p.flags&rst == 0:
		w.refuse(at, p)
	}
	w.free = append(w.free, p)
}
