package sockets

import (
	"cmp"
	"slices"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

const (
	// activeFor is how long ago a socket may have sent or received for it to count as active.
	activeFor = 10 * time.Second
	// maxTraffic rows are told at most; the ones with the fewest sockets are omitted and counted.
	maxTraffic = 2000
	// maxComponents are counted at most: a machine may have a million clients, each a component of its own.
	maxComponents = 1 << 15
	// Up to fewTraffic rows are told after every look, more at most once in trafficPause.
	fewTraffic   = 64
	trafficPause = time.Second
)

// component is what traffic is counted by: who speaks to whom, with the ports that mean something.
type component struct {
	netns     uint32
	local     compact.Addr
	localPort uint16 // the service's, 0 where the socket was dialled
	peer      compact.Addr
	peerPort  uint16 // the service's, 0 where the socket was accepted
}

// counted is what one component came to.
type counted struct {
	sockets    uint32
	active     uint32
	sent       uint64
	resent     uint64
	receivedAt uint64 // probes' time of the newest receive; 0: unknown
}

// traffic counts by component. What moved is summed up until it is told; the rest is of the newest look.
type traffic struct {
	rows    map[component]uint32 // counted
	counted compact.Slab[counted]
	omitted int    // components that this look had no room for
	told    uint64 // probes' time
}

func newTraffic() *traffic {
	return &traffic{rows: make(map[component]uint32), counted: compact.NewSlab[counted]()}
}

// begin starts a look. Components that had nothing left to tell are forgotten.
func (t *traffic) begin() {
	t.omitted = 0
	for c, id := range t.rows {
		n := t.counted.At(id)
		if n.sent == 0 && n.resent == 0 {
			t.forget(c, id)
			continue
		}
		n.sockets, n.active, n.receivedAt = 0, 0, 0
	}
}

// count takes a connection in.
func (t *traffic) count(s *bpf.Sock, found seen) {
	c := component{netns: s.Netns, local: s.Local, peer: s.Peer}
	if found.accepted {
		c.localPort = s.LocalPort
	} else {
		c.peerPort = s.PeerPort
	}
	id, ok := t.rows[c]
	if !ok {
		if len(t.rows) >= maxComponents {
			t.shed()
		}
		id = t.counted.Add(counted{})
		t.rows[c] = id
	}
	n := t.counted.At(id)
	n.sockets++
	if min(s.ReceivedMS, s.SentMS) < uint32(activeFor/time.Millisecond) {
		n.active++
	}
	n.sent += uint64(found.sent)
	n.resent += uint64(found.resent)
	n.receivedAt = max(n.receivedAt, found.receivedAt)
}

// shed forgets what has the fewest sockets until half of the room is free: it would not be told anyway. A component whose
// sockets come in two halves of a look may be told too small by what was forgotten of it.
func (t *traffic) shed() {
	for few := uint32(1); len(t.rows) > maxComponents/2; few *= 4 {
		for c, id := range t.rows {
			if t.counted.At(id).sockets <= few {
				t.forget(c, id)
				t.omitted++
			}
		}
	}
}

func (t *traffic) forget(c component, id uint32) {
	delete(t.rows, c)
	t.counted.Drop(id)
}

// take returns the rows that are to be told now, how many there are beyond the cap, and the span that they cover; none
// where it is too early.
func (t *traffic) take(now uint64) (rows []event.TrafficRow, omitted int, span time.Duration) {
	if t.told != 0 {
		span = time.Duration(now - t.told)
		if len(t.rows) > fewTraffic && span < trafficPause {
			return nil, 0, 0
		}
	}
	t.told = now
	rows = make([]event.TrafficRow, 0, len(t.rows))
	for c, id := range t.rows {
		n := t.counted.At(id)
		row := event.TrafficRow{
			Netns:         c.netns,
			Local:         event.Endpoint{IP: c.local.IP(), Port: c.localPort},
			Peer:          event.Endpoint{IP: c.peer.IP(), Port: c.peerPort},
			Sockets:       int(n.sockets),
			Active:        int(n.active),
			Sent:          n.sent,
			Retransmitted: n.resent,
		}
		if n.receivedAt != 0 && n.receivedAt <= now {
			row.ReceivedAge = event.Known(event.Seconds(now - n.receivedAt))
		}
		rows = append(rows, row)
		n.sent, n.resent = 0, 0
	}
	slices.SortFunc(rows, func(a, b event.TrafficRow) int {
		return cmp.Or(
			cmp.Compare(b.Sockets, a.Sockets),
			a.Peer.IP.Compare(b.Peer.IP), cmp.Compare(a.Peer.Port, b.Peer.Port),
			a.Local.IP.Compare(b.Local.IP), cmp.Compare(a.Local.Port, b.Local.Port),
			cmp.Compare(a.Netns, b.Netns),
		)
	})
	omitted = t.omitted
	if len(rows) > maxTraffic {
		omitted += len(rows) - maxTraffic
		rows = rows[:maxTraffic]
	}
	return rows, omitted, span
}
