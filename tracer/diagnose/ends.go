package diagnose

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// This file looks at what stalled sockets have in common beyond the hop: the pod that they lead to, the network that
// their clients are in, the machine that they live on. What such an end explains is no evidence against the hops before
// it.

// group is the troubled sockets that share an end.
type group struct {
	sockets  int
	stalled  int
	writing  int                  // with retransmissions rather than probes
	together int                  // of the writing ones that spoke until the same moment
	received model.Instant        // newest receive of any
	sent     model.Instant        // newest start of their trouble
	first    model.Instant        // when the third was first seen in trouble
	hops     map[model.HopKey]int // that they cross
	sources  map[string]bool      // machines that see them
	paired   int                  // whose far end lives and is seen
	backends map[netip.Addr]int   // the pods that they lead to, where known; the zero value for the others
	heard    []model.Instant      // newest receives of the writing ones
	starts   []model.Instant      // of their trouble
	seen     []model.Instant      // the earliest moments at which one was first seen in trouble, in order
	refs     []string

	row streak // of sockets that have the same hop, machine and pod: they come in a row
}

// streak counts sockets, to be written down when another hop, machine or pod follows.
type streak struct {
	hop     *model.Hop
	source  string
	backend netip.Addr
	n       int
}

func newGroup() *group {
	return &group{hops: make(map[model.HopKey]int), sources: make(map[string]bool), backends: make(map[netip.Addr]int)}
}

func (r *group) add(h *model.Hop, t *model.Troubled) {
	r.sockets++
	if t.Stalled {
		r.stalled++
	}
	if t.Paired {
		r.paired++
	}
	if t.Retransmits > 0 && t.Received != 0 {
		r.writing++
		r.heard = append(r.heard, t.Received)
	}
	r.received = max(r.received, t.Received)
	r.sent = max(r.sent, t.Since)
	r.starts = append(r.starts, t.Since)
	r.saw(t.First)
	if r.row.hop != h || r.row.source != t.Source || r.row.backend != t.Backend {
		r.write()
		r.row = streak{hop: h, source: t.Source, backend: t.Backend}
	}
	r.row.n++
	if len(r.refs) < maxRefs {
		if fact := t.Fact(); !slices.Contains(r.refs, fact) {
			r.refs = append(r.refs, fact)
		}
	}
}

// saw keeps the first few moments.
func (r *group) saw(at model.Instant) {
	if len(r.seen) == breadth {
		if at >= r.seen[breadth-1] {
			return
		}
		r.seen = r.seen[:breadth-1]
	}
	i, _ := slices.BinarySearch(r.seen, at)
	r.seen = slices.Insert(r.seen, i, at)
}

// write counts the sockets in a row under what they share.
func (r *group) write() {
	if r.row.n == 0 {
		return
	}
	r.hops[r.row.hop.Key] += r.row.n
	r.sources[r.row.source] = true
	r.backends[r.row.backend] += r.row.n
	r.row = streak{}
}

// close sums up what needs all of the sockets.
func (r *group) close() {
	r.write()
	slices.Sort(r.heard)
	r.first = r.seen[len(r.seen)-1]
	// The largest crowd of writing sockets that fell silent at one moment, the latest of such.
	for i, from := 0, 0; i < len(r.heard); i++ {
		for r.heard[i] > r.heard[from].Add(together) {
			from++
		}
		r.together = max(r.together, i-from+1)
	}
}

// ends groups the troubled sockets of all hops by their far ends and by the machine that they live on.
type ends struct {
	pods     map[netip.Addr]*group
	networks map[netip.Prefix]*group
	machines map[string]*group
	holders  map[string]*group // by the node that holds the far end, elsewhere
	all      int
}

func groupBy[K comparable](in map[K]*group, k K) *group {
	r := in[k]
	if r == nil {
		r = newGroup()
		in[k] = r
	}
	return r
}

// ends is gathered once in a judgement, however many cases ask.
func (j *Judge) ends() *ends {
	if j.gathered == nil {
		j.gathered = j.gatherEnds()
	}
	return j.gathered
}

