package diagnose

import (
	"fmt"
	"slices"
)

// fault is one row of the matrix: what is done to a world, and what ought to be named for it.
type fault struct {
	name string
	// Of a node fault, the loss: the bounds apply from one percent on. 0: they do not.
	node float64
	// null: nothing at all, or nothing but a service, may be named.
	null       bool
	background float64 // 0: the usual one
	strike     func(w *world, r *run)
}

// usual is the background loss where a fault does not say otherwise.
const usual = 1e-4

// run is one fault in one world.
type run struct {
	truth    []string // "kind name"
	affected int      // flows through the first culprit that somebody tells of
	each     func(second int)
	steady   bool // no weather
}

// faults are the rows of the matrix.
var faults = []fault{
	{name: "nothing", null: true, strike: func(*world, *run) {}},
	{name: "nothing, background 0.1 %", null: true, background: 1e-3, strike: func(*world, *run) {}},
	{name: "clients vanish", null: true, strike: vanish},
	{name: "rolling restart", null: true, strike: rolling},
	{name: "service overloaded", null: true, strike: overload},
	{name: "node dead", node: 1, strike: nodeLoses(1)},
	{name: "node loses 30 %", node: 0.3, strike: nodeLoses(0.3)},
	{name: "node loses 10 %", node: 0.1, strike: nodeLoses(0.1)},
	{name: "node loses 3 %", node: 0.03, strike: nodeLoses(0.03)},
	{name: "node loses 1 %", node: 0.01, strike: nodeLoses(0.01)},
	{name: "node loses 0.3 %", strike: nodeLoses(0.003)},
	{name: "node 3 %, one direction", node: 0.03, strike: oneWay(0.03)},
	{name: "node 1 %, background 0.1 %", node: 0.01, background: 1e-3, strike: nodeLoses(0.01)},
	{name: "node fails over", node: 1, strike: failOver},
	{name: "conntrack full", strike: conntrackFull},
	{name: "two nodes, 5 % and dead", node: 0.05, strike: several(0.05, 1)},
	{name: "five nodes, 1 to 10 %", node: 0.01, strike: several(0.01, 0.02, 0.03, 0.05, 0.1)},
	{name: "pod dead", strike: podLoses(1)},
	{name: "pod loses 10 %", strike: podLoses(0.1)},
	{name: "client network 10 %", strike: networkLoses(0.1)},
	{name: "node 5 %, pod dead", node: 0.05, strike: nodeAndPod},
}

// victim picks a node that enough flows cross that somebody tells of, where there is one: what nobody sees is no evidence.
func (w *world) victim(not ...int32) int32 {
	load := make([]int, w.size.nodes)
	for i := range w.flows {
		f := &w.flows[i]
		for _, n := range []int32{f.hop, f.back, f.from} {
			if n != none && f.path != 0 {
				load[n]++
			}
		}
	}
	var fit []int32
	want := enoughFlows
	for len(fit) == 0 {
		for n, k := range load {
			if k >= want && !slices.Contains(not, int32(n)) {
				fit = append(fit, int32(n))
			}
		}
		want = want * 9 / 10
	}
	return fit[w.rng.IntN(len(fit))]
}

// strikeNode makes a machine lose segments in every role.
func (w *world) strikeNode(r *run, n int32, p float32) {
	r.truth = append(r.truth, fmt.Sprintf("node node-%d", n))
	for i := range w.flows {
		if f := &w.flows[i]; f.touches(n) {
			f.extra = max(f.extra, p)
			if p == 1 && !w.survives(f, n) {
				f.path = 0
			}
			if len(r.truth) == 1 && f.path != 0 {
				r.affected++
			}
		}
	}
}

// survives says whether some other machine still tells of a flow when one is dead.
func (w *world) survives(f *worldFlow, dead int32) bool {
	if f.byClient {
		return f.from != dead
	}
	return f.back != dead
}

func nodeLoses(p float32) func(*world, *run) {
	return func(w *world, r *run) { w.strikeNode(r, w.victim(), p) }
}

// oneWay loses on the way to the server only: a sender on the other side sees nothing but duplicates.
func oneWay(p float32) func(*world, *run) {
	return func(w *world, r *run) {
		n := w.victim()
		w.strikeNode(r, n, p)
		for i := range w.flows {
			if f := &w.flows[i]; f.touches(n) && i%2 == 0 { // its data goes the other way
				f.extra = 0
				if f.path != 0 {
					r.affected--
				}
			}
		}
	}
}

