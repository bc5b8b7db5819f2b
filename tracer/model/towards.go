package model

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/midhop/midhop/tracer/event"
)

// This file looks at everything that was dialled at one address, by whatever way it goes, and at what is being dialled.

// Towards is what dialled one address.
type Towards struct {
	Sockets  int // open ones
	Troubled int
	Received Instant // newest receive of any
}

// Towards sums up the open sockets that have dialled an address.
func (m *Model) Towards(ip netip.Addr) (t Towards) {
	m.settle()
	for _, id := range m.peersByIP[pack(ip)] {
		p := m.peers.At(id)
		if p.born == 0 || !p.key.dialled {
			continue
		}
		t.Sockets += int(p.sockets)
		t.Troubled += int(p.trouble())
		t.Received = max(t.Received, Instant(p.received))
	}
	return t
}

// dialling follows a connection attempt that is not answered.
func (m *Model) dialling(id uint32) {
	r := m.socks.At(id)
	if m.words.text[r.state] == "syn_sent" && m.pend(r).retrans > 0 && len(m.dials) < maxDials {
		m.dials[id] = struct{}{}
	} else {
		delete(m.dials, id)
	}
}

// maxDials bounds the connection attempts that are followed; more change no verdict.
const maxDials = 1 << 12

// Dial is a connection attempt without an answer.
type Dial struct {
	To    event.Endpoint
	Hop   HopKey
	Since Instant // when it was repeated first
	Fact  string  // id of the newest fact about it
}

// Dials returns the connection attempts without an answer, in a stable order.
func (m *Model) Dials() []Dial {
	if len(m.dials) == 0 {
		return nil
	}
	m.settle()
	out := make([]Dial, 0, len(m.dials))
	for _, id := range slices.SortedFunc(maps.Keys(m.dials), cmp.Compare[uint32]) {
		r := m.socks.At(id)
		out = append(out, Dial{
			To: event.Endpoint{IP: m.peer(r).IP(), Port: r.pport}, Hop: m.behind(m.cells.At(r.cell)).key, Since: Instant(m.pend(r).since),
			Fact: idText(event.ID{Origin: m.strs.text[m.own(r).origin], N: r.factN}),
		})
	}
	return out
}
