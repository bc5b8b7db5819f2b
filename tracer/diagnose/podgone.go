package diagnose

import (
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// podGone is the course of the case that a pod vanished without a word, and connections are still translated to its
// address: whoever speaks to it gets no answer, by whatever node it comes.
type podGone struct {
	ip   netip.Addr
	name string
	node string
}

// pods looks for pods that the stalled sockets of others lead to.
func (j *Judge) pods(e *ends, g *gate) {
	var found []finding
	for _, ip := range sortedAddrs(e.pods) {
		r := e.pods[ip]
		p := podGone{ip: ip, name: j.model.PodAt(ip), node: j.model.PodNode(ip)}
		end, removed := j.model.PodEnded(ip)
		if r.stalled < breadth && !(removed && r.stalled >= 2) { // who is known to be gone needs fewer accusers
			continue
		}
		if removed {
			p.name, p.node = end.Name, end.Node
		}
		if p.name == "" && p.node != "" && p.node == j.model.KnownOn(ip) {
			p.name = podAt(j, ip) // no inventory tells its name: it is its address
		}
		if p.name == "" || j.openAbout(rulePodGone, p.name) || j.downWith(ip) || j.provedGone(j.model.NodeHop(p.node)) {
			continue
		}
		if !r.quietFor(g, quietProved) || !(removed || j.podSilent(&p, r, g)) {
			continue
		}
		if !g.passed(max(end.At, r.first.Add(quietProved)), together) && j.othersStall(ip, e) {
			continue // whether the whole service is gone is seen a moment later
		}
		c := &incident{course: p, since: r.received, dated: r.received, first: r.first}
		c.body.Rule = rulePodGone
		j.supersede(g, r.hops, "its sockets lead to "+p.name+", which is gone")
		found = append(found, finding{c, r.refs[0]})
	}
	for _, f := range j.services(found, g) {
		j.begin(f.c, g, f.fact)
	}
}

// finding is a case that is not open yet, and the fact that would open it.
type finding struct {
	c    *incident
	fact string
}

// othersStall says whether connections to another pod of the same service are stalled as well.
func (j *Judge) othersStall(ip netip.Addr, e *ends) bool {
	service := j.model.ServiceOf(ip)
	if service == "" {
		return false
	}
	for other, r := range e.pods {
		if other != ip && r.stalled > 0 && j.model.ServiceOf(other) == service {
			return true
		}
	}
	return false
}

// podSilent says whether a pod that nobody has declared removed has to be gone: its machine lives, still receives things,
// and sees no end of these connections any more, while the nodes that they cross live too.
func (j *Judge) podSilent(p *podGone, r *group, g *gate) bool {
	if r.paired > 0 || !r.quietFor(g, quietAlone) {
		return false
	}
	home, ok := j.lives(p.node, r.first)
	if !ok || !j.progresses(home.Source, r.received) {
		return false
	}
	for k := range r.hops {
		if k.Kind != model.KindNode {
			continue
		}
		if _, ok := j.lives(k.Name, r.first); !ok {
			return false
		}
	}
	return true
}

// progresses says whether a machine has received something from beyond itself since.
func (j *Judge) progresses(source string, since model.Instant) bool {
	for _, p := range j.model.Paths(source) {
		if p.Received > since.Add(together) {
			return true
		}
	}
	return false
}

func (p podGone) group(j *Judge) *group {
	if r := j.ends().pods[p.ip]; r != nil {
		return r
	}
	return newGroup()
}

func (p podGone) over(j *Judge, c *incident, g *gate) string {
	r := p.group(j)
	switch {
	case r.received > c.dated.Add(dateSlack) && r.received <= c.opened:
		return "retracted: something had been received from " + p.name + " at " + clock(r.received)
	case r.received > c.opened:
		return "recovered: something was received from " + p.name + " again at " + clock(r.received)
	case r.sockets == 0 && g.passed(c.opened, 5*time.Second):
		return "ended: no connection to " + p.name + " is in trouble any more"
	}
	return ""
}

func (p podGone) count(j *Judge, c *incident) { c.body.Sockets = p.group(j).counts(0) }

func (p podGone) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	r := p.group(j)
	end, removed := j.model.PodEnded(p.ip)
	b.Culprit = event.Culprit{Kind: event.CulpritPod, Name: p.name, IP: p.ip, Sure: event.Inferred}
	b.Title = p.name + " gone, connections still lead to it"
	b.Severity = event.Critical
	b.Confidence = 0.75
	if c.since != 0 {
		b.SilentSince = event.Known(c.since.Time())
	}
	b.Sockets = r.counts(0)
	if removed {
		b.Culprit.Sure, b.Confidence = event.Proved, 0.96
	}
	b.Alternatives = []event.Alternative{{
		Rule: ruleUnexplained, Confidence: round2(1 - b.Confidence),
		Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: p.name + ", or its node " + p.node, Sure: event.Inferred},
	}}
	if s := j.model.ServiceOf(p.ip); s != "" {
		b.Services = []event.Hit{{Name: s, Sockets: r.sockets}}
	}
	b.Pods = []event.Hit{{Name: p.name, Sockets: r.sockets}}
	var e brief
	e.pro(r.refs, "%s that lead to %s at %s got no answer, %d of them twice in a row", count(r.sockets, "socket"), p.name, p.ip, r.stalled)
	if removed {
		e.pro([]string{end.Fact}, "the cluster removed %s at %s, and its address belongs to nobody since", p.name, clock(end.At))
	} else {
		e.con(nil, "the cluster has not said that %s is gone", p.name)
	}
	if r.paired == 0 {
		e.pro(nil, "none of these connections has an end on %s any more", p.node)
	}
	alive := 0
	for k := range r.hops {
		if k.Kind == model.KindNode {
			if _, ok := j.lives(k.Name, r.first); ok {
				alive++
			}
		}
	}
	if alive > 0 {
		e.pro(nil, "the nodes that they cross lived when the silence began (%d of %d were heard after it): what is in the middle is not the cause", alive, len(r.hops))
	}
	if a, ok := j.lives(p.node, r.first); ok {
		e.pro([]string{a.Last()}, "the agent of %s, where the pod was, was heard at %s: the node %s", p.node, clock(a.Heard), j.tense(&a, g, "lives", "lived"))
	}
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "forget the translations that lead to it on the nodes that hold them, so that clients are reset and come back",
			Command: "conntrack -D -p tcp --reply-src " + arg(p.ip.String()),
			Effect:  "the next segment of each client is translated anew, to a pod that lives, which resets it",
			Risk:    "low: connections to this address only", Needs: "root on each node that translates for it",
		},
		{
			When: "soon", Text: "let pods end in order: a preStop hook and terminationGracePeriodSeconds longer than the drain of connections",
			Effect: "connections are closed by the application instead of left behind", Risk: "none",
			Needs: "it does not help against a node or a runtime that kills pods at once",
		},
		shorterClocks(),
		{
			When: "cure", Text: "let clients bound how long they wait: keepalive, TCP_USER_TIMEOUT, or deadlines of the protocol",
			Effect: "a pod's death costs seconds", Risk: "low", Needs: "a change of the clients",
		},
	}
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}
