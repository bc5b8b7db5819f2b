package diagnose

import (
	"net/netip"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// clientGone is the course of the case that a whole network of clients vanished at one moment, while others go on by the
// same nodes.
type clientGone struct{ network netip.Prefix }

// clientShare is the part of a network's sockets, in percent, that have to be unanswered: single clients vanish all the
// time. otherShare is how many times more often these have to be in trouble than the rest of the sockets.
const (
	clientShare = 20
	otherShare  = 4
)

// clients looks for networks whose clients fell silent together.
func (j *Judge) clients(e *ends, g *gate) {
	var networks map[netip.Prefix]map[model.HopKey]int
	for _, n := range sortedPrefixes(e.networks) {
		r := e.networks[n]
		if r.stalled < breadth || r.together < breadth || 2*r.together < r.writing || j.openAbout(ruleClientGone, n.String()) {
			continue
		}
		if networks == nil {
			networks = j.model.Networks()
		}
		all, others := 0, 0
		for _, c := range networks[n] {
			all += c
		}
		for o, hops := range networks {
			if o != n {
				for _, c := range hops {
					others += c
				}
			}
		}
		rest := e.all - r.sockets
		if r.sockets*100 < all*clientShare || others == 0 || r.sockets*others < otherShare*rest*all {
			continue
		}
		if len(networks[n]) > 1 && len(r.hops) < 2 || !j.othersGoOn(r) || !r.quietFor(g, quietUnexplained) {
			continue
		}
		c := &incident{course: clientGone{n}, since: r.received, dated: r.received, first: r.first}
		c.body.Rule = ruleClientGone
		j.supersede(g, r.hops, "its sockets are those of "+n.String()+", which fell silent as a whole")
		j.begin(c, g, r.refs[0])
	}
}

// othersGoOn says whether every hop that a group's sockets cross has received something since the group fell silent.
func (j *Judge) othersGoOn(r *group) bool {
	for k := range r.hops {
		if h, ok := j.model.Hop(k); !ok || h.Received <= r.received.Add(together) {
			return false
		}
	}
	return true
}

func (k clientGone) group(j *Judge) *group {
	if r := j.ends().networks[k.network]; r != nil {
		return r
	}
	return newGroup()
}

func (k clientGone) crossing(j *Judge) (n int) {
	for _, c := range j.model.Networks()[k.network] {
		n += c
	}
	return n
}

func (k clientGone) over(j *Judge, c *incident, g *gate) string {
	r := k.group(j)
	switch {
	case r.stalled < breadth && r.sockets > 0 && g.passed(c.opened, 5*time.Second), r.received > c.opened:
		return "recovered: clients of " + k.network.String() + " answer again"
	case r.sockets == 0 && g.passed(c.opened, 5*time.Second):
		return "ended: no socket of " + k.network.String() + " is in trouble any more"
	}
	return ""
}

func (k clientGone) count(j *Judge, c *incident) { c.body.Sockets = k.group(j).counts(k.crossing(j)) }

func (k clientGone) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	r := k.group(j)
	all := k.crossing(j)
	name := k.network.String()
	b.Culprit = event.Culprit{Kind: event.CulpritClient, Name: name, Sure: event.Inferred}
	b.Title = "clients of " + name + " gone"
	b.Severity = event.Info
	b.Confidence = 0.8
	b.SilentSince = event.Known(c.since.Time())
	b.Sockets = r.counts(all)
	b.Clients = event.ClientCounts{Total: all, Networks: 1}
	b.Alternatives = []event.Alternative{{
		Rule: ruleUnexplained, Confidence: 0.2,
		Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: "the way to " + name, Sure: event.Inferred},
	}}
	var e brief
	e.pro(r.refs, "%d of %s of clients in %s got no answer, %d of them twice in a row", r.sockets, count(all, "socket"), name, r.stalled)
	e.pro(nil, "%d of these spoke until the same moment, %s: single clients do not fall silent together", r.together, clock(c.since))
	e.pro(nil, "they cross %s, through which other clients are heard since", count(len(r.hops), "hop"))
	e.con(nil, "from here the clients and the way to them look the same")
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "nothing inside the cluster: the cause is at the clients, or on the way to them",
			Effect: "no node is taken out for it", Risk: "none",
		},
		{
			When: "soon", Text: "let the server notice earlier that clients are gone: keepalive, and TCP_USER_TIMEOUT of 30 s",
			Effect: "dead sessions do not pile up for 15 minutes", Risk: "low: clients that are away for longer lose their connection",
			Needs: "a change of the application",
		},
	}
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}
