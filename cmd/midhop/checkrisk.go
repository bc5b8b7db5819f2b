package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
)

// risk is a standing finding without a fault.
type risk struct {
	Kind    string  `json:"kind"` // spot, cordoned, leaving, no_pods, concentration, conntrack
	Node    string  `json:"node"`
	Service string  `json:"service,omitempty"`
	Sockets int     `json:"sockets,omitempty"` // connections of the service that cross the node
	Share   float64 `json:"share"`             // of the service's connections, or of the conntrack table; 0 to 1
	Text    string  `json:"text"`
}

// conntrackFull is the share of a conntrack table above which a burst fills it.
const conntrackFull = 0.8

// risksOf finds what is lost when a node goes that may go any time. What is not known, such as where a service's pods
// are, is no finding.
func risksOf(s *sight, most int) []risk {
	type crossing struct{ service, node string }
	count, total := make(map[crossing]int), make(map[string]int)
	var order []crossing
	for _, r := range s.census {
		if r.Service == "" {
			continue
		}
		total[r.Service] += r.Established
		if r.Via.Role != event.ViaEntry || r.Via.Node == "" {
			continue
		}
		k := crossing{r.Service, r.Via.Node}
		if count[k] == 0 {
			order = append(order, k)
		}
		count[k] += r.Established
	}
	out := []risk{}
	for _, k := range order {
		n := count[k]
		if n <= most {
			continue
		}
		node := s.nodes[k.node]
		r := risk{Node: k.node, Service: k.service, Sockets: n, Share: float64(n) / float64(total[k.service])}
		say := func(kind, what string) {
			r.Kind = kind
			r.Text = fmt.Sprintf("%s connections of %s cross %s, %s", report.Count(n), k.service, k.node, what)
			out = append(out, r)
		}
		switch {
		case leaving(&node) != "":
			say("leaving", "which is about to be removed ("+leaving(&node)+")")
		case node.Spot != "":
			say("spot", "which is "+node.Spot+" and may be taken at any time"+goneBy(&node, s.snap.Clock))
		case cordoned(&node):
			say("cordoned", "which is cordoned")
		}
		if s.carriesNone(k.service, k.node) {
			say("no_pods", "which runs none of its pods")
		}
		if 2*n > total[k.service] {
			say("concentration", fmt.Sprintf("more than half of its %s", report.Count(total[k.service])))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.tables)) {
		t := s.tables[name]
		if share := float64(t.Entries) / float64(max(t.Max, 1)); t.Max > 0 && share > conntrackFull {
			out = append(out, risk{Kind: "conntrack", Node: name, Share: share,
				Text: fmt.Sprintf("the conntrack table of %s is %.0f %% full (%d of %d)", name, 100*share, t.Entries, t.Max)})
		}
	}
	return out
}

// carriesNone says whether it is known that no pod of the service runs on the node.
func (s *sight) carriesNone(service, node string) bool {
	svc, ok := s.services[service]
	if !ok || len(svc.Backends) == 0 {
		return false
	}
	at := make(map[netip.Addr]string)
	for _, p := range s.pods {
		for _, ip := range p.IPs {
			at[ip] = p.Node
		}
	}
	for _, ip := range svc.Backends {
		where := at[ip]
		if where == "" { // only the own node's pods may be known by name; the ranges of all nodes are
			where = s.rangeOf(ip)
		}
		if where == "" || where == node {
			return false
		}
	}
	return true
}

// rangeOf returns the node whose pod range holds an address, empty where none is known to, or more than one.
func (s *sight) rangeOf(ip netip.Addr) string {
	found := ""
	for name, n := range s.nodes {
		if !slices.ContainsFunc(n.PodCIDRs, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			continue
		}
		if found != "" {
			return ""
		}
		found = name
	}
	return found
}

// goneBy tells by when a preemptible node must go, where that is known.
func goneBy(n *event.Node, now time.Time) string {
	at := report.GoneBy(*n)
	if at.IsZero() || !at.After(now) {
		return ""
	}
	return ", at the latest in " + report.Age(at.Sub(now))
}

// removal are the taints with which autoscalers, providers and operators announce that a node goes.
var removal = []string{
	"ToBeDeletedByClusterAutoscaler", "cloud.google.com/impending-node-termination", "karpenter.sh/disrupted",
	"karpenter.sh/disruption", "aws-node-termination-handler/", "node.kubernetes.io/out-of-service",
	"node.cloudprovider.kubernetes.io/shutdown",
}

// leavingCauses are what the API says of a node that goes, beside its taints: labels, conditions, evictions.
var leavingCauses = []event.CauseKind{
	event.CauseDeleted, event.CausePreempted, event.CausePreemptionLikely, event.CauseShutdown, event.CauseOutOfService,
	event.CauseScaleDown, event.CauseScaleDownCandidate, event.CauseMaintenance, event.CauseDraining,
}

// leaving returns what announces a node's removal, empty where nothing does.
func leaving(n *event.Node) string {
	for _, c := range n.Causes {
		if slices.Contains(leavingCauses, c.What) {
			return c.From
		}
	}
	for _, t := range n.Taints {
		for _, r := range removal {
			if strings.HasPrefix(t, r) {
				return t
			}
		}
	}
	return ""
}

func cordoned(n *event.Node) bool {
	return slices.ContainsFunc(n.Causes, func(c event.Cause) bool { return c.What == event.CauseCordoned }) ||
		slices.ContainsFunc(n.Taints, func(t string) bool { return strings.HasPrefix(t, "node.kubernetes.io/unschedulable") })
}
