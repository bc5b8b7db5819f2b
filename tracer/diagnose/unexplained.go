package diagnose

import (
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// unexplained composes the honest unknown: stalls that have a hop in common, or a moment, and no component that may be
// named for them.
func (j *Judge) unexplained(c *incident, s *suspect, im *model.Impact) {
	b := &c.body
	name, why, others := j.candidates(c, s)
	b.Severity = event.Warning
	if len(im.Services) > 0 {
		b.Severity = event.Critical
	}
	if b.Culprit.Kind == "" { // what was named stays, however the case develops
		b.Culprit = event.Culprit{Kind: event.CulpritUnknown, Name: name, Sure: event.Inferred}
		if len(c.keys) == 1 {
			b.Culprit.IP = s.hop.IP
		}
		b.Title = "stalls through " + s.hop.Key.Via() + ": " + name
		b.Confidence = 0.5
		b.Alternatives = others
	}
	var e brief
	via := s.hop.Key.Via()
	if s.hop.Key.Kind == model.KindPod {
		via = j.podNames(c.keys)
	} else {
		for _, k := range c.keys[1:] {
			via += " and " + k.Via()
		}
	}
	e.silence(c, s, im, via)
	if s.hop.Key.Kind == model.KindNode {
		e.agent(c, s, s.hop.Key.Name)
		if s.pulse.ended() {
			e.inventory(j.model.Node(s.hop.Key.Name))
		}
	}
	e.progress(s)
	for _, o := range s.also {
		e.con(nil, "%s fell silent at about the same time, at %s: one cause before both is as likely", o.Key.Via(), clock(o.Received))
	}
	e.con(nil, "%s", why)
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = j.unknownRemedies(s)
}

// unknownRemedies are for what may stand behind a silence that nothing may be named for.
func (j *Judge) unknownRemedies(s *suspect) []event.Remedy {
	second := func(where string) event.Remedy {
		return event.Remedy{
			When: "now", Text: "look from a second machine: run midhop on " + where,
			Effect: "a second vantage tells the candidates apart", Risk: "none",
		}
	}
	k := s.hop.Key
	switch {
	case k.Kind == model.KindPod:
		where := "the node that it is on, or on another one that speaks to it"
		if node := j.model.KnownOn(k.IP); node != "" {
			where = node + ", or on another node that speaks to it"
		}
		return []event.Remedy{
			{
				When: "now", Text: "look whether it lives, and its node",
				Command: "kubectl get pods -A -o wide --field-selector status.podIP=" + arg(k.IP.String()), Effect: "tells a dead pod from a dead node", Risk: "none",
			},
			second(where),
		}
	case len(s.hop.Candidates) > 0:
		return []event.Remedy{
			{
				When: "now", Text: "find out which of them holds " + s.hop.IP.String() + " now",
				Command: "kubectl get nodes -o wide", Effect: "two machines with one address hurt each other", Risk: "none",
			},
			second(s.hop.Candidates[0] + " and the others"),
		}
	case k.Kind == model.KindNode:
		return []event.Remedy{
			{
				When: "now", Text: "look at the node, and at what stands before it: the balancer's health checks, routes, security groups, its FORWARD policy",
				Command: "kubectl describe node " + arg(k.Name), Effect: "tells a sick node from the way to it", Risk: "none",
			},
			second(k.Name + ", or on another node"),
		}
	}
	return []event.Remedy{
		{
			When: "now", Text: "look at what stands on the way to " + k.Via() + ": routes, security groups, NAT gateways, a balancer, the FORWARD policy of the node",
			Command: "ip route get " + arg(k.IP.String()), Effect: "shows the way from here", Risk: "none", Needs: "on the machine whose sockets hang",
		},
		second("another node that speaks to it"),
	}
}

// candidates names what may stand behind the silence, why none of them is named alone, and what each would be called.
func (j *Judge) candidates(c *incident, s *suspect) (name, why string, others []event.Alternative) {
	via := s.hop.Key.Via()
	add := func(rule string, kind event.CulpritKind, name string, confidence float64) {
		others = append(others, event.Alternative{Rule: rule, Confidence: confidence, Culprit: event.Culprit{Kind: kind, Name: name, Sure: event.Inferred}})
	}
	switch {
	case s.hop.Key.Kind == model.KindPod:
		return j.podCandidates(c, s)
	case len(s.hop.Candidates) > 0:
		for _, node := range s.hop.Candidates {
			add(ruleNodeGone, event.CulpritNode, node, round2(0.9/float64(len(s.hop.Candidates))))
		}
		return strings.Join(s.hop.Candidates, " or "), s.hop.IP.String() + " is " + s.hop.Because, others
	case len(s.elsewhere) == 0 && (s.life != lifeAlive || len(s.also) > 0):
		return j.ownUplink(s)
	case s.life == lifeAlive:
		why = "the node itself lives: what fails is on it, or stands before it"
		switch {
		case s.asked != nil:
			why = "the node itself lived when it was asked: what fails is on it, or stands before it"
		case s.pulse.missed:
			why = "the node itself lived when this began: what failed then is on it, or stands before it; whether it is gone since is not known"
		}
		return via + " or what stands before it", why, nil
	case len(s.also) > 0:
		name = via
		for _, o := range s.also {
			name += " and " + o.Key.Via()
		}
		return name + ", or what stands before them", "several fell silent at once", nil
	}
	return via + ", or what stands before it", s.hop.Because, nil
}

// ownUplink is for machines to which nothing answers any more: themselves, or everything that they speak to.
func (j *Judge) ownUplink(s *suspect) (name, why string, others []event.Alternative) {
	machines := machinesOf(s)
	name = "the uplink of " + machines + ", or "
	if s.life == lifeAlive {
		name += "what stands before "
	}
	name += s.hop.Key.Via()
	for _, o := range s.also {
		name += " and " + o.Key.Via()
	}
	if len(s.also) > 0 && s.life != lifeAlive {
		name += " together"
	}
	return name, "nothing that these sockets' machine speaks to answers", []event.Alternative{{
		Rule: "local-node", Confidence: 0.5,
		Culprit: event.Culprit{Kind: event.CulpritLocalNode, Name: machines, Sure: event.Inferred},
	}}
}

func podName(j *Judge, h *model.Hop) string {
	return podAt(j, h.Key.IP)
}

// machinesOf names the machines whose sockets are in trouble.
func machinesOf(s *suspect) string {
	var names []string
	for _, l := range s.lanes {
		if !s.sources[l.Source] {
			continue
		}
		name := l.Node
		if name == "" {
			name = "this machine"
		}
		names = append(names, name)
	}
	return strings.Join(names, " and ")
}
