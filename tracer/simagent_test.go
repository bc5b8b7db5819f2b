package tracer

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// watch is the agent of a node: it starts, beats twice a second and looks at the sockets four times a second.
func (s *sim) watch(n *simNode) {
	if !n.agent || n.agentDead || n.dead || s.now < s.attach {
		return
	}
	if !n.started {
		s.tell(n, event.StreamStarted, &event.Started{
			Host: event.Host{Node: n.name, BootID: fmt.Sprintf("%s-boot-%d", n.name, n.boot)}, Complete: true,
		})
		n.started = true
		n.beatAt, n.censusAt = s.now+n.phase, s.now+n.phase/4
		s.tell(n, event.NodeChanged, &event.NodeFact{What: "agent", Node: event.Node{Name: n.name, BootID: fmt.Sprintf("%s-boot-%d", n.name, n.boot), Addresses: []event.Address{
			{IP: n.ip, From: "agent eth0"}, {IP: n.cidr.Addr().Next(), From: "agent cni0"},
		}}})
		s.tellLedger(n)
	}
	if s.now >= n.beatAt {
		n.beatAt += time.Second / 2
		s.tell(n, event.StreamHeartbeat, &event.Heartbeat{Every: event.Known(event.Seconds(time.Second / 2))})
	}
	if s.now >= n.censusAt {
		n.censusAt += 250 * time.Millisecond
		s.look(n)
	}
}

// look is one census of a node's sockets.
func (s *sim) look(n *simNode) {
	n.pass++
	body := &event.Sockets{Pass: n.pass, Limits: []event.Limits{{}}}
	type key struct{ local, peer event.Endpoint }
	traffic := make(map[key]*event.TrafficRow)
	var order []key
	total := 0
	flush := func() {
		if len(body.Rows) > 0 {
			s.tell(n, event.PathSockets, body)
		}
		body = &event.Sockets{Pass: n.pass, Limits: []event.Limits{{}}}
	}
	for _, c := range s.conns {
		if c.pod.node != n || (c.pod.dead && !c.toldSeen) {
			continue
		}
		row := event.SocketRow{Role: event.RoleAccepted, Socket: s.socket(c), TCP: s.progress(c, "")}
		if c.dialled {
			row.Role = event.RoleDialled
		}
		body.Limits[0] = c.limits
		sign := [3]int{c.retrans, c.probes}
		if c.hung {
			sign[0] = -1
		}
		if c.retrans+c.probes > 0 {
			sign[2] = int(c.received)
		}
		switch {
		case c.closed || c.pod.dead:
			row.Change = event.SocketGone
			c.toldSeen = false
			c.closed = true
		case !c.toldSeen:
			row.Change, c.toldSeen, c.signed = event.SocketSeen, true, sign
		case sign != c.signed:
			row.Change, c.signed = event.SocketChanged, sign
		}
		if row.Change != "" {
			body.Rows = append(body.Rows, row)
			if len(body.Rows) == 24 {
				flush()
			}
		}
		if c.closed {
			continue
		}
		total++
		k := key{c.local, event.Endpoint{IP: c.peer.IP}}
		if c.dialled {
			k = key{event.Endpoint{IP: c.local.IP}, c.peer}
		}
		t := traffic[k]
		if t == nil {
			t = &event.TrafficRow{Netns: row.Socket.Netns, Local: k.local, Peer: k.peer, ReceivedAge: row.TCP.ReceivedAge}
			traffic[k] = t
			order = append(order, k)
		}
		t.Sockets++
		t.Sent += uint64(c.segments)
		t.Retransmitted += uint64(c.resent)
		c.segments, c.resent = 0, 0
		if row.TCP.ReceivedAge.V < t.ReceivedAge.V {
			t.ReceivedAge = row.TCP.ReceivedAge
		}
		if row.TCP.ReceivedAge.V.Duration() < 10*time.Second {
			t.Active++
		}
	}
	flush()
	tb := &event.Traffic{Pass: n.pass, Span: event.Seconds(250 * time.Millisecond), Total: total}
	for _, k := range order {
		tb.Rows = append(tb.Rows, *traffic[k])
	}
	if len(tb.Rows) > 0 {
		s.tell(n, event.PathTraffic, tb)
	}
	if !n.synced {
		n.synced = true
		s.tell(n, event.StreamSynced, &event.Synced{Fact: "sockets"})
	}
}