func (j *Judge) gatherEnds() *ends {
	e := &ends{pods: make(map[netip.Addr]*group), networks: make(map[netip.Prefix]*group), machines: make(map[string]*group), holders: make(map[string]*group)}
	held := make(map[netip.Addr]string)
	var machine *group
	var source string
	for _, h := range j.model.Sick() {
		n := 0
		j.model.EachTroubled(&h, func(t *model.Troubled) bool {
			n++
			e.all++
			if machine == nil || source != t.Source {
				machine, source = groupBy(e.machines, t.Source), t.Source
			}
			switch {
			case t.Backend.IsValid():
				groupBy(e.pods, t.Backend).add(&h, t)
			case h.Key.Kind == model.KindPod:
				groupBy(e.pods, h.Key.IP).add(&h, t)
			case t.Client.IsValid():
				groupBy(e.networks, model.Network(t.Client)).add(&h, t)
			}
			machine.add(&h, t)
			if far := t.FarEnd(h.Key); far.IsValid() {
				node, known := held[far]
				if !known {
					node = j.model.PodNode(far)
					held[far] = node
				}
				if node != "" && node != j.nodeOf(t.Source) {
					groupBy(e.holders, node).add(&h, t)
				}
			}
			return n < scanned
		})
	}
	for _, r := range e.pods {
		r.close()
	}
	for _, r := range e.networks {
		r.close()
	}
	for _, r := range e.machines {
		r.close()
	}
	for _, r := range e.holders {
		r.close()
	}
	return e
}

func sortedAddrs(in map[netip.Addr]*group) []netip.Addr {
	var out []netip.Addr
	for k := range in {
		out = append(out, k)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func sortedPrefixes(in map[netip.Prefix]*group) []netip.Prefix {
	var out []netip.Prefix
	for k := range in {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}

// explained says whether an open case about an end explains a socket's trouble.
func (j *Judge) explained(h *model.Hop, t *model.Troubled) bool {
	for _, c := range j.open {
		switch k := c.course.(type) {
		case podGone:
			if t.Backend == k.ip || (h.Key.Kind == model.KindPod && h.Key.IP == k.ip) {
				return true
			}
		case serviceDown:
			if slices.Contains(k.ips, t.Backend) || (h.Key.Kind == model.KindPod && slices.Contains(k.ips, h.Key.IP)) {
				return true
			}
		case clientGone:
			if t.Client.IsValid() && k.network.Contains(t.Client) {
				return true
			}
		case localNode:
			if k.explains(j, t) {
				return true
			}
		case holder:
			if far := t.FarEnd(h.Key); far.IsValid() && j.model.PodNode(far) == k.node {
				return true
			}
		}
	}
	return false
}

// supersede closes open cases about hops whose troubled sockets are now explained by what stands behind them.
func (j *Judge) supersede(g *gate, hops map[model.HopKey]int, by string) {
	for _, c := range slices.Clone(j.open) {
		if c.body.Culprit.Kind != event.CulpritUnknown {
			continue
		}
		if slices.ContainsFunc(c.keys, func(k model.HopKey) bool { return hops[k] > 0 }) {
			j.close(c, g, "superseded: "+by)
		}
	}
}

// lives says whether a node's agent was heard after an instant.
func (j *Judge) lives(node string, after model.Instant) (model.Agent, bool) {
	a, ok := j.model.AgentOf(node)
	return a, ok && a.Heard > after.Add(skew)
}

// counts of a group, as an incident tells them.
func (r *group) counts(crossing int) event.SocketCounts {
	return event.SocketCounts{Crossing: max(crossing, r.sockets), Stalled: r.stalled, AtRisk: r.sockets - r.stalled}
}

// quietFor says whether nothing was received by a group's sockets for d, and their trouble has been seen for long enough.
func (r *group) quietFor(g *gate, d time.Duration) bool { return g.passed(max(r.received, r.first), d) }
