package diagnose

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// conntrackFull composes the case that a node's conntrack table is full: every new connection through it is dropped
// without a word, and the established ones go on.
func (j *Judge) conntrackFull(c *incident, r *model.Refused, e *brief) {
	b := &c.body
	name := b.Culprit.Name
	b.Title = name + "'s conntrack table is full"
	b.Confidence = 0.97
	b.Alternatives = []event.Alternative{{
		Rule: ruleSNATExhausted, Confidence: 0.03,
		Culprit: event.Culprit{Kind: event.CulpritNode, Name: name, Sure: event.Inferred},
	}}
	e.pro(nil, "%d of %d entries are in use", r.Entries, r.Max)
	e.pro(r.Refs[:min(len(r.Refs), maxRefs)], "its counters rose in %d looks since %s: drop %d, early_drop %d, insert_failed %d",
		r.Rises, clock(c.since), r.Drop, r.EarlyDrop, r.InsertFailed)
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "raise the limit on " + name,
			Command: "sysctl -w net.netfilter.nf_conntrack_max=524288",
			Effect:  "new connections are taken at once", Risk: "low: about 320 bytes of kernel memory for each entry",
			Needs: "root on the node; kube-proxy sets it anew when it restarts (conntrack.maxPerCore, conntrack.min)",
		},
		outOfBalancer(name, "new connections come in by other nodes until it has room"),
		{
			When: "soon", Text: "find who fills it: one pod that dials without end, a scan, health checks without keepalive",
			Command: "conntrack -L 2>/dev/null | awk '{print $4,$5}' | sort | uniq -c | sort -rn | head",
			Effect:  "the cause is most often one client or one pod", Risk: "low: a dump of the table", Needs: "root on the node",
		},
		{
			When: "cure", Text: "let closed connections go earlier: net.netfilter.nf_conntrack_tcp_timeout_time_wait and _close_wait",
			Effect: "entries of short connections leave after seconds instead of 1 to 60 minutes", Risk: "low",
			Needs: "GKE and AKS: through the node pool's sysctls (linuxConfig, linux-os-config); EKS: the node's user data or kube-proxy's config; bare metal: kube-proxy's config map",
		},
		{
			When: "cure", Text: "keep traffic that needs no translation out of conntrack, or use a dataplane that has its own tables",
			Effect: "the table holds what has to be translated", Risk: "medium: policies that match on connection state stop matching",
			Needs: "NodeLocal DNSCache for lookups (it sets NOTRACK); container-native load balancing for ingress",
		},
	}
}
