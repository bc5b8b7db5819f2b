package world

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Random is the world of a seed. What is empty is left to chance; else faults are of that kind (one of [Primitives]).
func Random(seed uint64, what string) *Plan {
	g := &generator{rng: rand.New(rand.NewPCG(seed, 1)), p: &Plan{Seed: seed, Family: 4}}
	g.nodes()
	g.objects()
	g.watch()
	g.connections()
	g.faults(what)
	return g.p
}

type generator struct {
	rng *rand.Rand
	p   *Plan
}

func (g *generator) n(low, high int) int   { return low + g.rng.IntN(high-low+1) }
func (g *generator) odds(percent int) bool { return g.rng.IntN(100) < percent }
func (g *generator) span(low, high time.Duration) time.Duration {
	return (low + time.Duration(g.rng.Int64N(int64(high-low)+1))).Round(10 * time.Millisecond)
}

func pick[T any](g *generator, all []T) T { return all[g.rng.IntN(len(all))] }

// nodes makes the machines: mostly five, now and then many.
func (g *generator) nodes() {
	n := g.n(3, 7)
	if g.odds(2) {
		n = g.n(20, 60)
	}
	if g.odds(15) {
		g.p.Family = 6
	}
	for i := range n {
		g.p.Nodes = append(g.p.Nodes, Node{
			Name: fmt.Sprintf("node-%d", i+1), IP: netip.AddrFrom4([4]byte{10, 20, byte(i / 200), byte(10 + i%200)}),
			Pods: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i), 0}), 24), Zone: fmt.Sprintf("zone-%c", 'a'+i%3),
			Drops: false,
		})
	}
}

// objects makes pods, services and networks outside.
func (g *generator) objects() {
	p := g.p
	for s := range g.n(1, 3) {
		svc := Service{
			Name: fmt.Sprintf("shop/svc-%d", s+1), Type: "LoadBalancer", Port: 443, NodePort: uint16(30080 + s),
			IP: netip.AddrFrom4([4]byte{10, 96, 0, byte(10 + s)}), VIP: netip.AddrFrom4([4]byte{203, 0, 113, byte(80 + s)}),
		}
		for b := range g.n(1, 3) {
			n := g.rng.IntN(len(p.Nodes))
			o := Pod{Name: fmt.Sprintf("%s-pod-%d", svc.Name, b+1), Node: p.Nodes[n].Name, IP: netip.AddrFrom4([4]byte{10, 100, byte(n), byte(10 + len(p.Pods))})}
			p.Pods = append(p.Pods, o)
			svc.Backends = append(svc.Backends, o.Name)
		}
		for i := range p.Nodes {
			if i < 8 {
				svc.Entries = append(svc.Entries, p.Nodes[i].Name)
			}
		}
		p.Services = append(p.Services, svc)
	}
	for c := range g.n(1, 2) {
		n := g.rng.IntN(len(p.Nodes))
		p.Pods = append(p.Pods, Pod{Name: fmt.Sprintf("jobs/caller-%d", c+1), Node: p.Nodes[n].Name, IP: netip.AddrFrom4([4]byte{10, 100, byte(n), byte(100 + c)})})
	}
	p.Clients = []Clients{
		{Name: "people", Net: netip.MustParsePrefix("198.51.100.0/24"), Latency: g.span(2*time.Millisecond, 40*time.Millisecond)},
		{Name: "partners", Net: netip.MustParsePrefix("192.0.2.0/24"), Latency: g.span(time.Millisecond, 20*time.Millisecond)},
	}
}

