package model

import "github.com/midhop/midhop/tracer/event"

// This file knows the way of what was dialled: the NAT entry that stands on it. An entry at another node puts that node on
// the path (an egress gateway, a node that a balancer's address leads to); one at the own node tells the far end.

// wayOf returns the entry that translates what a socket dialled, 0 where none is known.
func (m *Model) wayOf(r *row) uint32 {
	if r.entry != 0 {
		return 0 // it accepted
	}
	return m.dialled(m.tuple(r))
}

// provedNode returns the node that a ledger shows a socket's connection to be translated at, 0 where none does. egress says
// that this node let it out: it changed only where the connection seems to come from. That the own node masquerades its own
// pods' way out puts nothing in the middle: what they speak to stays what they dialled.
func (m *Model) provedNode(r *row) (node uint32, egress bool) {
	if r.entry != 0 {
		return m.ledger.entries.At(r.entry).provesNode(r), false
	}
	way := m.wayOf(r)
	if way == 0 {
		return 0, false
	}
	e := m.ledger.entries.At(way)
	if e.node == m.watchers[m.own(r).src].node && !e.onward() {
		return 0, false
	}
	return e.node, !e.onward()
}

// provedKey returns the key under which a socket counts by what ledgers say of the node in the middle: the same key where the
// peer's address says as much.
func (m *Model) provedKey(key peerKey, r *row, res *Resolution) peerKey {
	node, egress := m.provedNode(r)
	if r.entry != 0 {
		e := m.ledger.entries.At(r.entry)
		if node != 0 && e.handed && res.Kind == KindPod && res.Node == m.strs.text[node] {
			return key // a pod of that node has dialled a service: the node is where the client is, and not in the middle
		}
		if node == 0 && e.hop != 0 && e.replyDst == r.peer && e.hop != r.peer {
			key.hop = m.hosts.Addr(e.hop)
			key.hopHeld = m.addrs.tenureAt(key.hop.IP(), e.born)
		}
	}
	if node != 0 && res.yields(m.strs.text[node], r.entry == 0) {
		key.ledger, key.inc, key.egress = node, m.incOf(node), egress
	}
	return key
}

// onward says whether an entry leads to something else than what was dialled.
func (e *entry) onward() bool { return e.origDst != e.replySrc || e.origDPort != e.replySPort }

// yields says whether what a ledger shows of a connection's node holds against what its peer's address says. Of an address
// that was dialled, which belongs to a node, a pod or a service, an entry at another node proves nothing.
func (r *Resolution) yields(node string, dialled bool) bool {
	switch r.Kind {
	case KindNode, KindLocal:
		return !dialled && r.Node != node
	case KindPod:
		return !dialled
	}
	return true
}

// leadOn places the socket that dialled what a new entry translates. Where that leads to the same end as before, nothing was
// lost by what its node had forgotten.
func (m *Model) leadOn(id uint32) {
	e := m.ledger.entries.At(id)
	r := m.byTuple.Get(m.ledger.orig(e).tuple)
	if r == 0 || m.socks.At(r).entry != 0 {
		return
	}
	if w, ok := m.ways[r]; ok && w.to == m.ledger.far(e) {
		m.findWay(r)
	}
	m.place(r)
	m.pairUp(r)
}

// wayLost is what a node forgot of a connection that one of the sockets had dialled.
type wayLost struct {
	at   int64
	node uint32 // names
	to   farKey // where it led
	lost Loss
}

// farKey is the far end of a translated connection.
type farKey struct {
	ip   addr
	port uint16
}

func (l *ledger) far(e *entry) farKey { return farKey{l.hosts.Addr(e.replySrc), e.replySPort} }

// maxWays bounds the sockets of which it is remembered that their way was forgotten: more change no verdict.
const maxWays = 1 << 17

// loseWay notes that an entry ended while its connection was open, at the end that dialled it. An entry that expires is told
// when the next segment comes across it, and so about when that is answered by a reset: the one or the other is told first.
func (m *Model) loseWay(id uint32, why Loss, ev *event.Event) {
	e := m.ledger.entries.At(id)
	if why == lossClosed {
		return
	}
	far := m.ledger.far(e)
	if _, removed := m.inv.podGone[far.ip.IP()]; removed {
		return // whoever cleans up behind a pod deletes its entries too
	}
	t := ev.Time.UnixNano()
	k := m.ledger.orig(e).tuple
	sock := m.byTuple.Get(k)
	if h, ok := m.resetWays[k]; ok && near(h.at, t) {
		delete(m.resetWays, k)
		m.hops.At(h.hop).blame(h.fact, why)
		m.loseUnseen(e, why, ev)
		return
	}
	if sock == 0 || m.socks.At(sock).entry != 0 || len(m.ways) >= maxWays {
		return
	}
	r := m.socks.At(sock)
	if r.flags&fStranded != 0 || r.flags&(fCounted|fMirror) == 0 || m.words.text[r.state] != "established" {
		return
	}
	m.ways[sock] = wayLost{at: t, node: e.node, to: far, lost: why}
	m.recount(sock, func(r *row) { r.flags |= fStranded })
	m.urgent++
	m.loseUnseen(e, why, ev)
}

// loseUnseen counts what a node forgot, unless the end that accepted it is seen and counts it.
func (m *Model) loseUnseen(e *entry, why Loss, ev *event.Event) {
	if e.row == 0 {
		m.lose(m.strs.text[e.node], why, ev, 0, false)
	}
}

// findWay forgets that a socket's way was forgotten.
func (m *Model) findWay(id uint32) {
	delete(m.ways, id)
	m.recount(id, func(r *row) { r.flags &^= fStranded })
}

// resetWay is a reset of a socket that had dialled through an entry of which it is not told yet that it had ended before.
type resetWay struct {
	at   int64
	hop  uint32
	fact event.ID // of the ending
}

// resetDialled remembers the reset that ends a socket, should its entry's end be told after it. The row is in its hop still.
func (m *Model) resetDialled(id uint32, t int64) {
	r := m.socks.At(id)
	if r.cell == 0 || r.flags&(fStranded|fRefused) != 0 || m.wayOf(r) == 0 || len(m.resetWays) >= maxPairs {
		return
	}
	k := m.tuple(r)
	k.netns = 0
	hop := m.lanes.At(m.peers.At(m.cells.At(r.cell).peer).lane).hop
	m.resetWays[k] = resetWay{at: t, hop: hop, fact: event.ID{Origin: m.strs.text[m.own(r).origin], N: r.factN}}
}

// blame notes what had taken the entry of a socket that has ended.
func (h *hop) blame(fact event.ID, why Loss) {
	for i := len(h.lost) - 1; i >= 0; i-- {
		if x := &h.lost[i]; x.fact == fact {
			x.lost = why
			return
		}
	}
}
