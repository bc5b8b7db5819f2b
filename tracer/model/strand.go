package model

import (
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// A socket is stranded while it lives and the node that it crosses has forgotten how to translate it: whatever it sends
// next is answered by a reset, or by nothing.

// Loss says what took the conntrack entry of a connection that was still open.
type Loss uint8

// The losses.
const (
	LossNone    Loss = iota
	LossFlushed      // deleted before its time: somebody emptied the table, or its address went
	LossExpired      // its time was over: nothing had moved for that long
	LossReboot       // the node began anew
	LossRefused      // the node itself answered what the pod sent with a reset: it did not know the connection
	LossUnsaid       // it is not there any more, and nobody saw why
	lossClosed       // none: its ends had closed it, and the socket's own end is on its way here
)

func lossOf(why string) Loss {
	switch why {
	case "flushed":
		return LossFlushed
	case "timeout":
		return LossExpired
	case "netns":
		return LossReboot
	case "closed":
		return lossClosed
	}
	return LossUnsaid
}

// strand marks a socket whose entry is gone.
func (m *Model) strand(id uint32, ev *event.Event) {
	r := m.socks.At(id)
	switch {
	case r.flags&fStranded != 0 || r.flags&(fCounted|fMirror) == 0 || m.words.text[r.state] != "established":
		return
	case r.entry != 0 && m.ledger.entries.At(r.entry).lost == lossClosed:
		return
	}
	if _, removed := m.inv.podGone[m.local(r).IP()]; removed {
		return // whoever cleans up behind a pod deletes its entries too
	}
	m.recount(id, func(r *row) { r.flags |= fStranded })
	m.urgent++
	crosses := m.behind(m.cells.At(r.cell)).key
	if m.former(crosses) {
		return // who has the name since never had the entry
	}
	name := crosses.Name
	if r.entry != 0 {
		name = m.strs.text[m.ledger.entries.At(r.entry).node]
	}
	m.lose(name, m.lossOf(id), ev, 0, false)
}

// lose notes that a node forgot one more open connection, which had been silent for so long where that is known, and whether
// it has answered with a reset already.
func (m *Model) lose(name string, why Loss, ev *event.Event, silent int64, reset bool) {
	n := m.inv.nodes[name]
	if n == nil {
		return
	}
	if len(n.losses) == 0 && !slices.Contains(m.inv.forgetful, name) {
		m.inv.forgetful = append(m.inv.forgetful, name)
	}
	n.lose(why, ev, silent, reset)
	m.urgent++
}

// losses are open connections that a node forgot at about one moment and for one reason.
type losses struct {
	why         Loss
	n           int
	resets      int   // of these were answered with a reset that the node told
	least       int64 // shortest silence before a refused one, 0 unknown
	first, last int64
	fact        event.ID // of the first
}

// Losses that are less than lossGap apart are one; so many are kept of a node.
const (
	lossGap   = int64(10e9)
	maxLosses = 64
)

func (n *node) lose(why Loss, ev *event.Event, silent int64, reset bool) {
	t, resets := ev.Time.UnixNano(), 0
	if reset {
		resets = 1
	}
	for i := range n.losses {
		if l := &n.losses[i]; l.why == why && t >= l.first-lossGap && t <= l.last+lossGap {
			l.n, l.resets = l.n+1, l.resets+resets
			if silent > 0 && (l.least == 0 || silent < l.least) {
				l.least = silent
			}
			l.first, l.last = min(l.first, t), max(l.last, t)
			return
		}
	}
	if len(n.losses) == maxLosses {
		n.losses = append(n.losses[:0], n.losses[1:]...)
	}
	n.losses = append(n.losses, losses{why: why, n: 1, resets: resets, least: silent, first: t, last: t, fact: ev.ID})
}

// Forgotten are open connections that a node forgot at about one moment and for one reason.
type Forgotten struct {
	Why         Loss
	Sockets     int
	Resets      int           // of these the node has answered with a reset, and told so
	Least       time.Duration // the shortest silence before one of these resets, 0 unknown
	First, Last Instant
	Fact        string
}

// Forgot returns what a node has forgotten while it was needed, oldest first.
func (m *Model) Forgot(name string) []Forgotten {
	n := m.inv.nodes[name]
	if n == nil {
		return nil
	}
	var out []Forgotten
	for _, l := range n.losses {
		out = append(out, Forgotten{Why: l.why, Sockets: l.n, Resets: l.resets, Least: time.Duration(l.least), First: Instant(l.first), Last: Instant(l.last), Fact: idText(l.fact)})
	}
	return out
}

// Rebooted returns when a node was first said to have another boot id than before, and the fact that said so; 0 where it
// never was.
func (m *Model) Rebooted(name string) (at Instant, fact string) {
	n := m.inv.nodes[name]
	if n == nil {
		return 0, ""
	}
	return Instant(n.bootAt), n.bootIs
}

// Forgetful returns the names of the nodes that have forgotten open connections, in the order in which they were met.
func (m *Model) Forgetful() []string {
	return m.inv.forgetful
}

// rescue takes the mark off a socket that received something after its entry was gone.
func (m *Model) rescue(id uint32, at int64) {
	r := m.socks.At(id)
	if r.flags&fStranded == 0 {
		return
	}
	since := int64(0)
	if w, ok := m.ways[id]; ok {
		since = w.at
	} else if r.entry != 0 {
		since = m.ledger.entries.At(r.entry).died
	} else if n := m.inv.nodes[m.behind(m.cells.At(r.cell)).key.Name]; n != nil {
		since = n.bootAt
	}
	if at > since+sameMoment {
		m.findWay(id)
	}
}

// sameMoment is how far apart two machines' clocks may put one moment.
const sameMoment = int64(250e6)

// lossOf returns what took the entry of a row's connection while it was open.
func (m *Model) lossOf(id uint32) Loss {
	r := m.socks.At(id)
	w, dialled := m.ways[id]
	switch {
	case r.flags&fRefused != 0:
		return LossRefused
	case r.flags&fStranded == 0:
		return LossNone
	case dialled:
		return w.lost
	case r.entry != 0:
		return m.ledger.entries.At(r.entry).lost
	}
	return LossReboot
}

// boot notes the boot id that a node is said to have. A new one, not one that somebody tells late, is a reboot: all that
// the node translated is forgotten.
func (m *Model) boot(n *node, id string, ev *event.Event) {
	if id == "" {
		return
	}
	for _, old := range n.boots {
		if old == id {
			return
		}
	}
	n.boots = append(n.boots, id)
	if len(n.boots) > maxBoots {
		n.boots = n.boots[1:]
	}
	if len(n.boots) == 1 {
		return
	}
	n.bootAt, n.bootIs = ev.Time.UnixNano(), idText(ev.ID)
	m.strandAll(n.name, ev)
	m.urgent++
}

// maxBoots is how many boot ids of a node are told apart.
const maxBoots = 8

// strandAll strands every connection that crosses a node, which it has forgotten as of t. It walks all entries and
// sockets: reboots are rare.
func (m *Model) strandAll(name string, ev *event.Event) {
	id := m.strs.of(name)
	l := m.ledger
	for e := uint32(1); e < l.entries.End(); e++ {
		if en := l.entries.At(e); en.live && en.node == id && !en.gone {
			m.destroyEntry(e, LossReboot, ev)
		}
	}
	for s := uint32(1); s < m.socks.End(); s++ {
		r := m.socks.At(s)
		if r.cell == 0 || r.entry != 0 || r.flags&(fStranded|fClosed) != 0 {
			continue
		}
		if h := m.behind(m.cells.At(r.cell)); h.key.Kind == KindNode && h.key.Name == name && !m.former(h.key) {
			m.strand(s, ev)
		}
	}
}

// Pick is a connection that a node met in mid-stream (nf_conntrack_tcp_loose): the first state of its entry is
// established. The node had lost it, or another node had translated it until then.
type Pick struct {
	At     Instant
	Node   string // that met it
	From   string // that still has an entry of it too; empty: nobody known
	VIP    event.Endpoint
	Client netip.Addr
	Fact   string
}

// pick is the same without names.
type pick struct {
	at         int64
	node, from uint32 // names
	vip        addr
	port       uint16
	client     addr
	cport      uint16
	fact       event.ID
}

// Picks are kept for a while, and only so many.
const (
	maxPicks  = 4096
	picksKept = int64(60e9)
)

// pickUp notes an entry that begins in mid-stream.
func (m *Model) pickUp(e *origKey, fact event.ID, t int64) {
	p := pick{at: t, node: e.node, vip: e.tuple.peer, port: e.tuple.pport, client: e.tuple.local, cport: e.tuple.lport, fact: fact}
	if id := m.ledger.byDialled.Get(e.tuple); id != 0 {
		if o := m.ledger.entries.At(id); o.node != e.node && !o.gone {
			p.from = o.node
		}
	}
	if len(m.picks) >= maxPicks {
		m.picks = append(m.picks[:0], m.picks[maxPicks/2:]...)
		m.evicted["model.picks"] += maxPicks / 2
	}
	m.picks = append(m.picks, p)
	m.urgent++
}

// heldBefore notes which node had a connection that another one has met in mid-stream, where that is told later: a hub reads
// ledgers only when it has a reason to, and a dump takes its time.
func (m *Model) heldBefore(e *origKey) {
	for i := len(m.picks) - 1; i >= 0; i-- {
		p := &m.picks[i]
		if p.client == e.tuple.local && p.cport == e.tuple.lport && p.vip == e.tuple.peer && p.port == e.tuple.pport && p.node != e.node {
			if p.from == 0 {
				p.from = e.node
				m.urgent++
			}
			return
		}
	}
}

// handedLeast is how many connections that were met in mid-stream make it worth asking who had them; maxHanded bounds whom
// to ask.
const (
	handedLeast = 3
	maxHanded   = 8
)

// handedNews is how long a connection that a node met in mid-stream is worth asking about.
const handedNews = int64(20e9)

// Handed returns the nodes that may have had connections which others have met in mid-stream lately, and of which nobody is
// known to have had them: those that sockets in trouble cross.
func (m *Model) Handed() []string {
	since, unknown := m.clock-handedNews, 0
	met := make(map[uint32]bool)
	for i := range m.picks {
		if p := &m.picks[i]; p.at >= since && p.from == 0 {
			unknown++
			met[p.node] = true
		}
	}
	if unknown < handedLeast {
		return nil
	}
	var out []string
	for _, h := range m.Sick() {
		if h.Key.Kind == KindNode && h.Troubled() >= handedLeast && !met[m.strs.of(h.Key.Name)] && len(out) < maxHanded {
			out = append(out, h.Key.Name)
		}
	}
	return out
}

// Picks returns the connections that nodes met in mid-stream since then, oldest first.
func (m *Model) Picks(since Instant) []Pick {
	var out []Pick
	for i := range m.picks {
		p := &m.picks[i]
		if Instant(p.at) < since {
			continue
		}
		out = append(out, Pick{
			At: Instant(p.at), Node: m.strs.text[p.node], From: m.strs.text[p.from],
			VIP: event.Endpoint{IP: p.vip.IP(), Port: p.port}, Client: p.client.IP(), Fact: idText(p.fact),
		})
	}
	return out
}