func several(losses ...float32) func(*world, *run) {
	return func(w *world, r *run) {
		var hit []int32
		for _, p := range losses {
			n := w.victim(hit...)
			hit = append(hit, n)
			w.strikeNode(r, n, p)
		}
	}
}

func nodeAndPod(w *world, r *run) {
	n := w.victim()
	w.strikeNode(r, n, 0.05)
	w.strikePod(r, n, 1)
}

func podLoses(p float32) func(*world, *run) {
	return func(w *world, r *run) { w.strikePod(r, none, p) }
}

// strikePod makes a pod lose segments that has a good many flows and does not stand on a given node.
func (w *world) strikePod(r *run, not int32, p float32) {
	load := make([]int, len(w.pods))
	for i := range w.flows {
		if f := &w.flows[i]; f.path != 0 {
			load[f.pod]++
		}
	}
	pod := int32(none)
	for range 200 {
		if c := int32(w.rng.IntN(len(w.pods))); nodeOf(c) != not && (pod == none || load[c] > load[pod]) {
			pod = c
		}
	}
	r.truth = append(r.truth, fmt.Sprintf("pod pod-%d", pod))
	for i := range w.flows {
		if f := &w.flows[i]; f.pod == pod || f.far == pod {
			f.extra = max(f.extra, p)
			if len(r.truth) == 1 {
				r.affected++
			}
		}
	}
}

func networkLoses(p float32) func(*world, *run) {
	return func(w *world, r *run) {
		c := int32(w.rng.IntN(len(w.clients)))
		r.truth = append(r.truth, fmt.Sprintf("client network-%d", c))
		for i := range w.flows {
			if f := &w.flows[i]; f.network == c {
				f.extra = p
				r.affected++
			}
		}
	}
}

// overload lets a popular service lose a fifth of what it is sent: its nodes are well.
func overload(w *world, r *run) {
	s := w.flows[w.rng.IntN(w.born)].service
	r.truth = append(r.truth, fmt.Sprintf("service service-%d", s))
	for i := range w.flows {
		if f := &w.flows[i]; f.service == s {
			f.extra = 0.2
			r.affected++
		}
	}
}

// vanish takes one client in two thousand away each second, as mobile ones go.
func vanish(w *world, r *run) {
	r.steady = true
	r.each = func(int) {
		for range max(1, w.born/2000) {
			w.flows[w.rng.IntN(w.born)].extra = 1
		}
	}
}

// rolling restarts nodes one after the other: what crosses them is drained first, but for two flows.
func rolling(w *world, r *run) {
	r.steady = true
	r.each = func(second int) {
		before, n := int32((second-1)%w.size.nodes), int32(second%w.size.nodes)
		late := 0
		for i := range w.flows {
			switch f := &w.flows[i]; {
			case f.touches(n) && late < 2:
				late++
				f.extra = 1
			case f.touches(n):
				f.backoff = 0
			case f.touches(before):
				f.extra, f.backoff = 0, 0
			}
		}
	}
}

// failOver is a dead node whose clients dial again, through others, three seconds later.
func failOver(w *world, r *run) {
	n := w.victim()
	w.strikeNode(r, n, 1)
	r.each = func(second int) {
		if second != 3 {
			return
		}
		for i := range w.flows[:w.born] {
			if f := w.flows[i]; f.hop == n && f.back != n && f.from != n {
				for f.hop == n {
					f.hop = w.anyNode()
				}
				f.extra, f.backoff = 0, 0
				w.join(&f)
				w.flows = append(w.flows, f)
			}
		}
	}
}

// conntrackFull refuses every new flow through a node while established ones go on: only their clients see it, and of
// these only pods have agents.
func conntrackFull(w *world, r *run) {
	r.steady = true
	n := w.victim()
	r.truth = append(r.truth, fmt.Sprintf("node node-%d", n))
	r.each = func(int) {
		for i := range w.flows {
			f := &w.flows[i]
			if f.hop == n && f.extra == 0 {
				r.affected++
				if w.rng.IntN(10) == 0 {
					f.extra, f.backoff = 1, 0
					if !f.byClient {
						f.path = 0 // its server never hears of it
					}
				}
			}
		}
	}
}
