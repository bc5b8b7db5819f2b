package model

import (
	"net/netip"
	"time"
)

// Flow is what one look saw of the flows between one local end and one hop: the denominators of blame.
type Flow struct {
	Half    uint32 // number of the half window that runs by the fold's clock
	Hop     HopKey
	Local   string // node that the sockets live on
	Pod     string // theirs
	Service string
	Peer    netip.Addr
	Active  int    // flows that moved in the last 10 s
	Bad     int    // of these that retransmitted in the running half window
	Stalled int    // of the bad ones that have no progress
	Sent    uint64 // segments since the last look, without what stalled flows sent again
	Resent  uint64 // of these sent again
	Mixed   uint32 // the second of the half window, as a bit, if something was sent again and something received in this look
}

// FlowHalf is half the window over which flows are compared: the running half and the one before. Half a minute of 200
// flows that send twice a second shows a node that loses one segment in a hundred, also where one in a thousand is lost
// anyway.
const FlowHalf = 30 * time.Second

// Follow lets f see every look at flows, as it is folded. There is one follower.
func (m *Model) Follow(f func(*Flow)) { m.follow = f }

func (m *Model) half() uint32 { return uint32(m.clock/int64(FlowHalf)) + 1 }

// resent notes a retransmission of a socket in the running half window.
func (m *Model) resent(id uint32, stalled bool) {
	half := m.half()
	if m.badHalf != half {
		m.badHalf = half
		clear(m.bad)
	}
	c := m.cells.At(m.socks.At(id).cell)
	if c.badHalf != half {
		c.badHalf, c.bad = half, 0
	}
	if stalled {
		c.repeats++
	}
	if _, known := m.bad[id]; known || len(m.bad) >= maxBad {
		return
	}
	m.bad[id] = struct{}{}
	c.bad++
}

// maxBad bounds the sockets that are known to have retransmitted in a half window; more change no verdict.
const maxBad = 1 << 17

// tellFlow hands a cell's share of a look to the follower.
func (m *Model) tellFlow(id uint32, active int, sent, resent uint64, received bool) {
	if resent > 0 {
		p := m.peers.At(m.cells.At(id).peer)
		p.lostAt = max(p.lostAt, m.clock)
	}
	if m.follow == nil || (active == 0 && sent == 0) {
		return
	}
	c := m.cells.At(id)
	half := m.half()
	bad := 0
	if c.badHalf == half {
		bad = int(c.bad)
	}
	repeats := min(uint64(c.repeats), resent)
	c.repeats = 0
	p, e := m.peers.At(c.peer), m.ends.At(c.end)
	h := m.behind(c)
	if bad > 0 {
		m.urgent++
	}
	mixed := uint32(0)
	if resent > 0 && received {
		mixed = 1 << (m.clock % int64(FlowHalf) / int64(time.Second))
	}
	m.follow(&Flow{
		Mixed: mixed,
		Half:  half, Hop: h.key, Local: m.strs.text[m.watchers[p.key.src].node], Pod: e.pod, Service: e.service, Peer: p.key.ip.IP(),
		Active: max(active, bad), Bad: bad, Stalled: min(bad, int(c.stalled)),
		Sent: sent - min(sent, repeats), Resent: resent - repeats,
	})
}

// LostThrough is when a look last saw anything sent again through a hop, 0 never.
func (m *Model) LostThrough(h *Hop) (at Instant) {
	for _, l := range m.hops.At(h.id).lanes {
		for _, p := range m.lanes.At(l).peers {
			at = max(at, Instant(m.peers.At(p).lostAt))
		}
	}
	return at
}
