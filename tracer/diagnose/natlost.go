package diagnose

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// natLost composes the case that a node lives and its conntrack table does not: somebody emptied it, or an address that
// it masqueraded by went away. New connections work, old ones are reset when they speak.
func (j *Judge) natLost(c *incident, f forgotten, o *oblivion, im *model.Impact, node event.Node, g *gate) {
	b := &c.body
	b.Title = f.node + " lost its NAT table"
	b.Confidence = 0.97
	if f.why != model.LossFlushed {
		b.Confidence = 0.9
	}
	b.Alternatives = []event.Alternative{{
		Rule: ruleNodeRebooted, Confidence: round2(1 - b.Confidence),
		Culprit: event.Culprit{Kind: event.CulpritNode, Name: f.node, IP: b.Culprit.IP, Sure: event.Inferred},
	}}
	var e brief
	how := "were deleted before their time"
	switch f.why {
	case model.LossUnsaid:
		how = "were gone at the next look"
	case model.LossRefused:
		how = "are not known to it, though no end of them has closed"
	}
	e.pro(o.refs[:min(1, len(o.refs))], "the conntrack entries of %s through %s %s, from %s to %s", count(o.sockets, "open connection"), f.node, how, clock(o.first), clock(o.last))
	if o.resets > 0 {
		e.pro(o.refs[min(1, len(o.refs)):], "%s reset since from the node's address, the last at %s: it answers what it cannot translate", ofThem(o.resets), clock(o.reset))
	}
	if o.refused > 0 {
		e.pro(nil, "%s itself says that it sent %d of these resets, for segments that it has no socket and no entry for", f.node, o.refused)
	}
	e.picked(j, f.node, c.since)
	if at, _ := j.model.Rebooted(f.node); at < c.since {
		e.pro(nil, "its boot id is the same as before: it did not restart")
	}
	if a, ok := j.model.AgentOf(f.node); ok && a.Heard > c.since.Add(skew) {
		e.pro([]string{a.Last()}, "its agent was heard all the time, last at %s: the node %s", clock(a.Heard), j.tense(&a, g, "lives", "lived"))
	}
	e.newcomers(j, f.node, c.since, g)
	e.con(nil, "who emptied the table is not seen: a CNI agent's or kube-proxy's restart, `conntrack -F`, an interface that went down")
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		closeSockets(b.Culprit.IP, im.Idle+im.AtRisk+im.Stalled),
		{
			When: "now", Text: "look for what emptied it on " + f.node + ": restarts of the CNI's and kube-proxy's pods, flapping interfaces",
			Command: "kubectl get pods -A -o wide --field-selector spec.nodeName=" + arg(f.node),
			Effect:  "the same will happen again at the next restart", Risk: "none",
		},
		shorterClocks(), outOfMiddle(node.Platform),
		{
			When: "cure", Text: "keep whatever restarts there from flushing conntrack",
			Effect: "connections outlive the restart", Risk: "low",
			Needs: "depends on what did it: Calico and Cilium have releases that mend such flushes; never run `conntrack -F` on a node that carries traffic",
		},
	}
}
