package fleet

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// recalls is the memory of what was read back. It grows with incidents and their sockets, not with connections.
type recalls struct {
	entries atomic.Uint64
	passed  skips
	asked   map[string]map[legKey]struct{} // by incident: sockets that the ledger was asked for
	unnamed map[string]time.Time           // nodes whose ledgers were read for sockets in trouble, and when
}

// legKey is the inner leg of a translated connection, as the pod's socket has it.
type legKey struct{ local, peer event.Endpoint }

// handed is before a node's name, instead of an incident's id, where its ledger is asked who had connections that another
// node has met in mid-stream.
const handed = "handed "

// unnamed is the same where it is asked who stands behind sockets in trouble.
const unnamed = "unnamed "

// Ledgers that are read for sockets in trouble: each so often, and so many at a time.
const (
	unnamedEvery = 20 * time.Second
	maxUnnamed   = 4
)

// recallEvery is the time between two looks at one incident's sockets.
const recallEvery = 500 * time.Millisecond

// recall reads the ledgers of nodes that incidents name, and puts what it finds of the incidents' sockets into the stream
// of facts, where every hub folds it.
func (h *Hub) recall(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-h.follower.Live(): // before, the stream may yet hold what another hub has recalled
	}
	h.recalls.asked, h.recalls.unnamed = make(map[string]map[legKey]struct{}), make(map[string]time.Time)
	pending := make(map[string]string) // incident -> node
	timer := time.NewTimer(recallEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-h.wanted:
			pending[b.Incident.ID] = b.Incident.Culprit.Name
		case <-timer.C:
			// Whose connections went to another node is no incident yet: it takes the ledger to see it.
			nodes, err := h.opts.Fold.Handed(ctx)
			for _, node := range nodes {
				pending[handed+node] = node
			}
			if err == nil && len(nodes) == 0 {
				maps.DeleteFunc(h.recalls.asked, func(id string, _ map[legKey]struct{}) bool { return strings.HasPrefix(id, handed) })
			}
			h.unnamed(ctx, pending)
			for id, node := range pending {
				delete(pending, id)
				if err := h.recallFor(ctx, id, node); err != nil && ctx.Err() == nil {
					h.log.Warn("a ledger cannot be recalled", "node", node, "error", err)
				}
			}
			timer.Reset(recallEvery)
		}
	}
}

// unnamed adds nodes through which sockets in trouble have clients that nobody knows. It is trouble of everyday life too: a
// node's ledger is not read again for it before its time, and of many nodes a few are read at a time.
func (h *Hub) unnamed(ctx context.Context, pending map[string]string) {
	nodes, err := h.opts.Fold.Unnamed(ctx)
	if err != nil {
		return
	}
	maps.DeleteFunc(h.recalls.asked, func(id string, _ map[legKey]struct{}) bool {
		node, is := strings.CutPrefix(id, unnamed)
		return is && !slices.Contains(nodes, node)
	})
	now, few := time.Now(), maxUnnamed
	maps.DeleteFunc(h.recalls.unnamed, func(_ string, at time.Time) bool { return now.Sub(at) >= unnamedEvery })
	for _, node := range nodes {
		if _, lately := h.recalls.unnamed[node]; lately || few == 0 {
			continue
		}
		few--
		h.recalls.unnamed[node] = now
		pending[unnamed+node] = node
	}
}

// recallFor asks a node's ledger for the sockets of an incident that it was not asked for yet.
func (h *Hub) recallFor(ctx context.Context, id, node string) error {
	sockets, err := h.opts.Fold.Nameless(ctx, node)
	if err != nil {
		return err
	}
	asked := h.recalls.asked[id]
	if asked == nil {
		asked = make(map[legKey]struct{})
		h.recalls.asked[id] = asked
	}
	want := make(map[legKey]*recalled)
	for i := range sockets {
		k := legKey{sockets[i].Local, sockets[i].Peer}
		if _, ok := asked[k]; !ok {
			asked[k] = struct{}{}
			want[k] = nil
		}
	}
	if len(want) == 0 {
		return nil
	}
	// Two checkpoints back: the node may have died during one.
	r, err := follow(h.conn, StreamLedger, subjectLedger+token(node), 0, time.Now().Add(-warmUp))
	if err != nil {
		return err
	}
	defer r.close()
	u, err := newUnpacker()
	if err != nil {
		return err
	}
	next := make(map[string]uint64) // by origin: the number that follows
	err = r.all(ctx, func(m *message) error {
		why := notABatch(m)
		var events []event.Event
		if why == nil {
			events, _, why = u.unpack(m.data)
		}
		if why != nil {
			h.recalls.passed.by(StreamLedger, m, why) // the rest of the ledger is worth having
			return nil
		}
		origin := m.header.Get(headerOrigin)
		if first, err := strconv.ParseUint(m.header.Get(headerFirst), 10, 64); err == nil && first > 0 {
			seen := next[origin] - min(next[origin], first) // a batch may come twice, or late
			events = events[min(seen, uint64(len(events))):]
			next[origin] = max(next[origin], first+countOf(m))
		}
		for i := range events {
			match(want, &events[i], node)
		}
		return nil
	})
	if err != nil {
		return err
	}
	found := 0
	for _, x := range want {
		if x == nil || x.entry == nil {
			continue
		}
		found++
		h.put(x.entry)
		if x.end != nil {
			h.put(x.end)
		}
	}
	h.recalls.entries.Add(uint64(found))
	h.log.Info("a ledger was recalled", "node", node, "incident", id, "sockets", len(want), "found", found)
	return nil
}

// recalled is the newest entry of one socket, and its end where it had one.
type recalled struct{ entry, end *event.Event }

// match keeps what a fact of a ledger says of a wanted socket.
func match(want map[legKey]*recalled, e *event.Event, node string) {
	b, ok := e.Body.(*event.NATFact)
	if !ok || b.By.Node != node {
		return
	}
	// A pod sends from the source of the entry's reply to the reply's destination.
	k := legKey{b.NAT.Reply.Src, b.NAT.Reply.Dst}
	x, wanted := want[k]
	if !wanted {
		return
	}
	if x == nil {
		x = &recalled{}
		want[k] = x
	}
	// The origin's numbers stay with the ledger; in the stream of facts these are the hub's.
	told := event.Event{Type: e.Type, Time: e.Time, Source: hubSource, Flow: e.Flow, Body: b}
	switch e.Type {
	case event.NATDestroyed:
		x.end = &told
	case event.NATFound, event.NATCreated:
		told.Type = event.NATRecalled
		x.entry, x.end = &told, nil
	}
}
