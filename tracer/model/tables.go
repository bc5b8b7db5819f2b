package model

import (
	"slices"

	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

// tableLook is one look at one of a node's tables of connections.
type tableLook struct {
	at   int64
	fact event.ID
	t    event.Table
}

// maxTables is how many looks at a table are kept: half a minute and more, even of one that jumps every second. A node has
// conntrack's, and those of at most so many maps.
const (
	maxTables     = 48
	maxNodeTables = 8
)

// applyTable folds a look at one of a node's tables of connections.
func (m *Model) applyTable(ev *event.Event, b *event.Table, t int64) {
	n := m.inv.node(b.Node)
	i := slices.IndexFunc(n.tables, func(l []tableLook) bool { return l[0].t.Table == b.Table })
	if i < 0 {
		if len(n.tables) == maxNodeTables {
			m.evicted["model.tables"]++
			return
		}
		i = len(n.tables)
		n.tables = append(n.tables, nil)
	}
	looks := n.tables[i]
	if len(looks) > 0 {
		switch last := &looks[len(looks)-1].t; {
		case b.Drop < last.Drop || b.InsertFailed < last.InsertFailed || b.PortsGone.V < last.PortsGone.V:
			looks = looks[:0] // the counters began anew: another boot, or the map was made anew
		case b.Drop > last.Drop || b.InsertFailed > last.InsertFailed || b.EarlyDrop > last.EarlyDrop || b.PortsGone.V > last.PortsGone.V:
			m.urgent++
			m.inv.refusing[b.Node] = true
		}
	} else if b.Drop+b.InsertFailed+b.EarlyDrop+b.PortsGone.V > 0 {
		m.urgent++
		m.inv.refusing[b.Node] = true
	}
	if len(looks) == maxTables {
		looks = append(looks[:0], looks[1:]...)
	}
	n.tables[i] = append(looks, tableLook{t, ev.ID, *b})
}

// fullest is the newest look at that of a node's tables which is the fullest, by its share of entries.
func (n *node) fullest() (t event.Table) {
	share := -1.0
	for _, looks := range n.tables {
		if l := &looks[len(looks)-1].t; float64(l.Entries)/float64(max(l.Max, 1)) > share {
			share, t = float64(l.Entries)/float64(max(l.Max, 1)), *l
		}
	}
	return t
}

// translates reports whether a node's tables have held a translated connection; told is false where no agent said so or the
// contrary.
func (n *node) translates() (yes, told bool) {
	for _, looks := range n.tables {
		is := looks[len(looks)-1].t.Translates
		yes, told = yes || is.V, told || is.OK
	}
	return yes, told
}

// Refusing returns the names of nodes whose conntrack has refused entries at some time, in the order in which the nodes
// were met.
func (m *Model) Refusing() []string {
	if len(m.inv.refusing) == 0 {
		return nil
	}
	var out []string
	for _, name := range m.inv.order {
		if m.inv.refusing[name] {
			out = append(out, name)
		}
	}
	return out
}

// Refused is how one of a node's tables has refused entries lately.
type Refused struct {
	Table                         string // name of a dataplane's map, empty for conntrack
	Entries, Max                  uint64 // at the newest look
	Drop, EarlyDrop, InsertFailed uint64 // since From
	PortsGone                     uint64 // connections that found no masquerade port, where the table counts them
	Rises                         int    // looks that found more than the one before
	From                          Instant
	Began                         Instant // first look that found more than the one before
	Rose                          Instant // newest look that found more than the one before
	Refs                          []string
}

// Total is how many entries were refused.
func (r *Refused) Total() uint64 { return r.Drop + r.EarlyDrop + r.InsertFailed + r.PortsGone }

// RefusedBy sums up what that table of a node has refused since then which has refused the most.
func (m *Model) RefusedBy(name string, since Instant) Refused {
	var most Refused
	n := m.inv.nodes[name]
	if n == nil {
		return most
	}
	for i, looks := range n.tables {
		if r := refusedBy(looks, since); i == 0 || r.Total() > most.Total() {
			most = r
		}
	}
	return most
}

func refusedBy(looks []tableLook, since Instant) Refused {
	r := Refused{Table: looks[0].t.Table}
	for i := 1; i < len(looks); i++ {
		a, b := &looks[i-1], &looks[i]
		if Instant(b.at) < since {
			continue
		}
		if r.From == 0 {
			r.From = Instant(a.at)
		}
		was := r.Total()
		r.Drop += b.t.Drop - a.t.Drop
		r.EarlyDrop += b.t.EarlyDrop - a.t.EarlyDrop
		r.InsertFailed += b.t.InsertFailed - a.t.InsertFailed
		r.PortsGone += b.t.PortsGone.V - a.t.PortsGone.V
		r.Entries, r.Max = b.t.Entries, b.t.Max
		if r.Total() > was {
			if r.Rises++; r.Began == 0 {
				r.Began = Instant(b.at)
			}
			r.Rose = Instant(b.at)
			r.Refs = append(r.Refs, idText(b.fact))
		}
	}
	return r
}

// crowdKey is what translated connections share that must differ in their masquerade port: a node's address towards one
// pod's port.
type crowdKey struct {
	node    uint32
	backend compact.Ref
	port    uint16
	from    compact.Ref
}

func (l *ledger) crowd(e *entry) crowdKey {
	return crowdKey{e.node, e.replySrc, e.replySPort, e.replyDst}
}

// leaveCrowd takes an entry out of the count of those that share its masquerade ports, once.
func (l *ledger) leaveCrowd(e *entry) {
	if !e.snat || e.uncrowded {
		return
	}
	e.uncrowded = true
	k := l.crowd(e)
	c := l.crowds[k]
	if c.n--; c.n <= 0 {
		delete(l.crowds, k)
		return
	}
	l.crowds[k] = c
}

// crowd is what entries that share their masquerade ports come to.
type crowd struct {
	n         int32
	low, high uint16 // of the ports that were ever seen in use
	grown     int64  // when the newest of these two was first seen
}

func (c crowd) with(port uint16, t int64) crowd {
	switch {
	case c.n == 0:
		c.low, c.high, c.grown = port, port, t
	case port < c.low:
		c.low, c.grown = port, t
	case port > c.high:
		c.high, c.grown = port, t
	}
	c.n++
	return c
}

// Crowd is the part of a node's conntrack table that shares one pod's port, and so one set of masquerade ports.
type Crowd struct {
	Backend   event.Endpoint
	Entries   int
	Low, High uint16  // masquerade ports that were ever seen in use
	Grown     Instant // when the newest of these two was first seen
}

// Ports is how many ports there are from the lowest to the highest.
func (c *Crowd) Ports() int { return int(c.High) - int(c.Low) + 1 }

// CrowdedAt returns the largest crowd of a node's table of which fits holds, one without entries where there is none.
func (m *Model) CrowdedAt(name string, fits func(*Crowd) bool) Crowd {
	var out Crowd
	id := m.strs.of(name)
	for k, n := range m.ledger.crowds {
		if k.node != id {
			continue
		}
		c := Crowd{event.Endpoint{IP: m.hosts.Addr(k.backend).IP(), Port: k.port}, int(n.n), n.low, n.high, Instant(n.grown)}
		if c.Entries < out.Entries || c.Entries == out.Entries && !before(c.Backend, out.Backend) || !fits(&c) {
			continue
		}
		out = c
	}
	return out
}

func before(a, b event.Endpoint) bool { return a.IP.Less(b.IP) || a.IP == b.IP && a.Port < b.Port }

// attempt is a connection attempt that was not answered.
type attempt struct {
	at   int64
	fact event.ID
}

const maxAttempts = 64

func (h *hop) attempt(fact event.ID, t int64) {
	if len(h.attempts) == maxAttempts {
		h.attempts = append(h.attempts[:0], h.attempts[1:]...)
	}
	h.attempts = append(h.attempts, attempt{t, fact})
}

// Attempts returns the unanswered connection attempts through a hop since then, as far as they are kept.
func (m *Model) Attempts(h *Hop, since Instant) (n int, refs []string) {
	for _, a := range m.hops.At(h.id).attempts {
		if Instant(a.at) >= since {
			n++
			refs = append(refs, idText(a.fact))
		}
	}
	return n, refs
}
