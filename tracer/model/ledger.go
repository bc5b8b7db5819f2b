package model

import (
	"net/netip"

	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

// ledger holds the NAT entries of all nodes that are heard. A pod's socket is joined to the entry whose reply tuple is its
// mirror: the pod sends from the reply's source to the reply's destination. The entry then tells the client, the address
// that it dialled, and proves the node.
type ledger struct {
	entries compact.Slab[entry]
	hosts   *compact.Addrs
	byOrig  compact.Index[origKey]
	byReply compact.Index[tupleKey] // as the pod's socket sees it: local is the reply's source
	// byDialled finds it as the client's socket sees it, where the client is a pod or a node that is watched too.
	byDialled compact.Index[tupleKey]
	hand      uint32
	crowds    map[crowdKey]crowd
	masks     map[uint32]bool // nodes that have masqueraded a connection
}

// entry is one translated connection in one node's table, without pointers.
type entry struct {
	origSrc, origDst     compact.Ref // hosts
	replySrc, replyDst   compact.Ref
	origSPort, origDPort uint16
	replySPort           uint16
	replyDPort           uint16
	zone                 uint16
	hop                  compact.Ref // address of the node in the middle, where the table tells it and no address of the socket does
	handed               bool        // its own node is the one in the middle, and left the client's address as it is
	snat, gone           bool
	recalled             bool // nobody may tell its end: it goes with its socket
	uncrowded            bool // counted no more in crowds
	live                 bool
	node                 uint32 // names
	row                  uint32 // the socket that it is joined to
	born                 int64
	died                 int64 // when it was told gone, while its socket lives
	lost                 Loss  // what took it then
}

type origKey struct {
	node  uint32
	zone  uint16
	tuple tupleKey
}

func newLedger(hosts *compact.Addrs) *ledger {
	l := &ledger{entries: compact.NewSlab[entry](), hosts: hosts, crowds: make(map[crowdKey]crowd), masks: make(map[uint32]bool)}
	l.byOrig = compact.NewIndex(func(id uint32) origKey { return l.orig(l.entries.At(id)) })
	l.byReply = compact.NewIndex(func(id uint32) tupleKey { return l.reply(l.entries.At(id)) })
	l.byDialled = compact.NewIndex(func(id uint32) tupleKey { return l.orig(l.entries.At(id)).tuple })
	return l
}

func (l *ledger) orig(e *entry) origKey {
	return origKey{e.node, e.zone, tupleKey{local: l.hosts.Addr(e.origSrc), peer: l.hosts.Addr(e.origDst), lport: e.origSPort, pport: e.origDPort}}
}

func (l *ledger) reply(e *entry) tupleKey {
	return tupleKey{local: l.hosts.Addr(e.replySrc), peer: l.hosts.Addr(e.replyDst), lport: e.replySPort, pport: e.replyDPort}
}

// provesNode returns the node that a socket's connection crosses by this entry, 0 where it does not say: an entry that
// masqueraded put its node's address before the pod, and a dataplane that does not masquerade says that it handed the
// connection on.
func (e *entry) provesNode(r *row) uint32 {
	if (e.snat || e.handed) && e.replyDst == r.peer {
		return e.node
	}
	return 0
}

// applyNAT folds an entry. Facts about one entry may come twice (an event and a dump), and destroyed may come alone.
func (m *Model) applyNAT(ev *event.Event, b *event.NATFact, src uint32, t int64) {
	n := &b.NAT
	if !n.Reply.Src.IP.IsValid() || !n.Reply.Dst.IP.IsValid() || (n.Proto != "" && n.Proto != "tcp") {
		return
	}
	node := m.strs.of(b.By.Node)
	if b.By.Node == "" {
		node = m.watchers[src].node
	}
	orig := origKey{node, n.Zone, tupleKey{
		local: pack(n.Original.Src.IP), peer: pack(n.Original.Dst.IP), lport: n.Original.Src.Port, pport: n.Original.Dst.Port,
	}}
	reply := tupleKey{local: pack(n.Reply.Src.IP), peer: pack(n.Reply.Dst.IP), lport: n.Reply.Src.Port, pport: n.Reply.Dst.Port}
	l := m.ledger
	id := l.byOrig.Get(orig)
	if ev.Type == event.NATDestroyed {
		if id != 0 {
			m.destroyEntry(id, lossOf(b.Why), ev)
		}
		return
	}
	if id != 0 {
		if l.reply(l.entries.At(id)) == reply {
			return
		}
		m.destroyEntry(id, LossUnsaid, ev)
	}
	switch {
	case ev.Type == event.NATCreated && b.State == "established":
		m.pickUp(&orig, ev.ID, t)
	case ev.Type != event.NATCreated && len(m.picks) > 0 && l.byDialled.Get(orig.tuple) != 0:
		m.heldBefore(&orig)
	}
	m.makeLedgerRoom()
	e := entry{
		origSrc: l.hosts.Hold(orig.tuple.local), origSPort: orig.tuple.lport,
		origDst: l.hosts.Hold(orig.tuple.peer), origDPort: orig.tuple.pport,
		replySrc: l.hosts.Hold(reply.local), replySPort: reply.lport,
		replyDst: l.hosts.Hold(reply.peer), replyDPort: reply.pport,
		zone: n.Zone, node: node, snat: orig.tuple.local != reply.peer, live: true, born: t,
		recalled: ev.Type == event.NATRecalled,
	}
	if b.Hop != nil {
		e.handed = b.Hop.Node != "" && b.Hop.Node == m.strs.text[node]
		if b.Hop.IP.IsValid() {
			e.hop = l.hosts.Hold(pack(b.Hop.IP))
		}
	}
	id = l.entries.Add(e)
	if e.snat {
		k := l.crowd(&e)
		l.crowds[k] = l.crowds[k].with(e.replyDPort, t)
		l.masks[e.node] = true
	}
	l.byOrig.Put(orig, id)
	l.byReply.Put(reply, id)
	l.byDialled.Put(orig.tuple, id)
	if r := m.byTuple.Get(reply); r != 0 {
		m.joinLedger(r)
		m.place(r)
		m.pairUp(r)
	}
	m.leadOn(id)
}

// destroyEntry forgets an entry, but for what it told of a socket that still lives.
func (m *Model) destroyEntry(id uint32, why Loss, ev *event.Event) {
	e := m.ledger.entries.At(id)
	m.ledger.byOrig.Delete(m.ledger.orig(e), id)
	m.ledger.leaveCrowd(e)
	m.loseWay(id, why, ev)
	m.forgotten(id, why, ev)
	if e.row != 0 {
		e.gone, e.died, e.lost = true, ev.Time.UnixNano(), why
		m.strand(e.row, ev)
		return
	}
	m.dropEntry(id)
}

func (m *Model) dropEntry(id uint32) {
	l := m.ledger
	e := l.entries.At(id)
	l.leaveCrowd(e)
	orig := l.orig(e)
	l.byOrig.Delete(orig, id)
	l.byReply.Delete(l.reply(e), id)
	l.byDialled.Delete(orig.tuple, id)
	for _, r := range []compact.Ref{e.origSrc, e.origDst, e.replySrc, e.replyDst, e.hop} {
		l.hosts.Release(r)
	}
	l.entries.Drop(id)
}

// joinLedger joins a socket to the entry whose reply is its mirror, if there is one.
func (m *Model) joinLedger(id uint32) {
	r := m.socks.At(id)
	k := m.tuple(r)
	k.netns = 0
	e := m.ledger.byReply.Get(k)
	if e == 0 || e == r.entry {
		return
	}
	if en := m.ledger.entries.At(e); en.row != 0 {
		m.part(en.row)
	}
	m.recount(id, func(r *row) {
		if r.entry != 0 {
			m.leaveLedger(r.entry)
		}
		r.entry = e
		r.flags &^= fStranded
	})
	m.ledger.entries.At(e).row = id
}

// part separates a socket from its entry, and so from the other end of its connection.
func (m *Model) part(id uint32) {
	other := m.otherEnd(id)
	m.recount(id, func(r *row) { r.entry = 0 })
	m.unhide(id)
	if other != 0 {
		m.unhide(other)
	}
}

// recount changes a socket with its tallies taken down, and puts them up again.
func (m *Model) recount(id uint32, change func(*row)) {
	r := m.socks.At(id)
	counted := r.flags&fCounted != 0
	m.uncount(id)
	change(r)
	if counted {
		m.count(id)
	}
}

func (m *Model) leaveLedger(e uint32) {
	en := m.ledger.entries.At(e)
	en.row = 0
	if en.gone || en.recalled && m.byTuple.Get(m.ledger.orig(en).tuple) == 0 { // who dialled may yet need it
		m.dropEntry(e)
	}
}

// makeLedgerRoom forgets an entry that no socket is joined to, in a round over the table.
func (m *Model) makeLedgerRoom() {
	l := m.ledger
	if l.entries.Len() < m.opts.Ledger {
		return
	}
	n := l.entries.End()
	for range n {
		if l.hand++; l.hand >= n {
			l.hand = 1
		}
		if e := l.entries.At(l.hand); e.live && e.row == 0 {
			m.dropEntry(l.hand)
			m.evicted["model.ledger"]++
			return
		}
	}
	// Every entry is joined: the next one goes all the same, and its socket loses its client.
	if l.hand++; l.hand >= n {
		l.hand = 1
	}
	if e := l.entries.At(l.hand); e.live {
		if e.row != 0 {
			m.part(e.row)
		}
		m.dropEntry(l.hand)
		m.evicted["model.ledger"]++
	}
}

// clientOf returns the far end of the outer leg and what it dialled, nil where the ledger does not know them.
func (m *Model) clientOf(r *row) (*event.Client, *event.Endpoint) {
	if r.entry == 0 {
		return nil, nil
	}
	e := m.ledger.entries.At(r.entry)
	ip := m.hosts.Addr(e.origSrc).IP()
	return &event.Client{IP: ip, Port: e.origSPort, Kind: m.clientKind(ip)},
		&event.Endpoint{IP: m.hosts.Addr(e.origDst).IP(), Port: e.origDPort}
}

// clientKind says what stands at a client's address.
func (m *Model) clientKind(ip netip.Addr) event.ClientKind {
	for _, b := range m.addrs.balancers {
		if b.Contains(ip) {
			return event.ClientLoadBalancer
		}
	}
	if m.inv.podByIP[ip] != "" {
		return event.ClientPod
	}
	if _, nodes := m.addrs.current(ip); len(nodes) > 0 {
		return event.ClientNode
	}
	if rng := m.addrs.podRange(ip); rng.known() {
		if rng.own(ip).node != "" {
			return event.ClientNode
		}
		return event.ClientPod
	}
	if !m.addrs.inventory {
		return event.ClientUnknown
	}
	return event.ClientExternal
}

// countClient counts a socket's far end at its peer, as far as the ledger knows it.
func (m *Model) countClient(r *row, sign int32) {
	if r.entry == 0 {
		return
	}
	e := m.ledger.entries.At(r.entry)
	c := &m.peers.At(m.cells.At(r.cell).peer).clients
	c.known += sign
	ip := m.hosts.Addr(e.origSrc).IP()
	net := around(ip)
	if c.networks == nil {
		c.networks = make(map[netip.Prefix]int32)
	}
	if c.networks[net] += sign; c.networks[net] <= 0 {
		delete(c.networks, net)
	}
}
