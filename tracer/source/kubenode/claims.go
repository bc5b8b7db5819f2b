package kubenode

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// Claims follows which nodes have which addresses and ranges of pods, to tell where two have the same: what comes from there is
// nobody's then. The zero value is ready.
type Claims struct {
	by   map[netip.Prefix][]string // an address is a range of one
	of   map[string][]netip.Prefix
	told map[netip.Prefix]bool
}

// Take notes what a node has now, in the place of what it had, and returns a sentence for all of it that another node has too,
// each but once.
func (c *Claims) Take(n *event.Node) (clashes []string) {
	c.Drop(n.Name)
	if c.by == nil {
		c.by, c.of, c.told = make(map[netip.Prefix][]string), make(map[string][]netip.Prefix), make(map[netip.Prefix]bool)
	}
	note := func(p netip.Prefix, what string) {
		if slices.Contains(c.of[n.Name], p) {
			return
		}
		if others := c.by[p]; len(others) > 0 && !c.told[p] {
			c.told[p] = true
			clashes = append(clashes, fmt.Sprintf("%s and %s have the same %s: what comes from there is taken for neither's", others[0], n.Name, what))
		}
		c.by[p] = append(c.by[p], n.Name)
		c.of[n.Name] = append(c.of[n.Name], p)
	}
	for _, a := range n.Addresses {
		note(netip.PrefixFrom(a.IP, a.IP.BitLen()), "address "+a.IP.String())
	}
	for _, p := range n.PodCIDRs {
		note(p, "range of pods "+p.String())
	}
	return clashes
}

// Drop forgets a node.
func (c *Claims) Drop(name string) {
	for _, p := range c.of[name] {
		c.by[p] = slices.DeleteFunc(c.by[p], func(o string) bool { return o == name })
		if len(c.by[p]) == 0 {
			delete(c.by, p)
		}
	}
	delete(c.of, name)
}

// Unrecognisable returns the names of nodes that have neither an address nor a range, so that no connection can be known to cross
// them. Where there is no machine, none is missed.
func Unrecognisable(nodes []event.Node) (names []string) {
	for i := range nodes {
		if n := &nodes[i]; len(n.Addresses)+len(n.PodCIDRs) == 0 && n.Virtual == "" {
			names = append(names, n.Name)
		}
	}
	return names
}

// FewOf writes the first few of a list, and how many more there are.
func FewOf(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}
