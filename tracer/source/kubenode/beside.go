package kubenode

import (
	"net/netip"
	"slices"

	"github.com/midhop/midhop/tracer/event"
)

// Beside is what other objects than its own say of a node: Cilium's CiliumNode, Calico's BlockAffinity.
type Beside struct {
	Addresses []event.Address
	Ranges    []netip.Prefix // from which the node's pods have addresses
	From      string         // the field that names the ranges
	Plugin    string
}

// Empty says whether nothing is said.
func (b *Beside) Empty() bool { return len(b.Addresses)+len(b.Ranges) == 0 }

// CiliumAddress is one of the addresses of a CiliumNode's spec.
type CiliumAddress struct {
	Type string `json:"type"` // InternalIP, ExternalIP, CiliumInternalIP
	IP   string `json:"ip"`
}

// Cilium returns what a CiliumNode (cilium.io/v2) says: with a tunnel, pods see its CiliumInternalIP as the peer. Its ranges come
// before spec.podCIDRs of the Node, which only one of Cilium's ways to give addresses heeds.
func Cilium(addresses []CiliumAddress, podCIDRs []string) Beside {
	b := Beside{From: "CiliumNode spec.ipam.podCIDRs", Plugin: pluginCilium}
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a.IP)
		if err != nil || a.Type == "InternalIP" || a.Type == "ExternalIP" { // the Node has these
			continue
		}
		if ip, ok := usable(ip); ok {
			b.Addresses = append(b.Addresses, event.Address{IP: ip, From: "CiliumNode " + a.Type})
		}
	}
	for _, text := range podCIDRs {
		if p, err := Prefix(text); err == nil {
			b.Ranges = append(b.Ranges, p)
		}
	}
	return b
}

// Block returns what a BlockAffinity of Calico says, and of which node: that node gives its pods addresses of the block.
func Block(node, cidr, state, deleted string) (name string, b Beside, ok bool) {
	p, err := Prefix(cidr)
	if err != nil || node == "" || deleted == "true" || state == "pendingDeletion" {
		return "", Beside{}, false
	}
	return node, Beside{Ranges: []netip.Prefix{p}, From: "BlockAffinity spec.cidr", Plugin: pluginCalico}, true
}

// Add puts what other objects say of a node to what its own does. Ranges of these take the place of the guess from podCIDRs.
func (b *Beside) Add(n *event.Node) {
	n.Addresses = dedupe(append(slices.Clone(n.Addresses), b.Addresses...))
	if n.Plugin == "" && !b.Empty() {
		n.Plugin = b.Plugin
		n.PodNets, n.PodCIDRs, n.PodCIDRsOwn = n.PodCIDRs, nil, event.Known([]int{})
	}
	if len(b.Ranges) == 0 || n.Plugin != b.Plugin {
		return
	}
	n.PodCIDRs, n.PodCIDRsFrom, n.PodCIDRsOwn = b.Ranges, b.From, event.Known([]int{})
}

// Join adds what another object says.
func (b *Beside) Join(o Beside) {
	b.Addresses = append(b.Addresses, o.Addresses...)
	b.Ranges = append(b.Ranges, o.Ranges...)
	b.From, b.Plugin = o.From, o.Plugin
}
