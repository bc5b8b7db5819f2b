package diagnose

import (
	"cmp"
	"math"
	"slices"
)

const (
	// fewest flows can accuse: one or two have ends of their own to fail.
	fewest = breadth
	// standsOut is how many times the background a culprit's loss is at least.
	standsOut = 3
	// tolerated is how many windows go by, on average, until chance alone makes a name.
	tolerated = 1e4
	// otherKind is how many times rarer a fault of another kind than a node is held to be.
	otherKind = 10
	// leastMany is as how many components a kind counts that has fewer: so few could be had by looking long enough.
	leastMany = 10
	// tieNats is by how much two explanations have to differ for one to be told from the other: 20 to 1.
	tieNats = 3
	// roleNats is by how much the flows of a machine's other role have to speak against it for one role alone to be named.
	roleNats = 2 * tieNats
	// splitNats is how much better two rates have to explain a component's flows than one for a part of it to be the reason.
	splitNats = 10
	// clean is the most evidence that may be left of a component when the part is taken out that is the reason.
	clean = 3
	// mostCulprits of one judgement.
	mostCulprits = 16
	// mostSure is the most that statistics alone may claim, mostMaybe where no path was known for certain.
	mostSure, mostMaybe = 0.99, 0.8
)

// culprit is a component that explains losses.
type culprit struct {
	part   component
	kind   kind
	name   string
	rivals []component // explain the same flows as well: it cannot be told from these
	both   bool        // only what crosses it and the rival together is lossy: neither of them alone is to blame
	beyond bool        // it is alive and lets nothing through: it is this, or what stands before it

	rate       float64 // of segments that it loses
	background float64 // of the rest
	gain       float64 // nats
	confidence float64
	through    counts // flows through it
	elsewhere  counts // flows of the same pods and services that do not cross it
}

// certain says whether a culprit is named alone: ties and what stands before a living node are told as unknown.
func (c *culprit) certain() bool { return len(c.rivals) == 0 && !c.beyond }

// hypothesis is that one component, or one machine in both of its roles, loses segments.
type hypothesis struct {
	parts [2]component // the second one 0 but for a machine in both roles
	kind  kind
	name  string
	sign  lifeSign

	bound    float64 // of the gain, from the counters: it costs no walk over paths
	sheet    sheet
	rate     float64
	gain     float64
	fresh    bool      // the sheet is of the evidence that is left
	rejected component // a part of it is the reason
}

// judge returns the components that explain what the window holds, the weightiest first. What crosses a known culprit is
// explained already.
func (l *likelihood) judge(known ...component) []culprit {
	l.prepare()
	if len(l.scratch.bad) == 0 {
		return nil
	}
	for _, c := range known {
		l.remove(&hypothesis{parts: [2]component{c}})
	}
	p0 := l.background()
	hyps := l.hypotheses(p0)
	var found []culprit
	for len(found) < mostCulprits {
		top := l.weightiest(hyps, p0)
		if top == nil {
			break
		}
		top = l.inBothRoles(top, hyps, p0)
		if d := l.narrower(top, p0); d != 0 {
			top.rejected = d
			continue
		}
		found = append(found, l.name(top, hyps, p0))
		l.remove(top)
		p0 = l.background()
		hyps = slices.DeleteFunc(hyps, func(h hypothesis) bool { return l.badOf(&h) < fewest })
		for i := range hyps {
			hyps[i].fresh = false
			hyps[i].bound = l.bound(&hyps[i], p0)
		}
	}
	return append(found, l.pairs(hyps, p0)...)
}

// weightiest returns the hypothesis that explains most and enough, nil where none does. Only those are weighed whose bound
// could make them that.
func (l *likelihood) weightiest(hyps []hypothesis, p0 float64) *hypothesis {
	slices.SortFunc(hyps, func(a, b hypothesis) int { return cmp.Or(cmp.Compare(b.bound, a.bound), inOrder(a, b)) })
	var top *hypothesis
	score := math.Log(tolerated)
	for i := range hyps {
		h := &hyps[i]
		if h.rejected != 0 || h.bound-l.penalty(h) < score {
			continue
		}
		l.weigh(h, p0)
		if own := h.gain - l.penalty(h); h.rate >= standsOut*p0 && (own > score || top == nil && own == score) {
			top, score = h, own
		}
	}
	return top
}

// bound is at least what a hypothesis gains: as if its flows that retransmitted were all there are.
func (l *likelihood) bound(h *hypothesis, p0 float64) float64 {
	for _, set := range l.members[h.parts[0]].sets {
		if l.scratch.flows[set] > 0 {
			return math.Inf(1) // shares are weighed path by path
		}
	}
	bad, mean := 0.0, 0.0
	for _, c := range h.parts {
		if c != 0 {
			w := l.window(c)
			m, _ := w.expected(p0)
			bad += w.any
			mean += m
		}
	}
	if bad == 0 {
		return 0
	}
	return bad * math.Log(bad/max(mean, 1e-9))
}

func inOrder(a, b hypothesis) int {
	return cmp.Or(cmp.Compare(a.parts[0], b.parts[0]), cmp.Compare(a.parts[1], b.parts[1]))
}

