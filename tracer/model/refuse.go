package model

import "github.com/midhop/midhop/tracer/event"

// A node that does not know a connection answers what its pod sends with a reset of its own, which it tells as nobody's:
// no socket was there for the segment. The pod's machine tells the same reset as received. The two together prove that
// the reset did not come from the client.
//
// That the sender has forgotten a connection follows only where it translated it: by an address that is the node itself, and
// was before the connection began. A pod resets too what is none of its own: a segment that its node found out of the window
// and handed on as it was, or one for the pod that had the address before.

// half of such a pair: the moment, and what the other needs of it.
type halfReset struct {
	at     int64
	node   uint32 // names: that sent it, or of a received one the node that translated the connection; 0: nobody
	silent int64  // how long the pod's socket had received nothing
}

// Halves are kept for pairAge, and only so many.
const (
	pairAge  = int64(2e9)
	maxPairs = 1 << 13
)

// refused folds a reset that a node sent for a segment without a socket.
func (m *Model) refused(ev *event.Event, s *event.Socket, src uint32, t int64) {
	node := m.watchers[src].node
	if !s.Local.IP.IsValid() || !s.Peer.IP.IsValid() || s.Local.IP.IsLoopback() || s.Peer.IP.IsLoopback() || node == 0 {
		return
	}
	k := tupleOf(pack(s.Peer.IP), pack(s.Local.IP), s.Peer.Port, s.Local.Port, 0) // as the pod's socket sees it
	if h, ok := m.received[k]; ok && near(h.at, t) {
		delete(m.received, k)
		if h.node == node && !m.stands(k, h, t) {
			m.lose(m.strs.text[node], LossRefused, ev, h.silent, true)
		}
		return
	}
	if len(m.sent) < maxPairs {
		m.sent[k] = halfReset{at: t, node: node}
	}
}

// refusedBy returns what is known of the reset that ends a row: that the node that translated it sent it, which does not know
// the connection any more.
func (m *Model) refusedBy(r *row, t int64) (node uint32, ok bool) {
	k := m.tuple(r)
	k.netns = 0
	half := halfReset{at: t, node: m.translates(r)}
	if r.received != 0 {
		half.silent = t - r.received
	}
	if h, found := m.sent[k]; found && near(h.at, t) {
		delete(m.sent, k)
		return h.node, h.node == half.node && !m.stands(k, half, t)
	}
	if len(m.received) < maxPairs {
		m.received[k] = half
	}
	return 0, false
}

// translates returns the node that translates a socket's connection by an address of its own, which it had when the
// connection began; 0 where nobody is known to.
func (m *Model) translates(r *row) uint32 {
	p, k := m.peers.At(m.cells.At(r.cell).peer), m.behind(m.cells.At(r.cell)).key
	switch {
	case p.key.self, m.former(k), k.Kind != KindNode && k.Kind != KindLocal, m.inv.serviceByVIP[p.key.ip.IP()] != "":
		return 0
	}
	return m.strs.of(k.Name)
}

// stands says whether the ledger of the node that sent a reset still has the connection: then it has not forgotten it, and the
// segment was none that it could translate. What ends the entry may be told a moment later, see forgotten.
func (m *Model) stands(k tupleKey, h halfReset, t int64) bool {
	id := m.ledger.byReply.Get(k)
	if id == 0 {
		return false
	}
	if e := m.ledger.entries.At(id); !e.live || e.gone || e.node != h.node {
		return false
	}
	if len(m.refusals) < maxPairs {
		h.at = t
		m.refusals[id] = h
	}
	return true
}

// forgotten counts an entry whose end is told after its node had answered with a reset already: the kernel finds an entry's
// time over when it is looked up.
func (m *Model) forgotten(id uint32, why Loss, ev *event.Event) {
	h, ok := m.refusals[id]
	delete(m.refusals, id)
	if ok && why != lossClosed && near(h.at, ev.Time.UnixNano()) {
		m.lose(m.strs.text[h.node], why, ev, h.silent, true)
	}
}

func near(a, b int64) bool { return a-b < pairAge && b-a < pairAge }

// forgetHalves drops what found no other half.
func (m *Model) forgetHalves(t int64) {
	for _, halves := range []map[tupleKey]halfReset{m.sent, m.received} {
		for k, h := range halves {
			if h.at+pairAge < t {
				delete(halves, k)
			}
		}
	}
	for id, h := range m.refusals {
		if h.at+pairAge < t {
			delete(m.refusals, id)
		}
	}
	for k, h := range m.resetWays {
		if h.at+pairAge < t {
			delete(m.resetWays, k)
		}
	}
}
