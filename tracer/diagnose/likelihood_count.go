package diagnose

import "math/bits"

// look is what one look saw of the flows of one path.
type look struct {
	Flows   uint32 // that sent anything in the running half window
	Bad     uint32 // of these that retransmitted in it
	Stalled uint32 // of the bad ones that do so without any progress
	Sent    uint32 // segments sent since the last look, without what stalled flows sent again
	Resent  uint32 // of these sent again
	Mixed   uint32 // a bit for each second of the half window in which something was sent again and something received
}

// counts are the looks at one path in one half window, added up.
type counts struct {
	half                uint32
	flows, bad, stalled uint32
	sent, resent        uint32
	mixed               uint32
}

// trials are independent chances of a loss to show itself. A flow is one, whatever it retransmits: the losses of one flow
// come in bursts and from its own last mile, and a stalled one repeats itself, so that a few lost clients would otherwise
// outvote a thousand healthy flows.
type trials struct{ n, bad, size float64 }

func (c *counts) trials() trials {
	n := max(min(c.flows, c.sent), c.bad) // a flow that sent nothing had no chance
	if n == 0 {
		return trials{}
	}
	return trials{n: float64(n), bad: float64(c.bad), size: max(1, float64(c.sent)/float64(n))}
}

// coarse is the number of a path's trials and their class.
func (c *counts) coarse() (n uint32, class int) {
	if n = max(min(c.flows, c.sent), c.bad); n == 0 {
		return 0, 0
	}
	return n, classOf(c.sent / n)
}

// classes of trials by size, each twice as large as the one before: 1, 2-3, 4-7, ... 8192 and more.
const classes = 14

func classOf(size uint32) int { return min(bits.Len32(max(size, 1))-1, classes-1) }

// bySize counts a component's trials of one half window by size. It fills a cache line: an observation of a healthy flow
// touches one per component.
type bySize struct {
	half uint32
	_    uint32
	n    [classes]uint32
}

// observe adds a look at the flows of a path.
func (l *likelihood) observe(p pathID, k look) {
	i := l.half % 2
	t := &l.tracks[p]
	c := &t.halves[i]
	if c.half != l.half {
		*c = counts{half: l.half}
	}
	n0, class0 := c.coarse()
	c.flows = max(c.flows, k.Flows, k.Bad)
	c.stalled = k.Stalled // as it is now: who recovers was not stuck
	c.mixed |= k.Mixed
	c.sent = add(c.sent, k.Sent)
	c.resent = add(c.resent, k.Resent)
	if k.Bad > c.bad {
		if c.bad == 0 {
			l.bad[i] = append(l.bad[i], p)
		}
		c.bad = k.Bad
	}
	n1, class1 := c.coarse()
	if n0 == n1 && class0 == class1 {
		return
	}
	l.move(0, i, n0, class0, n1, class1)
	for _, m := range t.parts {
		if m == 0 {
			return
		}
		l.move(m, i, n0, class0, n1, class1)
	}
}

// move takes trials from one class of a component to another.
func (l *likelihood) move(c component, i uint32, n0 uint32, class0 int, n1 uint32, class1 int) {
	h := &l.rows[i][c]
	if h.half != l.half {
		*h = bySize{half: l.half}
	}
	h.n[class0] -= n0
	h.n[class1] += n1
}

func add(a, b uint32) uint32 {
	if a+b < a {
		return ^uint32(0)
	}
	return a + b
}

// seen returns what the window holds of a path: a flow that is in both halves counts once.
func (l *likelihood) seen(p pathID) counts {
	t := &l.tracks[p]
	a, b := &t.halves[l.half%2], &t.halves[(l.half+1)%2]
	var out counts
	if a.half == l.half {
		out = *a
	}
	if b.half+1 == l.half {
		out.flows, out.bad, out.stalled = max(out.flows, b.flows), max(out.bad, b.bad), max(out.stalled, b.stalled)
		out.sent, out.resent = add(out.sent, b.sent), add(out.resent, b.resent)
		out.mixed |= b.mixed
	}
	if l.moving {
		stuck := min(out.stalled, out.bad)
		out.flows, out.bad, out.stalled = out.flows-stuck, out.bad-stuck, 0
	}
	return out
}
