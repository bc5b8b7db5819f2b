package world

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Faults of ends, of what stands before the cluster, of midhop itself, and the ordinary life of null worlds.

func agentDies(w *World, _ int, f *Fault) func() {
	a := w.nodeOf(f.Who).agent
	if a == nil {
		return nil
	}
	a.stop()
	return func() { a.start() }
}

func agentLate(w *World, _ int, f *Fault) func() {
	a := w.nodeOf(f.Who).agent
	if a == nil {
		return nil
	}
	a.delay = time.Duration(f.N) * time.Millisecond
	return func() { a.delay = 0 }
}

func agentDeaf(w *World, _ int, f *Fault) func() {
	a := w.nodeOf(f.Who).agent
	if a == nil {
		return nil
	}
	a.deaf = true
	return func() { a.deaf = false }
}

func podGone(w *World, fault int, f *Fault) func() {
	w.endPod(w.podOf(f.Who), fault)
	return nil
}

// endPod lets a pod vanish: its sockets with it, unsaid. What the API says of it comes a little later.
func (w *World) endPod(o *pod, fault int) {
	o.dead, o.by = true, fault
	w.vacant[o.ip] = fault
	for _, e := range o.place.ends {
		e.vanish()
		e.conn.blame(fault, w.now)
	}
	w.after(w.chance(100*time.Millisecond, time.Second), func() {
		w.withdraw(o)
		w.change(event.PodChanged, &event.PodFact{What: "removed", Pod: w.podObject(o)})
	})
}

// podReplaced lets a pod end and another one start in its place two seconds later.
func podReplaced(w *World, fault int, f *Fault) func() {
	old := w.podOf(f.Who)
	w.endPod(old, fault)
	w.after(2*time.Second, func() {
		next := *old.Pod
		if f.With != "address" {
			next.IP = addressOf(addr(200+fault), old.Pod)
		}
		w.vacant[old.ip] = 0
		netns := uint32(4026700000) + uint32(len(w.pods))
		o := w.addPod(&next, &place{netns: netns, socks: make(map[tuple]*end), listeners: make(map[uint16]*listener)})
		w.change(event.PodChanged, &event.PodFact{What: "added", Pod: w.podObject(o)})
		for _, s := range w.svcs {
			for _, name := range s.Backends {
				if name == o.Name {
					s.backends = append(s.backends, o)
					w.change(event.ServiceChanged, &event.ServiceFact{What: "changed", Service: w.serviceObject(s)})
				}
			}
		}
	})
	return nil
}

func hung(w *World, fault int, f *Fault) func() {
	var at *place
	if o := w.podOf(f.Who); o != nil {
		at = o.place
		w.touch(fault, "pod", f.Who, true)
	} else {
		at = w.clientsOf(f.Who).place
		w.touch(fault, "clients", f.Who, true)
	}
	at.hungBy = fault
	for _, l := range at.listeners {
		l.hung = true
	}
	for _, e := range at.ends {
		e.hung = true
	}
	return func() {
		for _, l := range at.listeners {
			l.hung = false
		}
		for _, e := range at.ends {
			e.read(w)
		}
	}
}

func clientsGone(w *World, fault int, f *Fault) func() {
	c := w.clientsOf(f.Who)
	c.gone, c.by = true, fault
	return func() { c.gone = false }
}

// forget lets the balancer before a service lose a part of its connections.
func forget(w *World, fault int, f *Fault) func() {
	s := w.serviceOf(f.Who)
	s.by, s.resets = fault, f.With == "reset"
	share := float64(f.N) / 100
	if f.N == 0 {
		share = 1
	}
	for _, c := range w.conns { // in an order that is the same each time
		if c.load.service != s || c.load.Kind != LoadVIP || c.dialer.state == closed {
			continue
		}
		if x := s.flows[tuple{c.dialer.local, c.dialer.peer}]; x != nil && w.rng.Float64() < share {
			x.gone = true
			c.blame(fault, w.now)
		}
	}
	return nil
}

// idleFault is the fault to blame for what a balancer forgets by itself: the one of the plan that says so, if any.
func (w *World) idleFault(s *service) int { return s.by }

// drain takes a node out as it should be done.
func drain(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	n.draining = true
	o := w.nodeObject(n)
	o.Taints = []string{"node.kubernetes.io/unschedulable:NoSchedule"}
	w.change(event.NodeChanged, &event.NodeFact{What: "changed", Node: o})
	for _, s := range w.svcs {
		for i, e := range s.entries {
			if e == n {
				s.entries = append(append([]*node(nil), s.entries[:i]...), s.entries[i+1:]...)
				break
			}
		}
	}
	for _, p := range w.pods {
		if p.node == n {
			w.withdraw(p)
		}
	}
	for _, l := range w.loads { // nobody goes that way any more
		if l.via == n {
			l.via = nil
		}
	}
	for _, c := range w.conns {
		if c.touches(n) {
			d := c.dialer
			w.after(w.chance(0, 2*time.Second), func() { d.close(w) })
		}
	}
	w.after(4*time.Second, func() {
		for _, p := range w.pods {
			if p.node == n && !p.dead {
				p.dead, p.by = true, fault
				w.change(event.PodChanged, &event.PodFact{What: "removed", Pod: w.podObject(p)})
			}
		}
		w.powerOff(n, fault)
		w.change(event.NodeChanged, &event.NodeFact{What: "removed", Node: w.nodeObject(n)})
	})
	return nil
}

// touches says whether a connection crosses a node or ends there.
func (c *conn) touches(n *node) bool {
	for _, k := range c.nodes {
		if int(k) == n.id {
			return true
		}
	}
	return c.dialer.place.node == n || c.server != nil && c.server.place.node == n
}

// scale deletes a node while connections cross it.
func scale(w *World, fault int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.change(event.NodeChanged, &event.NodeFact{What: "removed", Node: w.nodeObject(n)})
	w.after(500*time.Millisecond, func() { w.powerOff(n, fault) })
	return nil
}

func recreate(w *World, _ int, f *Fault) func() {
	n := w.nodeOf(f.Who)
	w.change(event.NodeChanged, &event.NodeFact{What: "removed", Node: w.nodeObject(n)})
	w.after(700*time.Millisecond, func() { w.change(event.NodeChanged, &event.NodeFact{What: "added", Node: w.nodeObject(n)}) })
	return nil
}

// vanish lets clients disappear one by one.
func vanish(w *World, fault int, f *Fault) func() {
	c := w.clientsOf(f.Who)
	on := true
	var next func()
	next = func() {
		if !on {
			return
		}
		if k := len(c.place.ends); k > 0 {
			if e := c.place.ends[w.rng.IntN(k)]; e.state == established && !e.absent {
				e.absent, e.absentBy = true, fault
			}
		}
		w.after(time.Duration(max(1, f.N))*time.Millisecond, next)
	}
	next()
	return func() { on = false }
}

// batch closes connections at one moment, as a job does that has ended.
func batch(w *World, _ int, f *Fault) func() {
	left := f.N
	for _, c := range w.conns {
		if d := c.dialer; left > 0 && d.state == established && d.place.runs() {
			d.close(w)
			left--
		}
	}
	return nil
}
