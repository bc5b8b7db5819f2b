package trial

import (
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/world"
)

// Score is how well one fault was told.
type Score struct {
	What     string
	Coverage string        // all, some, one, none: nodes with an agent
	Rung     string        // of the agents
	Victims  bool          // an agent could see three sockets hang for three seconds, or end by resets
	Said     bool          // an incident was open while they hung, or just after
	Named    bool          // its culprit is the object, or an object that the fault hit with it
	Hedged   bool          // nobody is named, and the object is among those that it may be
	Right    bool          // the rule is the one wanted
	After    time.Duration // from the fault to the name, where it is named
	Visible  time.Duration // from the fault to the second sign of the third victim: nobody can name it much sooner
}

// Coverage says where a plan's agents are.
func Coverage(p *world.Plan) (coverage, rung string) {
	n := 0
	for i := range p.Nodes {
		if p.Nodes[i].Agent {
			n++
			rung = p.Nodes[i].Rung
		}
	}
	switch {
	case n == 0:
		return "none", "none"
	case n == len(p.Nodes):
		return "all", rung
	case n == 1:
		return "one", rung
	}
	return "some", rung
}

func (v *Verdict) score() {
	coverage, rung := Coverage(v.Plan)
	for i := range v.Plan.Faults {
		f := &v.Plan.Faults[i]
		if slices.Contains(world.Null, f.What) {
			continue
		}
		s := Score{What: f.What, Coverage: coverage, Rung: rung}
		var until time.Duration
		for _, m := range v.Truth.Moments {
			t := m.Faults[i]
			if t.Long >= 3 {
				s.Victims = true
			}
			if t.Hanging > 0 {
				until = m.At
			}
			if t.Signs >= 3 && s.Visible == 0 {
				s.Visible = m.At - f.At
			}
		}
		if v.Truth.Resets[i] >= 3 {
			s.Victims, until = true, max(until, f.At+8*time.Second)
		}
		for _, c := range v.Cases {
			if c.Opened < f.At || c.Opened > until+2*time.Second && until != 0 {
				continue
			}
			s.Said = true
			v.tell(&s, c, i)
		}
		v.Scores = append(v.Scores, s)
	}
}

// tell adds to the score of a fault what one case says of it.
func (v *Verdict) tell(s *Score, c *Case, fault int) {
	for _, x := range c.Versions {
		kind, name := v.object(&x.in.Culprit)
		mine := slices.ContainsFunc(v.Truth.Touched, func(t world.Touch) bool {
			return t.Fault == fault && t.Kind == kind && (t.Name == name || kind == "clients" && v.among(t.Name, &x.in.Culprit)) && t.At <= x.at
		})
		if !mine {
			if v.lists(x.in, fault) {
				s.Hedged = true
			}
			continue
		}
		if !s.Named {
			s.Named, s.After = true, x.at-v.Plan.Faults[fault].At
		}
		if slices.Contains(best[s.What], x.in.Rule) {
			s.Right = true
		}
	}
}

// among says whether a culprit of clients is of a network.
func (v *Verdict) among(clients string, c *event.Culprit) bool {
	for i := range v.Plan.Clients {
		if n := &v.Plan.Clients[i]; n.Name == clients {
			return strings.Contains(c.Name, n.Net.Addr().String()) || n.Net.Contains(c.IP) || strings.HasPrefix(c.Name, n.Net.Addr().String()[:7])
		}
	}
	return false
}

// lists says whether an incident that names nobody has a fault's object among those that it may be.
func (v *Verdict) lists(in *event.Incident, fault int) bool {
	if in.Culprit.Kind != event.CulpritUnknown && !slices.Contains(honest, in.Rule) {
		return false
	}
	for _, t := range v.Truth.Touched {
		if t.Fault != fault {
			continue
		}
		if strings.Contains(in.Title, t.Name) || strings.Contains(in.Culprit.Name, t.Name) {
			return true
		}
		for _, a := range in.Alternatives {
			if strings.Contains(a.Culprit.Name, t.Name) {
				return true
			}
		}
	}
	// What stands before the nodes has no name in any inventory: "what stands before" is all that can be said.
	what := v.Plan.Faults[fault].What
	return (what == "clients" || what == "forget") && strings.Contains(in.Title, "before")
}
