package world

import (
	"fmt"
	"strconv"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// agent is midhop on a node: what its sources would tell, and how it gets out.
type agent struct {
	w       *World
	n       *node
	source  string
	alive   bool
	run     int // counts its processes
	number  uint64
	pass    uint64
	synced  bool
	batch   []event.Event
	waiting bool
	last    instant // arrival of the newest batch
	alert   instant // suspicion hurries the census until then
	deaf    bool    // its batches do not get out
	drops   bool    // its batches get lost
	delay   time.Duration
	seenNAT map[*entry]bool
}

func newAgent(w *World, n *node) *agent {
	return &agent{w: w, n: n, source: "agent/" + n.Name, seenNAT: make(map[*entry]bool)}
}

// Pace of an agent, as fleet and sources/sockets have it.
const (
	beatEvery  = time.Second / 2
	lookEvery  = 250 * time.Millisecond
	alertEvery = time.Second
	tableEvery = 5 * time.Second
	batchAfter = 100 * time.Millisecond
)

func (a *agent) start() {
	if a.alive || !a.n.runs() {
		return
	}
	a.alive, a.synced, a.pass, a.number, a.batch, a.waiting = true, false, 0, 0, nil, false
	a.run++
	run := a.run
	w := a.w
	probe := event.Probe{Fact: "probe", Rung: "census"}
	if a.n.Rung == "best" {
		probe = event.Probe{Fact: "probe", Rung: "fentry", Precise: true}
	}
	probes := []event.Probe{
		{Fact: "sockets", Rung: "iter/task_file", Precise: true}, {Fact: "nat", Rung: "ctnetlink"}, probe,
	}
	for _, f := range []string{"retransmit", "error", "reset", "state"} {
		p := event.Probe{Fact: f, Rung: "tp_btf", Precise: true}
		if a.n.Rung == "bare" {
			p = event.Probe{Fact: f}
		}
		probes = append(probes, p)
	}
	a.tell(event.StreamStarted, &event.Started{
		Host: event.Host{Node: a.n.Name, BootID: a.n.bootID(), Kernel: "6.18.0", Arch: "amd64"}, Probes: probes, Complete: true,
		Settings: map[string]int64{"tcp_retries2": 15},
	})
	a.tell(event.NodeChanged, &event.NodeFact{What: "agent", Node: event.Node{
		Name: a.n.Name, BootID: a.n.bootID(), Addresses: []event.Address{
			{IP: w.ip(a.n.ip), From: "agent eth0"}, {IP: w.ip(a.n.bridge), From: "agent cni0"},
		},
	}})
	for _, e := range a.n.table.all {
		if !e.dead {
			a.seenNAT[e] = true
			a.nat(event.NATFound, e, "dump")
		}
	}
	a.tell(event.StreamSynced, &event.Synced{Fact: "nat"})
	for _, p := range a.places() {
		for _, e := range p.ends {
			e.told = told{}
		}
	}
	a.every(run, w.chance(0, beatEvery), beatEvery, func() {
		a.tell(event.StreamHeartbeat, &event.Heartbeat{Every: event.Known(event.Seconds(beatEvery))})
		a.flush()
	})
	a.every(run, w.chance(10*time.Millisecond, lookEvery), 0, a.look)
	a.every(run, w.chance(0, tableEvery), tableEvery, a.tellTable)
}

func (n *node) bootID() string { return n.Name + "-boot-" + strconv.Itoa(n.boot) }

// every repeats something as long as this process of the agent lives; 0 stands for the pace of the census.
func (a *agent) every(run int, first, pause time.Duration, f func()) {
	var again func()
	again = func() {
		if a.run != run || !a.alive {
			return
		}
		if a.n.runs() {
			f()
		}
		next := pause
		if next == 0 {
			next = a.pace()
		}
		a.w.after(next+a.w.chance(0, 6*time.Millisecond), again)
	}
	a.w.after(first, again)
}

func (a *agent) pace() time.Duration {
	pace := max(lookEvery, a.n.Pace)
	if a.w.now < a.alert {
		pace = min(pace, alertEvery)
	}
	return pace
}

// stop ends the process; what was not sent yet is lost with it.
func (a *agent) stop() {
	a.alive, a.batch, a.waiting = false, nil, false
	clear(a.seenNAT)
}

// tell puts a fact into the batch that goes out next.
func (a *agent) tell(t event.Type, b event.Body) *event.Event {
	if !a.alive || !a.n.runs() {
		return nil
	}
	a.number++
	a.batch = append(a.batch, event.Event{
		Type: t, Time: a.w.time(a.w.now + int64(a.n.Skew)), Source: a.source,
		ID: event.ID{Origin: fmt.Sprintf("%s-b%d", a.source, a.run), N: a.number}, Body: b,
	})
	if !a.waiting {
		a.waiting = true
		run := a.run
		a.w.after(batchAfter, func() {
			if a.run == run {
				a.flush()
			}
		})
	}
	return &a.batch[len(a.batch)-1]
}

// flush sends the batch on its way. Where the node's network does not let it out, it waits for the next try.
func (a *agent) flush() {
	a.waiting = false
	if !a.alive || len(a.batch) == 0 {
		return
	}
	if !a.n.runs() || a.deaf || !a.n.Direct && (!a.n.uplink || a.n.muted()) {
		run := a.run
		a.waiting = true
		a.w.after(500*time.Millisecond, func() {
			if a.run == run {
				a.flush()
			}
		})
		return
	}
	w := a.w
	arrival := max(a.last, w.now+int64(w.chance(time.Millisecond, 5*time.Millisecond)))
	if late := a.n.Late + a.delay; late > 0 {
		arrival = max(arrival, w.now+int64(w.chance(late/2, late)))
	}
	a.last = arrival
	if !a.drops {
		for i := range a.batch {
			w.facts = append(w.facts, fact{arrival, a.batch[i]})
		}
	}
	a.batch = nil
}

// muted says whether nothing that the node sends gets out.
func (n *node) muted() bool {
	for _, f := range n.filters {
		if f.out && f.share >= 1 && f.only == 0 && f.larger == 0 && !f.fresh {
			return true
		}
	}
	return false
}

// places are the network namespaces of the node.
func (a *agent) places() []*place {
	out := []*place{a.n.host}
	for _, o := range a.w.pods {
		if o.node == a.n {
			out = append(out, o.place)
		}
	}
	return out
}

func (a *agent) nat(t event.Type, e *entry, rung string) *event.NATFact {
	w := a.w
	b := &event.NATFact{
		NAT: event.NAT{
			Proto: "tcp", Netns: a.n.host.netns, Kinds: e.kinds(),
			Original: event.Tuple{Src: w.end(e.orig.src), Dst: w.end(e.orig.dst)},
			Reply:    event.Tuple{Src: w.end(e.reply.src), Dst: w.end(e.reply.dst)},
		},
		By: event.By{Node: a.n.Name}, Rung: rung, State: ctNames[e.state],
	}
	if ev := a.tell(t, b); ev != nil {
		ev.Flow = event.FlowID(b.NAT.Original.Src, b.NAT.Original.Dst)
	}
	return b
}

var kindNames = [4][]string{1: {"snat"}, 2: {"dnat"}, 3: {"snat", "dnat"}}

func (e *entry) kinds() []string {
	k := 0
	if e.snat {
		k |= 1
	}
	if e.dnat {
		k |= 2
	}
	return kindNames[k]
}

func (a *agent) natMade(e *entry) {
	if a.alive && a.n.runs() {
		a.seenNAT[e] = true
		a.nat(event.NATCreated, e, "ctnetlink")
	}
}

func (a *agent) natEnded(e *entry, why string) {
	if !a.alive || !a.n.runs() || !a.seenNAT[e] {
		return
	}
	delete(a.seenNAT, e)
	b := a.nat(event.NATDestroyed, e, "ctnetlink")
	b.Why = why
	b.Age = event.Known(event.Seconds(a.w.now - e.made))
}

func (a *agent) tellTable() {
	t := &a.n.table
	a.tell(event.NATTable, &event.Table{
		Node: a.n.Name, Entries: uint64(t.live + t.filler), Max: uint64(t.max()), Drop: t.drop, EarlyDrop: t.early,
		InsertFailed: t.failed, Invalid: t.invalid, Events: event.Known(1),
	})
}

// refused tells that this kernel sends a reset for nobody's segment.
func (a *agent) refused(at *place, p *packet) {
	if a.n.Rung == "bare" {
		return
	}
	w := a.w
	local, peer := w.end(p.src), w.end(p.dst)
	if ev := a.tell(event.TCPReset, &event.TCPFact{
		Socket: event.Socket{Netns: at.netns, Local: local, Peer: peer, Family: w.family()},
		TCP:    event.Progress{State: "close"}, Reset: &event.Reset{By: "nobody's"},
	}); ev != nil {
		ev.Flow = event.FlowID(local, peer)
	}
}

func (w *World) family() event.Family {
	if w.plan.Family == 6 {
		return event.IPv6
	}
	return event.IPv4
}