// hypotheses lists what has enough bad flows for an accusation, by a bound from the counters.
func (l *likelihood) hypotheses(p0 float64) []hypothesis {
	s := &l.scratch
	var out []hypothesis
	consider := func(k kind, a, b component) {
		flows, maybe := s.flows[a], uint32(0)
		if b != 0 {
			flows += s.flows[b]
		}
		for _, set := range l.members[a].sets {
			maybe += s.flows[set]
		}
		if flows+maybe < fewest {
			return
		}
		h := hypothesis{parts: [2]component{a, b}, kind: k, name: l.members[a].name, sign: l.members[a].sign}
		if h.bound = l.bound(&h, p0); h.bound >= l.penalty(&h)+math.Log(tolerated) {
			out = append(out, h)
		}
	}
	seen := make(map[component]bool)
	once := func(c component) bool { was := seen[c]; seen[c] = true; return !was }
	for _, c := range slices.Clone(s.touched) {
		m := &l.members[c]
		switch {
		case c == 0 || s.flows[c] == 0:
		case m.kind == kindSet:
			for _, n := range m.of {
				if once(n) {
					consider(kindNode, n, 0)
				}
			}
		case once(c):
			consider(m.kind, c, 0)
		}
		if t := m.twin; t != 0 && s.flows[c] > 0 && (m.kind == kindNode || s.flows[t] == 0) {
			if m.kind == kindLocal {
				c, t = t, c
			}
			consider(kindNode, c, t)
		}
	}
	return out
}

// inBothRoles returns the hypothesis that a machine loses segments in both of its roles instead of one in one role, unless
// the flows of the other role speak against it.
func (l *likelihood) inBothRoles(h *hypothesis, hyps []hypothesis, p0 float64) *hypothesis {
	twin := l.members[h.parts[0]].twin
	if !machine(h.kind) || h.parts[1] != 0 || twin == 0 {
		return h
	}
	for i := range hyps {
		o := &hyps[i]
		if o.parts[1] == 0 || o.name != h.name || !machine(o.kind) || o.rejected != 0 {
			continue
		}
		l.weigh(o, p0)
		other := o.sheet.sure.sub(&h.sheet.sure)
		if other.total() > 0 && o.gain >= h.gain-roleNats {
			return o
		}
	}
	return h
}

func (l *likelihood) badOf(h *hypothesis) uint32 {
	n := l.scratch.flows[h.parts[0]]
	if h.parts[1] != 0 {
		n += l.scratch.flows[h.parts[1]]
	}
	for _, set := range l.members[h.parts[0]].sets {
		n += l.scratch.flows[set]
	}
	return n
}

// penalty is what an accusation has to outweigh: that any of all components of its kind could have been hit by chance.
func (l *likelihood) penalty(h *hypothesis) float64 {
	// The odds are shared out among all of the kind: where the cluster doubts every node, it says nothing of any.
	mass := float64(max(l.count[h.kind], leastMany) + l.doubted[h.kind]*(doubtOdds-1))
	if l.members[h.parts[0]].doubt && h.sign != signSilent {
		mass /= doubtOdds
	}
	p := math.Log(mass)
	if h.kind != kindNode && h.kind != kindLocal {
		p += math.Log(otherKind)
	}
	return max(p-h.sign.nats(), 0)
}

func (s lifeSign) nats() float64 {
	if s == signSilent {
		return math.Log(100)
	}
	return 0
}

// each calls f for every path that a hypothesis explains and nothing else does yet, with how likely it crosses it.
func (l *likelihood) each(h *hypothesis, f func(p pathID, weight float64)) {
	for _, c := range h.parts {
		if c == 0 {
			break
		}
		for _, p := range l.members[c].paths {
			if !l.explained(p) {
				f(p, 1)
			}
		}
	}
	for _, set := range l.members[h.parts[0]].sets {
		weight := 1 / float64(len(l.members[set].of))
		for _, p := range l.members[set].paths {
			if !l.explained(p) {
				f(p, weight)
			}
		}
	}
}

// weigh goes through a hypothesis' paths and finds the rate of loss that explains them best.
func (l *likelihood) weigh(h *hypothesis, p0 float64) {
	if h.fresh {
		return
	}
	h.fresh = true
	h.sheet = sheet{}
	l.each(h, func(p pathID, weight float64) { h.sheet.add(l.seen(p), weight) })
	h.rate, h.gain = best(func(p float64) float64 { return h.sheet.gain(p, p0) }, p0)
}

func (s *sheet) add(c counts, weight float64) {
	if c.flows == 0 {
		return
	}
	s.paths++
	if weight == 1 {
		s.sure.add(c.trials())
	} else {
		i := slices.IndexFunc(s.maybe, func(o share) bool { return o.weight == weight })
		if i < 0 {
			i = len(s.maybe)
			s.maybe = append(s.maybe, share{weight: weight})
		}
		s.maybe[i].add(c.trials())
	}
	s.sum.addUp(c)
}

func (c *counts) addUp(o counts) {
	c.flows += o.flows
	c.bad += o.bad
	c.stalled += o.stalled
	c.sent = add(c.sent, o.sent)
	c.resent = add(c.resent, o.resent)
	c.mixed |= o.mixed
}