// watch says where agents are, how they see, and who tells names.
func (g *generator) watch() {
	p := g.p
	seen := func(int) bool { return true }
	switch k := g.rng.IntN(100); {
	case k < 60:
	case k < 80: // some
		seen = func(int) bool { return g.odds(50) }
	case k < 97: // one, where pods are
		one := pick(g, p.Pods).Node
		seen = func(i int) bool { return p.Nodes[i].Name == one }
	default:
		seen = func(int) bool { return false }
	}
	direct, rung := g.odds(50), pick(g, []string{"census", "census", "best", "best", "bare"})
	for i := range p.Nodes {
		n := &p.Nodes[i]
		if n.Agent = seen(i); !n.Agent {
			continue
		}
		n.Rung, n.Direct = rung, direct
		if g.odds(10) {
			n.Pace = g.span(500*time.Millisecond, 2*time.Second)
		}
		if g.odds(10) {
			n.Late = g.span(20*time.Millisecond, 400*time.Millisecond)
		}
		if g.odds(30) {
			n.Skew = g.span(0, 40*time.Millisecond) - 20*time.Millisecond
		}
	}
	p.Inventory = Inventory{By: "api"}
	switch k := g.rng.IntN(100); {
	case k < 20:
		p.Inventory.By = "file"
	case k < 30:
		p.Inventory.By = "none"
	default:
		p.Inventory.Delay = g.span(20*time.Millisecond, 800*time.Millisecond)
	}
}

// connections makes some 200 connections of several kinds.
func (g *generator) connections() {
	p := g.p
	callers := slices.DeleteFunc(slices.Clone(p.Pods), func(o Pod) bool { return o.Name[:4] != "jobs" })
	left := g.n(120, 240)
	for i := 0; left > 0; i++ {
		svc := pick(g, p.Services)
		l := Load{N: min(left, g.n(20, 90)), Every: g.span(150*time.Millisecond, 2*time.Second), Size: g.n(40, 400), Speaks: pick(g, []string{"server", "client", "both"})}
		left -= l.N
		l.Talkers = l.N * pick(g, []int{0, 20, 50, 100}) / 100
		if g.odds(85) {
			l.Keepalive = g.span(4*time.Second, 15*time.Second)
			l.Interval, l.Probes = g.span(2*time.Second, 8*time.Second), g.n(3, 9)
		}
		if g.odds(10) {
			l.User = g.span(5*time.Second, 20*time.Second)
		}
		if g.odds(15) {
			l.Life = g.span(5*time.Second, 30*time.Second)
		}
		if g.odds(10) {
			l.Size = g.n(1500, 6000)
		}
		kind := g.rng.IntN(100)
		if i == 0 {
			kind = 0 // the connections that midhop is for are always there
		}
		switch {
		case kind < 55:
			l.Kind, l.From, l.To = LoadVIP, pick(g, p.Clients).Name, svc.Name
		case kind < 65:
			l.Kind, l.From, l.To = LoadDirect, pick(g, p.Clients).Name, pick(g, svc.Backends)
		case kind < 78:
			l.Kind, l.From, l.To = LoadCluster, pick(g, callers).Name, svc.Name
		case kind < 88:
			l.Kind, l.From, l.To, l.Via = LoadNodePort, pick(g, callers).Name, svc.Name, pick(g, p.Nodes).Name
		case kind < 94:
			l.Kind, l.From, l.To, l.Via = LoadEgress, pick(g, callers).Name, "partners", pick(g, p.Nodes).Name
		default:
			l.Kind, l.From, l.To = LoadHeadless, pick(g, callers).Name, pick(g, svc.Backends)
		}
		p.Loads = append(p.Loads, l)
	}
}

// Null are the primitives of ordinary life, for whose sake nobody may be blamed.
var Null = []string{"agent", "late", "deaf", "drain", "vanish", "batch", "recreate"}

