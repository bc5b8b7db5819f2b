package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// ranged is what one source says of one node and one range of pod addresses.
type ranged struct {
	node   string
	said   string // source of the fact
	since  int64
	from   string // the field that names the range
	plugin string // empty: not known
	own    []int  // which of its addresses are the node itself, counted from the first
	shared bool   // pods of whatever node have addresses of it
}

// guessedOwn are the addresses of a range that most network plugins give to the node: the range's own address to a tunnel
// device (flannel.1), the next one to a bridge or gateway (cni0, cbr0, antrea-gw0).
var guessedOwn = []int{0, 1}

// maxOwn bounds how far into a range the node's own addresses may lie: no plugin's rule goes beyond the first few.
const maxOwn = 16

// rangesOf lists what a fact says of ranges.
func rangesOf(n *event.Node, said string, t int64) map[netip.Prefix]ranged {
	out := make(map[netip.Prefix]ranged, len(n.PodCIDRs)+len(n.PodNets))
	r := ranged{node: n.Name, said: said, since: t, from: "podCIDR", plugin: n.Plugin, own: n.PodCIDRsOwn.Or(guessedOwn)}
	if n.PodCIDRsFrom != "" {
		r.from = n.PodCIDRsFrom
	}
	for _, p := range n.PodNets {
		if p.IsValid() {
			out[p.Masked()] = ranged{node: n.Name, said: said, since: t, plugin: n.Plugin, shared: true}
		}
	}
	for _, p := range n.PodCIDRs {
		if p.IsValid() {
			out[p.Masked()] = r
		}
	}
	return out
}

// replaceRanges puts what a source says of a node's ranges now in the place of what it said before.
func (a *addresses) replaceRanges(before, now *event.Node, said string, t int64) {
	ranges := rangesOf(now, said, t)
	for p := range rangesOf(before, said, t) {
		if _, still := ranges[p]; !still {
			a.dropRange(p, before.Name, said)
		}
	}
	for p, r := range ranges {
		a.addRange(p, r)
	}
}

func (a *addresses) addRange(p netip.Prefix, r ranged) {
	list := a.cidrs[p]
	i := slices.IndexFunc(list, func(o ranged) bool { return o.node == r.node && o.said == r.said })
	switch {
	case i < 0:
		list = append(list, r)
	case list[i].from == r.from && list[i].plugin == r.plugin && list[i].shared == r.shared && slices.Equal(list[i].own, r.own):
		return
	default:
		r.since = list[i].since
		list[i] = r
	}
	a.cidrs[p] = list
	if !slices.Contains(a.bits, p.Bits()) {
		a.bits = append(a.bits, p.Bits())
		slices.Sort(a.bits)
		slices.Reverse(a.bits)
	}
	a.touchRange(p)
}

func (a *addresses) dropRange(p netip.Prefix, node, said string) {
	list := a.cidrs[p]
	i := slices.IndexFunc(list, func(o ranged) bool { return o.node == node && o.said == said })
	if i < 0 {
		return
	}
	if list = slices.Delete(list, i, i+1); len(list) > 0 {
		a.cidrs[p] = list
	} else {
		delete(a.cidrs, p)
	}
	a.touchRange(p)
}

// buryRanges ends a node's hold on its pod ranges, and leaves tombstones of the addresses by which peers knew the node.
func (a *addresses) buryRanges(n *event.Node, said string, t int64) {
	for p, now := range rangesOf(n, said, t) {
		i := slices.IndexFunc(a.cidrs[p], func(o ranged) bool { return o.node == n.Name && o.said == said })
		if i < 0 {
			continue
		}
		r := a.cidrs[p][i]
		a.dropRange(p, n.Name, said)
		if r.shared {
			continue
		}
		for _, at := range now.own {
			own := ownAddress{ranged: r, at: at}
			if ip := own.in(p); ip.IsValid() {
				a.hold(ip, holding{node: n.Name, from: own.text(), said: said, guess: true, since: r.since})
				a.release(ip, n.Name, said, t)
			}
		}
	}
}