// tellLedger dumps a node's conntrack table.
func (s *sim) tellLedger(n *simNode) {
	for _, c := range s.conns {
		if !s.ledger || c.hop != n || c.closed || c.lost {
			continue
		}
		s.tell(n, event.NATFound, s.entry(c))
	}
}

// entry is what a connection's conntrack entry at its hop says.
func (s *sim) entry(c *simConn) *event.NATFact {
	vip := event.Endpoint{IP: netip.MustParseAddr("203.0.113.80"), Port: 443}
	if c.out {
		return &event.NATFact{
			NAT: event.NAT{
				Proto: "tcp", Kinds: []string{"snat"}, Original: event.Tuple{Src: c.local, Dst: c.peer},
				Reply: event.Tuple{Src: c.peer, Dst: event.Endpoint{IP: c.hop.ip, Port: c.local.Port}},
			},
			By: event.By{Node: c.hop.name}, Rung: "dump",
		}
	}
	if c.far != nil && c.hop == c.pod.node {
		return &event.NATFact{
			NAT: event.NAT{
				Proto: "tcp", Kinds: []string{"dnat"}, Original: event.Tuple{Src: c.local, Dst: c.peer},
				Reply: event.Tuple{Src: event.Endpoint{IP: c.far.ip, Port: 8080}, Dst: c.local},
			},
			By: event.By{Node: c.hop.name}, Rung: "dump",
		}
	}
	if c.dialled && c.far != nil {
		return &event.NATFact{
			NAT: event.NAT{
				Proto: "tcp", Kinds: []string{"snat", "dnat"},
				Original: event.Tuple{Src: c.local, Dst: c.peer},
				Reply:    event.Tuple{Src: event.Endpoint{IP: c.far.ip, Port: 8080}, Dst: event.Endpoint{IP: c.hop.ip, Port: c.local.Port}},
			},
			By: event.By{Node: c.hop.name}, Rung: "dump",
		}
	}
	return &event.NATFact{
		NAT: event.NAT{
			Proto: "tcp", Kinds: []string{"snat", "dnat"},
			Original: event.Tuple{Src: c.client, Dst: vip}, Reply: event.Tuple{Src: c.local, Dst: c.peer},
		},
		By: event.By{Node: c.hop.name}, Rung: "dump",
	}
}

// tellInventory is what the API would say, before anything else.
func (s *sim) tellInventory() {
	if !s.inventory {
		return
	}
	tell := func(typ event.Type, b event.Body) {
		s.facts = append(s.facts, simFact{0, event.Event{Type: typ, Time: s.epoch, Source: "kube", Body: b}})
	}
	for _, n := range s.nodes {
		tell(event.NodeChanged, &event.NodeFact{What: "added", Node: event.Node{
			Name: n.name, Addresses: []event.Address{{IP: n.ip, From: "status InternalIP"}}, PodCIDRs: []netip.Prefix{n.cidr}, Ready: "true",
		}})
	}
	if s.podless {
		return
	}
	svcs := make(map[string]*event.Service)
	for _, p := range s.pods {
		ns, name := splitName(p.name)
		tell(event.PodChanged, &event.PodFact{What: "added", Pod: event.Pod{Namespace: ns, Name: name, Node: p.node.name, IPs: []netip.Addr{p.ip}}})
		if p.svc == "" {
			continue
		}
		if svcs[p.svc] == nil {
			ns, name := splitName(p.svc)
			svcs[p.svc] = &event.Service{Namespace: ns, Name: name, Ports: []event.ServicePort{{Port: 443, TargetPort: 8080}}}
		}
		svcs[p.svc].Backends = append(svcs[p.svc].Backends, p.ip)
	}
	for _, p := range s.pods {
		if svc := svcs[p.svc]; svc != nil {
			tell(event.ServiceChanged, &event.ServiceFact{What: "added", Service: *svc})
			svcs[p.svc] = nil
		}
	}
}
