package model

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// This file is what the judge reads.

// Urgent is raised by every fact that could let a judgement find something new.
func (m *Model) Urgent() uint64 { return m.urgent }

// Facts counts the facts that were folded, clock lines aside.
func (m *Model) Facts() uint64 { return m.rev }

// Shares is raised when the number or the status of any hop's sockets changes.
func (m *Model) Shares() uint64 { return m.shares }

// Since is when the first machine was first heard: what died before was not seen. Before that it is the first fact.
func (m *Model) Since() Instant {
	first := int64(0)
	for i := range m.watchers {
		if w := &m.watchers[i]; w.watches() && (first == 0 || w.first < first) {
			first = w.first
		}
	}
	if first == 0 {
		first = m.first
	}
	return Instant(first)
}

// Hop is one thing that connections cross, or end at.
type Hop struct {
	Key        HopKey
	Node       string // of a node, or the node that a pod's address belongs to
	IP         netip.Addr
	Because    string
	Guess      string // by which rule an address of it is a node's, where no field says so and no ledger has shown it; else empty
	Candidates []string
	Sockets    int
	AtRisk     int
	Stalled    int
	Stranded   int           // whose connections the node has forgotten
	Unaware    int           // stranded ones that look healthy
	Received   Instant       // newest receive of any socket through it
	Revived    Instant       // newest moment at which what a socket in trouble had sent was acknowledged
	Large      Instant       // when a stalled socket with LargeBytes in flight was last seen to have got on
	Usual      time.Duration // how long its silences were lately while it lived; 0 unknown
	Fact       string        // id of the newest fact about its sockets

	born uint64
	id   uint32
}

// Troubled returns how many of the hop's sockets are at risk or stalled.
func (h *Hop) Troubled() int { return h.AtRisk + h.Stalled }

// Sick returns the hops that have sockets in trouble, in the order in which their peers were first met.
func (m *Model) Sick() []Hop {
	m.settle()
	if len(m.sick) == 0 {
		return nil
	}
	list := make([]Hop, 0, len(m.sick))
	for id := range m.sick {
		list = append(list, m.hop(id))
	}
	slices.SortFunc(list, func(a, b Hop) int { return cmp.Compare(a.born, b.born) })
	return list
}

// Hop returns a hop by its key, false where nothing crosses it any more.
func (m *Model) Hop(k HopKey) (Hop, bool) {
	m.settle()
	id, ok := m.hopByKey[k]
	if !ok {
		return Hop{Key: k}, false
	}
	return m.hop(id), true
}

func (m *Model) hop(id uint32) Hop {
	h := m.hops.At(id)
	out := Hop{
		Key: h.key, Sockets: int(h.sockets), AtRisk: int(h.atRisk), Stalled: int(h.stalled),
		Stranded: int(h.stranded), Unaware: int(h.unaware), Received: Instant(h.received), Revived: Instant(h.revived), Large: Instant(h.large), id: id,
	}
	var newest int64 = -1
	for _, l := range h.lanes {
		for _, p := range m.lanes.At(l).peers {
			pe := m.peers.At(p)
			if out.born == 0 || pe.born < out.born {
				at, _ := pe.key.names()
				out.born, out.IP, out.Because = pe.born, at.IP(), pe.res.Because
				out.Node, out.Candidates = pe.res.Node, pe.res.Candidates
			}
			if pe.res.Guess && pe.sockets > 0 && pe.clients.known == 0 {
				out.Guess = pe.res.Because
			}
			if u := time.Duration(pe.cadence.usual); u > 0 && pe.sockets > 0 && (out.Usual == 0 || u < out.Usual) {
				out.Usual = u
			}
			if pe.factAt > newest && !pe.factID.IsZero() {
				newest = pe.factAt
				out.Fact = idText(pe.factID)
			}
		}
	}
	return out
}

// NodeHop is the key of the hop that a node is to others, the newest machine of that name.
func (m *Model) NodeHop(node string) HopKey {
	key := HopKey{Kind: KindNode, Name: node}
	if n := m.inv.nodes[node]; n != nil {
		key.Inc = n.inc
	}
	return key
}

// HopsOf returns the hops that are a node: as others cross it, and as it translates for its own pods.
func (m *Model) HopsOf(node string) []Hop {
	m.settle()
	var out []Hop
	for _, key := range []HopKey{m.NodeHop(node), {Kind: KindLocal, Name: node}} {
		if id, ok := m.hopByKey[key]; ok {
			out = append(out, m.hop(id))
		}
	}
	return out
}

func idText(id event.ID) string { return id.Origin + "-" + strconv.FormatUint(id.N, 10) }

// Troubled is a socket at risk or stalled.
type Troubled struct {
	Source      string
	Stalled     bool
	Retransmits int
	Probes      int
	Received    Instant    // newest receive
	First       Instant    // when the trouble was first seen
	Since       Instant    // when it began
	Sign        Instant    // newest moment at which something was known to be unanswered
	Unacked     uint32     // bytes in flight
	Peer        netip.Addr // what it speaks to
	Dialled     bool       // it dialled that
	Client      netip.Addr // far end of an accepted socket's connection, where a ledger knows it
	Backend     netip.Addr // the pod that a dialled socket's connection leads to, where a ledger knows it
	Paired      bool       // the far end's socket is seen too, and lives

	fact event.ID
}

// Fact returns the id of the newest fact about the socket.
func (t *Troubled) Fact() string { return idText(t.fact) }

