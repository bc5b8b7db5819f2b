package model

import (
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// This file knows who held an address when. A connection belongs to whoever held the far address while it lived: an address
// that passes to another node takes none of the old connections along.

// tenure is a time in which one address had the same holder. Nobody's time after it belongs to the next holder: what is
// opened while nobody is known to hold the address is opened to whoever is found to hold it.
type tenure struct {
	until int64      // when the next one began
	was   Resolution // who held the address, as other machines see it
}

// passing lists the tenures of an address that are over, oldest first.
type passing struct {
	dropped uint32 // how many before these are forgotten
	over    []tenure
}

// maxTenures bounds the tenures of one address that are remembered.
const maxTenures = 8

// tenureAt numbers the tenure of an address in which an instant lies, 0 for one that has never passed from one holder to
// another.
func (a *addresses) tenureAt(ip netip.Addr, t int64) uint32 {
	p := a.passed[ip]
	if p == nil {
		return 0
	}
	n := p.dropped
	for i := range p.over {
		if t < p.over[i].until {
			break
		}
		n++
	}
	return n
}

// tenureNow numbers the running tenure of an address.
func (a *addresses) tenureNow(ip netip.Addr) uint32 {
	p := a.passed[ip]
	if p == nil {
		return 0
	}
	return p.dropped + uint32(len(p.over))
}

// held answers for a tenure that is over, false for the one that runs.
func (a *addresses) held(ip netip.Addr, n uint32) (Resolution, bool) {
	p := a.passed[ip]
	if p == nil || n >= p.dropped+uint32(len(p.over)) {
		return Resolution{}, false
	}
	return p.over[max(n, p.dropped)-p.dropped].was, true
}

// pass ends the running tenure of an address at t.
func (a *addresses) pass(ip netip.Addr, t int64) {
	if a.beforePass == nil {
		return
	}
	was := a.beforePass(ip)
	p := a.passed[ip]
	if p == nil {
		p = &passing{}
		a.passed[ip] = p
	}
	if n := len(p.over); n > 0 {
		t = max(t, p.over[n-1].until+1)
	}
	p.over = append(p.over, tenure{until: t, was: was})
	if len(p.over) > maxTenures {
		p.over = append(p.over[:0], p.over[1:]...)
		p.dropped++
	}
}

// takes says whether a new hold would end the running tenure: where another node holds the address, by a word that weighs
// no more, and the new holder did not have it all the time.
func (a *addresses) takes(ip netip.Addr, h *holding) bool {
	word, nodes := a.current(ip)
	switch {
	case len(nodes) == 0, len(nodes) == 1 && word.node == h.node && word.inc == h.inc:
		return false
	case fromAgent(h.said) && !fromAgent(word.said):
		return false // an agent's claim does not outweigh the inventory's holder
	case !fromAgent(h.said) && fromAgent(word.said):
		return h.made > word.since // whoever is created later than another was heard there has it since then
	}
	return !h.ever
}

// freeze brings the peers of an address up to date before it passes to somebody else, and tells who held it as other
// machines see it.
func (m *Model) freeze(ip netip.Addr) Resolution {
	for _, id := range m.peersByIP[pack(ip)] {
		m.resolvePeer(id)
	}
	return m.addrs.resolve(question{ip: ip, dialled: true}, m.inv)
}

// as says which machine of the name a node is now, where the inventory knows it by name alone.
func (r Resolution) as(inv *inventory) Resolution {
	if n := inv.nodes[r.Node]; n != nil && r.Kind == KindNode {
		r.Inc = n.inc
	}
	return r
}

// ofTenure answers for a peer of a tenure that is over.
func (r Resolution) ofTenure(own string) Resolution {
	if r.Kind == KindNode && r.Node == own {
		r.Kind, r.Role = KindLocal, event.ViaLocal
	}
	return r
}

// born is when a socket began at the latest, by the first fact about it.
func born(p *event.Progress, t int64) int64 {
	if p == nil {
		return t
	}
	age := int64(0)
	for _, a := range []event.Opt[event.Seconds]{p.ReceivedAge, p.SentAge, p.StalledAge} {
		if a.OK {
			age = max(age, int64(a.V))
		}
	}
	return t - age
}

// succeed hands a socket of a tenure that is over to the holder of its address: it goes on, so it crosses that one.
func (m *Model) succeed(id uint32) {
	r := m.socks.At(id)
	p := m.peers.At(m.cells.At(r.cell).peer)
	if p.key.hop != (addr{}) {
		return // its table will say by which node it goes on
	}
	if now := m.addrs.tenureNow(p.key.ip.IP()); p.key.tenure < now {
		m.placeIn(id, now)
	}
}

// coexists says whether others may hold an address as long as a node that tells so for the first time: an address that every
// node has (a bridge, a virtual machine's NAT), or one that a list gives to two. It is not so where the other's agent has
// fallen silent, or where the list says when each was created.
func (m *Model) coexists(ip netip.Addr, h *holding) bool {
	for _, o := range m.addrs.exact[ip] {
		if o.until != 0 || o.node == h.node || fromAgent(o.said) != fromAgent(h.said) {
			continue
		}
		if fromAgent(h.said) {
			if a, ok := m.AgentOf(o.node); !ok || int64(a.Heard)+silentAfter >= h.since {
				return true
			}
		} else if h.made == 0 && h.since < o.since+int64(time.Second) {
			return true
		}
	}
	return false
}

// replaced says whether a fact is about another machine than the one that had a node's name so far.
func (n *node) replaced(now *event.Node, said string) bool {
	if fromAgent(said) || len(n.facts) == 0 && !n.gone {
		return false // an agent tells of a restart, whatever became of the Node object
	}
	was := n.merged()
	switch {
	case was.BootID != "" && was.BootID == now.BootID:
		return false // registered anew
	case was.UID != "" && now.UID != "":
		return was.UID != now.UID
	}
	return n.gone
}

// replace lets another machine have a node's name: what was known of the former one is not known of it.
func (m *Model) replace(n *node, t int64) {
	for _, f := range n.facts {
		m.releaseNode(&f.node, f.said, t)
	}
	n.facts, n.gone = nil, false
	n.boots, n.bootAt, n.bootIs, n.losses = nil, 0, "", nil
	n.inc++
}

// former says whether a key is of a machine that another one of the same name has replaced since.
func (m *Model) former(k HopKey) bool {
	n := m.inv.nodes[k.Name]
	return k.Kind == KindNode && n != nil && k.Inc < n.inc
}

// Former says whether a hop is a machine that another one has replaced under its name: what is said of the name since is
// not said of it.
func (m *Model) Former(k HopKey) bool { return m.former(k) }
