package fleet

import (
	"net/netip"

	"github.com/midhop/midhop/tracer/event"
)

// claims keeps agents from claiming others' addresses. An agent tells which addresses its machine has, and is believed where the
// inventory, which hubs tell, gives an address to nobody else. A claim that is refused means that somebody lies, or that two nodes
// have one address.
type claims struct {
	owner   map[netip.Addr]string // by the inventory
	has     map[string][]netip.Addr
	refused map[string]uint64 // by node
}

func newClaims() claims {
	return claims{owner: make(map[netip.Addr]string), has: make(map[string][]netip.Addr), refused: make(map[string]uint64)}
}

// learn takes what the inventory says of a node.
func (c *claims) learn(b *event.NodeFact) {
	name := b.Node.Name
	if b.What == "agent" || name == "" {
		return
	}
	if b.What != "removed" && len(b.Node.Addresses) == 0 {
		return // it tells something else
	}
	for _, ip := range c.has[name] {
		if c.owner[ip] == name {
			delete(c.owner, ip)
		}
	}
	delete(c.has, name)
	if b.What == "removed" {
		return
	}
	all := make([]netip.Addr, 0, len(b.Node.Addresses))
	for _, a := range b.Node.Addresses {
		ip := a.IP.Unmap()
		c.owner[ip] = name
		all = append(all, ip)
	}
	c.has[name] = all
}

// Of what an agent says of its machine this much is taken.
const (
	maxAddresses = 4096 // a node of the densest kind has some hundred
	maxBootID    = 64
)

// own leaves what an agent may say of its node: the name, the boot and addresses. Ranges, zones, marks and causes are the API's to
// tell. It returns nil where nothing is left.
func (c *claims) own(b *event.NodeFact) *event.NodeFact {
	out := &event.NodeFact{What: b.What, Node: event.Node{Name: b.Node.Name, BootID: b.Node.BootID}}
	if len(out.Node.BootID) > maxBootID {
		out.Node.BootID = ""
	}
	refused := uint64(0)
	for i, a := range b.Node.Addresses {
		if owner, ok := c.owner[a.IP.Unmap()]; i >= maxAddresses || ok && owner != b.Node.Name {
			refused++
			continue
		}
		out.Node.Addresses = append(out.Node.Addresses, a)
	}
	if refused > 0 {
		if len(c.refused) < maxAgents {
			c.refused[b.Node.Name] += refused
		}
		if len(out.Node.Addresses) == 0 {
			return nil
		}
	}
	return out
}
