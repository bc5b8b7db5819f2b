package diagnose

import "slices"

// narrower is the breadth test: a component that loses segments loses those of all that crosses it. It returns the other
// component that most of the bad flows share, where the flows without it are clean.
func (l *likelihood) narrower(h *hypothesis, p0 float64) component {
	in := make(map[component]*sheet)
	for _, c := range l.shared(h) {
		in[c] = new(sheet)
	}
	if len(in) == 0 {
		return 0
	}
	l.each(h, func(p pathID, weight float64) {
		if weight < 1 {
			return
		}
		for _, c := range l.tracks[p].parts {
			if s := in[c]; s != nil {
				s.add(l.seen(p), 1)
			}
		}
	})
	whole, _ := h.sheet.sure.best(p0)
	found, most := component(0), 0.0
	for c, s := range in {
		out := h.sheet.sure.sub(&s.sure)
		if out.total() == 0 {
			continue
		}
		inside, _ := s.sure.best(p0)
		outside, rate := out.best(p0)
		better := inside + outside - whole
		if better > splitNats && (outside < clean || rate < standsOut*p0) && (better > most || better == most && c < found) {
			found, most = c, better
		}
	}
	return found
}

func (c *column) best(p0 float64) (gain, rate float64) {
	rate, gain = best(func(p float64) float64 { return c.gain(p, p0) }, p0)
	return gain, rate
}

// shared returns the components that at least half of a hypothesis' bad flows have in common beside it.
func (l *likelihood) shared(h *hypothesis) []component {
	bad, all := l.badWith(h)
	var out []component
	for c, n := range bad {
		if 2*n >= all && c != h.parts[0] && c != h.parts[1] && l.members[c].kind != kindSet {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

// badWith counts a hypothesis' bad flows by what else they cross.
func (l *likelihood) badWith(h *hypothesis) (with map[component]uint32, all uint32) {
	with = make(map[component]uint32)
	for _, p := range l.scratch.bad {
		if l.explained(p) || !l.crosses(p, h) {
			continue
		}
		n := l.seen(p).bad
		all += n
		for _, c := range l.tracks[p].parts {
			if c == 0 {
				break
			}
			with[c] += n
			for _, of := range l.members[c].of {
				with[of] += n
			}
		}
	}
	return with, all
}

// crosses says whether a path crosses what a hypothesis accuses, or may.
func (l *likelihood) crosses(p pathID, h *hypothesis) bool {
	for _, c := range l.tracks[p].parts {
		switch {
		case c == 0:
			return false
		case c == h.parts[0] || c == h.parts[1]:
			return true
		case l.members[c].kind == kindSet && slices.Contains(l.members[c].of, h.parts[0]):
			return true
		}
	}
	return false
}
