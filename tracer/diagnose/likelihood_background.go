package diagnose

import (
	"cmp"
	"math"
	"slices"
)

const (
	// leastBackground is what a network loses that is well: less would make a name of three accidents.
	leastBackground = 2e-5
	// slack is how much the background is taken for higher than it was measured.
	slack = 1.1
	// outlier is how many nats a component has to stand out by to be left out of the background it may not belong to, beside
	// what the most unlucky one of its kind does: leaving out the unlucky would make a background of the lucky.
	outlier = 6
	// mostCompared of a kind's components are compared with the rest one by one, those that stand out most.
	mostCompared = 16
	// mostOutliers is the part of a kind's components that may be left out, and at least one is.
	mostOutliers = 0.1
)

// scratch is what a judgement works with, kept to be used again.
type scratch struct {
	bad     []pathID // paths with bad flows in the window
	touched []component
	flows   []uint32  // bad flows of a component
	trials  []float64 // bad trials of a component, both halves
	gone    map[component]*column
	mark    []uint32 // of paths: the judgement in which they were taken as explained
	turn    uint32
}

// window is what a component's counters say of the window, without the flows that are explained.
func (l *likelihood) window(c component) column {
	var out column
	for i := range 2 {
		h := &l.rows[i][c]
		if h.half != l.half && h.half+1 != l.half {
			continue
		}
		for k, n := range h.n {
			out.n[k] += float64(n)
			out.size[k] += float64(n) * typical(k)
		}
	}
	out.any = l.scratch.trials[c]
	if g := l.scratch.gone[c]; g != nil {
		out = out.sub(g)
	}
	return out
}

// typical is the size that stands for all of a class.
func typical(class int) float64 {
	if class == 0 {
		return 1
	}
	return 1.5 * float64(uint32(1)<<class)
}

// prepare goes through the bad flows of the window.
func (l *likelihood) prepare() {
	s := &l.scratch
	if s.gone == nil {
		s.gone = make(map[component]*column)
	}
	for _, c := range s.touched {
		s.flows[c], s.trials[c] = 0, 0
	}
	clear(s.gone)
	s.bad, s.touched = s.bad[:0], s.touched[:0]
	s.flows = grow(s.flows, len(l.members))
	s.trials = grow(s.trials, len(l.members))
	s.mark = grow(s.mark, len(l.tracks))
	s.turn += 2 // odd: seen as bad; even: explained
	for _, list := range l.bad {
		for _, p := range list {
			if t := &l.tracks[p]; s.mark[p] < s.turn-1 && t.parts[0] != 0 {
				s.mark[p] = s.turn - 1
				if l.seen(p).bad > 0 {
					s.bad = append(s.bad, p)
					l.charge(p, 1)
				}
			}
		}
	}
}

func grow[T any](list []T, n int) []T {
	if len(list) < n {
		list = append(list, make([]T, n-len(list))...)
	}
	return list
}

// charge counts a path's bad flows at its components, or takes them back.
func (l *likelihood) charge(p pathID, sign float64) {
	s := &l.scratch
	t := &l.tracks[p]
	flows := l.seen(p).bad
	trials := 0.0
	for i := range t.halves {
		if h := &t.halves[i]; h.half == l.half || h.half+1 == l.half {
			trials += h.trials().bad
		}
	}
	each := func(c component) {
		switch {
		case sign < 0:
			s.flows[c] -= min(flows, s.flows[c])
		case s.flows[c] == 0:
			s.touched = append(s.touched, c)
			fallthrough
		default:
			s.flows[c] += flows
		}
		s.trials[c] = max(0, s.trials[c]+sign*trials)
	}
	each(0)
	for _, c := range t.parts {
		if c == 0 {
			break
		}
		each(c)
	}
}

// explain takes all flows of a path out of the evidence, and with them out of the denominators.
func (l *likelihood) explain(p pathID) {
	s := &l.scratch
	if s.mark[p] == s.turn {
		return
	}
	if s.mark[p] == s.turn-1 {
		l.charge(p, -1)
	}
	s.mark[p] = s.turn
	t := &l.tracks[p]
	for i := range t.halves {
		h := &t.halves[i]
		if h.half != l.half && h.half+1 != l.half {
			continue
		}
		n, class := h.coarse()
		if n == 0 {
			continue
		}
		each := func(c component) {
			g := s.gone[c]
			if g == nil {
				g = new(column)
				s.gone[c] = g
			}
			g.n[class] += float64(n)
			g.size[class] += float64(n) * typical(class)
		}
		each(0)
		for _, c := range t.parts {
			if c == 0 {
				break
			}
			each(c)
		}
	}
}

func (l *likelihood) explained(p pathID) bool { return l.scratch.mark[p] == l.scratch.turn }

// background is the rate of loss that needs no explanation: that of all flows, without the components of one kind that
// stand out. Which kind is at fault is not known, so the lowest of the kinds' answers holds; a loss that all components
// of all kinds share is the background, however high.
func (l *likelihood) background() float64 {
	all := l.window(0)
	p := all.rate(all.any + 1)
	for k := kindNode; k < kindSet; k++ {
		if l.count[k] >= 2 {
			p = min(p, l.trimmed(k, all))
		}
	}
	return min(max(slack*p, leastBackground), mostLoss/2)
}

// trimmed is the rate of all flows without the components of one kind that stand out from the rest.
func (l *likelihood) trimmed(k kind, rest column) float64 {
	left := max(1, int(mostOutliers*float64(l.count[k])))
	least := outlier + math.Log(float64(l.count[k]))
	p := rest.rate(rest.any + 1)
	type out struct {
		c component
		w column
		g float64
	}
	dropped := make(map[component]bool)
	for range 4 {
		var outs []out
		for _, c := range l.scratch.touched {
			if l.members[c].kind != k || l.scratch.flows[c] < fewest || dropped[c] {
				continue
			}
			w := l.window(c)
			if mean, _ := w.expected(p); w.any > mean {
				outs = append(outs, out{c, w, surprise(w.any, mean, w.total())})
			}
		}
		byGain := func(a, b out) int { return cmp.Or(cmp.Compare(b.g, a.g), cmp.Compare(a.c, b.c)) }
		slices.SortFunc(outs, byGain)
		outs = outs[:min(len(outs), mostCompared)]
		// Whether one stands out shows against the others: of three it makes up a third of what it is compared with.
		for i := range outs {
			o := &outs[i]
			without := rest.sub(&o.w)
			if o.g = 0; without.total() > 0 {
				mean, _ := o.w.expected(without.rate(without.any + 1))
				o.g = surprise(o.w.any, mean, o.w.total())
			}
		}
		slices.SortFunc(outs, byGain)
		outs = slices.DeleteFunc(outs, func(o out) bool { return o.g <= least })
		if len(outs) == 0 {
			break
		}
		for _, o := range outs[:min(left, len(outs))] {
			without := rest.sub(&o.w)
			if without.total() == 0 {
				return p // they are all there is
			}
			rest, dropped[o.c] = without, true
			left--
		}
		p = rest.rate(rest.any + 1)
		if left == 0 {
			break
		}
	}
	return p
}

func (c *column) total() (n float64) {
	for _, v := range c.n {
		n += v
	}
	return n
}

// surprise is by how many nats bad of n trials speak against mean of them being expected (Kullback and Leibler's distance).
func surprise(bad, mean, n float64) float64 {
	g := 0.0
	if bad > 0 {
		g += bad * math.Log(bad/mean)
	}
	if n > bad && n > mean {
		g += (n - bad) * math.Log((n-bad)/(n-mean))
	}
	return g
}
