package model

import "net/netip"

// This file counts the sockets that lead to the pods of a node: straight, or by what a ledger translates on their way.

// Held is what leads to the pods of one node.
type Held struct {
	Node     string
	Sockets  int
	Troubled int
}

// HeldFor returns what the sockets of some machines lead to, by the node that holds it, their own nodes left out. It walks
// the ledger: it is for judgements about a node, not for each.
func (m *Model) HeldFor(sources map[string]bool) map[string]*Held {
	m.settle()
	out := make(map[string]*Held)
	add := func(src uint32, node string, t tally) {
		w := &m.watchers[src]
		if !sources[w.source] || node == "" || node == m.strs.text[w.node] {
			return
		}
		h := out[node]
		if h == nil {
			h = &Held{Node: node}
			out[node] = h
		}
		h.Sockets += int(t.sockets)
		h.Troubled += int(t.trouble())
	}
	holder := m.holders()
	m.eachLed(func(id uint32, far addr) {
		r := m.socks.At(id)
		add(m.own(r).src, holder(far), r.tally())
	})
	for i := uint32(1); i < m.hops.End(); i++ {
		h := m.hops.At(i)
		if h.key.Kind != KindPod || h.sockets == 0 {
			continue
		}
		for _, l := range h.lanes {
			la := m.lanes.At(l)
			add(la.src, holder(pack(h.key.IP)), la.tally)
		}
	}
	return out
}

// holders returns a function that tells the node that a pod's address belongs to, and asks once for each.
func (m *Model) holders() func(addr) string {
	nodes := make(map[addr]string)
	return func(far addr) string {
		node, known := nodes[far]
		if !known {
			node = m.PodNode(far.IP())
			nodes[far] = node
		}
		return node
	}
}

// eachLed calls f for the sockets that dialled an address at which a ledger shows a pod, with that one's address. Whether they
// or their other ends count makes no difference.
func (m *Model) eachLed(f func(id uint32, far addr)) {
	l := m.ledger
	for i := uint32(1); i < l.entries.End(); i++ {
		e := l.entries.At(i)
		if !e.live || e.gone {
			continue
		}
		k := l.orig(e).tuple
		id := m.byTuple.Get(k)
		if id == 0 || l.byDialled.Get(k) != i {
			continue
		}
		if r := m.socks.At(id); r.flags&(fCounted|fMirror) != 0 && r.entry == 0 && m.behind(m.cells.At(r.cell)).key.Kind != KindPod {
			f(id, l.hosts.Addr(e.replySrc))
		}
	}
}

// ImpactOfHolder counts the sockets of other machines that lead to a node's pods, and those that have ended in trouble since
// then.
func (m *Model) ImpactOfHolder(node string, since Instant) (im Impact) {
	m.settle()
	pods, services := newHits(), newHits()
	holder := m.holders()
	m.eachLed(func(id uint32, far addr) {
		r := m.socks.At(id)
		if holder(far) != node || m.strs.text[m.watchers[m.own(r).src].node] == node {
			return
		}
		im.Crossing++
		switch r.status {
		case stalled:
			im.Stalled++
		case atRisk:
			im.AtRisk++
		default:
			im.Idle++
		}
		if r.status != healthy {
			im.troubled(m.deadline(r))
		}
		e := m.ends.At(m.cells.At(r.cell).end)
		pods.add(e.pod, 1)
		services.add(e.service, 1)
	})
	var straight Impact
	for i := uint32(1); i < m.hops.End(); i++ {
		h := m.hops.At(i)
		if h.key.Kind == KindPod {
			if len(h.lanes) > 0 && holder(pack(h.key.IP)) == node {
				view := m.hop(i)
				o := m.ImpactOf(&view, since)
				straight.Merge(&o)
			}
			continue
		}
		for _, x := range h.lost {
			if Instant(x.at) < since || x.far == (addr{}) || holder(x.far) != node {
				continue
			}
			im.end(x.kind)
			pods.add(m.strs.text[x.pod], 1)
			services.add(m.strs.text[x.svc], 1)
		}
	}
	im.Pods, im.Services = pods.top(), services.top()
	im.Merge(&straight)
	return im
}

// FarEnd is the pod that a troubled socket leads to, as an address: what a ledger shows, or what it speaks to; not valid
// where it leads to none.
func (t *Troubled) FarEnd(hop HopKey) netip.Addr {
	switch {
	case t.Backend.IsValid():
		return t.Backend
	case hop.Kind == KindPod:
		return hop.IP
	}
	return netip.Addr{}
}
