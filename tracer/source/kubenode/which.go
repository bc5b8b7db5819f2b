package kubenode

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// Which finds the node that a machine is: by its own addresses first, since a node may go by a name that its machine does not know,
// then by its name, then by its name without or with a domain. why says which of these told it. Empty: none, or more than one.
func Which(nodes []event.Node, name string, own []netip.Addr) (node, why string) {
	only := func(match func(n *event.Node) string) (string, string) {
		found, by := "", ""
		for i := range nodes {
			text := match(&nodes[i])
			if text == "" || nodes[i].Name == found {
				continue
			}
			if found != "" {
				return "", ""
			}
			found, by = nodes[i].Name, text
		}
		return found, by
	}
	if node, why := only(func(n *event.Node) string {
		for _, a := range n.Addresses {
			if slices.Contains(own, a.IP) {
				return "which has its address " + a.IP.String()
			}
		}
		return ""
	}); node != "" {
		return node, why
	}
	for i := range nodes {
		if nodes[i].Name == name {
			return name, "by its name"
		}
	}
	short := func(s string) string { s, _, _ = strings.Cut(s, "."); return strings.ToLower(s) }
	return only(func(n *event.Node) string {
		if name != "" && short(n.Name) == short(name) && (!strings.Contains(n.Name, ".") || !strings.Contains(name, ".") || strings.EqualFold(n.Name, name)) {
			return "whose name is nearest to " + name
		}
		return ""
	})
}
