package model

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/midhop/midhop/tracer/event"
)

// This file knows the far ends of connections beyond the hop, as far as a ledger or the inventory tells them.

// PodEnd is a pod that was removed.
type PodEnd struct {
	Name string // namespace/name
	Node string
	At   Instant
	Fact string
}

// maxBuried bounds the addresses of removed pods that are remembered.
const maxBuried = 1 << 14

func (inv *inventory) bury(ip netip.Addr, e PodEnd) {
	if len(inv.podGone) >= maxBuried {
		oldest := ip
		for other, o := range inv.podGone {
			if at := inv.podGone[oldest].At; at == 0 || o.At < at || (o.At == at && other.Less(oldest)) {
				oldest = other
			}
		}
		delete(inv.podGone, oldest)
	}
	inv.podGone[ip] = e
}

// PodEnded returns the pod that held an address last, false where it was not removed or another one holds it now.
func (m *Model) PodEnded(ip netip.Addr) (PodEnd, bool) {
	e, ok := m.inv.podGone[ip]
	return e, ok
}

// PodNode returns the node that a pod's address belongs to, empty where none is known.
func (m *Model) PodNode(ip netip.Addr) string {
	if node := m.KnownOn(ip); node != "" {
		return node
	}
	return m.addrs.podRange(ip).node()
}

// KnownOn returns the node that is known to hold a pod's address, by the pod itself and not by the range alone, which may be
// another cluster's too; empty where none is.
func (m *Model) KnownOn(ip netip.Addr) string {
	if p := m.inv.pods[m.inv.podByIP[ip]]; p != nil {
		return p.Node
	}
	if e, ok := m.inv.podGone[ip]; ok {
		return e.Node
	}
	return m.seenOn(ip)
}

// seenOn returns the node whose agent sees sockets of an address, empty where none or several do.
func (m *Model) seenOn(ip netip.Addr) string {
	node := uint32(0)
	for _, id := range m.endsByIP[pack(ip)] {
		switch at := m.watchers[m.ends.At(id).src].node; node {
		case 0, at:
			node = at
		default:
			return ""
		}
	}
	return m.strs.text[node]
}

// ServiceAt names the service behind an address and port that clients dial, empty where none is known.
func (m *Model) ServiceAt(e event.Endpoint) string {
	if s := m.inv.serviceByVIP[e.IP]; s != "" {
		return s
	}
	return m.inv.nodePorts[e.Port]
}

// maxServed bounds the addresses of which it is remembered what they served.
const maxServed = 1 << 18

// ServiceOf names the service that a pod's address serves, or served last, empty where none is known.
func (m *Model) ServiceOf(ip netip.Addr) string { return m.inv.served[ip] }

// Service returns what is known of a service by namespace/name.
func (m *Model) Service(name string) (event.Service, bool) {
	s := m.inv.services[name]
	if s == nil {
		return event.Service{}, false
	}
	return *s, true
}

// BackendsOf returns the pods' addresses behind a service.
func (m *Model) BackendsOf(service string) []netip.Addr {
	if s := m.inv.services[service]; s != nil {
		return slices.Clone(s.Backends)
	}
	return nil
}

