package diagnose

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// pattern is the course of the case that a part of what was dialled at one address hangs, and the rest goes on. What those
// that hang have in common, and the others have not, is what is found: something behind or before that address. It never
// names a node, nor says that the address is dead.
type pattern struct {
	far  netip.Addr // what was dialled, or the pod that a ledger shows behind it
	kind patternKind
}

// patternKind is how those that hang differ from those that go on.
type patternKind uint8

const (
	patternPart     patternKind = iota // in nothing that is seen
	patternTogether                    // they spoke, and fell silent at one moment
	patternIdle                        // they had been silent for long
	patternNew                         // they are not established yet
	patternPod                         // a ledger shows that they lead to one pod
)

// hanging is what was dialled at one address and hangs.
type hanging struct {
	far     netip.Addr
	pod     bool // a ledger shows it behind what was dialled
	long    int  // sockets that have been stalled for quietUnexplained
	stalled int
	gaps    []time.Duration // how long each had received nothing when it spoke, in order
	heard   []model.Instant // newest receives of those that spoke until then, in order
	newest  model.Instant   // start of the latest trouble
	since   model.Instant   // newest receive of any
	hops    map[model.HopKey]bool
	refs    []string
}

// hangs gathers what was dialled and hangs, where no open case explains it; c is left out of those.
func (j *Judge) hangs(g *gate, c *incident) map[netip.Addr]*hanging {
	out := make(map[netip.Addr]*hanging)
	for _, h := range j.model.Sick() {
		if o := j.named(h.Key); h.Stalled == 0 || o != nil && o != c {
			continue
		}
		n := 0
		j.model.EachTroubled(&h, func(t *model.Troubled) bool {
			if n++; t.Stalled && t.Dialled && !j.explained(&h, t) {
				far, pod := t.Peer, false
				if t.Backend.IsValid() {
					far, pod = t.Backend, true
				}
				x := out[far]
				if x == nil {
					x = &hanging{far: far, pod: pod, hops: make(map[model.HopKey]bool)}
					out[far] = x
				}
				x.add(&h, t, g)
			}
			return n < scanned
		})
	}
	for _, x := range out {
		slices.Sort(x.gaps)
		slices.Sort(x.heard)
	}
	return out
}

func (x *hanging) add(h *model.Hop, t *model.Troubled, g *gate) {
	x.stalled++
	x.hops[h.Key] = true
	x.newest = max(x.newest, t.Since)
	x.since = max(x.since, t.Received)
	if g.passed(t.Since, quietUnexplained) {
		x.long++
	}
	if t.Received != 0 {
		gap := max(0, time.Duration(t.Since-t.Received))
		x.gaps = append(x.gaps, gap)
		if gap < idleLeast {
			x.heard = append(x.heard, t.Received)
		}
	}
	if len(x.refs) < maxRefs {
		if fact := t.Fact(); !slices.Contains(x.refs, fact) {
			x.refs = append(x.refs, fact)
		}
	}
}

// crowd is the largest number of these that received something last at about one moment, and the latest such moment.
func (x *hanging) crowd() (most int, at model.Instant) {
	for i, from := 0, 0; i < len(x.heard); i++ {
		for x.heard[i] > x.heard[from].Add(together) {
			from++
		}
		if n := i - from + 1; n >= most {
			most, at = n, x.heard[i]
		}
	}
	return most, at
}

// mostly is the part of the sockets, in percent, that has to share what a pattern says of them.
const mostly = 80

// kind says what those that hang have in common, all being what was dialled at the same address.
func (x *hanging) kind(all *model.Towards) patternKind {
	if x.pod {
		return patternPod
	}
	crowd, _ := x.crowd()
	idle := len(x.gaps) - len(x.heard)
	switch {
	case all.Received <= x.newest.Add(together) && all.Troubled == all.Sockets:
		return patternPart // nothing of it goes on
	case crowd >= breadth && crowd*100 >= x.stalled*mostly:
		return patternTogether
	case idle >= breadth && idle*100 >= x.stalled*mostly:
		return patternIdle
	}
	return patternPart
}

