package world

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Primitive is a kind of fault.
type Primitive struct {
	Who   string // what it happens to: node, pod, service, clients; empty: nothing in particular
	Heals bool   // it may be over after a while
	Means string // in words
	with  func(*Plan, *Fault) bool
	apply func(w *World, fault int, f *Fault) (heal func())
}

// Primitives are all kinds of faults by their names. Those of which null worlds are made say so in their meaning.
var Primitives = map[string]Primitive{
	"power":    {"node", true, "it loses power and, if it heals, boots with an empty conntrack table", nil, power},
	"freeze":   {"node", true, "it stands still: nothing runs, nothing is answered", nil, freeze},
	"uplink":   {"node", true, "its network is cut from all others", nil, uplink},
	"oneway":   {"node", true, "it drops all packets that come in (with=in) or go out (with=out)", direction, oneway},
	"loss":     {"node", true, "it drops n percent of all packets", nil, loss},
	"narrow":   {"node", true, "it drops packets of more than n bytes", nil, narrow},
	"fresh":    {"node", true, "it drops what sets connections up", nil, fresh},
	"flush":    {"node", false, "its conntrack table loses n percent of its entries (100 if n is 0)", nil, flush},
	"idle":     {"node", false, "its conntrack table forgets what is idle for n seconds from now on", nil, idleExpiry},
	"full":     {"node", true, "its conntrack table is full", nil, full},
	"ports":    {"node", true, "no port of its masquerade is free", nil, ports},
	"invalid":  {"node", false, "its conntrack calls the answers to n percent of what its own pods dialled INVALID, so they arrive untranslated", nil, invalid},
	"rules":    {"node", true, "its rules of services are gone; connections that stand go on", nil, rules},
	"agent":    {"node", true, "null: midhop's agent on it dies and, if it heals, starts anew", nil, agentDies},
	"late":     {"node", true, "null: its agent's batches come n milliseconds late", nil, agentLate},
	"deaf":     {"node", true, "null: its agent's batches do not get out, and come all at once when it heals", nil, agentDeaf},
	"pod":      {"pod", false, "it vanishes; entries that lead to it stay", nil, podGone},
	"replace":  {"pod", false, "it is deleted and another one takes its place, with its address (with=address) or another one", nil, podReplaced},
	"hung":     {"", true, "the application of a pod or of clients reads no more", hangs, hung},
	"clients":  {"clients", true, "the network is gone", nil, clientsGone},
	"forget":   {"service", false, "the balancer before it forgets n percent of its connections, silently or by resets (with=reset)", nil, forget},
	"drain":    {"node", false, "null: it leaves the balancers, its connections are closed, its pods end, and it is shut down", nil, drain},
	"scale":    {"node", false, "it is deleted from the API and loses power, without a drain", nil, scale},
	"vanish":   {"clients", true, "null: one of them vanishes every n milliseconds, as mobile ones do", nil, vanish},
	"batch":    {"", false, "null: n connections are closed at one moment", nil, batch},
	"recreate": {"node", false, "null: its Node object is deleted and created anew; the machine goes on", nil, recreate},
	"route":    {"node", true, "the route to its range of pods is withdrawn", nil, routeGone},
}

func direction(_ *Plan, f *Fault) bool { return f.With == "in" || f.With == "out" }
func hangs(p *Plan, f *Fault) bool     { return p.pod(f.Who) != nil || p.clients(f.Who) != nil }

func (p *Plan) checkFault(f *Fault) error {
	k, ok := Primitives[f.What]
	if !ok {
		return fmt.Errorf("unknown primitive %q", f.What)
	}
	switch {
	case k.Who == "node" && p.node(f.Who) == nil, k.Who == "pod" && p.pod(f.Who) == nil,
		k.Who == "service" && p.service(f.Who) == nil, k.Who == "clients" && p.clients(f.Who) == nil:
		return fmt.Errorf("%s: no %s %q", f.What, k.Who, f.Who)
	case k.with != nil && !k.with(p, f):
		return fmt.Errorf("%s: with=%q is not understood", f.What, f.With)
	case f.For > 0 && !k.Heals:
		return fmt.Errorf("%s does not heal", f.What)
	}
	return nil
}

// plant lets a fault of the plan happen when its time comes. Faults are numbered from 1, so that 0 is nobody.
func (w *World) plant(i int) {
	f := &w.plan.Faults[i]
	k := Primitives[f.What]
	w.resets = append(w.resets, 0)
	w.at(int64(f.At), func() {
		if k.Who != "" {
			w.touch(i+1, k.Who, f.Who, true)
		}
		heal := k.apply(w, i+1, f)
		if heal != nil && f.For > 0 {
			w.after(f.For, func() {
				heal()
				w.healed(i + 1)
			})
		}
	})
}

// hit notes what the end of a node hits beside it: its pods.
func (w *World) hit(fault int, n *node) {
	for _, o := range w.pods {
		if o.node == n && !o.dead {
			w.touch(fault, "pod", o.Name, false)
		}
	}
}

func power(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.powerOff(n, fault)
	return func() { w.powerOn(n, fault) }
}

