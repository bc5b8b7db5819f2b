package diagnose

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// town is a cluster on paper for the engine's tests: every pod of a service has flows from clients through every node.
type town struct {
	*likelihood
	rng   *rand.Rand
	flows []townFlow
	half  uint32
}

type townFlow struct {
	path                              pathID
	node, local, pod, service, client string
	segments                          int
	gone                              bool
}

func newTown() *town {
	return &town{likelihood: newLikelihood(), rng: rand.New(rand.NewPCG(1, 2)), half: 1}
}

// flow adds a flow through a node, "" for none, "a|b" for one of several.
func (w *town) flow(node, local, pod, service, client string, segments int) {
	f := townFlow{node: node, local: local, pod: pod, service: service, client: client, segments: segments}
	parts := []component{w.named(kindLocal, local), w.named(kindPod, pod), w.named(kindService, service), w.named(kindClient, client)}
	var candidates []component
	for _, n := range splitNodes(node) {
		candidates = append(candidates, w.named(kindNode, n))
	}
	switch len(candidates) {
	case 0:
	case 1:
		parts = append(parts, candidates[0])
	default:
		parts = append(parts, w.set(candidates...))
	}
	f.path = w.newPath(parts...)
	w.flows = append(w.flows, f)
}

func splitNodes(s string) (out []string) {
	for start, i := 0, 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '|' {
			if i > start {
				out = append(out, s[start:i])
			}
			start = i + 1
		}
	}
	return out
}

func (w *town) named(k kind, name string) component {
	if name == "" {
		return 0
	}
	return w.component(k, name)
}

// live lets a half window pass: every flow sends its segments and loses those that lost says, beside one in 10,000.
func (w *town) live(lost func(*townFlow) float64) {
	w.half++
	w.advance(w.half)
	for i := range w.flows {
		f := &w.flows[i]
		p := max(1e-4, lost(f))
		k := look{Flows: 1, Sent: uint32(f.segments)}
		if p == 1 {
			k = look{Flows: 1, Bad: 1, Stalled: 1, Sent: 1} // it stalls at once: its one segment, again and again
		} else {
			for range f.segments {
				if w.rng.Float64() < p {
					k.Resent++
					k.Bad = 1
				}
			}
		}
		if f.segments > 0 {
			w.observe(f.path, k)
		}
	}
}