// patterns looks for addresses of which a part of what was dialled there hangs.
func (j *Judge) patterns(g *gate) {
	hangs := j.hangs(g, nil)
	for _, far := range sortedHangs(hangs) {
		x := hangs[far]
		if x.long < breadth || j.patternOf(far, false) != nil {
			continue
		}
		all := j.model.Towards(far)
		if all.Received.Add(quietUnexplained) <= g.at && !x.pod && x.straight() {
			continue // the whole address is silent: that is the hop's own matter
		}
		c := &incident{course: pattern{far, x.kind(&all)}, since: x.since, dated: x.since, first: x.newest, begins: "the last of those that hang received something"}
		c.body.Rule = ruleUnexplained
		j.begin(c, g, x.refs[0])
	}
	j.newcomersHang(g)
}

// straight says whether nothing stands between but the address itself.
func (x *hanging) straight() bool {
	for k := range x.hops {
		switch k.Kind {
		case model.KindAddress, model.KindUnknown, model.KindPod:
		default:
			return false
		}
	}
	return true
}

// newcomersHang looks for addresses at which new connections get no answer while open ones go on.
func (j *Judge) newcomersHang(g *gate) {
	for _, d := range j.dialsHang(g) {
		if j.patternOf(d.to.IP, true) != nil {
			continue
		}
		all := j.model.Towards(d.to.IP)
		if d.n < breadth || all.Sockets == 0 || all.Received <= d.first.Add(together) {
			continue
		}
		c := &incident{course: pattern{d.to.IP, patternNew}, since: d.first, dated: d.first, first: d.first, begins: "the first attempt was repeated"}
		c.body.Rule = ruleUnexplained
		j.begin(c, g, d.refs[0])
	}
}

// dials are the attempts at one endpoint that have had no answer for long.
type dials struct {
	to    event.Endpoint
	n     int
	first model.Instant
	refs  []string
}

func (j *Judge) dialsHang(g *gate) (out []*dials) {
	for _, d := range j.model.Dials() {
		if c := j.named(d.Hop); c != nil || !g.passed(d.Since, quietUnexplained-time.Second) { // the first try is repeated after 1 s
			continue
		}
		i := slices.IndexFunc(out, func(o *dials) bool { return o.to == d.To })
		if i < 0 {
			i = len(out)
			out = append(out, &dials{to: d.To, first: d.Since})
		}
		o := out[i]
		o.n++
		o.first = min(o.first, d.Since)
		if len(o.refs) < maxRefs {
			o.refs = append(o.refs, d.Fact)
		}
	}
	slices.SortFunc(out, func(a, b *dials) int {
		return cmp.Or(a.to.IP.Compare(b.to.IP), cmp.Compare(a.to.Port, b.to.Port))
	})
	return out
}

// patternOf returns the open case about a part of what was dialled at an address: of new connections, or of open ones.
func (j *Judge) patternOf(far netip.Addr, newcomers bool) *incident {
	for _, c := range j.open {
		if p, ok := c.course.(pattern); ok && p.far == far && (p.kind == patternNew) == newcomers {
			return c
		}
	}
	return nil
}

func sortedHangs(in map[netip.Addr]*hanging) []netip.Addr {
	out := make([]netip.Addr, 0, len(in))
	for far := range in {
		out = append(out, far)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// patternOver is how long nothing of it may hang for the case to be over.
const patternOver = 5 * time.Second

func (p pattern) over(j *Judge, c *incident, g *gate) string {
	if p.kind == patternNew {
		for _, d := range j.dialsHang(g) {
			if d.to.IP == p.far {
				return ""
			}
		}
		if g.passed(c.opened, patternOver) {
			return "ended: no new connection to " + p.far.String() + " waits for an answer any more"
		}
		return ""
	}
	if x := j.hangs(g, c)[p.far]; x != nil {
		return ""
	}
	for _, o := range j.open {
		if o != c && o.opened >= c.opened && o.body.Rule != ruleUnexplained {
			return "superseded: what hung is explained by " + o.body.Title
		}
	}
	if g.passed(c.opened, patternOver) {
		return "ended: none of the connections to " + p.far.String() + " that hung hangs any more"
	}
	return ""
}

func (p pattern) count(j *Judge, c *incident) {
	all := j.model.Towards(p.far)
	c.body.Sockets.Crossing = max(all.Sockets, c.body.Sockets.Stalled)
}
