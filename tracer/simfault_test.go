package tracer

import (
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Faults of a sim that take more than a flag.

// each calls f for every open connection whose client is in a network.
func (s *sim) each(net netip.Prefix, f func(*simConn)) {
	for _, c := range s.conns {
		if !c.closed && net.Contains(c.client.IP) {
			f(c)
		}
	}
}

// refuse lets silent connections of a node speak at one moment, the first n that are left, of which the node knows nothing
// any more: it answers each with a reset of its own. That their time was over is told when they are looked up, after the reset.
func (s *sim) refuse(n *simNode, most int) {
	s.answer(n, most, func(c *simConn) bool { return c.every == 0 })
	for _, c := range s.conns {
		if s.ledger && c.hop == n && c.lost {
			body := s.entry(c)
			body.Rung, body.Why, body.State = "ctnetlink", "timeout", "established"
			s.tell(n, event.NATDestroyed, body)
		}
	}
}

// answer lets a node answer connections with resets of its own, the first n that are left of those that match.
func (s *sim) answer(n *simNode, most int, match func(*simConn) bool) {
	for _, c := range s.conns {
		if c.hop != n || c.lost || c.closed || most == 0 || !match(c) {
			continue
		}
		most--
		s.tell(n, event.TCPReset, &event.TCPFact{
			Socket: event.Socket{Netns: 1, Local: c.peer, Peer: c.local, Family: "ipv4"},
			TCP:    event.Progress{State: "close"}, Reset: &event.Reset{By: "nobody's"},
		})
		c.lost = true
		s.reset(c)
	}
}

// tellRemoved lets the cluster say that a pod is gone.
func (s *sim) tellRemoved(p *simPod) {
	ns, name := splitName(p.name)
	s.facts = append(s.facts, simFact{s.now, event.Event{
		Type: event.PodChanged, Time: s.epoch.Add(s.now), Source: "kube",
		Body: &event.PodFact{What: "removed", Pod: event.Pod{Namespace: ns, Name: name, Node: p.node.name, IPs: []netip.Addr{p.ip}}},
	}})
}

// move hands the talking connections of one node to another: it meets them in mid-stream, their pods answer with resets,
// and their clients are gone.
func (s *sim) move(from, to *simNode) {
	for _, c := range s.conns {
		if c.hop != from || c.closed || c.every == 0 {
			continue
		}
		b := s.entry(c)
		b.By.Node, b.Rung, b.State = to.name, "ctnetlink", "established"
		b.NAT.Reply.Dst = event.Endpoint{IP: to.ip, Port: c.peer.Port + 1}
		s.tell(to, event.NATCreated, b)
		c.gone = true
	}
}

// narrow lets a node drop full-size segments, and every second talking connection send such.
func (s *sim) narrow(n *simNode) {
	n.narrow = true
	s.large(2)
}

// large lets one in a number of connections that talk send full-size segments.
func (s *sim) large(one int) {
	for i, c := range s.conns {
		c.large = c.hop != nil && c.every > 0 && i%one == 0
	}
}

// table tells a look at a node's conntrack table.
func (s *sim) table(n *simNode, entries, refused int) {
	s.tell(n, event.NATTable, &event.Table{Node: n.name, Entries: uint64(entries), Max: 262144, InsertFailed: uint64(refused)})
}

// crowd tells of connections through a node to a pod by clients that nobody watches.
func (s *sim) crowd(n *simNode, p *simPod, most, first int) {
	for i := range most {
		port := uint16(first + i)
		s.tell(n, event.NATCreated, &event.NATFact{
			NAT: event.NAT{
				Proto: "tcp", Kinds: []string{"snat", "dnat"},
				Original: event.Tuple{
					Src: event.Endpoint{IP: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Port: port},
					Dst: event.Endpoint{IP: netip.MustParseAddr("203.0.113.80"), Port: 443},
				},
				Reply: event.Tuple{
					Src: event.Endpoint{IP: p.ip, Port: 8080}, Dst: event.Endpoint{IP: n.ip, Port: port},
				},
			},
			By: event.By{Node: n.name}, Rung: "ctnetlink", State: "syn_sent",
		})
	}
}

// asked tells what came of a question that one machine put to another, and to a third one where that kept silent.
func (s *sim) asked(by, to, control *simNode) {
	reply := func(n *simNode) event.Reply {
		r := event.Reply{Node: n.name, To: event.Endpoint{IP: n.ip, Port: 10250}, Answer: event.AnswerRefused, Took: event.Seconds(time.Millisecond)}
		if n.dead || n.uplink || by.uplink {
			r.Answer, r.Took = event.AnswerNone, event.Seconds(1500*time.Millisecond)
		}
		return r
	}
	body := &event.Asked{By: event.By{Node: by.name}, Asked: reply(to)}
	if control != nil && !body.Asked.Answer.Lives() {
		r := reply(control)
		body.Control = &r
	}
	s.tell(by, event.NodeAsked, body)
}