func (w *World) powerOff(n *node, fault int) {
	w.hit(fault, n)
	n.up, n.down = false, fault
	if n.agent != nil {
		n.agent.stop()
	}
	for _, o := range w.pods {
		if o.node == n && !o.dead {
			o.dead, o.by = true, fault
		}
	}
	for _, p := range append([]*place{n.host}, podPlaces(w, n)...) {
		for _, e := range p.ends {
			e.vanish()
		}
	}
	for _, e := range n.table.all {
		if !e.dead && e.conn != nil {
			e.conn.blame(fault, w.now)
		}
	}
	if w.plan.Inventory.By == "api" { // the lease runs out
		w.after(40*time.Second, func() {
			if !n.up {
				o := w.nodeObject(n)
				o.Ready = "unknown"
				w.change(event.NodeChanged, &event.NodeFact{What: "changed", Node: o})
			}
		})
	}
}

func podPlaces(w *World, n *node) (all []*place) {
	for _, o := range w.pods {
		if o.node == n {
			all = append(all, o.place)
		}
	}
	return all
}

// vanish ends a socket of which nobody is told anything, as memory is gone.
func (e *end) vanish() {
	e.state, e.timer = closed, timerNone
	delete(e.place.socks, tuple{e.local, e.peer})
}

func (w *World) powerOn(n *node, fault int) {
	n.up = true
	n.boot++
	for _, e := range n.table.all {
		if !e.dead {
			n.table.lostPart[e.orig], n.table.lostPart[e.reply] = fault, fault
		}
	}
	part := n.table.lostPart
	n.table = table{node: n, by: make(map[tuple]*entry), lostPart: part, lostBy: fault}
	n.filters, n.rules, n.uplink, n.frozen = nil, true, true, false
	for _, p := range append([]*place{n.host}, podPlaces(w, n)...) {
		p.ends = nil
		clear(p.socks)
	}
	for _, o := range w.pods {
		if o.node == n && o.dead && o.by == fault {
			o.dead = false // its containers start anew
		}
	}
	w.change(event.NodeChanged, &event.NodeFact{What: "changed", Node: w.nodeObject(n)})
	if n.agent != nil {
		w.after(w.chance(200*time.Millisecond, time.Second), n.agent.start)
	}
}

func freeze(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.hit(fault, n)
	n.frozen, n.down = true, fault
	return func() { n.frozen = false }
}

func uplink(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.hit(fault, n)
	n.uplink, n.down = false, fault
	return func() { n.uplink = true }
}

// filterAt puts a filter at a node and returns how it is taken away.
func (w *World) filterAt(n *node, x filter) func() {
	p := &x
	n.filters = append(n.filters, p)
	return func() {
		if i := slices.Index(n.filters, p); i >= 0 {
			n.filters = slices.Delete(n.filters, i, i+1)
		}
	}
}

func oneway(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.hit(fault, n)
	return w.filterAt(n, filter{fault: fault, in: f.With == "in", out: f.With == "out", share: 1})
}

func loss(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.hit(fault, n)
	return w.filterAt(n, filter{fault: fault, in: true, share: float64(f.N) / 100})
}

func narrow(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.hit(fault, n)
	return w.filterAt(n, filter{fault: fault, in: true, out: true, share: 1, larger: f.N})
}

func fresh(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.hit(fault, n)
	return w.filterAt(n, filter{fault: fault, in: true, share: 1, fresh: true})
}

func flush(w *World, fault int, f *Fault) func() {
	t := &w.nodeOf(f.Who).table
	share := float64(f.N) / 100
	if f.N == 0 {
		share = 1
		t.lostBy = fault
	}
	t.forget(w, fault, "flushed", func(*entry) bool { return share >= 1 || w.rng.Float64() < share })
	return nil
}

func idleExpiry(w *World, fault int, f *Fault) func() {
	t := &w.nodeOf(f.Who).table
	t.idle, t.idleBy = time.Duration(f.N)*time.Second, fault
	return nil
}

func full(w *World, fault int, f *Fault) func() {
	t := &w.nodeOf(f.Who).table
	t.filler, t.full = t.max()-t.live, fault
	if a := t.node.agent; a != nil {
		a.tellTable()
	}
	return func() { t.filler = 0 }
}

func ports(w *World, fault int, f *Fault) func() {
	t := &w.nodeOf(f.Who).table
	t.taken = fault
	return func() { t.taken = 0 }
}

// invalid makes conntrack lose track of windows: answers pass as they came, the pod that dialled knows no such connection, and
// resets it.
func invalid(w *World, fault int, f *Fault) func() {
	t := &w.nodeOf(f.Who).table
	t.odd = fault
	for _, e := range t.all {
		if !e.dead && e.dnat && !e.snat && w.rng.IntN(100) < f.N {
			e.odd = true
			if e.conn != nil {
				e.conn.blame(fault, w.now)
			}
		}
	}
	return nil
}

func rules(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	n.rules = false
	n.table.lostBy = fault
	return func() { n.rules = true }
}

func routeGone(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.hit(fault, n)
	r := w.routes[n.bridge>>8]
	r.by = fault
	return func() { r.by = 0 }
}

func addressOf(a addr, near *Pod) netip.Addr { // a free one of the same range
	b := near.IP.As4()
	b[3] = byte(a)
	return netip.AddrFrom4(b)
}
