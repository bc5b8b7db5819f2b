package lab

import "net/netip"

// insideShare is the calling pod's share where nobody else has connections: to the service by its cluster address, and, where
// there is one, two thirds to the service outside. Of every five connections one talks, of those to outside every other one.
func (p *plan) insideShare(o Options) share {
	s := share{from: fromCaller}
	add := func(to netip.AddrPort, n, talkers int) {
		for _, g := range []group{{Count: talkers, Talk: o.talkEvery()}, {Count: n - talkers}} {
			if g.Count == 0 {
				continue
			}
			if g.Talk > 0 {
				g.Size, g.Push = p.Message, p.Push
			}
			g.way = way{Entry: p.Caller.Node, Target: to}
			s.spec.Groups = append(s.spec.Groups, g)
		}
	}
	n := o.Connections
	if len(p.Outside) > 0 {
		n /= 3
	}
	add(netip.AddrPortFrom(p.Service.ClusterIP, p.Service.Port), n, (n+block5-1)/block5)
	left := o.Connections - n
	for i, to := range p.Outside {
		part := left / (len(p.Outside) - i)
		left -= part
		add(to, part, (part+1)/2)
	}
	return s
}

// peersShare are n connections of a peered cluster's pods, straight to the pods of the service.
func (p *plan) peersShare(o Options, n int) share {
	g := group{Locals: p.Peers.Addrs, Count: n, Talk: o.talkEvery(), Size: p.Message}
	g.Target = netip.AddrPortFrom(p.Pods[0].Addr, p.Service.TargetPort)
	g.Low, g.High = entryPorts(0, len(p.Nodes))
	return share{from: fromPeers, spec: dialSpec{Groups: []group{g}}}
}
