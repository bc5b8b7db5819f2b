package lab

import (
	"net/netip"
	"time"
)

// way is where a connection is sent.
type way struct {
	Entry  int            `json:"entry"` // the node that it enters by; meaningless where there is none
	Target netip.AddrPort `json:"target"`
	Low    uint16         `json:"low,omitempty"` // local ports from Low to High; 0: the kernel's choice
	High   uint16         `json:"high,omitempty"`
}

// group is a number of like connections of one worker.
type group struct {
	way
	Ways   []way         `json:"ways,omitempty"`   // by which other nodes its like may go
	Locals []netip.Addr  `json:"locals,omitempty"` // in turn; empty: the kernel's choice
	Count  int           `json:"count"`
	Talk   time.Duration `json:"talk,omitempty"` // between two messages in each direction; 0: idle
	Size   int           `json:"size,omitempty"` // bytes of such a message
	Push   int           `json:"push,omitempty"` // bytes of the service's messages, where they differ
}

// push is the size of the service's messages.
func (g group) push() int {
	if g.Push > 0 {
		return g.Push
	}
	return g.Size
}

// dialSpec is what a client keeps open.
type dialSpec struct {
	Groups   []group `json:"groups"`
	Faithful bool    `json:"faithful,omitempty"` // connects again when a connection ends
}

// churnSpec says how often somebody new comes, and by which ways in turn.
type churnSpec struct {
	Groups []group       `json:"groups"`
	Every  time.Duration `json:"every"`
}

// leaveSpec names the node whose connections are to end, and the time that it may take.
type leaveSpec struct {
	Entry  int           `json:"entry"`
	Within time.Duration `json:"within"`
}

// local is the local address of the i-th connection of a port range.
func (g group) local(i int) netip.AddrPort {
	if len(g.Locals) == 0 {
		return netip.AddrPort{}
	}
	width := int(g.High-g.Low) + 1
	return netip.AddrPortFrom(g.Locals[i%len(g.Locals)], g.Low+uint16(i/len(g.Locals)%width))
}

// share is what one client process is to keep open.
type share struct {
	from origin
	spec dialSpec
}

// Of every five connections two come from outside clients, two from the balancer's network and one from the calling pod;
// one of the five talks, another one each time. Entries rotate against both, so that every node carries all kinds.
const block5 = 5

// cell is one kind of connection.
type cell struct {
	from  origin
	entry int // node
	pod   int // direct only
	talks bool
	// pushes: where the scenario has messages of two sizes, the service's are the large ones.
	pushes bool
}

type origin int

const (
	fromExternal origin = iota
	fromBalancer
	fromCaller
	fromPeers
)

// cells says of what kind each of n connections is.
func cells(n, nodes, pods int, direct bool) []cell {
	kinds := [block5]origin{fromExternal, fromBalancer, fromExternal, fromBalancer, fromCaller}
	out := make([]cell, n)
	for i := range out {
		b, pos := i/block5, i%block5
		out[i] = cell{pushes: b%2 == 1, from: kinds[pos], entry: (pos + b%block5 + b/block5) % nodes, talks: pos == b%block5}
		if direct {
			out[i] = cell{from: fromBalancer, pod: i % pods, talks: pos == b%block5}
		}
	}
	return out
}

// shares deals the connections out to client processes: one for each network and one for the calling pod. Loads that
// do not fit one process's open files are a matter of dealing out more shares.
func (p *plan) shares(o Options, direct bool) []share {
	if p.inside {
		return []share{p.insideShare(o)}
	}
	if n := o.Connections / block5; len(p.Peers.Addrs) > 0 && n > 0 {
		o.Connections -= n
		return append(p.mixedShares(o, direct), p.peersShare(o, n))
	}
	return p.mixedShares(o, direct)
}

func (p *plan) mixedShares(o Options, direct bool) []share {
	groups := map[cell]int{}
	var order []cell
	for _, c := range cells(o.Connections, len(p.Nodes), len(p.Pods), direct) {
		if groups[c] == 0 {
			order = append(order, c)
		}
		groups[c]++
	}
	specs := map[origin]*share{}
	var out []*share
	for _, c := range order {
		s := specs[c.from]
		if s == nil {
			s = &share{from: c.from}
			specs[c.from] = s
			out = append(out, s)
		}
		g := p.group(c, direct)
		g.Count = groups[c]
		if c.talks {
			g.Talk, g.Size = o.talkEvery(), p.Message
			if c.pushes {
				g.Push = p.Push
			}
		}
		s.spec.Groups = append(s.spec.Groups, g)
	}
	flat := make([]share, len(out))
	for i, s := range out {
		flat[i] = *s
	}
	return flat
}

// group says where connections of a kind start and what they dial.
func (p *plan) group(c cell, direct bool) group {
	if direct {
		g := group{Locals: p.Balancer.Addrs, way: way{Target: netip.AddrPortFrom(p.Pods[c.pod].Addr, p.Service.TargetPort)}}
		g.Low, g.High = entryPorts(0, len(p.Nodes))
		return g
	}
	g := group{way: p.way(c.from, c.entry)}
	switch c.from {
	case fromBalancer:
		g.Locals = p.Balancer.Addrs
	case fromExternal:
		g.Locals = p.External.Addrs
	}
	for k := range p.Nodes {
		g.Ways = append(g.Ways, p.way(c.from, k))
	}
	return g
}

// way is how connections of an origin get to the service by node k.
func (p *plan) way(from origin, k int) way {
	if from == fromCaller {
		return way{Entry: k, Target: netip.AddrPortFrom(p.Nodes[k].Addr, p.Service.NodePort)}
	}
	w := way{Entry: k, Target: netip.AddrPortFrom(p.Service.VIP, p.Service.Port)}
	w.Low, w.High = entryPorts(k, len(p.Nodes))
	return w
}

// everyWay is one connection of an origin by each node, for those who come and go.
func (p *plan) everyWay(from origin) []group {
	var out []group
	for k := range p.Nodes {
		out = append(out, p.group(cell{from: from, entry: k}, false))
	}
	return out
}

// Client ports are cut into one slice a node: the slice that a connection's source port lies in is the node that the
// fabric, as a pass-through balancer, hands it to. The choice sticks to the connection, needs no state in the middle, and
// leaves no trace behind the masquerade.
const (
	firstClientPort = 10000
	clientPorts     = 50000
)

// entryPorts are the client ports of connections that enter by node k of n.
func entryPorts(k, n int) (low, high uint16) {
	width := clientPorts / n
	return uint16(firstClientPort + k*width), uint16(firstClientPort + (k+1)*width - 1)
}
