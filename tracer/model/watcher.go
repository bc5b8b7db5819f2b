package model

import (
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// HeartbeatInterval is how often an agent says that it is alive at least, in nanoseconds of its own time.
const HeartbeatInterval int64 = 1e9

// maxLate bounds what an agent's late heartbeats can ask for: what was away for longer was away.
const maxLate = HeartbeatInterval

// watcher is one source that looks at a machine's sockets or speaks for it.
type watcher struct {
	source   string
	node     uint32 // names
	origin   string // of its ids: changes when its process starts anew
	bootID   string
	first    int64
	heard    int64 // newest fact
	heardID  event.ID
	beats    bool  // has sent a heartbeat: its silence means something
	beat     int64 // newest heartbeat
	every    int64 // until the next one, as it said
	late     int64 // how much later than that one came lately, fading by a 64th with each
	probes   []event.Probe
	settings map[string]int64
	sockets  int
	lanes    []uint32

	synced  bool   // its first census is complete
	nat     bool   // its first look at the NAT table is complete
	pass    uint64 // the newest census it wrote traffic of
	passAt  int64  // time of that census' newest line
	partial bool   // that census left rows out
	look    int64  // up to here every receive of its sockets is known
}

// trafficRows is the most rows of one path.traffic line: a shorter one is the last of its look.
const trafficRows = 200

// watch returns the watcher of a fact's source, and notes that it was heard.
func (m *Model) watch(ev *event.Event, t int64) uint32 {
	id, ok := m.watcherOf[ev.Source]
	if !ok {
		w := watcher{source: ev.Source, first: t}
		if node, found := strings.CutPrefix(ev.Source, "agent/"); found {
			w.node = m.strs.of(node)
		} else {
			w.node = m.strs.of(m.opts.Node)
		}
		id = uint32(len(m.watchers))
		m.watchers = append(m.watchers, w)
		m.watcherOf[ev.Source] = id
	}
	w := &m.watchers[id]
	if t >= w.heard {
		w.heard, w.heardID = t, ev.ID
	}
	return id
}

// watches says whether the source looks at a machine, or speaks for one: not only opened a stream.
func (w *watcher) watches() bool { return w.beats || w.passAt != 0 || fromAgent(w.source) }

// speaks says whether facts of this type come from a machine's watcher rather than from an inventory.
func speaks(t event.Type) bool {
	switch t {
	case event.NodeChanged, event.PodChanged, event.ServiceChanged, event.NodeAsked, event.StreamLost, event.StreamSynced:
		return false
	}
	return true
}

func (m *Model) applyStarted(ev *event.Event, b *event.Started, id uint32) {
	w := &m.watchers[id]
	if node := m.strs.of(b.Host.Node); node != 0 && node != w.node {
		w.node = node
		m.addrs.touchSource(id)
		for end := uint32(1); end < m.ends.End(); end++ {
			if e := m.ends.At(end); e.cells > 0 && e.src == id {
				m.nameEnd(id, uint32(end))
			}
		}
	}
	if over := m.addrs.balance(b.Balancers); over > 0 {
		m.Lose("balancers", uint64(over))
	}
	m.settle()
	if w.origin != "" && w.origin != ev.ID.Origin {
		m.dropSockets(id) // another process, and maybe another boot: its sockets are told anew
		w = &m.watchers[id]
		w.synced, w.nat, w.pass, w.passAt, w.partial, w.look = false, false, 0, 0, false, 0
	}
	w.origin, w.bootID = ev.ID.Origin, b.Host.BootID
	w.probes, w.settings = b.Probes, b.Settings
}

// applyHeartbeat notes when the next one is due, and how punctual this one was: when it was sent, and when it came, after
// facts of others that are younger.
func (m *Model) applyHeartbeat(b *event.Heartbeat, id uint32, t int64) {
	w := &m.watchers[id]
	if !w.beats {
		w.beats = true
		m.urgent++ // from now on its silence means something
	}
	if w.beat != 0 && t > w.beat {
		w.late = max(w.late-w.late/64, min(max(t-w.beat-w.every, m.clock-t), maxLate))
	}
	w.beat, w.every = max(w.beat, t), HeartbeatInterval
	if b.Every.OK && b.Every.V > 0 {
		w.every = min(int64(b.Every.V), HeartbeatInterval)
	}
}

// applyTraffic folds what a census counted. The newest receive of a peer is the sign of life of everything before it, so
// it matters up to when it is known: that is the time of a census whose rows are all in.
func (m *Model) applyTraffic(ev *event.Event, b *event.Traffic, src uint32, t int64) {
	w := &m.watchers[src]
	if b.Pass != w.pass {
		if !w.partial {
			w.look = max(w.look, w.passAt)
		}
		w.pass, w.partial = b.Pass, false
	}
	w.partial = w.partial || b.Omitted > 0
	w.passAt = t - int64(b.Took) // what the look cost is about how long ago its first socket was read
	w.sockets = b.Total
	for i := range b.Rows {
		m.applyTrafficRow(ev, b, &b.Rows[i], src, t)
	}
	if len(b.Rows) < trafficRows && !w.partial {
		w.look = max(w.look, w.passAt)
	}
}

func (m *Model) applyTrafficRow(ev *event.Event, b *event.Traffic, r *event.TrafficRow, src uint32, t int64) {
	if !r.Peer.IP.IsValid() {
		return
	}
	dialled := r.Peer.Port != 0 || r.Local.Port == 0
	k := peerKey{src: src, ip: pack(r.Peer.IP), dialled: dialled, self: r.Peer.IP == r.Local.IP || r.Local.IP.IsLoopback()}
	heard := t
	if r.ReceivedAge.OK {
		heard = t - int64(r.ReceivedAge.V)
	}
	// One row is of all sockets to the address, whoever held it when they began; what they received came from its holder then.
	for now := m.addrs.tenureNow(r.Peer.IP); k.tenure < now; k.tenure++ {
		if id, ok := m.peerByKey[k]; ok {
			m.peers.At(id).look = t - int64(b.Took)
		}
	}
	k.tenure = m.addrs.tenureAt(r.Peer.IP, heard)
	id := m.peerOf(k)
	p := m.peers.At(id)
	p.look = t - int64(b.Took)
	if c := m.cellByKey[cellKey{id, m.endByKey[endKey{src, pack(r.Local.IP), r.Local.Port}]}]; c != 0 {
		ce := m.cells.At(c)
		if ce.pass != b.Pass {
			ce.pass, ce.active = b.Pass, 0
		}
		ce.active += r.Active
		m.tellFlow(c, r.Active, r.Sent, r.Retransmitted, r.ReceivedAge.OK && r.ReceivedAge.V <= b.Span+b.Took)
	}
	p.retrans += r.Retransmitted
	p.factID, p.factAt = ev.ID, t
	if r.ReceivedAge.OK {
		p.cadence.see(b.Pass, t, t-int64(r.ReceivedAge.V))
		m.heardThrough(id, t-int64(r.ReceivedAge.V))
	}
}
