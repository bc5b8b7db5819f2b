package model

import "github.com/midhop/midhop/tracer/event"

// A node that does not know a connection answers what its pod sends with a reset of its own, which it tells as nobody's:
// no socket was there for the segment. The pod's machine tells the same reset as received. The two together prove that
// the reset did not come from the client.

// half of such a pair: the moment, and what the other needs of it.
type halfReset struct {
	at     int64
	node   uint32 // names: that sent it
	silent int64  // how long the pod's socket had received nothing
}

// Halves are kept for pairAge, and only so many.
const (
	pairAge  = int64(2e9)
	maxPairs = 1 << 13
)

// refused folds a reset that a node sent for a segment without a socket.
func (m *Model) refused(ev *event.Event, s *event.Socket, src uint32, t int64) {
	if !s.Local.IP.IsValid() || !s.Peer.IP.IsValid() {
		return
	}
	k := tupleOf(pack(s.Peer.IP), pack(s.Local.IP), s.Peer.Port, s.Local.Port, 0) // as the pod's socket sees it
	node := m.watchers[src].node
	if h, ok := m.received[k]; ok && near(h.at, t) {
		delete(m.received, k)
		m.lose(m.strs.text[node], LossRefused, ev, h.silent)
		return
	}
	if len(m.sent) < maxPairs {
		m.sent[k] = halfReset{at: t, node: node}
	}
}

// refusedBy returns what is known of the reset that ends a row: that its node itself sent it.
func (m *Model) refusedBy(r *row, t int64) (node uint32, ok bool) {
	k := m.tuple(r)
	k.netns = 0
	if h, found := m.sent[k]; found && near(h.at, t) {
		delete(m.sent, k)
		return h.node, true
	}
	if len(m.received) < maxPairs {
		silent := int64(0)
		if r.received != 0 {
			silent = t - r.received
		}
		m.received[k] = halfReset{at: t, silent: silent}
	}
	return 0, false
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
	for k, h := range m.resetWays {
		if h.at+pairAge < t {
			delete(m.resetWays, k)
		}
	}
}