// verdicts writes what is found, one a line, in the order of the alphabet.
func (w *town) verdicts() string {
	var lines []string
	for _, c := range w.judge() {
		out := fmt.Sprintf("%s %s", c.kind, c.name)
		for _, r := range c.rivals {
			out += fmt.Sprintf(" or %s %s", w.members[r].kind, w.members[r].name)
		}
		if c.both {
			out += " together"
		}
		if c.beyond {
			out += " or what stands before it"
		}
		lines = append(lines, out+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// mesh connects every pod's flows through every node: nodes with one pod each of each service, so many flows per pair.
func (w *town) mesh(nodes, services, perPair, segments int) {
	for n := range nodes {
		for s := range services {
			for via := range nodes {
				for i := range perPair {
					node := name("node", via)
					if via == n {
						node = "" // its own node translates: nothing else is crossed
					}
					w.flow(node, name("node", n), fmt.Sprintf("pod-%d-%c", s, 'a'+n), name("service", s), name("network", i%5), segments)
				}
			}
		}
	}
}

func name(what string, i int) string { return fmt.Sprintf("%s-%c", what, 'a'+i) }

// TestLikelihood has a row for everything that has to be told from what resembles it.
func TestLikelihood(t *testing.T) {
	all := func(*townFlow) float64 { return 0 }
	for _, test := range []struct {
		name string
		town func(*town)
		lost func(*townFlow) float64
		want string
	}{
		{"nothing", func(w *town) { w.mesh(5, 4, 4, 20) }, all, ""},
		{"a node is dead", func(w *town) { w.mesh(5, 4, 4, 20) }, at(func(f *townFlow) bool { return f.node == "node-b" }, 1), "node node-b\n"},
		{"a node loses 3 %", func(w *town) { w.mesh(5, 4, 4, 20) }, at(func(f *townFlow) bool { return f.node == "node-b" }, 0.03), "node node-b\n"},
		{"a machine loses 5 % of whatever touches it", func(w *town) { w.mesh(5, 4, 4, 20) },
			at(func(f *townFlow) bool { return f.node == "node-b" || f.local == "node-b" }, 0.05), "node node-b\n"},
		{"a machine's own sockets lose 5 %, what crosses it nothing", func(w *town) { w.mesh(5, 4, 4, 20) },
			at(func(f *townFlow) bool { return f.local == "node-b" }, 0.05), "local node node-b\n"},
		{"one bad pod, innocent nodes", func(w *town) { w.mesh(5, 4, 4, 20) },
			at(func(f *townFlow) bool { return f.pod == "pod-1-b" }, 1), "pod pod-1-b\n"},
		{"one bad pod that loses 10 %", func(w *town) { w.mesh(5, 4, 4, 20) },
			at(func(f *townFlow) bool { return f.pod == "pod-1-b" }, 0.1), "pod pod-1-b\n"},
		{"a network of clients loses 10 %", func(w *town) { w.mesh(5, 4, 5, 20) },
			at(func(f *townFlow) bool { return f.client == "network-c" }, 0.1), "client network-c\n"},
		{"a service is overloaded", func(w *town) { w.mesh(5, 4, 4, 20) },
			at(func(f *townFlow) bool { return f.service == "service-c" }, 0.2), "service service-c\n"},
		{"two nodes, one dead and one lossy", func(w *town) { w.mesh(5, 4, 4, 20) }, func(f *townFlow) float64 {
			return map[string]float64{"node-b": 1, "node-d": 0.05}[f.node]
		}, "node node-b\nnode node-d\n"},
		{"two of three nodes", func(w *town) { w.mesh(3, 1, 60, 20) }, func(f *townFlow) float64 {
			return map[string]float64{"node-a": 1, "node-b": 0.1}[f.node]
		}, "node node-a\nnode node-b\n"},
		{"a node and a pod", func(w *town) { w.mesh(5, 4, 4, 20) }, func(f *townFlow) float64 {
			switch {
			case f.node == "node-b":
				return 0.05
			case f.pod == "pod-2-d":
				return 1
			}
			return 0
		}, "node node-b\npod pod-2-d\n"},
		{"a busy node gathers more accidents, not more guilt", func(w *town) {
			w.mesh(4, 3, 4, 20)
			for i := range 3000 {
				w.flow("node-a", "node-b", "pod-0-b", "service-a", name("network", i%5), 100)
			}
		}, all, ""},
		{"everything loses 4 %: that is the background", func(w *town) { w.mesh(5, 4, 4, 20) }, func(*townFlow) float64 { return 0.04 }, ""},
		{"a node and a pod that are always together are not told apart", func(w *town) {
			w.mesh(5, 4, 4, 20)
			for range 40 {
				w.flow("node-x", "node-b", "pod-x", "service-a", "network-a", 20)
			}
		}, at(func(f *townFlow) bool { return f.node == "node-x" }, 0.1), "node node-x or pod pod-x\n"},
		{"a few clients vanish behind one node", func(w *town) { w.mesh(5, 4, 4, 20) }, func() func(*townFlow) float64 {
			n := 0
			return func(f *townFlow) float64 {
				if f.node == "node-b" && n < 4 {
					n++
					return 1
				}
				return 0
			}
		}(), ""},
		{"only what crosses both a pod and a node is lossy", func(w *town) { w.mesh(5, 4, 40, 20) },
			at(func(f *townFlow) bool { return f.node == "node-b" && f.pod == "pod-2-d" }, 0.5), "node node-b or pod pod-2-d together\n"},
		{"which of three nodes is not known", func(w *town) {
			w.mesh(5, 4, 4, 20)
			for i := range 300 {
				w.flow("node-x|node-y|node-z", "node-b", "pod-0-b", "service-a", name("network", i%5), 20)
				w.flows[len(w.flows)-1].gone = i%3 == 0
			}
		}, at(func(f *townFlow) bool { return f.gone }, 1), "node node-x or node node-y or node node-z\n"},
		{"of several possible nodes one is known to be lossy", func(w *town) {
			w.mesh(5, 4, 4, 20)
			for i := range 60 {
				w.flow("node-a|node-b|node-c", "node-d", "pod-0-d", "service-a", name("network", i%5), 20)
				w.flows[len(w.flows)-1].gone = i%3 == 0
			}
		}, at(func(f *townFlow) bool { return f.node == "node-b" || f.gone }, 0.3), "node node-b\n"},
		{"few flows that send much", func(w *town) {
			w.mesh(4, 3, 6, 5000)
		}, at(func(f *townFlow) bool { return f.node == "node-b" }, 0.01), "node node-b\n"},
		{"one flow that sends much and loses much", func(w *town) {
			w.mesh(4, 3, 4, 20)
			w.flow("node-b", "node-a", "pod-0-a", "service-a", "network-a", 20000)
		},
			at(func(f *townFlow) bool { return f.segments > 1000 }, 0.2), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newTown()
			test.town(w)
			for range 3 {
				w.live(test.lost)
				if got := w.verdicts(); got != test.want {
					t.Fatalf("half %d: got %q, want %q\n%s", w.half, got, test.want, w.dump())
				}
			}
		})
	}
}

func (w *town) dump() (out string) {
	for _, c := range w.judge() {
		out += fmt.Sprintf("%s %s: loses %.4f against %.5f, gain %.1f, confidence %.2f, through %+v, elsewhere %+v\n",
			c.kind, c.name, c.rate, c.background, c.gain, c.confidence, c.through, c.elsewhere)
	}
	return out
}

// at loses p of the segments of flows for which it is so, and none of the others'.
func at(so func(*townFlow) bool, p float64) func(*townFlow) float64 {
	return func(f *townFlow) float64 {
		if so(f) {
			return p
		}
		return 0
	}
}

// TestLifeIsEvidence: an agent that fell silent decides what the flows alone do not, and a node that lives does not swallow
// everything.
func TestLifeIsEvidence(t *testing.T) {
	apart := func() *town {
		w := newTown()
		w.mesh(5, 4, 4, 20)
		for range 40 {
			w.flow("node-x", "node-b", "pod-x", "service-a", "network-a", 20)
		}
		return w
	}
	lost := at(func(f *townFlow) bool { return f.node == "node-x" }, 1)
	w := apart()
	w.vouch(w.named(kindNode, "node-x"), signSilent)
	w.live(lost)
	if got := w.verdicts(); got != "node node-x\n" {
		t.Errorf("its agent is silent: %q", got)
	}
	w = apart()
	w.vouch(w.named(kindNode, "node-x"), signAlive)
	w.live(lost)
	if got := w.verdicts(); got != "node node-x or pod pod-x or what stands before it\n" {
		t.Errorf("it lives: %q", got)
	}
	w = apart()
	w.vouch(w.named(kindLocal, "node-b"), signAlive) // the same machine in its other role
	w.live(at(func(f *townFlow) bool { return f.node == "node-b" }, 0.1))
	if got := w.verdicts(); got != "node node-b\n" {
		t.Errorf("it lives and is lossy: %q", got)
	}
}

// TestWindow: evidence counts for one to two halves of the window, and what is forgotten leaves no trace after that.
func TestWindow(t *testing.T) {
	w := newTown()
	w.mesh(5, 4, 4, 20)
	healthy := func(*townFlow) float64 { return 0 }
	w.live(at(func(f *townFlow) bool { return f.node == "node-b" }, 1))
	for _, f := range w.flows {
		if f.node == "node-b" {
			w.forget(f.path) // closed by its application: that is no recovery
		}
	}
	w.flows = slices.DeleteFunc(w.flows, func(f townFlow) bool { return f.node == "node-b" })
	w.live(healthy)
	if got := w.verdicts(); got != "node node-b\n" {
		t.Errorf("in the half after: %q", got)
	}
	for range 3 {
		w.live(healthy)
	}
	if got := w.verdicts(); got != "" {
		t.Errorf("after the window: %q", got)
	}
	if b := w.named(kindNode, "node-b"); len(w.members[b].paths) != 0 {
		t.Errorf("%d paths of node-b are left", len(w.members[b].paths))
	}
	w.advance(w.half + 100)
	if len(w.free) != 64 {
		t.Errorf("%d paths are free, want the 64 through node-b", len(w.free))
	}
	w.flow("node-b", "node-c", "pod-0-c", "service-a", "network-a", 20) // takes a place that was left
	w.half = w.likelihood.half
	w.live(healthy)
	if got := w.verdicts(); got != "" {
		t.Errorf("later: %q", got)
	}
}

// TestLooksAddUp: many looks in one window say what one does.
func TestLooksAddUp(t *testing.T) {
	one, many := newLikelihood(), newLikelihood()
	for _, l := range []*likelihood{one, many} {
		for i := range 200 {
			l.path(l.component(kindNode, name("node", i%5)), l.component(kindPod, name("pod", i/5)))
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for p := pathID(1); p <= 200; p++ {
		sum, bad := look{Flows: 30}, uint32(0)
		for range 7 {
			k := look{Flows: 30, Sent: uint32(rng.IntN(3000))}
			if p%5 == 2 && bad < 20 {
				bad += uint32(rng.IntN(5))
			}
			k.Bad, k.Resent = bad, bad/2
			many.observe(p, k)
			sum.Sent += k.Sent
			sum.Resent += k.Resent
			sum.Bad = bad
		}
		one.observe(p, sum)
	}
	one.prepare()
	many.prepare()
	for c := range one.members {
		if one.window(component(c)) != many.window(component(c)) {
			t.Errorf("component %d: %+v at once, %+v in seven looks", c, one.window(component(c)), many.window(component(c)))
		}
	}
	a, b := one.judge(), many.judge()
	if len(a) != 1 || len(b) != 1 || a[0].name != b[0].name || a[0].gain != b[0].gain || a[0].through != b[0].through {
		t.Errorf("at once %+v, in seven looks %+v", a, b)
	}
}

// TestNodeStateIsAPrior: a node that the cluster doubts is accused sooner, by ten to one against the others, and where all
// are doubted none is.
func TestNodeStateIsAPrior(t *testing.T) {
	l := newLikelihood()
	const n = 20
	nodes := make([]component, n)
	for i := range nodes {
		nodes[i] = l.component(kindNode, fmt.Sprintf("node-%d", i))
	}
	local := l.component(kindLocal, "node-0")
	penalty := func(i int) float64 {
		return l.penalty(&hypothesis{parts: [2]component{nodes[i]}, kind: kindNode, sign: l.members[nodes[i]].sign})
	}
	is := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: %.4f, want %.4f", what, got, want)
		}
	}
	is("nothing is known", penalty(0), math.Log(n))
	l.suspect(nodes[0], true)
	l.suspect(nodes[0], true)
	is("it is doubted", penalty(0), math.Log(29.0/10))
	is("another is", penalty(1), math.Log(29))
	if !l.members[local].doubt {
		t.Error("the machine is doubted in one of its roles only")
	}
	for i := range nodes {
		l.suspect(nodes[i], true)
	}
	is("all are doubted", penalty(3), math.Log(n))
	for i := range nodes {
		l.suspect(nodes[i], false)
	}
	is("none is any more", penalty(3), math.Log(n))
	for what, node := range map[string]event.Node{
		"cordoned": {Causes: []event.Cause{{What: event.CauseCordoned}}}, "not ready": {Ready: "unknown"}, "silent": {Causes: []event.Cause{{What: event.CauseLeaseStale}}},
	} {
		if !doubted(&node) {
			t.Errorf("%s is no doubt", what)
		}
	}
	for what, node := range map[string]event.Node{
		"ready": {Ready: "true"}, "spot": {Spot: "spot"}, "out of the balancer": {Causes: []event.Cause{{What: event.CauseOutOfBalancer}}},
	} {
		if doubted(&node) {
			t.Errorf("%s is a doubt", what)
		}
	}
}
