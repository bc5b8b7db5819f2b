package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Resolution says what stands at a peer address: the node that the connection crosses, or why there is none.
type Resolution struct {
	Kind       ViaKind
	Role       event.ViaRole
	Node       string // KindNode and KindLocal
	Inc        uint32 // KindNode: which of the machines that had the name, one after the other
	Because    string // provenance, or why it is unknown
	Candidates []string
	Balancer   bool // KindDirect: the peer is a balancer, else a client
	Guess      bool // no field names the address: it follows from a rule of the network plugin, or of most of them
}

// holding is one node's hold on one address, as one field of one source said. A hold that ended is kept as a tombstone:
// sockets outlive nodes.
type holding struct {
	node  string
	from  string // "status InternalIP", "agent eth0", ...
	said  string // source of the fact
	guess bool   // see Resolution.Guess
	inc   uint32 // which of the machines of that name
	ever  bool   // the first word, so that it may have held the address all the time
	made  int64  // when the machine was created, 0 unknown
	since int64
	until int64 // 0: still held
}

// tombstones per address; the oldest go first.
const maxTombstones = 4

// addresses maps addresses to what holds them. Every answer names the field that it rests on.
type addresses struct {
	exact     map[netip.Addr][]holding
	cidrs     map[netip.Prefix][]ranged // pod range -> those who have it, in the order in which they were told
	bits      []int                     // lengths that occur in cidrs, longest first
	near      map[netip.Prefix]int      // /24 or /64 around the current addresses of nodes -> how many
	balancers []netip.Prefix
	inventory bool                    // somebody listed the nodes, not only agents themselves
	gen       uint64                  // raised whenever an answer may have changed
	stale     stale                   // which answers, since they were settled last
	passed    map[netip.Addr]*passing // addresses that had several holders, one after the other
	// beforePass is called before an address passes to another holder, and tells who held it.
	beforePass func(netip.Addr) Resolution
}

// builtinBalancers are the ranges from which Google's balancers and health checks speak.
var builtinBalancers = []netip.Prefix{
	netip.MustParsePrefix("35.191.0.0/16"),
	netip.MustParsePrefix("130.211.0.0/22"),
}

// Balancers returns the ranges that every midhop takes for load balancers'.
func Balancers() []netip.Prefix { return slices.Clone(builtinBalancers) }

func newAddresses(balancers []netip.Prefix) *addresses {
	return &addresses{
		exact:     make(map[netip.Addr][]holding),
		cidrs:     make(map[netip.Prefix][]ranged),
		near:      make(map[netip.Prefix]int),
		passed:    make(map[netip.Addr]*passing),
		balancers: append(slices.Clone(builtinBalancers), balancers...),
		gen:       1,
	}
}

// maxBalancers is how many ranges are kept: far more than anybody has, and few enough to be walked for every address.
const maxBalancers = 256

// balance adds ranges that balancers speak from, and returns how many found no room.
func (a *addresses) balance(ranges []netip.Prefix) (over int) {
	for _, p := range ranges {
		switch p = p.Masked(); {
		case !p.IsValid() || slices.Contains(a.balancers, p):
		case len(a.balancers) == maxBalancers:
			over++
		default:
			a.balancers = append(a.balancers, p)
			a.touchRange(p)
		}
	}
	return over
}

// hold notes that a node holds an address, on the word of one source.
func (a *addresses) hold(ip netip.Addr, h holding) {
	list := a.exact[ip]
	for i := range list {
		if o := &list[i]; o.until == 0 && o.node == h.node && o.inc == h.inc && o.said == h.said {
			if o.from != h.from {
				o.from = h.from
				a.touch(ip)
			}
			return
		}
	}
	if a.takes(ip, &h) {
		a.pass(ip, cmp.Or(h.made, h.since))
	}
	if _, old := a.current(ip); len(old) == 0 {
		if a.near[around(ip)]++; a.near[around(ip)] == 1 {
			a.touchRange(around(ip))
		}
	}
	a.exact[ip] = append(list, h)
	a.touch(ip)
}

// release ends a hold and leaves a tombstone.
func (a *addresses) release(ip netip.Addr, node, said string, t int64) {
	list := a.exact[ip]
	ends := func(h *holding) bool { return h.until == 0 && h.node == node && (said == "" || h.said == said) }
	if !slices.ContainsFunc(list, func(h holding) bool { return ends(&h) }) {
		return
	}
	if a.changes(ip, ends) {
		a.pass(ip, t)
	}
	for i := range list {
		if o := &list[i]; ends(o) {
			o.until = max(t, 1)
		}
	}
	if _, left := a.current(ip); len(left) == 0 {
		if a.near[around(ip)]--; a.near[around(ip)] <= 0 {
			delete(a.near, around(ip))
			a.touchRange(around(ip))
		}
	}
	for dead := countDead(list); dead > maxTombstones; dead-- {
		i := slices.IndexFunc(list, func(h holding) bool { return h.until != 0 })
		list = slices.Delete(list, i, i+1)
	}
	a.exact[ip] = list
	a.touch(ip)
}

func countDead(list []holding) (n int) {
	for i := range list {
		if list[i].until != 0 {
			n++
		}
	}
	return n
}

// current returns the nodes that hold an address now, in the order in which they were told, and the first word on it. What an
// agent claims counts for nothing where the inventory names a holder.
func (a *addresses) current(ip netip.Addr) (first holding, nodes []string) {
	return holders(a.exact[ip], func(h *holding) bool { return h.until == 0 })
}

