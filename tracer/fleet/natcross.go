package fleet

import (
	"net/netip"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// crossings are the translated connections of this node whose ends are both elsewhere. Only these have to leave it: of
// the others the node's own sockets are one end, and they leave it while those are in trouble: [ownNAT]. It is also what
// checkpoints are written from. It holds no pointers, so that a full table costs the garbage collector nothing.
type crossings struct {
	locals map[netip.Addr]struct{}
	known  map[crossKey]crossing
}

type crossKey struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
	zone             uint16
}

type crossing struct {
	replySrc, replyDst         [16]byte
	replySrcPort, replyDstPort uint16
	netns, mark                uint32
	kinds                      uint8
	handed                     bool // see [event.NATFact.Hop]: this node is the one in the middle, and no address says so
}

// maxLocals bounds the addresses that are remembered as this node's own: pods and interfaces of one machine.
const maxLocals = 1 << 16

func newCrossings() *crossings {
	return &crossings{locals: make(map[netip.Addr]struct{}), known: make(map[crossKey]crossing)}
}

// learn takes what an event says of this node's own addresses.
func (c *crossings) learn(e *event.Event) {
	switch b := e.Body.(type) {
	case *event.NodeFact:
		for _, a := range b.Node.Addresses {
			c.local(a.IP)
		}
	case *event.Sockets:
		for i := range b.Rows {
			if r := &b.Rows[i]; r.Change == event.SocketSeen {
				c.local(r.Socket.Local.IP)
			}
		}
	}
}

func (c *crossings) local(ip netip.Addr) {
	if ip.IsValid() && !ip.IsUnspecified() && len(c.locals) < maxLocals {
		c.locals[ip] = struct{}{}
	}
}

// elsewhere says whether neither end of a translated connection is on this node: the end that began it, and the one that
// answers.
func (c *crossings) elsewhere(n *event.NAT) bool {
	_, from := c.locals[n.Original.Src.IP]
	_, to := c.locals[n.Reply.Src.IP]
	return !from && !to
}

// take folds a fact of the ledger and says whether it has to leave the node.
func (c *crossings) take(t event.Type, fact *event.NATFact) bool {
	n := &fact.NAT
	k := keyOf(n)
	if t == event.NATDestroyed {
		_, ok := c.known[k]
		delete(c.known, k)
		return ok
	}
	if !c.elsewhere(n) {
		return false
	}
	c.known[k] = crossing{
		replySrc: n.Reply.Src.IP.As16(), replyDst: n.Reply.Dst.IP.As16(), replySrcPort: n.Reply.Src.Port, replyDstPort: n.Reply.Dst.Port,
		netns: n.Netns, mark: n.Mark, kinds: kindBits(n.Kinds),
		handed: fact.Hop != nil && fact.Hop.Node == fact.By.Node,
	}
	return true
}

func keyOf(n *event.NAT) crossKey {
	return crossKey{
		src: n.Original.Src.IP.As16(), dst: n.Original.Dst.IP.As16(),
		srcPort: n.Original.Src.Port, dstPort: n.Original.Dst.Port, zone: n.Zone,
	}
}

// checkpoint hands out every entry as nat.found, and forgets those of which one end turned out to be here.
func (c *crossings) checkpoint(node string, now time.Time, out func(*event.Event)) {
	fact := &event.NATFact{By: event.By{Node: node}, Rung: rungCheckpoint}
	e := event.Event{Type: event.NATFound, Time: now, Source: "agent/" + node, Body: fact}
	for k, x := range c.known {
		fact.NAT = event.NAT{
			Proto: "tcp", Zone: k.zone, Netns: x.netns, Mark: x.mark, Kinds: kindNames(x.kinds),
			Original: event.Tuple{Src: endpoint(k.src, k.srcPort), Dst: endpoint(k.dst, k.dstPort)},
			Reply:    event.Tuple{Src: endpoint(x.replySrc, x.replySrcPort), Dst: endpoint(x.replyDst, x.replyDstPort)},
		}
		if !c.elsewhere(&fact.NAT) {
			delete(c.known, k)
			continue
		}
		if fact.Hop = nil; x.handed {
			fact.Hop = &event.Hop{Node: node, From: "its own entry, repeated"}
		}
		e.Flow = event.FlowID(fact.NAT.Original.Src, fact.NAT.Original.Dst)
		out(&e)
	}
}

func endpoint(ip [16]byte, port uint16) event.Endpoint {
	return event.Endpoint{IP: netip.AddrFrom16(ip).Unmap(), Port: port}
}

func kindBits(kinds []string) (bits uint8) {
	for _, k := range kinds {
		switch strings.ToLower(k) {
		case "snat":
			bits |= 1
		case "dnat":
			bits |= 2
		}
	}
	return bits
}

var kindsByBits = [4][]string{{}, {"snat"}, {"dnat"}, {"snat", "dnat"}}

func kindNames(bits uint8) []string { return kindsByBits[bits&3] }
