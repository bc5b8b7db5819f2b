package diagnose

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// size is how large a cluster of the matrix is.
type size struct{ nodes, flows int }

// conditions are what a cell of the matrix holds fixed beside the fault.
type conditions struct {
	size
	zipf         bool // traffic is skewed: popular services, busy nodes, a few heavy flows
	instrumented int  // percent of nodes with an agent
	lost         int  // percent of records of retransmissions that never arrive
	unsure       bool // a third of the nodes share addresses by threes: the crossed node is one of three
}

// Parts of a world by kind, beside nodes.
const (
	podsPerNode     = 10
	nodesPerService = 5 // one service for so many nodes
	nodesPerNetwork = 10
)

// none stands for no node, no pod.
const none = -1

// worldFlow is one connection: what it truly crosses, and how its sender stands.
type worldFlow struct {
	hop        int32 // node that translates it, none where it goes straight
	back, from int32 // nodes of its server and, where it comes from a pod, of its client
	pod, far   int32 // pods of the same
	service    int32
	network    int32   // of its client, none for pods
	path       pathID  // as the fleet tells of it now, 0: nobody does
	known      pathID  // the same where nothing is wrong
	rate       float32 // segments a second
	own        float32 // loss on its own last mile, as a multiple of the background
	extra      float32 // loss that the fault adds
	retry      float32 // when the retransmission timer fires next, in seconds of the run
	backoff    uint8   // retransmissions in a row without progress
	byClient   bool    // the client's machine is the one that tells of it
}

// world is a cluster with its connections, and the engine that is told of them.
type world struct {
	conditions
	rng      *rand.Rand
	engine   *likelihood
	flows    []worldFlow
	born     int    // how many flows there were before faults added some
	agents   []bool // by node
	popular  *rand.Zipf
	busy     *rand.Zipf
	services [][]int32 // pods of each
	half     uint32

	background float64 // loss of a segment where nothing is wrong

	nodes, locals, pods, clients, serviceIDs []component
}

func newWorld(c conditions, seed uint64) *world {
	w := &world{conditions: c, rng: rand.New(rand.NewPCG(seed, 0x6d6964686f70)), engine: newLikelihood(), half: 1}
	w.popular = rand.NewZipf(w.rng, 1.2, 8, uint64(w.numServices()-1))
	w.busy = rand.NewZipf(w.rng, 1.2, 40, uint64(c.nodes-1))
	w.agents = make([]bool, c.nodes)
	order := w.rng.Perm(c.nodes)
	for _, n := range order[:c.nodes*c.instrumented/100] {
		w.agents[n] = true
	}
	w.services = make([][]int32, w.numServices())
	for p := range c.nodes * podsPerNode {
		s := w.rng.IntN(w.numServices())
		w.services[s] = append(w.services[s], int32(p))
	}
	for i := range c.nodes {
		w.nodes = append(w.nodes, w.engine.component(kindNode, fmt.Sprint("node-", i)))
		w.locals = append(w.locals, w.engine.component(kindLocal, fmt.Sprint("node-", i)))
	}
	for i := range c.nodes * podsPerNode {
		w.pods = append(w.pods, w.engine.component(kindPod, fmt.Sprint("pod-", i)))
	}
	for i := range w.numServices() {
		w.serviceIDs = append(w.serviceIDs, w.engine.component(kindService, fmt.Sprint("service-", i)))
	}
	for i := range w.numNetworks() {
		w.clients = append(w.clients, w.engine.component(kindClient, fmt.Sprint("network-", i)))
	}
	w.flows = make([]worldFlow, 0, c.flows+c.flows/20)
	for range c.flows {
		w.flows = append(w.flows, w.dial())
	}
	w.born = len(w.flows)
	return w
}

func (w *world) numServices() int { return max(2, w.size.nodes/nodesPerService) }
func (w *world) numNetworks() int { return max(10, w.size.nodes/nodesPerNetwork) }

func nodeOf(pod int32) int32 { return pod / podsPerNode }

// dial makes a connection: a third come from outside through a node that translates them, the rest from pods; of these one
// in ten goes through a node's port, the others are translated on their own node.
func (w *world) dial() worldFlow {
	f := worldFlow{hop: none, from: none, far: none, network: none}
	for len(w.services[f.service]) == 0 || f.pod == 0 {
		if w.zipf {
			f.service = int32(w.popular.Uint64())
		} else {
			f.service = int32(w.rng.IntN(len(w.services)))
		}
		if s := w.services[f.service]; len(s) > 0 {
			f.pod = s[w.rng.IntN(len(s))]
		}
	}
	f.back = nodeOf(f.pod)
	switch {
	case w.rng.IntN(3) == 0:
		f.hop, f.network = w.anyNode(), int32(w.rng.IntN(len(w.clients)))
	default:
		f.far = int32(w.rng.IntN(len(w.pods)))
		f.from = nodeOf(f.far)
		if w.rng.IntN(10) == 0 {
			f.hop = w.anyNode()
		}
	}
	f.rate = 2
	if w.zipf { // mean 2 too, but one in a hundred sends fifty times as much
		f.rate = float32(0.5 + w.rng.ExpFloat64()*0.5)
		if w.rng.IntN(100) == 0 {
			f.rate = 100
		}
	}
	// Last miles differ: one in a hundred loses thirty times as much as the rest.
	f.own = 0.78
	if w.rng.IntN(100) == 0 {
		f.own *= 30
	}
	w.join(&f)
	return f
}

