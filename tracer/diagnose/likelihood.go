package diagnose

import "slices"

// The likelihood engine finds the components that explain retransmissions: a greedy maximum likelihood over exact paths,
// after Flock (PACMNET 2023), with the denominators that 007 (NSDI 2018) does without. It knows flows, what they cross
// and what they lost, and nothing of events, rules or kernels.
//
// Every flow has a path: the set of components that it crosses or ends at. Counters per path and per component are kept
// up as observations come, so a judgement walks the flows that retransmitted and the paths of what they accuse, and never
// the healthy rest.
//
// What never counts as evidence is left out by the caller: a flow that its application or its peer's closed window holds
// back, and one whose segments its own machine dropped, are observed as healthy.

// kind is what sort of thing a component is.
type kind uint8

const (
	kindNode    kind = iota + 1 // a node that is crossed, or that the far end stands on
	kindLocal                   // the node that the socket lives on
	kindPod                     // a pod, at either end
	kindClient                  // a network of clients
	kindService                 // what the flow asked for
	kindSet                     // some one of several nodes: which one is not known
	numKinds
)

func (k kind) String() string {
	return [...]string{"", "node", "local node", "pod", "client", "service", "set"}[k]
}

// component is something that flows have in common, by its place in the table; 0 is none.
type component uint32

// pathID is a path, by its place in the table; 0 is none.
type pathID uint32

const (
	// maxOnPath is the most components of one path: both ends' pods and nodes, the service, and the clients' network.
	maxOnPath = 6
)

// lifeSign is what is known of a component beside the flows through it: the prior of its guilt.
type lifeSign uint8

const (
	signNone   lifeSign = iota
	signAlive           // heard lately: it may lose segments, but it does not swallow all of them
	signSilent          // its agent fell silent: 100 times
)

// member is one component with what it counts.
type member struct {
	kind  kind
	sign  lifeSign
	doubt bool // the cluster says that something is wrong with it, see doubtOdds
	name  string
	twin  component   // the same machine in its other role, kindNode and kindLocal
	paths []pathID    // that it is on
	sets  []component // of kindSet that it is one of
	of    []component // kindSet: the nodes it may be
}

// track is one path with what it counts: a row without pointers.
type track struct {
	parts  [maxOnPath]component // the first one 0: not in use
	halves [2]counts
	left   uint32 // half in which leave was called last
}

// likelihood is the engine. One goroutine owns it.
type likelihood struct {
	// half numbers the running half of the window that evidence is taken from, which is the running half and the one before;
	// its counters are at index half%2.
	half uint32

	members []member    // 0 stands for everything: what is common to all flows
	rows    [2][]bySize // of members, by half
	byName  map[memberKey]component
	count   [numKinds]int
	doubted [numKinds]int // of these

	tracks []track             // 0 is not used
	spots  [][maxOnPath]uint32 // of tracks: their places in the lists of their components
	free   []pathID
	// byParts finds the paths that path made.
	byParts map[[maxOnPath]component]pathID
	// moving says that flows without any progress are left out: single ones that are stuck are no sign of a part being lost.
	moving bool

	bad     [2][]pathID // paths with bad flows, by half
	leaving [2][]pathID // paths that were forgotten in that half: their evidence lasts as long as the window

	scratch scratch
}

type memberKey struct {
	kind kind
	name string
}

// newLikelihood returns an engine that knows nothing.
func newLikelihood() *likelihood {
	return &likelihood{
		half: 1, members: make([]member, 1), rows: [2][]bySize{make([]bySize, 1), make([]bySize, 1)},
		tracks: make([]track, 1), spots: make([][maxOnPath]uint32, 1),
		byName: make(map[memberKey]component), byParts: make(map[[maxOnPath]component]pathID),
	}
}

// component returns the component of a name, and makes it where there is none.
func (l *likelihood) component(k kind, name string) component {
	key := memberKey{k, name}
	if c, ok := l.byName[key]; ok {
		return c
	}
	c := component(len(l.members))
	l.byName[key] = c
	l.members = append(l.members, member{kind: k, name: name})
	for i := range l.rows {
		l.rows[i] = append(l.rows[i], bySize{})
	}
	l.count[k]++
	switch k {
	case kindNode:
		l.pair(c, l.byName[memberKey{kindLocal, name}])
	case kindLocal:
		l.pair(c, l.byName[memberKey{kindNode, name}])
	}
	return c
}

func (l *likelihood) pair(a, b component) {
	if b != 0 {
		l.members[a].twin, l.members[b].twin = b, a
		l.members[a].sign = l.members[b].sign
		l.suspect(a, l.members[b].doubt)
	}
}

