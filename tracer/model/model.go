package model

import (
	"net/netip"

	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

// Options says what a [Model] knows beforehand and how much it may keep.
type Options struct {
	Node      string         // the node that this process runs on, empty for a hub
	Balancers []netip.Prefix // ranges of load balancers beside the built-in ones
	Sockets   int            // most sockets kept, 2,000,000 if zero
	Ledger    int            // most NAT entries kept, 2,000,000 if zero
	Strangers int            // most far ends kept that are neither a node nor a pod, each some 800 bytes; 131,072 if zero
}

// Model is everything that the facts so far have said. It is not safe for concurrent use: one goroutine owns it.
type Model struct {
	opts  Options
	clock int64 // largest time of any fact, ns since 1970
	first int64 // time of the first fact

	strs  names // everything that is named
	words names // the small closed sets: states, timers, roles, kinds

	watchers  []watcher
	agents    []Agent // see Agents
	watcherOf map[string]uint32

	inv     *inventory
	addrs   *addresses
	settled uint64 // generation of addrs that every peer is resolved by

	socks     compact.Slab[row]
	byCookie  compact.Index[cookieKey]
	byTuple   compact.Index[tupleKey]
	hosts     compact.Addrs // of sockets and of the ledger
	owners    compact.Shared[owner]
	pendings  compact.Slab[pending]
	limits    []event.Limits
	limitsID  map[event.Limits]uint32
	lingering []linger
	hand      uint32

	ends      compact.Slab[end]
	endByKey  map[endKey]uint32
	endsByIP  map[addr][]uint32
	cells     compact.Slab[cell]
	cellByKey map[cellKey]uint32
	peers     compact.Slab[peer]
	strangers int // of these, see peer.stranger
	peerByKey map[peerKey]uint32
	peersByIP map[addr][]uint32
	lanes     compact.Slab[lane]
	laneByKey map[laneKey]uint32
	hops      compact.Slab[hop]
	hopByKey  map[HopKey]uint32
	sick      map[uint32]struct{} // hops with sockets in trouble
	spare     map[uint32]struct{} // cells that count nothing at the moment
	swept     int64
	resumed   int64 // when a fleet's stream went on after nobody had been heard; 0 never
	births    uint64
	asked     map[string]Asked // by node

	ledger *ledger
	picks  []pick
	// Resets that a node sent, and that a pod received, until the other half is told.
	sent, received map[tupleKey]halfReset
	ways           map[uint32]wayLost // sockets that dialled and whose way a node has forgotten
	resetWays      map[tupleKey]resetWay
	refusals       map[uint32]halfReset // entries that stood when their node answered with a reset

	follow  func(*Flow)
	bad     map[uint32]struct{} // sockets that retransmitted in half window badHalf
	badHalf uint32
	dials   map[uint32]struct{} // connection attempts without an answer
	shut    map[uint32]int64    // sockets whose peer keeps its window shut -> since when

	turns   []Turn
	history history
	recent  []SocketView // ended lately, in a ring
	ring    int

	urgent  uint64 // raised by what could let a judgement find something
	shares  uint64 // raised when the counts of a cell change
	rev     uint64 // raised by everything else that readers see
	counts  [256]uint64
	lost    map[string]uint64
	evicted map[string]uint64
	snap    *Snapshot
	snapRev uint64
}

// New returns an empty model.
func New(opts Options) *Model {
	if opts.Sockets <= 0 {
		opts.Sockets = 2_000_000
	}
	if opts.Ledger <= 0 {
		opts.Ledger = 2_000_000
	}
	if opts.Strangers <= 0 {
		opts.Strangers = 1 << 17
	}
	m := &Model{
		opts: opts, strs: newNames(), words: newNames(),
		watcherOf: make(map[string]uint32),
		inv:       newInventory(), addrs: newAddresses(opts.Balancers),
		socks: compact.NewSlab[row](), hosts: compact.NewAddrs(), owners: compact.NewShared[owner](), pendings: compact.NewSlab[pending](),
		limits: make([]event.Limits, 1), limitsID: make(map[event.Limits]uint32),
		ends: compact.NewSlab[end](), endByKey: make(map[endKey]uint32), endsByIP: make(map[addr][]uint32),
		cells: compact.NewSlab[cell](), cellByKey: make(map[cellKey]uint32),
		peers: compact.NewSlab[peer](), peerByKey: make(map[peerKey]uint32), peersByIP: make(map[addr][]uint32),
		lanes: compact.NewSlab[lane](), laneByKey: make(map[laneKey]uint32),
		hops: compact.NewSlab[hop](), hopByKey: make(map[HopKey]uint32),
		sick: make(map[uint32]struct{}), spare: make(map[uint32]struct{}),
		dials: make(map[uint32]struct{}), shut: make(map[uint32]int64), bad: make(map[uint32]struct{}),
		sent: make(map[tupleKey]halfReset), received: make(map[tupleKey]halfReset), refusals: make(map[uint32]halfReset),
		ways: make(map[uint32]wayLost), resetWays: make(map[tupleKey]resetWay),
		asked: make(map[string]Asked), lost: make(map[string]uint64), evicted: make(map[string]uint64),
	}
	m.byCookie = compact.NewIndex(func(id uint32) cookieKey {
		r := m.socks.At(id)
		return cookieKey{m.own(r).src, r.cookie}
	})
	m.byTuple = compact.NewIndex(func(id uint32) tupleKey { return m.tuple(m.socks.At(id)) })
	m.ledger = newLedger(&m.hosts)
	m.addrs.beforePass = m.freeze
	return m
}

// Apply folds one fact, and fills in the names and the via that its body leaves out, as they are known at this line.
// Afterwards the event's body must not change any more.
func (m *Model) Apply(ev *event.Event) {
	t := ev.Time.UnixNano()
	if m.first == 0 {
		m.first = t
	}
	m.clock = max(m.clock, t)
	m.Count(ev.Type)
	if ev.Source == engineSource && ev.Type == event.StreamHeartbeat {
		return // a clock line: time is all it says
	}
	m.rev++
	if ev.Source == hubSource && ev.Type == event.StreamStarted {
		m.resumed = t
		m.urgent++
		return
	}
	m.endLingering(t)
	m.sweep(t)
	src, known := m.watcherOf[ev.Source]
	switch {
	case speaks(ev.Type) && ev.Source != engineSource:
		src, known = m.watch(ev, t), true
	case known:
		m.watch(ev, t)
	}
	switch b := ev.Body.(type) {
	case *event.NodeFact:
		m.applyNode(ev, b, t)
		m.urgent++
		return
	case *event.PodFact:
		m.applyPod(ev, b)
		return
	case *event.ServiceFact:
		m.applyService(b)
		return
	case *event.Asked:
		m.applyAsked(ev, b, t)
		return
	case *event.Lost:
		m.lost[b.Stage] += b.Count
		return
	case *event.Synced:
		m.inv.fallBehind(b)
	}
	m.settle()
	if !known {
		return
	}
	if len(m.sick) > 0 {
		m.urgent++ // whatever comes now may be evidence for or against
	}
	switch b := ev.Body.(type) {
	case *event.Started:
		m.applyStarted(ev, b, src)
	case *event.Synced:
		switch b.Fact {
		case "sockets":
			m.watchers[src].synced = true
			m.urgent++
		case "nat":
			m.watchers[src].nat = true
		}
	case *event.Heartbeat:
		m.applyHeartbeat(b, src, t)
	case *event.Sockets:
		m.applySockets(ev, b, src, t)
	case *event.Traffic:
		m.applyTraffic(ev, b, src, t)
	case *event.TCPFact:
		m.applyTCP(ev, b, src, t)
	case *event.NATFact:
		m.applyNAT(ev, b, src, t)
	case *event.Table:
		m.applyTable(ev, b, t)
	}
}

// engineSource is the source of the Engine's own lines, hubSource that of what readers of a fleet's stream add to it.
const (
	engineSource = "engine"
	hubSource    = "hub"
)

// Lose counts events that could not be folded.
func (m *Model) Lose(stage string, n uint64) { m.evicted[stage] += n }

// Count counts an event that is not folded, so that totals by type are complete.
func (m *Model) Count(t event.Type) { m.counts[t]++ }