func (w *world) anyNode() int32 {
	if w.zipf {
		return int32(w.busy.Uint64())
	}
	return int32(w.rng.IntN(w.size.nodes))
}

// join gives a flow the path by which the fleet knows it: none where no agent sees either end.
func (w *world) join(f *worldFlow) {
	nodePort := f.hop != none && f.from != none
	f.path = 0
	f.byClient = f.from != none && w.agents[f.from] && (nodePort || !w.agents[f.back])
	switch {
	case f.byClient && nodePort: // beyond the port nothing is known
		f.path = w.engine.newPath(w.locals[f.from], w.pods[f.far], w.serviceIDs[f.service], w.hop(f.hop, f.from))
	case f.byClient: // its own node's ledger names the pod behind the service
		f.path = w.engine.newPath(w.locals[f.from], w.pods[f.far], w.serviceIDs[f.service], w.pods[f.pod], w.hop(f.back, f.from))
	case !w.agents[f.back]:
	case nodePort:
		f.path = w.engine.newPath(w.locals[f.back], w.pods[f.pod], w.serviceIDs[f.service], w.hop(f.hop, f.back))
	case f.hop == none:
		f.path = w.engine.newPath(w.locals[f.back], w.pods[f.pod], w.serviceIDs[f.service], w.pods[f.far], w.hop(f.from, f.back))
	default:
		client := component(0) // told by the ledger of the node that translates
		if w.agents[f.hop] {
			client = w.clients[f.network]
		}
		f.path = w.engine.newPath(w.locals[f.back], w.pods[f.pod], w.serviceIDs[f.service], w.hop(f.hop, f.back), client)
	}
	f.known = f.path
}

// hop is the node that an address names, or the nodes that it may be; none where it is the socket's own.
func (w *world) hop(n, own int32) component {
	if n == own {
		return 0
	}
	if w.unsure && n%9 < 3 {
		first := n - n%9
		if int(first)+2 < w.size.nodes && own != first && own != first+1 && own != first+2 {
			return w.engine.set(w.nodes[first], w.nodes[first+1], w.nodes[first+2])
		}
	}
	return w.nodes[n]
}

// touches says whether a flow crosses a machine in any role.
func (f *worldFlow) touches(node int32) bool {
	return f.hop == node || f.back == node || f.from == node
}

// burst is how many segments of a flow are lost in a row, on average, where one is.
const burst = 3

// rtoBase is the retransmission timeout of a flow without any: the kernel's smallest.
const rtoBase = 0.2

// second lets every flow live for a second that begins at t, and tells the engine. weather multiplies what faults add: a
// bad component has good and bad moments, and all of its flows share them.
func (w *world) second(t float32, weather float64) {
	e := w.engine
	for i := range w.flows {
		f := &w.flows[i]
		p := min(1, float64(f.own)*w.background+float64(f.extra)*weather)
		if f.extra == 1 {
			p = 1
		}
		k, bad := w.send(f, t, p)
		if f.path == 0 || k == (look{}) {
			continue
		}
		if bad && w.lost > 0 && w.rng.IntN(100) < w.lost {
			k.Bad, k.Stalled, k.Resent = 0, 0, 0
		}
		e.observe(f.path, k)
	}
}

// send is one flow's second: segments, bursts of losses, fast retransmissions, and timeouts that back off.
func (w *world) send(f *worldFlow, t float32, p float64) (look, bool) {
	k := look{Flows: 1}
	if f.backoff == 0 {
		n := uint32(f.rate + w.rng.Float32())
		if n == 0 {
			return look{}, false
		}
		k.Sent = n
		start := p / burst // of a run of losses, at any segment
		if p > 0.5 {
			start = p
		}
		if w.rng.Float64() >= -math.Expm1(float64(n)*math.Log1p(-min(start, 1-1e-12))) {
			return k, false
		}
		run := uint32(1 + w.rng.ExpFloat64()*(burst-1))
		k.Bad, k.Resent = 1, min(run, n)
		// Fast retransmission heals what is not the tail; the tail, and what is lost again, waits for the timer.
		if run < n && w.rng.Float64() >= p {
			return k, true
		}
		if p == 1 {
			k.Sent, k.Resent = 1, 0
		}
		f.backoff, f.retry = 1, t+rtoBase*(1+w.rng.Float32())
	}
	for f.retry < t+1 {
		k.Bad = 1
		if w.rng.Float64() >= p {
			f.backoff = 0
			k.Resent++
			return k, true
		}
		f.backoff = min(f.backoff+1, 10)
		f.retry += rtoBase * float32(uint32(1)<<f.backoff)
	}
	if f.backoff >= 2 {
		k.Bad, k.Stalled = 1, 1
	}
	if k.Bad == 0 && k.Sent == 0 {
		return look{}, false
	}
	return k, k.Bad > 0
}

// calm forgets everything that the engine was told and everything that faults did.
func (w *world) calm() {
	w.half += 3
	w.engine.advance(w.half)
	for _, f := range w.flows[w.born:] {
		w.engine.forget(f.known)
	}
	w.flows = w.flows[:w.born]
	for i := range w.flows {
		f := &w.flows[i]
		f.extra, f.backoff, f.path = 0, 0, f.known
	}
}
