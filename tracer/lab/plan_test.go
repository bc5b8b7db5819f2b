package lab

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

func scenarioNamed(t *testing.T, name string) Scenario {
	t.Helper()
	s, err := findScenario(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPlainPlan(t *testing.T) {
	p := newPlan(Defaults(), scenarioNamed(t, "node-gone"))
	want := []string{"node-a 10.146.0.11 10.48.1.0/24", "node-b 10.146.0.12 10.48.2.0/24", "node-c 10.146.0.13 10.48.3.0/24"}
	for k, n := range p.Nodes {
		if got := n.Name + " " + n.Addr.String() + " " + n.CIDR.String(); k >= len(want) || got != want[k] {
			t.Errorf("node %d is %s", k+1, got)
		}
	}
	if p.Home != 1 || p.Caller.Node != 2 || p.Pods[0].Addr != netip.MustParseAddr("10.48.2.5") {
		t.Errorf("pods %+v on node %d, caller on node %d", p.Pods, p.Home+1, p.Caller.Node+1)
	}
	if got := p.Balancer.Addrs[0].String(); got != "35.191.1.160" {
		t.Errorf("balancer speaks from %s", got)
	}
}

// Whatever the seed, addresses do not meet, names do not repeat, and neither the service's pods nor the calling pod stand
// on the node that the fault hits.
func TestSeededPlans(t *testing.T) {
	counts, styles := map[int]int{}, map[string]int{}
	s := scenarioNamed(t, "node-gone")
	for seed := int64(1); seed <= 200; seed++ {
		for _, family := range []int{4, 6} {
			o := Defaults()
			o.Seed, o.Pods, o.Family, o.Victim = seed, 3, family, 1+int(seed%3)
			p := newPlan(o, s)
			if again := newPlan(o, s); !reflect.DeepEqual(p, again) {
				t.Fatalf("seed %d gives two plans", seed)
			}
			counts[len(p.Nodes)]++
			styles[p.Nodes[0].Name[:3]]++
			if p.Victim != o.Victim-1 || p.Home == p.Victim || p.Caller.Node == p.Victim || p.Caller.Node == p.Home {
				t.Errorf("seed %d: victim %d, home %d, caller %d", seed, p.Victim, p.Home, p.Caller.Node)
			}
			seen := map[string]bool{}
			once := func(what string) {
				if seen[what] {
					t.Errorf("seed %d: %s twice", seed, what)
				}
				seen[what] = true
			}
			for _, n := range p.Nodes {
				once(n.Name)
				once(n.Addr.String())
				once(n.CIDR.String())
				once(n.MAC.String())
				once(n.Port.String())
				once(n.Pods.String())
				once(n.Tunnel.String())
				if !p.NodeNet.Contains(n.Addr) || n.Addr == p.Gateway || len(n.Name) > 63 {
					t.Errorf("seed %d: node %+v", seed, n)
				}
			}
			for _, pod := range append(p.Pods, p.Caller) {
				once(pod.Name)
				once(pod.Addr.String())
				n := p.Nodes[pod.Node]
				if !n.CIDR.Contains(pod.Addr) || pod.Addr == n.podGateway() {
					t.Errorf("seed %d: pod %+v on %+v", seed, pod, n)
				}
			}
			if p.Service.NodePort < 30000 || p.Service.Port == 0 || p.Service.TargetPort == 0 {
				t.Errorf("seed %d: service %+v", seed, p.Service)
			}
			for _, net := range []clientNet{p.Balancer, p.External} {
				for _, a := range net.Addrs {
					once(a.String())
					if !net.Prefix.Contains(a) || a == net.Gateway {
						t.Errorf("seed %d: client %s in %s", seed, a, net.Prefix)
					}
				}
			}
		}
	}
	for n := 3; n <= 6; n++ {
		if counts[n] == 0 {
			t.Errorf("no seed of 200 has %d nodes: %v", n, counts)
		}
	}
	if len(styles) < 3 {
		t.Errorf("node names look alike: %v", styles)
	}
}

func TestDeal(t *testing.T) {
	for seed := range int64(30) {
		o := Defaults()
		o.Seed = seed
		s := scenarioNamed(t, "node-gone")
		p := newPlan(o, s)
		total, talking := 0, 0
		entries := map[int]int{}
		for _, c := range cells(o.Connections, len(p.Nodes), 1, false) {
			entries[c.entry]++
		}
		for k := range p.Nodes {
			if want := o.Connections / len(p.Nodes); entries[k] < want-want/4 {
				t.Errorf("seed %d: %d of %d connections enter by node %d of %d", seed, entries[k], o.Connections, k+1, len(p.Nodes))
			}
		}
		for _, s := range p.shares(o, false) {
			for _, g := range s.spec.Groups {
				total += g.Count
				if g.Talk > 0 {
					talking += g.Count
				}
				if (s.from == fromCaller) != (len(g.Locals) == 0) {
					t.Errorf("seed %d: share %+v", seed, s)
				}
			}
		}
		if total != o.Connections || talking != o.Connections/5 {
			t.Errorf("seed %d: %d connections, %d of them talk", seed, total, talking)
		}
	}
}

// Every node carries talking connections of every kind of client, or its loss could not be told from theirs.
func TestEveryNodeCarriesTalkOfEveryKind(t *testing.T) {
	for nodes := 3; nodes <= 6; nodes++ {
		talk := map[origin]map[int]bool{fromExternal: {}, fromBalancer: {}, fromCaller: {}}
		for _, c := range cells(200, nodes, 1, false) {
			if c.talks {
				talk[c.from][c.entry] = true
			}
		}
		for from, entries := range talk {
			if len(entries) < nodes {
				t.Errorf("%d nodes: talk of clients of kind %d enters by %v only", nodes, from, entries)
			}
		}
	}
}

func TestLocalPortsStayInTheirSlice(t *testing.T) {
	o := Defaults()
	o.Connections = maxConnections
	for _, direct := range []bool{false, true} {
		p := newPlan(o, scenarioNamed(t, "node-gone"))
		used := map[netip.AddrPort]bool{}
		ports := map[uint16]int{}
		for _, s := range p.shares(o, direct) {
			for _, g := range s.spec.Groups {
				for range g.Count {
					a := g.local(ports[g.Low])
					ports[g.Low]++
					if s.from == fromCaller {
						continue
					}
					if a.Port() < g.Low || a.Port() > g.High || used[a] {
						t.Fatalf("%s is outside %d-%d, or used twice", a, g.Low, g.High)
					}
					used[a] = true
				}
			}
			clear(ports) // the next share has addresses of its own
		}
	}
}

func TestOptions(t *testing.T) {
	o, s, err := Defaults().check()
	if err != nil || s.Name != "node-gone" || o.FaultAfter != 10*time.Second || o.Duration != 30*time.Second {
		t.Errorf("defaults: %+v, %v", o, err)
	}
	late := Defaults()
	late.AttachAfter = time.Minute
	if o, _, err = late.check(); err != nil || o.FaultAfter != 10*time.Second || o.Duration < 80*time.Second {
		t.Errorf("late agents: fault after %s of %s, %v", o.FaultAfter, o.Duration, err)
	}
	soon := Defaults()
	soon.Duration, soon.FaultAfter = time.Hour, time.Second
	if o, _, err = soon.check(); err != nil || o.FaultAfter != time.Second || o.Duration != time.Hour {
		t.Errorf("an early fault: after %s of %s, %v", o.FaultAfter, o.Duration, err)
	}
	for name, spoil := range map[string]func(*Options){
		"fault":       func(o *Options) { o.FaultAfter = o.Duration },
		"scenario":    func(o *Options) { o.Scenario = "nonsense" },
		"connections": func(o *Options) { o.Connections = 0 },
		"too many":    func(o *Options) { o.Connections = maxConnections + 1 },
		"duration":    func(o *Options) { o.Duration = time.Second },
		"talk":        func(o *Options) { o.Talk = -1 },
		"ping":        func(o *Options) { o.Ping = time.Millisecond },
		"pods":        func(o *Options) { o.Pods = 0 },
		"victim":      func(o *Options) { o.Victim = 4 },
		"agents":      func(o *Options) { o.Agents = []int{0} },
		"agents of":   func(o *Options) { o.AgentsOf = []string{"nobody"} },
		"mode":        func(o *Options) { o.Mode = "ipvs" },
		"family":      func(o *Options) { o.Family = 5 },
		"overlay":     func(o *Options) { o.Overlay = "geneve" },
		"direct":      func(o *Options) { o.Overlay, o.Scenario = "vxlan", "direct" },
	} {
		o := Defaults()
		spoil(&o)
		_, _, err := o.check()
		if wrong := new(UsageError); !errors.As(err, &wrong) {
			t.Errorf("%s: %v, want a usage error", name, err)
		}
	}
}

func TestExpected(t *testing.T) {
	for _, s := range Scenarios() {
		p := newPlan(Defaults(), s)
		for _, v := range s.expected(p, false) {
			switch {
			case v.Kind == Nobody && v.Rule == "" && v.Name == "" && s.targetName(p) != "":
			case v.Rule != "" && v.Kind == "node" && s.target == targetCaller && v.Name == p.Nodes[p.Caller.Node].Name:
			case v.Rule == "" || v.Kind == "" || (v.Kind == "node" && v.Rule != s.Second && v.Name != "node-a"):
				t.Errorf("%s expects %+v", s.Name, v)
			}
		}
		if (s.Second != "" || s.second) && (p.Second == p.Victim || p.Second == p.Home || p.Second == p.Caller.Node) {
			t.Errorf("%s hits node %d and node %d, the pods are on %d and %d", s.Name, p.Victim, p.Second, p.Home, p.Caller.Node)
		}
		if len(s.expected(p, true)) > 0 {
			t.Errorf("%s expects something without its fault", s.Name)
		}
	}
}

// The names are those that a real kube-proxy gave to the same service.
func TestChainNames(t *testing.T) {
	if got := chainName("KUBE-EXT-", "default/web"); got != "KUBE-EXT-LOLE4ISW44XBNF3G" {
		t.Errorf("chain %s", got)
	}
}

// Whatever the seed, what stands around the cluster has names and addresses of its own, but for those that are meant to be equal.
func TestSurroundings(t *testing.T) {
	for seed := int64(1); seed <= 100; seed++ {
		for _, s := range Scenarios() {
			o := Defaults()
			o.Scenario, o.Seed, o.Victim, o.Family = s.Name, seed, 1+int(seed%3), []int{4, 6}[seed%2]
			o.Pods = max(o.Pods, s.pods)
			p := newPlan(o, s)
			if again := newPlan(o, s); !reflect.DeepEqual(p, again) {
				t.Fatalf("%s: seed %d gives two plans", s.Name, seed)
			}
			victim := p.Nodes[p.Victim]
			if s.heir && (slices.ContainsFunc(p.Nodes, func(n nodePlan) bool { return n.Name == p.Heir.Name }) || p.Heir.Addr != victim.Addr || !p.PodNet.Contains(p.Heir.CIDR.Addr())) {
				t.Errorf("%s, seed %d: %+v follows %+v", s.Name, seed, p.Heir, victim)
			}
			for _, n := range p.Nodes {
				if n.Addr == p.Floating || s.heir && n.CIDR.Overlaps(p.Heir.CIDR) {
					t.Errorf("%s, seed %d: %+v beside %s and %s", s.Name, seed, n, p.Floating, p.Heir.CIDR)
				}
			}
			if s.floating && !p.NodeNet.Contains(p.Floating) {
				t.Errorf("%s, seed %d: %s is not in %s", s.Name, seed, p.Floating, p.NodeNet)
			}
			for _, a := range p.Peers.Addrs {
				if !victim.CIDR.Contains(a) || !p.Peers.Prefix.Contains(a) || a == p.Peers.Gateway {
					t.Errorf("%s, seed %d: peer %s in %s of %s", s.Name, seed, a, p.Peers.Prefix, victim.CIDR)
				}
			}
			for i, pod := range p.Pods {
				if want := s.spread && i%2 == 1; (pod.Node == p.Victim) != want {
					t.Errorf("%s, seed %d: pod %d is on node %d of %d", s.Name, seed, i, pod.Node, p.Victim)
				}
			}
			if s.outside && slices.Contains(p.Servers, p.Outside[0].Addr()) {
				t.Errorf("%s, seed %d: %s is a server of its own", s.Name, seed, p.Outside[0])
			}
		}
	}
}

// Where only the calling pod has connections, all are made, and some of each kind talk.
func TestInsideShare(t *testing.T) {
	for _, s := range Scenarios() {
		if !s.inside {
			continue
		}
		o := Defaults()
		p := newPlan(o, s)
		shares := p.shares(o, false)
		if len(shares) != 1 || shares[0].from != fromCaller {
			t.Fatalf("%s: %+v", s.Name, shares)
		}
		total, talking := map[netip.Addr]int{}, map[netip.Addr]int{}
		sum := 0
		for _, g := range shares[0].spec.Groups {
			total[g.Target.Addr()] += g.Count
			sum += g.Count
			if g.Talk > 0 {
				talking[g.Target.Addr()] += g.Count
			}
		}
		if sum != o.Connections || len(total) != 1+len(p.Outside) {
			t.Errorf("%s: %d connections to %v", s.Name, sum, total)
		}
		for to, n := range total {
			if talking[to] == 0 || talking[to] == n {
				t.Errorf("%s: %d of %d connections to %s talk", s.Name, talking[to], n, to)
			}
		}
	}
}
