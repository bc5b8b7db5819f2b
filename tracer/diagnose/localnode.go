package diagnose

import (
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// localNode is the course of the case that a machine itself is cut off: all its sockets to elsewhere fell silent at one
// moment, by whatever hop, while the others go on, and so did others' connections that lead to it.
type localNode struct {
	source string
	node   string
}

// explains says whether a troubled socket lives on the machine, or leads to it.
func (k localNode) explains(j *Judge, t *model.Troubled) bool {
	return t.Source == k.source || (t.Backend.IsValid() && j.model.PodNode(t.Backend) == k.node)
}

// locals looks for machines that are cut off.
func (j *Judge) locals(e *ends, g *gate) {
	for _, a := range j.model.Agents() {
		r := e.machines[a.Source]
		if r == nil || a.Node == "" || r.stalled < breadth || j.openAbout(ruleLocalNode, a.Node) {
			continue
		}
		if r.backends[netip.Addr{}] == 0 && len(r.backends) == 1 {
			continue // all that is in trouble leads to one pod elsewhere: that is the nearer suspect
		}
		k := localNode{a.Source, a.Node}
		silent, since := j.cutOff(&k)
		if silent < 2 || !g.passed(since, quietAlone) || !j.looksOn(a.Source, since.Add(quietAlone)) {
			continue
		}
		if !j.allKindsSilent(&k) && !(j.othersLive(&k, r, since) && j.beyondTheFront(&k, r, since)) {
			continue
		}
		c := &incident{course: k, since: since, dated: since, first: r.first}
		c.body.Rule = ruleLocalNode
		hops := make(map[model.HopKey]int)
		for _, p := range j.model.Paths(a.Source) {
			hops[p.Hop]++
		}
		j.supersede(g, hops, a.Node+" itself is cut off")
		j.begin(c, g, r.refs[0])
	}
}

// cutOff returns how many paths of a machine have sockets in trouble, and the newest moment at which it received anything
// from elsewhere; none where a path without trouble may be well.
func (j *Judge) cutOff(k *localNode) (silent int, since model.Instant) {
	for _, p := range j.model.Paths(k.source) {
		since = max(since, p.Received)
	}
	for _, p := range j.model.Paths(k.source) {
		// What spoke until the end and is not in trouble goes on.
		switch {
		case p.Troubled > 0:
			silent++
		case p.Sockets > 0 && p.Received.Add(together) >= since:
			return 0, since
		}
	}
	return silent, since
}

// allKindsSilent says whether ways are silent that have nothing in common but the machine: clients come in by two nodes or
// more, which one balancer may stand before, and the machine's pods dial pods of yet another node, or addresses outside.
// Each alone may be their own fault, and the balancer's; all at one moment are not. Where a silent node has an agent, that one
// is to say whether it lives.
func (j *Judge) allKindsSilent(k *localNode) bool {
	nodes, dialled := make(map[string]bool), make(map[string]bool)
	for _, p := range j.model.Paths(k.source) {
		if p.Troubled == 0 {
			continue
		}
		switch p.Hop.Kind {
		case model.KindNode:
			nodes[p.Hop.Name] = true
		case model.KindPod:
			if h, ok := j.model.Hop(p.Hop); ok && h.Node != "" {
				dialled[h.Node] = true
			}
		case model.KindAddress:
			dialled[p.Hop.IP.String()] = true
		}
	}
	for _, a := range j.model.Agents() {
		if a.Beats && (nodes[a.Node] || dialled[a.Node]) {
			return false
		}
	}
	for node := range nodes {
		delete(dialled, node) // its pods went with it
	}
	return len(nodes) >= 2 && len(dialled) > 0
}

// looksOn says whether a machine's census has looked since.
func (j *Judge) looksOn(source string, at model.Instant) bool {
	for _, h := range j.model.Sick() {
		for _, l := range j.model.Lanes(&h) {
			if l.Source == source && l.Troubled > 0 && l.Look < at {
				return false
			}
		}
	}
	return true
}

// othersLive says whether every node that the machine's sockets cross is known to live: they cannot all be the cause then.
func (j *Judge) othersLive(k *localNode, r *group, since model.Instant) bool {
	n := 0
	for h := range r.hops {
		if h.Kind != model.KindNode || h.Name == k.node {
			continue
		}
		if _, ok := j.lives(h.Name, max(since, r.first)); !ok {
			return false
		}
		n++
	}
	return n >= 2
}

// beyondTheFront says whether something shows that it is not the clients' side that vanished for all nodes at once: the
// far ends of some of the connections are seen, and live; or another machine goes on with what stands outside.
func (j *Judge) beyondTheFront(k *localNode, r *group, since model.Instant) bool {
	if r.paired > 0 {
		return true
	}
	for _, a := range j.model.Agents() {
		if a.Source == k.source {
			continue
		}
		for _, p := range j.model.Paths(a.Source) {
			if p.Received > since.Add(time.Second) && (p.Hop.Kind == model.KindNode || p.Hop.Kind == model.KindDirect) {
				return true
			}
		}
	}
	return false
}

func (k localNode) over(j *Judge, c *incident, g *gate) string {
	_, since := j.cutOff(&k)
	r := k.group(j)
	switch {
	case since > c.opened:
		return "recovered: " + k.node + " received something from elsewhere again at " + clock(since)
	case since > c.dated.Add(dateSlack):
		return "retracted: " + k.node + " had received something from elsewhere at " + clock(since)
	case r.sockets == 0 && g.passed(c.opened, 5*time.Second):
		return "ended: no socket of " + k.node + " is in trouble any more"
	}
	return ""
}

func (k localNode) group(j *Judge) *group {
	if r := j.ends().machines[k.source]; r != nil {
		return r
	}
	return newGroup()
}

func (k localNode) impact(j *Judge, c *incident) model.Impact {
	return j.model.ImpactOfMachine(k.source, c.since)
}

func (k localNode) count(j *Judge, c *incident) {
	im := k.impact(j, c)
	c.count(&im, false)
}

func (k localNode) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	r := k.group(j)
	im := k.impact(j, c)
	node, known := j.model.Node(k.node)
	b.Culprit = event.Culprit{Kind: event.CulpritLocalNode, Name: k.node, Sure: event.Inferred}
	b.Title = k.node + " is cut off from everything else"
	b.Severity = event.Critical
	b.Confidence = 0.8
	b.SilentSince = event.Known(c.since.Time())
	b.Alternatives = []event.Alternative{{
		Rule: ruleUnexplained, Confidence: 0.2,
		Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: "what stands between " + k.node + " and all others", Sure: event.Inferred},
	}}
	var names []string
	for h := range r.hops {
		names = append(names, h.Via())
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var e brief
	e.pro(r.refs, "%s of pods on %s got no answer, by %s; nothing at all was received there from elsewhere since %s",
		count(r.sockets, "socket"), k.node, count(len(names), "different way"), clock(c.since))
	alive := 0
	for h := range r.hops {
		if h.Kind == model.KindNode {
			if _, ok := j.lives(h.Name, c.since); ok {
				alive++
			}
		}
	}
	if alive > 0 {
		e.pro(nil, "%s in the middle lived when the silence began: all of them failing at once is no explanation", count(alive, "node"))
	} else {
		e.pro(nil, "what clients came in by and what its own pods dialled fell silent alike: these have nothing in common but %s", k.node)
		e.con(nil, "no agent of the nodes in the middle is heard: that they live is not shown")
	}
	if a, ok := j.lives(k.node, c.since); ok {
		e.pro([]string{a.Last()}, "the agent of %s was heard at %s, over another way or from inside: the machine itself %s", k.node, clock(a.Heard), j.tense(&a, g, "runs", "ran"))
	}
	if r.paired > 0 {
		e.pro(nil, "the far ends of %d of these connections are seen on other machines, and wait too", r.paired)
	}
	e.inventory(node, known)
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "look at " + k.node + "'s own network: link, routes, firewall, the hypervisor's or switch's port",
			Command: "kubectl debug node/" + arg(k.node) + " -it --image=busybox -- ip -s link",
			Effect:  "finds the cause where it is; the nodes in the middle are not it", Risk: "none",
			Needs: "a way to the machine: where the API cannot reach it, its console",
		},
		{
			When: "now", Text: "start its pods elsewhere",
			Command: "kubectl taint node " + arg(k.node) + " node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
			Effect:  "pods of StatefulSets and volumes move at once instead of after minutes", Risk: "high where the node still runs: its pods would run twice",
			Needs: "certainty that the machine is off: otherwise drain it",
		},
		spreadClients(),
		{
			When: "cure", Text: "spread the service's pods over nodes and zones",
			Effect: "a node's loss takes a part of the connections only", Risk: "none", Needs: "topologySpreadConstraints, and more than one replica",
		},
	}
	c.count(&im, false)
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}
