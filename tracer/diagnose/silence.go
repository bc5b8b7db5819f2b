package diagnose

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// silence is the course of cases that rest on transmissions without an answer: node-gone, peer-unreachable, unexplained.
type silence struct{}

// openCase opens a case about a hop's silence; before is the one that it supersedes, nil for none.
func (j *Judge) openCase(s *suspect, g *gate, rule string, before *incident) {
	c := &incident{course: silence{}, since: s.since, dated: s.since, first: s.first, before: before}
	c.keys = []model.HopKey{s.hop.Key}
	if s.life == lifeMute && s.outlived() {
		c.first = s.agent.Heard // it lived until then: what would retract the case has to be newer
	}
	if rule == ruleUnexplained {
		for _, o := range s.also {
			if j.named(o.Key) == nil {
				c.keys = append(c.keys, o.Key)
			}
		}
		c.keys = append(c.keys, j.neighbours(s)...)
	}
	c.body.Rule = rule
	j.begin(c, g, s.hop.Fact)
}

// gone says whether what crosses the case's culprit and has not noticed yet is lost all the same.
func (c *incident) gone() bool {
	return c.body.Rule == ruleNodeGone && c.body.Culprit.Sure == event.Proved && c.back == 0
}

// over ends a case when it turns out to be none, or with its sockets. That something is received through the hop, or that the
// first of them goes on, is not enough: a node that comes back without its table serves new connections, picks up a few of
// the old ones in mid-stream, and the rest is lost all the same.
func (silence) over(j *Judge, c *incident, g *gate) string {
	sockets := 0
	for _, k := range c.keys {
		h, _ := j.model.Hop(k)
		sockets += h.Sockets
		switch {
		case c.dated != 0 && h.Received > c.dated.Add(dateSlack) && h.Received <= c.opened:
			return "retracted: something had been received through " + k.Via() + " at " + clock(h.Received)
		case h.Received > c.opened && c.parted == 0 && len(c.keys) > 1:
			c.parted = h.Received
		case h.Received <= c.opened:
			c.since = max(c.since, h.Received) // told with the next update
		}
	}
	if sockets == 0 {
		o := j.outcome(c)
		// Who resets is back, and its agent, or the cluster, tells later whether it began anew.
		if c.body.Rule == ruleNodeGone && o.reset >= breadth && !j.model.Former(c.keys[0]) && !g.passed(o.last, lateReturn) {
			return ""
		}
		return "ended: no connection crosses it any more; " + o.text()
	}
	if c.body.Rule != ruleNodeGone || j.model.Former(c.keys[0]) {
		return j.settledBy(c, false, false, g)
	}
	if why := j.livesOn(c, g); why != "" {
		return why
	}
	return j.settledBy(c, c.back != 0, j.awaited(c), g)
}

// awaited says whether the agent of a case's node, by whose silence its end is proved, has not been heard again.
func (j *Judge) awaited(c *incident) bool {
	a, ok := j.model.AgentOf(c.body.Culprit.Name)
	return ok && c.witness != nil && c.witness.life == lifeEnded && a.Heard <= c.first.Add(skew)
}

// livesOn says why the case that a node is gone is refuted by the node's own life, empty where nothing does. It notes whether
// the node is known to be back, with all that it had translated.
func (j *Judge) livesOn(c *incident, g *gate) string {
	if q, ok := j.model.AskedOf(c.body.Culprit.Name); ok && q.Lives() && q.Sent > c.first {
		return "retracted: it answered a question at " + clock(q.At) + ", so the node lives"
	}
	a, ok := j.model.AgentOf(c.body.Culprit.Name)
	dead := c.witness != nil && c.witness.life == lifeEnded // by its agent, whose word counts
	rebooted := dead && c.witness.agent.Boot != a.Boot
	switch c.back = 0; {
	case !ok || rebooted || a.Heard <= c.first.Add(skew):
		return ""
	case dead && a.Heard > c.witness.agent.Heard.Add(silentAfter):
		if !g.passed(a.Heard, silentAfter) {
			c.back = a.Heard
		}
		return ""
	}
	return "retracted: its agent was heard at " + clock(a.Heard) + ", so the node lives"
}

func (silence) tell(j *Judge, c *incident, g *gate) {
	h, ok := j.model.Hop(c.keys[0])
	if !ok {
		return
	}
	s, _ := j.gather(h, g, c)
	if s.first == 0 {
		s.first = c.first
	}
	j.askOthers(s)
	j.askLife(s, g)
	b := &c.body
	im := j.impact(c)
	b.SilentSince = event.Opt[event.Timestamp]{}
	if c.since != 0 {
		b.SilentSince = event.Known(c.since.Time())
	}
	switch b.Rule {
	case ruleNodeGone:
		j.nodeGone(c, s, &im)
	case rulePeerUnreachable:
		j.peerUnreachable(c, s, &im)
	default:
		j.unexplained(c, s, &im)
	}
	c.count(&im, c.gone())
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}

func (silence) count(j *Judge, c *incident) {
	im := j.impact(c)
	c.count(&im, c.gone())
}

// impact adds up what hangs on all hops of a case.
func (j *Judge) impact(c *incident) model.Impact {
	var im model.Impact
	for _, k := range c.keys {
		if h, ok := j.model.Hop(k); ok {
			o := j.model.ImpactOf(&h, c.since)
			im.Merge(&o)
		}
	}
	if c.body.Rule == ruleNodeGone { // with it went what it held
		o := j.model.ImpactOfHolder(c.keys[0].Name, c.since)
		im.Merge(&o)
	}
	return im
}