// podRange is the longest range of pod addresses that contains an address, with those who have it. The zero value is none.
type podRange struct {
	prefix  netip.Prefix
	holders []ranged
}

func (a *addresses) podRange(ip netip.Addr) podRange {
	for _, bits := range a.bits {
		p, err := ip.Prefix(bits)
		if err != nil {
			continue
		}
		if list := a.cidrs[p]; len(list) > 0 {
			return podRange{p, list}
		}
	}
	return podRange{}
}

// known says whether there is a range at all.
func (r podRange) known() bool { return len(r.holders) > 0 }

// nodes returns the nodes that claim the range for themselves; nil where none does.
func (r podRange) nodes() (out []string) {
	for i := range r.holders {
		if h := &r.holders[i]; !h.shared && !slices.Contains(out, h.node) {
			out = append(out, h.node)
		}
	}
	return out
}

// node returns the only node that claims the range, empty where it is none's or several nodes'.
func (r podRange) node() string {
	if nodes := r.nodes(); len(nodes) == 1 {
		return nodes[0]
	}
	return ""
}

// ownAddress is an address of a range that is the node itself; the zero value is none.
type ownAddress struct {
	ranged
	at int // counted from the range's first
}

// own returns whether an address of the range is a node, by the rule of its plugin.
func (r podRange) own(ip netip.Addr) ownAddress {
	for _, h := range r.holders {
		for _, at := range h.own {
			if own := (ownAddress{h, at}); !h.shared && own.in(r.prefix) == ip {
				return own
			}
		}
	}
	return ownAddress{}
}

// in returns the address, the zero one where the range has none at this place.
func (o ownAddress) in(p netip.Prefix) netip.Addr {
	ip := p.Addr()
	if o.at < 0 || o.at > maxOwn {
		return netip.Addr{}
	}
	for range o.at {
		ip = ip.Next()
	}
	if !p.Contains(ip) {
		return netip.Addr{}
	}
	return ip
}

// bridge says whether it is a device of the node in the middle of its own pods' traffic: not the range's own address, which a
// tunnel has.
func (o ownAddress) bridge() bool { return o.node != "" && o.at > 0 }

func (o ownAddress) text() string { return fmt.Sprintf("%s .%d", o.from, o.at) + o.by() }

func (r *ranged) by() string {
	if r.plugin == "" {
		return ""
	}
	return " (" + r.plugin + ")"
}

// resolve answers for an address in a range that nodes claim: the node itself by its plugin's rule, else a pod.
func (r podRange) resolve(q question, local func(string) Resolution) Resolution {
	nodes := r.nodes()
	if len(nodes) > 1 {
		return Resolution{
			Kind: KindUnknown, Role: event.ViaUnknown, Candidates: nodes,
			Because: "ambiguous: " + strings.Join(firstFew(nodes, 5), ", ") + " have the same pod range " + r.prefix.String(),
		}
	}
	node := nodes[0]
	own := r.own(q.ip)
	switch {
	case own.node == "":
		h := r.holders[slices.IndexFunc(r.holders, func(h ranged) bool { return !h.shared })]
		return Resolution{Kind: KindPod, Role: event.ViaPod, Node: node, Because: "in " + h.from + " " + r.prefix.String() + " of " + node + h.by()}
	case node == q.own:
		return local(own.text() + " of this node")
	}
	return Resolution{Kind: KindNode, Role: event.ViaEntry, Node: node, Because: own.text(), Guess: true}
}

// somePod answers for an address in a range that is no node's own.
func (r podRange) somePod() Resolution {
	return Resolution{
		Kind: KindPod, Role: event.ViaPod,
		Because: "in the pods' range " + r.prefix.String() + r.holders[0].by() + "; which node it is on is not told",
	}
}
