package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

// writeNetwork prints what a nodes file says of the network: which plugin its marks tell, what follows for addresses, and which of
// the nodes this machine is.
func writeNetwork(w io.Writer, nodes []event.Node, host string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nNETWORK, by the marks on %s\n", plural(len(nodes), "node"))
	names, count := kubenode.PluginsOf(nodes)
	for _, name := range names {
		i := slices.IndexFunc(nodes, func(n event.Node) bool { return n.Plugin == name })
		shown := name
		if shown == "" {
			shown = "no mark"
		}
		fmt.Fprintf(&b, "%-18s %s; %s\n", report.Clean(shown), plural(count[name], "node"), rangesOf(&nodes[i]))
	}
	own, why := kubenode.Which(nodes, host, fleet.OwnAddresses())
	if own == "" {
		own, why = "none of them", "by its addresses, or by the name "+report.Clean(host)
	}
	fmt.Fprintf(&b, "%-18s %s, %s\n", "this machine is", report.Clean(own), why)
	_, err := io.WriteString(w, b.String())
	return err
}

// rangesOf says where a node's ranges of pods come from, and which of their addresses are taken for the node.
func rangesOf(n *event.Node) string {
	from := n.PodCIDRsFrom
	switch {
	case len(n.PodCIDRs) == 0 && len(n.PodNets) > 0:
		return "podCIDRs name no node: its plugin gives addresses by a table of its own"
	case len(n.PodCIDRs) == 0:
		return "no ranges of pods are told"
	case from == "":
		from = "podCIDRs"
	}
	if !n.PodCIDRsOwn.OK {
		return "ranges by " + from + "; .0 and .1 of each are guessed to be the node"
	}
	var own []string
	for _, at := range n.PodCIDRsOwn.V {
		own = append(own, fmt.Sprintf(".%d", at))
	}
	if len(own) == 0 {
		return "ranges by " + from + "; no address of them is the node by rule"
	}
	return "ranges by " + from + "; by its rule " + strings.Join(own, " and ") + " of each are the node"
}
