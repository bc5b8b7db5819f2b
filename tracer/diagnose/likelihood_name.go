package diagnose

import (
	"math"
	"slices"
)

// name makes a culprit of a hypothesis, with what cannot be told from it.
func (l *likelihood) name(h *hypothesis, hyps []hypothesis, p0 float64) culprit {
	c := culprit{
		part: h.parts[0], kind: h.kind, name: h.name, rate: h.rate, background: p0, gain: h.gain, through: h.sheet.sum,
	}
	c.beyond = h.sign == signAlive && h.rate > 0.9 && 10*c.through.stalled >= 9*c.through.bad
	with, all := l.badWith(h)
	score := h.gain - l.penalty(h)
	odds := math.Exp(-score)
	for i := range hyps {
		o := &hyps[i]
		if o.parts[0] == h.parts[0] || o.parts[0] == h.parts[1] || o.parts[1] != 0 || o.rejected != 0 || o.name == h.name && machine(o.kind) && machine(h.kind) {
			continue
		}
		if overlap := with[o.parts[0]]; 5*overlap < 4*all || 2*overlap < l.badOf(o) {
			continue
		}
		l.weigh(o, p0)
		if o.gain+o.sign.nats() >= h.gain+h.sign.nats()-tieNats {
			c.rivals = append(c.rivals, o.parts[0])
		} else {
			odds += math.Exp(o.gain - l.penalty(o) - score)
		}
	}
	most := mostSure
	if h.sheet.sure.any < fewest {
		most = mostMaybe
	}
	c.confidence = min(most, 1/(1+odds)) / float64(1+len(c.rivals))
	c.elsewhere = l.elsewhere(h)
	return c
}

func machine(k kind) bool { return k == kindNode || k == kindLocal }

// mostAsked pods are asked how they fare elsewhere.
const mostAsked = 32

// elsewhere counts the flows of the bad flows' pods that do not cross what is accused.
func (l *likelihood) elsewhere(h *hypothesis) (out counts) {
	asked := make(map[component]bool)
	for _, p := range l.scratch.bad {
		if l.explained(p) || !l.crosses(p, h) {
			continue
		}
		for _, c := range l.tracks[p].parts {
			if c == 0 || len(asked) == mostAsked {
				break
			}
			if l.members[c].kind != kindPod || asked[c] || c == h.parts[0] {
				continue
			}
			asked[c] = true
			for _, o := range l.members[c].paths {
				if !l.crosses(o, h) {
					out.addUp(l.seen(o))
				}
			}
		}
	}
	return out
}

// remove takes what a named culprit explains out of the evidence: all flows that surely cross it, and the bad ones that
// may.
func (l *likelihood) remove(h *hypothesis) {
	var list []pathID
	l.each(h, func(p pathID, weight float64) {
		if weight == 1 || l.seen(p).bad > 0 {
			list = append(list, p)
		}
	})
	for _, p := range list {
		l.explain(p)
	}
}

// pairs returns what is left of the components that failed the breadth test: neither they nor the part of them that is the
// reason is lossy by itself, so only what crosses both is.
func (l *likelihood) pairs(hyps []hypothesis, p0 float64) (out []culprit) {
	slices.SortFunc(hyps, inOrder)
	for i := range hyps {
		h := &hyps[i]
		if h.rejected == 0 || l.badOf(h) < fewest {
			continue
		}
		l.weigh(h, p0)
		if h.gain < l.penalty(h)+math.Log(tolerated) {
			continue
		}
		with, all := l.badWith(h)
		if all < fewest || 2*with[h.rejected] < all {
			continue
		}
		out = append(out, culprit{
			part: h.parts[0], kind: h.kind, name: h.name, rivals: []component{h.rejected}, both: true,
			rate: h.rate, background: p0, gain: h.gain, confidence: 0.5, through: h.sheet.sum, elsewhere: l.elsewhere(h),
		})
		l.remove(h)
		if len(out) == mostCulprits {
			break
		}
	}
	return out
}
