package diagnose

import (
	"fmt"
	"slices"

	"github.com/midhop/midhop/tracer/model"
)

// pulse is what an agent's newest word is worth now: whether more was promised, and whether it is the only one that keeps
// silent.
type pulse struct {
	missed bool // a heartbeat that it promised did not come
	away   bool // the stream was, and may yet bring it
	others int  // further agents that were heard since it was missed
}

// ended says whether the agent, and not the way to all agents, fell silent.
func (p *pulse) ended() bool { return p.missed && !p.away && p.others > 0 }

// missedAt is from when on an agent's next heartbeat is missed. One that did not come shows more than any other fact that
// did not: it was promised.
func missedAt(a *model.Agent) model.Instant {
	return max(a.Beat.Add(a.Every+max(tardy, 2*a.Late)), a.Heard.Add(quietProved))
}

// feel takes an agent's pulse; missed is from when on its next heartbeat is missed, and witness which others count, all
// where it is nil. Others are measured by their newest facts, so that a delay on the way here, which meets all alike, is no
// silence.
func (j *Judge) feel(a *model.Agent, missed model.Instant, g *gate, witness func(*model.Agent) bool) pulse {
	var p pulse
	for _, o := range j.model.Agents() {
		if o.Source != a.Source && o.Beats && o.Heard >= missed && (witness == nil || witness(&o)) {
			p.others++
		}
	}
	p.missed = g.reached(missed)
	p.away = p.missed && j.returning(a, g)
	return p
}

// now is an agent's pulse where nobody is accused by it.
func (j *Judge) now(a *model.Agent, g *gate) pulse {
	return j.feel(a, min(missedAt(a), a.Heard.Add(silentAfter)), g, nil)
}

// tense chooses how to say what the newest word of an agent tells of its node, as the end of a sentence: that it "lives", or
// that it "lived" then where more words were promised since and did not come.
func (j *Judge) tense(a *model.Agent, g *gate, lives, lived string) string {
	p := j.now(a, g)
	if !p.missed {
		return lives
	}
	return lived + " then; " + p.since()
}

// since says what an agent's silence since its newest word is worth.
func (p *pulse) since() string {
	switch {
	case p.ended():
		return fmt.Sprintf("it is silent since, and %s heard after it", were(p.others, "other agent"))
	case p.away:
		return "it is silent since, as its stream was: whether the node still lives is not known"
	}
	return "nothing was heard since, of no other agent either: whether the node still lives is not known"
}

// askLife weighs the hop's agent. It was alive if it was heard after a transmission had gone unanswered. It ended with
// the hop if it was heard about as long as anything came through, and no longer, while other agents are. Where nothing else
// makes progress either, more patience costs little: something may be wrong with the looking machine.
func (j *Judge) askLife(s *suspect, g *gate) {
	if s.hop.Key.Kind != model.KindNode || j.model.Former(s.hop.Key) {
		return
	}
	j.askAgent(s, g)
	j.askNode(s)
}

func (j *Judge) askAgent(s *suspect, g *gate) {
	a, ok := j.model.AgentOf(s.hop.Key.Name)
	if !ok {
		return
	}
	s.agent = a
	missed := missedAt(&a)
	if len(s.elsewhere) == 0 {
		missed = max(missed, a.Heard.Add(silentAfter))
	}
	alive := s.survived()
	hears := len(s.elsewhere) > 0
	if alive {
		missed = min(missed, a.Heard.Add(silentAfter)) // nobody is accused by it
		hears = slices.ContainsFunc(s.elsewhere, func(p model.Path) bool { return p.Received > a.Heard.Add(skew) })
	}
	s.pulse = j.feel(&a, missed, g, func(o *model.Agent) bool {
		// Where nothing but its own agent speaks for a machine that hears nobody, that machine, and whoever listens to it there,
		// may be what is cut off.
		return hears || !s.sources[o.Source]
	})
	switch p := &s.pulse; {
	case alive:
		s.life = lifeAlive
	case !p.missed, p.away:
		s.life = lifeWaiting
	case missedAt(&a) < s.since: // connections went on while it was silent already: it did not end with them
		s.life = lifeLost
	case p.others > 0:
		s.life = lifeEnded
	case j.alone(a), len(s.elsewhere) == 0 && g.passed(missed, heartbeat):
		s.life = lifeLost
	default:
		s.life = lifeWaiting // the others' next heartbeats tell whether it is this one or the way to all of them
	}
}

// survived says whether the hop's agent was heard after transmissions through the hop went unanswered: they are not for the
// node's death.
func (s *suspect) survived() bool { return s.agent.Heard > s.first.Add(skew) }

// outlived says whether it survived and fell silent later, alone: it may be dead now.
func (s *suspect) outlived() bool { return s.survived() && s.pulse.ended() }

// alone says whether no other agent has ever been heard.
func (j *Judge) alone(a model.Agent) bool {
	for _, o := range j.model.Agents() {
		if o.Source != a.Source && o.Beats {
			return false
		}
	}
	return true
}
