package diagnose

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// refine turns a case about a node that was gone into one about a node that has come back without what it had translated:
// its boot id is another one since. It says whether it did.
func (j *Judge) refine(c *incident) bool {
	if c.body.Rule != ruleNodeGone || j.model.Former(c.keys[0]) {
		return false
	}
	name := c.body.Culprit.Name
	at, _ := j.model.Rebooted(name)
	if at == 0 || at <= c.since {
		return false
	}
	c.body.Was, c.body.Rule = c.body.Rule, ruleNodeRebooted
	c.course = forgotten{name, model.LossReboot}
	return true
}

// nodeRebooted composes the case that a node went and came back: it lives, and what it had translated is forgotten. Who
// speaks through it is reset, who is idle does not know yet.
func (j *Judge) nodeRebooted(c *incident, f forgotten, o *oblivion, im *model.Impact, node event.Node, g *gate) {
	b := &c.body
	at, fact := j.model.Rebooted(f.node)
	b.Title = f.node + " rebooted: what it had translated is lost"
	b.Confidence = 0.97
	b.Alternatives = []event.Alternative{{
		Rule: ruleNATLost, Confidence: 0.03,
		Culprit: event.Culprit{Kind: event.CulpritNode, Name: f.node, IP: b.Culprit.IP, Sure: event.Inferred},
	}}
	var e brief
	if c.body.Was == ruleNodeGone {
		e.pro(nil, "nothing was received through %s from %s on", f.node, clock(c.since))
	}
	if w := c.witness; w != nil {
		e.pro([]string{w.agent.Last()}, "the agent of %s fell silent at %s", f.node, clock(w.agent.Heard))
	}
	e.pro([]string{fact}, "%s was said to have another boot id at %s: its conntrack table began empty", f.node, clock(at))
	if o.sockets > 0 {
		e.pro(nil, "%s were open through it then", count(o.sockets, "connection"))
	}
	if o.resets > 0 {
		e.pro(o.refs, "%s since, the last at %s: it answers what it cannot translate", ofThem(o.resets)+" reset", clock(o.reset))
	}
	e.newcomers(j, f.node, at, g)
	if im.Never > 0 {
		e.con(nil, "%s without keepalive: whether these are lost shows only when they speak", count(im.Never, "idle socket"))
	}
	e.inventory(node, node.Name != "")
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		closeSockets(b.Culprit.IP, im.Idle+im.AtRisk+im.Stalled), shorterClocks(), spreadClients(),
		outOfMiddle(node.Platform),
	}
	if node.Spot != "" {
		b.Remedy = append(b.Remedy, noSpotInFront(node))
	}
}
