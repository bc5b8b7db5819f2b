package trial

import (
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/world"
)

// Shrink returns the smallest plan that it finds in so many tries and that still breaks an invariant: it leaves out faults,
// connections, objects and circumstances one after another, as long as the failure stays.
func Shrink(p *world.Plan, rule string, tries int) *world.Plan {
	s := &shrinker{rule: rule, left: tries, best: p}
	for changed := true; changed && s.left > 0; {
		changed = s.faults() || s.loads() || s.fewer() || s.objects() || s.circumstances()
	}
	return s.best
}

type shrinker struct {
	rule string
	left int
	best *world.Plan
}

// Fails says whether a plan breaks an invariant.
func Fails(p *world.Plan, rule string) bool {
	v, err := Try(p)
	return err == nil && slices.ContainsFunc(v.Breaks, func(b Break) bool { return b.Rule == rule })
}

// try keeps a changed copy of the plan where it still fails.
func (s *shrinker) try(change func(*world.Plan)) bool {
	if s.left <= 0 {
		return false
	}
	next := clone(s.best)
	change(next)
	text := next.String()
	if text == s.best.String() {
		return false
	}
	s.left--
	read, err := world.Parse(text) // what is committed is the text
	if err != nil || !Fails(read, s.rule) {
		return false
	}
	s.best = read
	return true
}

func clone(p *world.Plan) *world.Plan {
	c := *p
	c.Nodes, c.Pods, c.Services = slices.Clone(p.Nodes), slices.Clone(p.Pods), slices.Clone(p.Services)
	c.Clients, c.Loads, c.Faults = slices.Clone(p.Clients), slices.Clone(p.Loads), slices.Clone(p.Faults)
	for i := range c.Services {
		c.Services[i].Entries, c.Services[i].Backends = slices.Clone(c.Services[i].Entries), slices.Clone(c.Services[i].Backends)
	}
	return &c
}

// without tries to leave out elements one by one, the last first.
func without[T any](s *shrinker, list func(*world.Plan) *[]T) (changed bool) {
	for i := len(*list(s.best)) - 1; i >= 0; i-- {
		changed = s.try(func(p *world.Plan) {
			all := list(p)
			*all = slices.Delete(*all, i, i+1)
		}) || changed
	}
	return changed
}

func (s *shrinker) faults() bool {
	return without(s, func(p *world.Plan) *[]world.Fault { return &p.Faults })
}

func (s *shrinker) loads() bool {
	return without(s, func(p *world.Plan) *[]world.Load { return &p.Loads })
}

// fewer halves the numbers of connections, and takes settings away that loads may do without.
func (s *shrinker) fewer() (changed bool) {
	for i := range s.best.Loads {
		for s.try(func(p *world.Plan) { l := &p.Loads[i]; l.N, l.Talkers = (l.N+1)/2, (l.Talkers+1)/2 }) {
			changed = true
		}
		for _, f := range []func(*world.Load){
			func(l *world.Load) { l.N-- },
			func(l *world.Load) { l.Talkers = 0 },
			func(l *world.Load) { l.Talkers = l.N },
			func(l *world.Load) { l.Life = 0 },
			func(l *world.Load) { l.User = 0 },
			func(l *world.Load) { l.Size = 100 },
			func(l *world.Load) { l.Keepalive = 0 },
			func(l *world.Load) {
				if l.Keepalive > 0 {
					l.Keepalive, l.Interval, l.Probes = 5*time.Second, 5*time.Second, 9
				}
			},
			func(l *world.Load) { l.Every = 500 * time.Millisecond },
		} {
			changed = s.try(func(p *world.Plan) { f(&p.Loads[i]) }) || changed
		}
	}
	return changed
}

// objects leaves out what nothing needs; a plan that lacks something does not parse.
func (s *shrinker) objects() (changed bool) {
	for i := len(s.best.Services) - 1; i >= 0; i-- {
		for k := len(s.best.Services[i].Backends) - 1; k >= 0 && len(s.best.Services[i].Backends) > 1; k-- {
			changed = s.try(func(p *world.Plan) { b := &p.Services[i].Backends; *b = slices.Delete(*b, k, k+1) }) || changed
		}
		for k := len(s.best.Services[i].Entries) - 1; k >= 0 && len(s.best.Services[i].Entries) > 1; k-- {
			changed = s.try(func(p *world.Plan) { e := &p.Services[i].Entries; *e = slices.Delete(*e, k, k+1) }) || changed
		}
	}
	changed = without(s, func(p *world.Plan) *[]world.Service { return &p.Services }) || changed
	changed = without(s, func(p *world.Plan) *[]world.Pod { return &p.Pods }) || changed
	changed = without(s, func(p *world.Plan) *[]world.Clients { return &p.Clients }) || changed
	return without(s, func(p *world.Plan) *[]world.Node { return &p.Nodes }) || changed
}

// circumstances makes agents, inventory and times plain.
func (s *shrinker) circumstances() (changed bool) {
	for i := range s.best.Nodes {
		for _, f := range []func(*world.Node){
			func(n *world.Node) { n.Late, n.Skew, n.Pace = 0, 0, 0 },
			func(n *world.Node) { n.Zone = "" },
			func(n *world.Node) { n.Direct = true },
			func(n *world.Node) { n.Rung = "census" },
		} {
			changed = s.try(func(p *world.Plan) { f(&p.Nodes[i]) }) || changed
		}
	}
	for i := range s.best.Faults {
		changed = s.try(func(p *world.Plan) { p.Faults[i].At = p.Faults[i].At.Round(time.Second) }) || changed
		changed = s.try(func(p *world.Plan) { p.Faults[i].For = p.Faults[i].For.Round(time.Second) }) || changed
	}
	for _, f := range []func(*world.Plan){
		func(p *world.Plan) { p.Family = 4 },
		func(p *world.Plan) { p.Inventory.Delay = 0 },
		func(p *world.Plan) { p.Inventory = world.Inventory{By: "file"} },
	} {
		changed = s.try(f) || changed
	}
	return changed
}
