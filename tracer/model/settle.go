package model

import (
	"net/netip"
	"slices"
)

// stale says which answers about addresses may have changed since the peers were settled. A fleet's inventory changes all
// the time, mostly by one address, and there are tens of thousands of peers.
type stale struct {
	all     bool
	ips     map[netip.Addr]struct{}
	ranges  []netip.Prefix
	sources map[uint32]struct{} // peers of their sockets: the machine goes by another node's name now
}

// Beyond these all peers are asked for, which costs no more by then.
const (
	maxStaleIPs    = 4096
	maxStaleRanges = 64
)

func (a *addresses) touch(ips ...netip.Addr) {
	a.gen++
	for _, ip := range ips {
		if len(a.stale.ips) >= maxStaleIPs {
			a.stale.all = true
			return
		}
		if a.stale.ips == nil {
			a.stale.ips = make(map[netip.Addr]struct{})
		}
		a.stale.ips[ip.Unmap()] = struct{}{}
	}
}

func (a *addresses) touchRange(p netip.Prefix) {
	a.gen++
	switch {
	case slices.Contains(a.stale.ranges, p):
	case len(a.stale.ranges) >= maxStaleRanges:
		a.stale.all = true
	default:
		a.stale.ranges = append(a.stale.ranges, p)
	}
}

func (a *addresses) touchSource(id uint32) {
	a.gen++
	if a.stale.sources == nil {
		a.stale.sources = make(map[uint32]struct{})
	}
	a.stale.sources[id] = struct{}{}
}

func (a *addresses) touchAll() {
	a.gen++
	a.stale.all = true
}

// settle brings every peer's resolution up to date with the inventory.
func (m *Model) settle() {
	if m.settled == m.addrs.gen {
		return
	}
	m.settled = m.addrs.gen
	s := m.addrs.stale
	m.addrs.stale = stale{}
	var ids []uint32
	if !s.all {
		for ip := range s.ips {
			ids = append(ids, m.peersByIP[pack(ip)]...)
		}
	}
	if s.all || len(s.ranges)+len(s.sources) > 0 {
		for id := uint32(1); id < m.peers.End(); id++ {
			if p := m.peers.At(id); p.born != 0 && (s.all || s.concerns(p)) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids) // every fold of the same facts does the same in the same order
	for _, id := range slices.Compact(ids) {
		m.resolvePeer(id)
	}
}

// concerns says whether a peer is among those of the ranges and the sources.
func (s *stale) concerns(p *peer) bool {
	if _, yes := s.sources[p.key.src]; yes {
		return true
	}
	at, _ := p.key.names()
	ip := at.IP()
	return slices.ContainsFunc(s.ranges, func(r netip.Prefix) bool { return r.Contains(ip) })
}

// forgetPeer takes a peer out of the index by address.
func (m *Model) forgetPeer(id uint32, ip addr) {
	if list := without(m.peersByIP[ip], id); len(list) == 0 {
		delete(m.peersByIP, ip)
	} else {
		m.peersByIP[ip] = list
	}
}