func holders(list []holding, holds func(*holding) bool) (first holding, nodes []string) {
	claims := true // so far, all are agents' words
	for i := range list {
		h := &list[i]
		if !holds(h) || !claims && fromAgent(h.said) {
			continue
		}
		if claims && !fromAgent(h.said) {
			claims, nodes, first = false, nil, holding{}
		}
		if first.node == "" {
			first = *h
		}
		if !slices.Contains(nodes, h.node) {
			nodes = append(nodes, h.node)
		}
	}
	return first, nodes
}

// changes says whether an address would have other holders without some of the holds on it.
func (a *addresses) changes(ip netip.Addr, ends func(*holding) bool) bool {
	before, was := a.current(ip)
	after, left := holders(a.exact[ip], func(h *holding) bool { return h.until == 0 && !ends(h) })
	return before.inc != after.inc || !slices.Equal(was, left)
}

// around is the neighbourhood in which nodes are likely to have further nodes.
func around(ip netip.Addr) netip.Prefix {
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// question is a peer address as one machine's sockets see it.
type question struct {
	ip      netip.Addr
	own     string // the node on which the sockets live
	dialled bool   // the socket dialled the peer; else it accepted, or nobody knows
	self    bool   // the peer's address is the socket's own
}

// resolve answers where a connection goes. pods and services tell what else may hold an address.
func (a *addresses) resolve(q question, inv *inventory) Resolution {
	local := func(because string) Resolution {
		return Resolution{Kind: KindLocal, Role: event.ViaLocal, Node: q.own, Because: because}
	}
	switch {
	case q.ip.IsLoopback():
		return local("loopback address")
	case q.self:
		return local("the socket's own address")
	}
	word, nodes := a.current(q.ip)
	switch {
	case len(nodes) == 1 && nodes[0] == q.own:
		return local(word.from + " of this node")
	case len(nodes) == 1 && inv.virtual(nodes[0]) != "":
		return Resolution{
			Kind: KindPod, Role: event.ViaPod, Node: nodes[0],
			Because: word.from + " of " + nodes[0] + ", which is no machine (" + inv.virtual(nodes[0]) + "): the pod itself",
		}
	case len(nodes) == 1:
		return Resolution{Kind: KindNode, Role: event.ViaEntry, Node: nodes[0], Inc: word.inc, Because: word.from + a.before(q.ip, nodes[0])}
	}
	rng := a.podRange(q.ip)
	if which := rng.own(q.ip); which.bridge() && rng.node() == q.own {
		return local(which.text() + " of this node: its bridge") // before ambiguity: every node's agent may report a bridge
	}
	if len(nodes) > 1 {
		return Resolution{
			Kind: KindUnknown, Role: event.ViaUnknown, Candidates: nodes,
			Because: "ambiguous: " + strings.Join(firstFew(nodes, 5), ", ") + " hold this address",
		}
	}
	if pod := inv.podByIP[q.ip]; pod != "" {
		return Resolution{Kind: KindPod, Role: event.ViaPod, Node: inv.pods[pod].Node, Because: "address of pod " + pod}
	}
	if svc := inv.serviceByVIP[q.ip]; svc != "" {
		return local("address of service " + svc + ", translated on this node")
	}
	if rng.nodes() != nil {
		return rng.resolve(q, local).as(inv)
	}
	if r, ok := a.tombstone(q.ip); ok {
		return r
	}
	if rng.known() {
		return rng.somePod()
	}
	for _, b := range a.balancers {
		if b.Contains(q.ip) {
			return Resolution{Kind: KindDirect, Role: event.ViaDirect, Because: "in the balancer range " + b.String(), Balancer: true}
		}
	}
	switch {
	case !a.inventory:
		return Resolution{Kind: KindAddress, Role: event.ViaUnknown, Because: "no inventory: a bare address"}
	case q.dialled:
		return Resolution{Kind: KindAddress, Role: event.ViaUnknown, Because: "dialled, outside every known range"}
	case a.near[around(q.ip)] > 0:
		return Resolution{
			Kind: KindUnknown, Role: event.ViaUnknown,
			Because: "among the nodes' addresses in " + around(q.ip).String() + ", but no node holds it",
		}
	}
	return Resolution{Kind: KindDirect, Role: event.ViaDirect, Because: "outside every known range: the client itself"}
}

// tombstone answers with the node that held the address last: deleted nodes keep their dead connections.
func (a *addresses) tombstone(ip netip.Addr) (Resolution, bool) {
	last := a.lastDead(ip)
	if last == nil {
		return Resolution{}, false
	}
	return Resolution{
		Kind: KindNode, Role: event.ViaEntry, Node: last.node, Inc: last.inc,
		Because: last.from + ", held from " + second(last.since) + " until " + second(last.until), Guess: last.guess,
	}, true
}

// before tells who held an address before its holder does: connections may be older than that.
func (a *addresses) before(ip netip.Addr, holder string) string {
	last := a.lastDead(ip)
	if last == nil {
		return ""
	}
	who := last.node
	if who == holder {
		who = "an earlier " + who
	}
	return "; " + who + " held it from " + second(last.since) + " until " + second(last.until)
}

// lastDead is the hold on an address that ended last, nil if none did.
func (a *addresses) lastDead(ip netip.Addr) (last *holding) {
	list := a.exact[ip]
	for i := range list {
		if h := &list[i]; h.until != 0 && (last == nil || h.until >= last.until) {
			last = h
		}
	}
	return last
}

func second(t int64) string { return time.Unix(0, t).UTC().Format(time.RFC3339) }

func firstFew(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(slices.Clone(list[:n]), "...")
}
