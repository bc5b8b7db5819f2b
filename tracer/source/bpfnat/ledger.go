package bpfnat

import (
	"time"

	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

// translation is what one pass over a dataplane's maps says of one live connection.
type translation struct {
	original event.Tuple // the client to what it dialled
	reply    event.Tuple // the backend to what it sees as its peer
	hop      event.Hop   // the node in the middle, where the backend's peer address does not name it
	state    string      // conntrack's word, empty: not told
	created  time.Time   // zero: not told
	expires  time.Time   // when its owner forgets it if nothing moves any more; zero: not told
}

// key is a connection as its client began it.
type key struct {
	src, dst         compact.Addr
	srcPort, dstPort uint16
}

func keyOf(t event.Tuple) key {
	return key{compact.Pack(t.Src.IP), compact.Pack(t.Dst.IP), t.Src.Port, t.Dst.Port}
}

func (k key) tuple() event.Tuple {
	return event.Tuple{Src: endpoint(k.src.IP(), k.srcPort), Dst: endpoint(k.dst.IP(), k.dstPort)}
}

// record is what the ledger keeps of a translation: no pointers.
type record struct {
	src, dst, replySrc, replyDst compact.Ref
	srcPort, dstPort             uint16
	replySPort, replyDPort       uint16
	hop                          uint32 // number among the ledger's hops, 0: none
	state                        uint8  // number among states
	live                         bool
	pass                         uint32 // the newest pass that met it
	created                      int64  // Unix nanoseconds, 0: not known
	expires                      int64  // the same
}

// states are the words for the state of a connection; the first is none.
var states = []string{"", "syn_sent", "syn_recv", "established", "fin_wait", "close"}

func stateNumber(name string) uint8 {
	for i, s := range states {
		if s == name {
			return uint8(i)
		}
	}
	return 0
}

// ledger knows the translations of one dataplane and tells what has come and gone between passes.
type ledger struct {
	node, rung string
	netns      uint32
	max        int // most translations kept

	index  compact.Index[key]
	rows   compact.Slab[record]
	hosts  compact.Addrs
	hops   compact.Shared[event.Hop]
	passes uint32
	passAt time.Time // when the newest pass began
	lastAt time.Time // when the one before it began
	over   uint64    // translations that found no room in the newest pass
	out    []event.Event
}

// maxTranslations is how many translations of one dataplane are kept: some 64 bytes each. Cilium's largest maps have room
// for 2.3 million.
const maxTranslations = 2_500_000

func newLedger(node, rung string, netns uint32) *ledger {
	l := &ledger{node: node, rung: rung, netns: netns, max: maxTranslations, rows: compact.NewSlab[record](), hosts: compact.NewAddrs(), hops: compact.NewShared[event.Hop]()}
	l.index = compact.NewIndex(func(i uint32) key { return l.key(l.rows.At(i)) })
	return l
}

func (l *ledger) key(r *record) key {
	return key{l.hosts.Addr(r.src), l.hosts.Addr(r.dst), r.srcPort, r.dstPort}
}

func (l *ledger) reply(r *record) event.Tuple {
	return event.Tuple{
		Src: endpoint(l.hosts.Addr(r.replySrc).IP(), r.replySPort), Dst: endpoint(l.hosts.Addr(r.replyDst).IP(), r.replyDPort),
	}
}

// begin starts a pass.
func (l *ledger) begin(now time.Time) {
	l.passes++
	l.lastAt, l.passAt = l.passAt, now
	l.over = 0
}

// see takes in a translation that is alive.
func (l *ledger) see(t *translation, now time.Time) {
	k := keyOf(t.original)
	i := l.index.Get(k)
	if i != 0 {
		r := l.rows.At(i)
		if l.reply(r) == t.reply && *l.hops.At(r.hop) == t.hop {
			r.pass, r.state, r.expires = l.passes, stateNumber(t.state), nanos(t.expires)
			return
		}
		l.end(i, now, "unknown")
	}
	if l.rows.Len() >= l.max {
		l.over++
		return
	}
	r := record{
		src: l.hosts.Hold(k.src), dst: l.hosts.Hold(k.dst), srcPort: k.srcPort, dstPort: k.dstPort,
		replySrc: l.hosts.Hold(compact.Pack(t.reply.Src.IP)), replyDst: l.hosts.Hold(compact.Pack(t.reply.Dst.IP)),
		replySPort: t.reply.Src.Port, replyDPort: t.reply.Dst.Port,
		state: stateNumber(t.state), live: true, pass: l.passes, created: nanos(t.created), expires: nanos(t.expires),
	}
	if t.hop != (event.Hop{}) {
		r.hop = l.hops.Hold(t.hop)
	}
	i = l.rows.Add(r)
	l.index.Put(k, i)
	kind, at := event.NATFound, now
	if l.passes > 1 {
		kind = event.NATCreated
		if !t.created.IsZero() && t.created.Before(now) && t.created.After(l.lastAt) {
			at = t.created
		}
	}
	l.tell(kind, l.rows.At(i), at)
}

// knows reports whether a translation was told.
func (l *ledger) knows(original, reply event.Tuple) bool {
	i := l.index.Get(keyOf(original))
	return i != 0 && l.reply(l.rows.At(i)) == reply
}

// finish ends a pass: what it did not meet is gone. pressed says that the maps are so full that their owner evicts what lives.
func (l *ledger) finish(now time.Time, pressed bool) {
	for i := uint32(1); i < l.rows.End(); i++ {
		if r := l.rows.At(i); r.live && r.pass != l.passes {
			l.end(i, now, l.why(r, pressed))
		}
	}
}

// why says what ended a translation, as far as it can be known: one whose ends had closed it was closed, one whose time had
// come has expired, and one that is gone before its time was deleted, unless the map had to make room.
func (l *ledger) why(r *record, pressed bool) string {
	switch {
	case states[r.state] == "close" || states[r.state] == "fin_wait":
		return "closed"
	case r.expires == 0 || pressed:
		return "unknown"
	case l.passAt.UnixNano() >= r.expires:
		return "timeout"
	}
	return "flushed"
}

// end tells that a translation is gone, and forgets it.
func (l *ledger) end(i uint32, now time.Time, why string) {
	r := l.rows.At(i)
	fact := l.tell(event.NATDestroyed, r, now)
	fact.Why = why
	if r.created != 0 {
		fact.Age = event.Known(event.Seconds(max(0, now.UnixNano()-r.created)))
	}
	if !l.lastAt.IsZero() {
		fact.Since = event.Known(l.lastAt.UTC()) // nobody saw its end
	}
	l.index.Delete(l.key(r), i)
	for _, a := range []compact.Ref{r.src, r.dst, r.replySrc, r.replyDst} {
		l.hosts.Release(a)
	}
	l.hops.Release(r.hop)
	l.rows.Drop(i)
}

// restate tells again of the translations that are wanted.
func (l *ledger) restate(want func(original, reply event.Tuple, zone uint16) bool, now time.Time, full func()) {
	for i := uint32(1); i < l.rows.End(); i++ {
		r := l.rows.At(i)
		if !r.live || !want(l.key(r).tuple(), l.reply(r), 0) {
			continue
		}
		l.tell(event.NATFound, r, now).Rung = "checkpoint"
		if len(l.out) >= fullBatch {
			full()
		}
	}
	full()
}

// fullBatch is how many facts are handed over at a time.
const fullBatch = 4096

// take returns the facts since the last take.
func (l *ledger) take() []event.Event {
	out := l.out
	l.out = nil
	return out
}

func (l *ledger) tell(t event.Type, r *record, at time.Time) *event.NATFact {
	original, reply := l.key(r).tuple(), l.reply(r)
	fact := &event.NATFact{
		NAT: event.NAT{Proto: "tcp", Original: original, Reply: reply, Kinds: kinds(original, reply), Netns: l.netns},
		By:  event.By{Node: l.node}, Rung: l.rung,
	}
	if t != event.NATCreated { // a pass comes after the beginning: that it is established by then does not say that it was lost before
		fact.State = states[r.state]
	}
	if r.hop != 0 {
		hop := *l.hops.At(r.hop)
		fact.Hop = &hop
	}
	l.out = append(l.out, event.Event{Type: t, Time: at.UTC(), Flow: event.FlowID(original.Src, original.Dst), Body: fact})
	return fact
}

// kinds says which end of a connection is translated.
func kinds(original, reply event.Tuple) []string {
	snat, dnat := original.Src != reply.Dst, original.Dst != reply.Src
	switch {
	case snat && dnat:
		return []string{"snat", "dnat"}
	case snat:
		return []string{"snat"}
	}
	return []string{"dnat"}
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