// names of all primitives that are faults, in a fixed order.
func faultNames() []string {
	var all []string
	for name := range Primitives {
		if !slices.Contains(Null, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// faults puts up to three of them into the plan, or ordinary life alone.
func (g *generator) faults(what string) {
	p := g.p
	at := g.span(5*time.Second, 8*time.Second)
	p.Until = at + 14*time.Second
	n := 1
	switch k := g.rng.IntN(100); {
	case k < 20:
		n = 0
	case k < 35:
		n = 2
	case k < 42:
		n = 3
	}
	if what != "" {
		n = max(1, n)
	}
	for i := range n {
		kind := what
		if kind == "" || i > 0 {
			kind = pick(g, faultNames())
			if g.odds(30) { // what midhop is for comes more often
				kind = pick(g, []string{"power", "power", "flush"})
			}
		}
		g.fault(kind, at)
		at += g.span(0, 4*time.Second)
	}
	for n == 0 && len(p.Faults) < 2 || g.odds(15) && len(p.Faults) < 4 {
		g.fault(pick(g, Null), g.span(4*time.Second, 8*time.Second))
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return int(a.At - b.At) })
}

// victim is a node that is worth a fault: one by which connections come in, or one with pods.
func (g *generator) victim() string {
	if g.odds(25) {
		return pick(g, g.p.Pods).Node
	}
	return pick(g, g.p.Services[0].Entries)
}

func (g *generator) fault(what string, at time.Duration) {
	p := g.p
	f := Fault{At: at, What: what}
	k := Primitives[what]
	switch k.Who {
	case "node":
		f.Who = g.victim()
	case "pod":
		f.Who = pick(g, pick(g, p.Services).Backends)
	case "service":
		f.Who = pick(g, p.Services).Name
	case "clients":
		f.Who = p.Clients[0].Name
	}
	if k.Heals && g.odds(35) {
		f.For = g.span(1500*time.Millisecond, 8*time.Second)
	}
	switch what {
	case "oneway":
		f.With = pick(g, []string{"in", "out"})
	case "loss":
		f.N = g.n(4, 40)
	case "narrow":
		f.N = g.n(600, 1400)
	case "flush", "forget":
		f.N = pick(g, []int{0, 0, 20, 50, 80})
		if what == "forget" && g.odds(50) {
			f.With = "reset"
		}
	case "idle":
		f.N = g.n(3, 8)
	case "invalid":
		f.N = g.n(20, 100)
		for _, o := range p.Pods { // it hurts who dials
			if o.Name[:4] == "jobs" {
				f.Who = o.Node
			}
		}
	case "late":
		f.N = g.n(200, 2500)
	case "vanish":
		f.N = g.n(700, 3000)
	case "batch":
		f.N = g.n(20, 10000)
	case "replace":
		f.With = pick(g, []string{"", "address"})
	case "hung":
		if g.odds(50) {
			f.Who = p.Clients[0].Name
		} else {
			f.Who = pick(g, pick(g, p.Services).Backends)
		}
	case "deaf":
		if f.For == 0 {
			f.For = g.span(time.Second, 5*time.Second)
		}
	case "agent":
		// It dies, and mostly is started again by its DaemonSet.
		if f.For == 0 && g.odds(70) {
			f.For = g.span(time.Second, 6*time.Second)
		}
	}
	p.Faults = append(p.Faults, f)
	g.suit(&f)
}

// suit gives a world connections that a fault can hurt, where chance may have given none.
func (g *generator) suit(f *Fault) {
	p := g.p
	callers := slices.DeleteFunc(slices.Clone(p.Pods), func(o Pod) bool { return o.Name[:4] != "jobs" })
	l := Load{N: g.n(8, 25), Kind: LoadNodePort, From: pick(g, callers).Name, To: p.Services[0].Name, Via: f.Who, Every: g.span(200*time.Millisecond, time.Second), Size: 100, Speaks: "both"}
	l.Talkers = l.N
	switch f.What {
	case "full", "ports", "fresh", "rules": // newcomers
		l.Life = g.span(2*time.Second, 6*time.Second)
	case "invalid":
		for _, o := range callers {
			if o.Node == f.Who {
				l.From = o.Name
			}
		}
		l.Kind, l.Via = LoadCluster, ""
	case "narrow":
		l.Size = g.n(1500, 5000)
	case "idle":
		l.Talkers, l.Keepalive, l.Interval, l.Probes = 0, g.span(time.Duration(f.N+1)*time.Second, time.Duration(f.N+4)*time.Second), 5*time.Second, 5
	case "pod", "replace": // callers of that pod
		for _, s := range p.Services {
			if slices.Contains(s.Backends, f.Who) {
				l.Kind, l.To, l.Via = LoadCluster, s.Name, ""
			}
		}
	case "hung": // what is told fills its buffer
		l.Size, l.Every, l.Via = g.n(3000, 8000), g.span(100*time.Millisecond, 200*time.Millisecond), ""
		if p.pod(f.Who) != nil {
			l.Kind, l.To, l.Speaks = LoadHeadless, f.Who, "client"
		} else {
			l.Kind, l.From, l.Speaks = LoadVIP, f.Who, "server"
		}
	default:
		return
	}
	p.Loads = append(p.Loads, l)
}