// set returns the component that stands for some one of several nodes.
func (l *likelihood) set(nodes ...component) component {
	name := make([]byte, 0, 4*len(nodes))
	for _, n := range nodes {
		name = append(name, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	known := len(l.members)
	c := l.component(kindSet, string(name))
	if int(c) == known {
		l.members[c].of = append([]component(nil), nodes...)
		for _, n := range nodes {
			l.members[n].sets = append(l.members[n].sets, c)
		}
	}
	return c
}

// vouch notes what is known of a component's own life, in both roles of a machine.
func (l *likelihood) vouch(c component, s lifeSign) {
	l.members[c].sign = s
	if t := l.members[c].twin; t != 0 {
		l.members[t].sign = s
	}
}

// doubtOdds is how much likelier than others a node is to lose segments of which the cluster says that something is wrong:
// it is not ready, cordoned, or about to be removed.
const doubtOdds = 10

// suspect notes whether the cluster doubts a component, in both roles of a machine.
func (l *likelihood) suspect(c component, doubt bool) {
	for _, m := range []component{c, l.members[c].twin} {
		if m == 0 || l.members[m].doubt == doubt {
			continue
		}
		l.members[m].doubt = doubt
		if doubt {
			l.doubted[l.members[m].kind]++
		} else {
			l.doubted[l.members[m].kind]--
		}
	}
}

// path returns the path over these components, at most maxOnPath of them, zeros left out, for flows that are told
// together. Their order is the caller's and has to be the same for the same path.
func (l *likelihood) path(parts ...component) pathID {
	key := onPath(parts)
	p, ok := l.byParts[key]
	if !ok {
		p = l.newPath(parts...)
		l.byParts[key] = p
	}
	return p
}

// newPath makes a path for a flow that is told by itself.
func (l *likelihood) newPath(parts ...component) pathID {
	var p pathID
	if k := len(l.free); k > 0 {
		p, l.free = l.free[k-1], l.free[:k-1]
	} else {
		p = pathID(len(l.tracks))
		l.tracks = append(l.tracks, track{})
		l.spots = append(l.spots, [maxOnPath]uint32{})
	}
	l.tracks[p] = track{parts: onPath(parts)}
	for i, c := range l.tracks[p].parts {
		if c == 0 {
			break
		}
		m := &l.members[c]
		l.spots[p][i] = uint32(len(m.paths))
		m.paths = append(m.paths, p)
	}
	return p
}

func onPath(parts []component) (out [maxOnPath]component) {
	n := 0
	for _, c := range parts {
		if c != 0 && n < maxOnPath && !slices.Contains(out[:n], c) {
			out[n] = c
			n++
		}
	}
	return out
}

// forget says that no flow has this path any more. What was observed on it counts until the window has passed.
func (l *likelihood) forget(p pathID) {
	l.leaving[l.half%2] = append(l.leaving[l.half%2], p)
}

// advance lets the window begin at half number half, counted from any fixed moment. Time never runs backwards.
func (l *likelihood) advance(half uint32) {
	for ; l.half < half; l.half++ {
		if half-l.half > 2 {
			l.half = half - 2 // nothing of it is in the window any more
		}
		next := (l.half + 1) % 2
		l.bad[next] = l.bad[next][:0]
		for _, p := range l.leaving[next] {
			l.drop(p)
		}
		l.leaving[next] = l.leaving[next][:0]
	}
}

// leave lets a path be forgotten once it has not been observed for a whole window. It may be called after every
// observation.
func (l *likelihood) leave(p pathID) {
	t := &l.tracks[p]
	if t.left == l.half {
		return
	}
	t.left = l.half
	l.forget(p)
}

// anyBad says whether a flow has retransmitted lately.
func (l *likelihood) anyBad() bool { return len(l.bad[0])+len(l.bad[1]) > 0 }

// drop takes a forgotten path out of the tables, unless it has been observed again.
func (l *likelihood) drop(p pathID) {
	t := &l.tracks[p]
	if t.parts[0] == 0 || t.halves[0].half >= l.half || t.halves[1].half >= l.half {
		return
	}
	if l.byParts[t.parts] == p {
		delete(l.byParts, t.parts)
	}
	for i, c := range t.parts {
		if c == 0 {
			break
		}
		m := &l.members[c]
		last := m.paths[len(m.paths)-1]
		m.paths[l.spots[p][i]] = last
		o := &l.tracks[last]
		for j := range o.parts {
			if o.parts[j] == c {
				l.spots[last][j] = l.spots[p][i]
			}
		}
		m.paths = m.paths[:len(m.paths)-1]
	}
	*t = track{}
	l.free = append(l.free, p)
}