// EachTroubled calls f for the sockets at risk or stalled through a hop until f returns false. What f is given is the next
// one's afterwards.
func (m *Model) EachTroubled(h *Hop, f func(*Troubled) bool) {
	var t Troubled
	for _, l := range m.hops.At(h.id).lanes {
		for _, p := range m.lanes.At(l).peers {
			key := &m.peers.At(p).key
			for _, id := range m.peers.At(p).troubled {
				r := m.socks.At(id)
				own, pend := m.own(r), m.pend(r)
				t = Troubled{
					Peer: key.ip.IP(), Dialled: key.dialled,
					Source: m.watchers[own.src].source, Stalled: r.status == stalled,
					Retransmits: int(pend.retrans), Probes: int(pend.probes),
					Received: Instant(r.received), First: Instant(pend.first), Since: Instant(pend.since), Sign: Instant(pend.sign),
					Unacked: pend.unacked,
					fact:    event.ID{Origin: m.strs.text[own.origin], N: r.factN},
				}
				m.farEnd(id, &t)
				if !f(&t) {
					return
				}
			}
		}
	}
}

// Lane is one machine's look at one hop.
type Lane struct {
	Source   string
	Node     string // where the sockets live
	Sockets  int
	Troubled int
	Received Instant
	Synced   bool    // the machine's first census is complete
	Look     Instant // up to here all of the machine's receives are known
	Heard    Instant // newest fact from the machine
	Beats    bool    // it sends heartbeats, so its silence means something
}

// Lanes returns the machines that have sockets through a hop.
func (m *Model) Lanes(h *Hop) []Lane {
	var out []Lane
	for _, l := range m.hops.At(h.id).lanes {
		la := m.lanes.At(l)
		w := &m.watchers[la.src]
		look := int64(-1)
		for _, p := range la.peers {
			pe := m.peers.At(p)
			if at := max(w.look, pe.look); pe.sockets > 0 && (look < 0 || at < look) {
				look = at
			}
		}
		if !w.partial {
			look = w.look
		}
		out = append(out, Lane{
			Source: w.source, Node: m.strs.text[w.node],
			Sockets: int(la.sockets), Troubled: int(la.trouble()), Received: Instant(la.received),
			Synced: w.synced, Look: Instant(max(0, look)), Heard: Instant(w.heard), Beats: w.beats,
		})
	}
	return out
}

// Path is a hop as one machine's sockets use it.
type Path struct {
	Hop      HopKey
	Sockets  int
	Troubled int
	Received Instant
}

// Paths returns the hops beyond this machine that a machine's sockets use: other nodes, pods, clients and addresses, not
// what the machine translates itself, nor its own pods.
func (m *Model) Paths(source string) []Path {
	id, ok := m.watcherOf[source]
	if !ok {
		return nil
	}
	m.settle()
	var out []Path
	for _, l := range m.watchers[id].lanes {
		la := m.lanes.At(l)
		key := m.hops.At(la.hop).key
		if key.Kind == KindLocal || (key.Kind == KindPod && m.peers.At(la.peers[0]).res.Node == m.strs.text[m.watchers[id].node]) {
			continue
		}
		out = append(out, Path{Hop: key, Sockets: int(la.sockets), Troubled: int(la.trouble()), Received: Instant(la.received)})
	}
	return out
}

// Agent is one source that speaks for a machine.
type Agent struct {
	Source string
	Node   string
	Beats  bool   // it sends heartbeats, so its silence means something
	Synced bool   // its first census is complete
	Boot   string // boot_id of its machine
	Heard  Instant
	Beat   Instant       // newest heartbeat
	Every  time.Duration // after it, the next one is due
	Late   time.Duration // how much later than due they came lately
	last   event.ID
}

// Last returns the id of the agent's newest fact.
func (a *Agent) Last() string { return idText(a.last) }

// Agents returns the sources that speak for machines, in the order in which they were met. The slice is good until the next
// call: a fleet has thousands, and they are looked over at every judgement.
func (m *Model) Agents() []Agent {
	m.agents = m.agents[:0]
	for i := range m.watchers {
		m.agents = append(m.agents, m.agent(uint32(i)))
	}
	return m.agents
}

// Synced says whether any agent's first census is complete.
func (m *Model) Synced() bool {
	for i := range m.watchers {
		if m.watchers[i].synced {
			return true
		}
	}
	return false
}

func (m *Model) agent(id uint32) Agent {
	w := &m.watchers[id]
	return Agent{
		Source: w.source, Node: m.strs.text[w.node], Beats: w.beats, Synced: w.synced, Boot: w.bootID,
		Heard: Instant(w.heard), last: w.heardID, Beat: Instant(w.beat), Every: time.Duration(w.every), Late: time.Duration(w.late),
	}
}

// Resumed is when a fleet's stream went on after no agent at all had been heard for a while, 0 for never: what was silent
// until then is a matter of the stream, and agents need a moment to come back to it.
func (m *Model) Resumed() Instant { return Instant(m.resumed) }

// Heard returns the time of the newest fact of a source, 0 if there is none.
func (m *Model) Heard(source string) Instant {
	id, ok := m.watcherOf[source]
	if !ok {
		return 0
	}
	return Instant(m.watchers[id].heard)
}

// AgentOf returns the agent of a node, the one heard last where there were several.
func (m *Model) AgentOf(node string) (Agent, bool) {
	best := -1
	for i := range m.watchers {
		w := &m.watchers[i]
		if w.beats && m.strs.text[w.node] == node && (best < 0 || w.heard > m.watchers[best].heard) {
			best = i
		}
	}
	if best < 0 {
		return Agent{}, false
	}
	return m.agent(uint32(best)), true
}

// Node returns what the inventory knows of a node, false where it knows nothing.
func (m *Model) Node(name string) (event.Node, bool) {
	n, ok := m.inv.nodes[name]
	if !ok {
		return event.Node{}, false
	}
	return n.merged(), true
}

// PodAt returns the pod that holds an address, empty where none is known.
func (m *Model) PodAt(ip netip.Addr) string { return m.inv.podByIP[ip] }
