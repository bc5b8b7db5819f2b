package conntrack

import (
	"time"

	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

// ledger knows the translated connections of the table and turns what is seen of them into facts. It is idempotent: a
// dump and an event may tell the same.
type ledger struct {
	node     string
	netns    uint32
	timeouts timeouts

	index compact.Index[key]
	rows  compact.Slab[record]
	hosts compact.Addrs // of the rows
	older int           // how many of them were there before the listener, so that no event may tell their end
	dumps uint32        // dumps begun so far
	// repairs counts what the newest dump has told that no event had.
	repairs uint64
	// doubt holds entries that a later dump told of and nobody before: their announcement may be on its way.
	doubt map[key]entry
	out   []event.Event
}

// record is what the ledger keeps of an entry: no pointers, and its addresses in four bytes each.
type record struct {
	src, dst           compact.Ref // original
	replySrc, replyDst compact.Ref
	srcPort, dstPort   uint16
	replySPort         uint16
	replyDPort         uint16
	zone               uint16

	id      uint32 // 0: a probe told of it, which does not know
	mark    uint32
	timeout uint32 // see entry
	dump    uint32 // the newest dump that saw it, or during or after which it was created
	looked  int64  // Unix nanoseconds: when timeout was told
	created int64  // Unix nanoseconds; 0 where its beginning was not seen
	nat     uint8
	state   uint8
	idle    bool // nothing had moved between the last two looks
	older   bool // met in a dump
	live    bool
}

// timeouts are the sysctls nf_conntrack_tcp_timeout_* by state, in seconds, 0 where unknown. The last two may shorten
// any of the others (nf_conntrack_tcp_packet).
type timeouts struct {
	byState                    [len(stateNames)]uint32
	maxRetrans, unacknowledged uint32
}

func newLedger(node string, netns uint32) *ledger {
	l := &ledger{node: node, netns: netns, rows: compact.NewSlab[record](), hosts: compact.NewAddrs(), doubt: make(map[key]entry)}
	l.index = compact.NewIndex(func(i uint32) key { return l.key(l.rows.At(i)) })
	return l
}

// find returns what is known of an entry, nil where nothing is. It is valid until the next put.
func (l *ledger) find(k key) *record {
	if i := l.index.Get(k); i != 0 {
		return l.rows.At(i)
	}
	return nil
}

// put takes an entry in that is not known, and returns its place.
func (l *ledger) put(k key, reply tuple, r record) *record {
	r.src, r.dst, r.srcPort, r.dstPort = l.hosts.Hold(k.original.src), l.hosts.Hold(k.original.dst), k.original.srcPort, k.original.dstPort
	r.replySrc, r.replyDst, r.replySPort, r.replyDPort = l.hosts.Hold(reply.src), l.hosts.Hold(reply.dst), reply.srcPort, reply.dstPort
	r.zone, r.live = k.zone, true
	i := l.rows.Add(r)
	l.index.Put(k, i)
	return l.rows.At(i)
}

// drop forgets an entry.
func (l *ledger) drop(k key) {
	i := l.index.Get(k)
	if i == 0 {
		return
	}
	r := l.rows.At(i)
	if r.older {
		l.older--
	}
	l.index.Delete(k, i)
	for _, a := range []compact.Ref{r.src, r.dst, r.replySrc, r.replyDst} {
		l.hosts.Release(a)
	}
	l.rows.Drop(i)
}

func (l *ledger) key(r *record) key {
	return key{tuple{l.hosts.Addr(r.src), l.hosts.Addr(r.dst), r.srcPort, r.dstPort}, r.zone}
}

func (l *ledger) reply(r *record) tuple {
	return tuple{l.hosts.Addr(r.replySrc), l.hosts.Addr(r.replyDst), r.replySPort, r.replyDPort}
}

// fullBatch is how many facts of a dump are handed over at a time.
const fullBatch = 4096

// take returns the facts since the last take.
func (l *ledger) take() []event.Event {
	out := l.out
	l.out = nil
	if len(out) >= fullBatch {
		l.out = make([]event.Event, 0, cap(out)) // of a dump: the next will be as long
	}
	return out
}

// beginDump says that from now on seen tells of a new dump.
func (l *ledger) beginDump() {
	l.dumps++
	l.repairs = 0
}

// seen takes an entry of a dump.
func (l *ledger) seen(e *entry, now time.Time) {
	r := l.find(e.key)
	if r != nil && r.id == 0 && l.reply(r) == e.reply {
		r.id = e.id
	}
	if r == nil && l.dumps > 1 {
		l.doubt[e.key] = *e
		return
	}
	if r != nil && r.id != e.id {
		l.missed(e.key, r, now)
		r = nil
	}
	if r == nil {
		r = l.found(e, now)
	} else {
		since := now.UnixNano() - r.looked
		gone := int64(r.timeout) - int64(e.timeout)
		r.idle = r.state == e.state && gone >= 0 && (gone-since/1e9) >= -2 && (gone-since/1e9) <= 2
		r.timeout, r.state, r.looked = e.timeout, e.state, now.UnixNano()
	}
	r.dump = l.dumps
}

// found tells of an entry whose beginning nobody saw.
func (l *ledger) found(e *entry, now time.Time) *record {
	is := newRecord(e, now)
	is.created, is.older = e.started, true
	l.older++
	l.repairs++
	r := l.put(e.key, e.reply, is)
	l.tell(event.NATFound, &e.key, &e.reply, r, now, "dump", r.state)
	return r
}

// settle decides about what was in doubt, once all announcements that were on their way at the end of the dump have come.
func (l *ledger) settle(now time.Time) {
	for _, e := range l.doubt {
		l.found(&e, now).dump = l.dumps
	}
	clear(l.doubt)
}

// missed ends an entry whose end nobody saw: it was there at the last look.
func (l *ledger) missed(k key, r *record, now time.Time) {
	looked := time.Unix(0, r.looked).UTC()
	l.end(k, r, now, "unknown", event.Opt[event.Seconds]{}, "dump", r.state).Since = event.Known(looked)
}

func newRecord(e *entry, now time.Time) record {
	return record{id: e.id, mark: e.mark, timeout: e.timeout, looked: now.UnixNano(), nat: e.nat, state: e.state}
}

// created takes a NEW event.
func (l *ledger) created(e *entry, now time.Time) {
	delete(l.doubt, e.key)
	r := l.find(e.key)
	if r != nil && r.id == e.id {
		return // a dump was faster
	}
	if r != nil {
		l.missed(e.key, r, now)
	}
	is := newRecord(e, now)
	is.created, is.dump = now.UnixNano(), l.dumps
	l.tell(event.NATCreated, &e.key, &e.reply, l.put(e.key, e.reply, is), now, "ctnetlink", e.state)
}

// destroyed takes a DESTROY event.
func (l *ledger) destroyed(e *entry, now time.Time) {
	delete(l.doubt, e.key)
	r := l.find(e.key)
	if r == nil || r.id != e.id {
		return // never told of, or told as gone
	}
	var age event.Opt[event.Seconds]
	if r.created != 0 {
		age = event.Known(event.Seconds(max(0, now.UnixNano()-r.created)))
	}
	l.end(e.key, r, now, l.why(r, e.state, now), age, "ctnetlink", e.state)
}

// why says what ended an entry, as far as it can be known: an entry that its ends have closed says so by its state; one
// that goes before its time was deleted; one that was idle at the last looks until its time had come has expired.
func (l *ledger) why(r *record, state uint8, now time.Time) string {
	switch {
	case state == stateLastAck || state == stateTimeWait || state == stateClose:
		return "closed"
	case state == 0 || int(state) >= len(stateNames):
		return "unknown" // kernels before 5.11 do not tell the state here
	}
	since := now.UnixNano() - r.looked
	allowed := l.timeouts.byState[state]
	known := allowed != 0
	if r.state == state && r.timeout != noTimeout && (!known || r.timeout < allowed) { // 0: less than a second was left
		allowed, known = r.timeout, true
	}
	if !known || l.timeouts.maxRetrans == 0 || l.timeouts.unacknowledged == 0 {
		return "unknown"
	}
	const slack = int64(time.Second)
	switch {
	case since < int64(min(allowed, l.timeouts.maxRetrans, l.timeouts.unacknowledged))*1e9-slack:
		return "flushed"
	case r.idle && r.state == state && since >= int64(r.timeout)*1e9-slack:
		return "timeout"
	}
	return "unknown"
}

// restate tells again of the entries that are wanted. Full is called when there are as many facts as are handed over at a time,
// and at the end.
func (l *ledger) restate(want func(original, reply event.Tuple, zone uint16) bool, now time.Time, full func()) {
	for i := uint32(1); i < l.rows.End(); i++ {
		r := l.rows.At(i)
		if !r.live {
			continue
		}
		k, reply := l.key(r), l.reply(r)
		if !want(k.original.endpoints(), reply.endpoints(), k.zone) {
			continue
		}
		l.tell(event.NATFound, &k, &reply, r, now, "checkpoint", r.state)
		if len(l.out) >= fullBatch {
			full()
		}
	}
	full()
}

// missing is an entry that a dump did not see.
type missing struct {
	key key
	id  uint32
}

// missing returns the entries that the dump which is ending should have seen and did not.
func (l *ledger) missing() []missing {
	var all []missing
	for i := uint32(1); i < l.rows.End(); i++ {
		if r := l.rows.At(i); r.live && r.dump != l.dumps {
			all = append(all, missing{l.key(r), r.id})
		}
	}
	return all
}

// gone ends an entry that missing returned and that the kernel, asked again, does not have.
func (l *ledger) gone(m missing, now time.Time) {
	r := l.find(m.key)
	if r == nil || r.id != m.id {
		return
	}
	l.repairs++
	l.missed(m.key, r, now)
}

// tell adds a fact about an entry.
func (l *ledger) tell(t event.Type, k *key, reply *tuple, r *record, now time.Time, rung string, state uint8) *event.NATFact {
	original := k.original.endpoints()
	fact := &event.NATFact{
		NAT: event.NAT{Proto: "tcp", Original: original, Reply: reply.endpoints(), Kinds: kinds(r.nat), Zone: k.zone, Mark: r.mark, Netns: l.netns},
		By:  event.By{Node: l.node}, Rung: rung, State: stateName(state),
	}
	l.out = append(l.out, event.Event{Type: t, Time: now.UTC(), Flow: event.FlowID(original.Src, original.Dst), Body: fact})
	return fact
}

func (l *ledger) end(k key, r *record, now time.Time, why string, age event.Opt[event.Seconds], rung string, state uint8) *event.NATFact {
	reply := l.reply(r)
	fact := l.tell(event.NATDestroyed, &k, &reply, r, now, rung, state)
	fact.Why, fact.Age = why, age
	l.drop(k)
	return fact
}

var kindNames = [4][]string{1: {"snat"}, 2: {"dnat"}, 3: {"snat", "dnat"}}

func kinds(nat uint8) []string { return kindNames[nat>>4&3] }
