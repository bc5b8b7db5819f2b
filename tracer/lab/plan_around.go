package lab

import (
	"net/netip"
	"slices"
	"time"
)

// surroundings are what only some scenarios' clusters have.
type surroundings struct {
	inside   bool
	Outside  []netip.AddrPort // where the service outside the cluster is reached; empty: there is none
	Servers  []netip.Addr     // behind its only address, where it has one only
	Peers    clientNet        // pods of a peered cluster, in the pod range of the victim; no addresses: there are none
	Heir     nodePlan         // a node that is yet to come, under the victim's address
	Floating netip.Addr       // that the victim masquerades by, where it is not the victim's own
}

// How many servers stand behind an address outside, and where all of them listen.
const (
	outsideServers = 3
	outsidePort    = 443
)

// peerHosts is where the peered cluster's share of a node's pod range begins, and peerBits how many bits it has: its upper quarter.
const (
	peerHosts = 192
	peerBits  = 6
	peers     = 6
)

// surround draws what the scenario wants beside a cluster. hosts are the nodes' numbers.
func (p *plan) surround(d *draw, s Scenario, hosts []int) {
	p.inside = s.inside
	victim := p.Nodes[p.Victim]
	if s.outside {
		for _, a := range p.External.Addrs {
			p.Outside = append(p.Outside, netip.AddrPortFrom(a, outsidePort))
		}
	}
	if s.balanced {
		p.Servers, p.Outside = p.External.Addrs[1:1+outsideServers], p.Outside[:1]
	}
	if s.peered {
		base := nth(victim.CIDR, peerHosts)
		p.Peers = clientNet{
			Name: "peers", Prefix: netip.PrefixFrom(base, base.BitLen()-peerBits), Gateway: base.Next(), MAC: d.mac(), GateMAC: d.mac(),
		}
		for _, h := range d.distinct(peers, 8, 2, 1<<peerBits-2) {
			p.Peers.Addrs = append(p.Peers.Addrs, nth(p.Peers.Prefix, h))
		}
	}
	if s.heir {
		p.Heir = nodePlan{
			Name: d.nodeNames(1)[0], UID: d.uuid(), MAC: d.mac(), Port: d.mac(), Pods: d.mac(), Tunnel: d.mac(),
			Addr: victim.Addr, Zone: victim.Zone, Spot: victim.Spot, Age: time.Second,
		}
		taken := func(name string) bool {
			return slices.ContainsFunc(p.Nodes, func(n nodePlan) bool { return n.Name == name })
		}
		for taken(p.Heir.Name) {
			p.Heir.Name = "node-" + d.hash(5)
		}
		p.Heir.CIDR = block(p.PodNet, victim.CIDR.Bits(), 901+d.rng.IntN(90)) // above all others
	}
	if s.floating {
		host := d.number(99, 1001, 4000) // above all nodes where a seed draws them
		for slices.Contains(hosts, host) {
			host++
		}
		p.Floating = nth(p.NodeNet, host)
	}
}