// PodsEnded returns the addresses of a service's pods that were removed since then, in order.
func (m *Model) PodsEnded(service string, since Instant) []netip.Addr {
	var out []netip.Addr
	for ip, e := range m.inv.podGone {
		if e.At >= since && m.inv.served[ip] == service {
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// farEnd fills in what a ledger knows of a troubled socket's far end.
func (m *Model) farEnd(id uint32, t *Troubled) {
	r := m.socks.At(id)
	other, dialled := m.across(id)
	if other != 0 {
		o := m.socks.At(other)
		t.Paired = !m.unheard(m.own(o).src) && o.flags&(fOrphan|fFailed|fReset|fClosed) == 0 && m.words.text[o.state] == "established"
	}
	if r.entry == 0 && dialled == 0 && other != 0 {
		dialled = m.dialled(m.tuple(r)) // both ends are on one machine, and there may be an entry still
	}
	switch {
	case r.entry != 0:
		t.Client = m.hosts.Addr(m.ledger.entries.At(r.entry).origSrc).IP()
	case dialled != 0 && m.ledger.entries.At(dialled).onward():
		t.Backend = m.hosts.Addr(m.ledger.entries.At(dialled).replySrc).IP()
	}
}

// Network returns the network that clients are told apart by: a /24, or a /64.
func Network(ip netip.Addr) netip.Prefix { return around(ip) }

// Networks counts the sockets of all hops by the network of their clients, as far as ledgers know these.
func (m *Model) Networks() map[netip.Prefix]map[HopKey]int {
	out := make(map[netip.Prefix]map[HopKey]int)
	for i := uint32(1); i < m.peers.End(); i++ {
		p := m.peers.At(i)
		if p.born == 0 || len(p.clients.networks) == 0 {
			continue
		}
		key := m.hops.At(m.lanes.At(p.lane).hop).key
		for n, count := range p.clients.networks {
			if out[n] == nil {
				out[n] = make(map[HopKey]int)
			}
			out[n][key] += int(count)
		}
	}
	return out
}

// shutting follows a socket whose peer answers and keeps its window shut: its application does not read.
func (m *Model) shutting(id uint32, p *event.Progress, t int64) {
	r := m.socks.At(id)
	is := p.Timer == event.TimerProbe0 && p.SendWindow.OK && p.SendWindow.V == 0 && p.Unsent > 0 && p.ProbesOut < 2
	switch {
	case is && r.flags&fShut == 0:
		if len(m.shut) >= maxShut {
			m.evicted["model.shut"]++
			return
		}
		r.flags |= fShut
		m.shut[id] = t
		m.urgent++
	case !is && r.flags&fShut != 0:
		r.flags &^= fShut
		delete(m.shut, id)
		m.urgent++
	}
}

// maxShut bounds the sockets with a shut window that are followed.
const maxShut = 1 << 16

// Shut is a socket whose peer answers and keeps its window shut.
type Shut struct {
	Client netip.Addr // far end, where a ledger knows it, else the peer
	Hop    HopKey
	Pod    string
	Since  Instant
	Unsent uint32 // bytes that wait
	Fact   string
}

// ShutSockets returns the sockets whose peers answer and keep their windows shut, in a stable order.
func (m *Model) ShutSockets() []Shut {
	if len(m.shut) == 0 {
		return nil
	}
	var out []Shut
	for _, id := range slices.Sorted(maps.Keys(m.shut)) {
		r := m.socks.At(id)
		if r.flags&fCounted == 0 {
			continue
		}
		c := m.cells.At(r.cell)
		s := Shut{
			Client: m.peer(r).IP(), Hop: m.behind(c).key, Pod: m.ends.At(c.end).pod, Since: Instant(m.shut[id]), Unsent: m.pend(r).unsent,
			Fact: idText(event.ID{Origin: m.strs.text[m.own(r).origin], N: r.factN}),
		}
		if r.entry != 0 {
			s.Client = m.hosts.Addr(m.ledger.entries.At(r.entry).origSrc).IP()
		} else if s.Hop.Kind == KindNode || s.Hop.Kind == KindLocal && !m.peers.At(c.peer).key.self {
			s.Client = netip.Addr{} // what the socket sees is the node
		}
		out = append(out, s)
	}
	return out
}

// Unnamed returns the nodes that three sockets or more cross which are stalled, or whose peers do not read, and of which no
// ledger has told who stands behind: what these have in common may be their clients.
func (m *Model) Unnamed() []string {
	const least = 3
	count := make(map[string]int)
	for _, s := range m.ShutSockets() {
		if s.Hop.Kind == KindNode && !s.Client.IsValid() {
			count[s.Hop.Name]++
		}
	}
	for _, h := range m.Sick() {
		if h.Key.Kind != KindNode || h.Stalled == 0 {
			continue
		}
		m.EachTroubled(&h, func(t *Troubled) bool {
			if t.Stalled && !t.Client.IsValid() && !t.Backend.IsValid() {
				count[h.Key.Name]++
			}
			return count[h.Key.Name] < least
		})
	}
	var out []string
	for name, n := range count {
		if n >= least {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// hostPod lets the end of a socket in the host's network be named by the pod whose process holds it: its address is the
// node's, and so that of many. Where it dials, the end is shared by all of them, see refOf.
func (m *Model) hostPod(id uint32) {
	r := m.socks.At(id)
	o := m.own(r)
	if o.pod == 0 || r.cell == 0 {
		return
	}
	end := m.cells.At(r.cell).end
	if e := m.ends.At(end); e.port != 0 && e.owner != o.pod {
		e.owner = o.pod
		m.nameEnd(o.src, end)
	}
}

// refOf returns the names of a socket's own end.
func (m *Model) refOf(r *row) *event.K8sRef {
	e := m.ends.At(m.cells.At(r.cell).end)
	if o := m.own(r); o.pod != 0 && e.pod == "" {
		if pod := m.inv.pods[m.inv.hostPods[m.strs.text[o.pod]]]; pod != nil {
			return &event.K8sRef{
				Node: m.strs.text[m.watchers[o.src].node], Service: e.service,
				Namespace: pod.Namespace, Pod: pod.Name, Workload: pod.Workload,
			}
		}
	}
	return e.ref
}

// RangeOf is the range of pods' addresses that an address is of, by the inventory, else the network around it.
func (m *Model) RangeOf(ip netip.Addr) netip.Prefix {
	if r := m.addrs.podRange(ip); r.known() {
		return r.prefix
	}
	return around(ip)
}
