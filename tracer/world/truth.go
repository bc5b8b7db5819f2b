package world

import (
	"slices"
	"time"
)

// Truth is what really happened, and to whom.
type Truth struct {
	Touched []Touch  // objects that faults touched, in the order in which it happened
	Moments []Moment // every 250 ms from the start
	Resets  []int    // by fault: sockets that agents could see and that a reset ended
}

// Touch is an object that a fault touched.
type Touch struct {
	Fault  int    // index into the plan's faults
	What   string // the primitive
	Kind   string // node, pod, service, clients
	Name   string
	Direct bool // it was aimed at; else it was hit because of another object, as a pod by the end of its node
	At     time.Duration
	Until  time.Duration // the end of the world where it did not heal
}

// Moment is the state of all sockets that agents may see at one instant.
type Moment struct {
	At     time.Duration
	Faults []Tally // by fault
	Other  int     // sockets that hang for three seconds for no fault's sake
	Cross  []int   // by node: sockets whose connections cross it or end there
}

// Tally counts the sockets that one fault makes hang: data, or a probe, of which nothing was acknowledged since.
type Tally struct {
	Hanging int // now, since a second or more
	Signs   int // of these, with a sign that an agent can see: a second retransmission or probe
	Long    int // of these, with signs for three seconds or more
	Ever    int // have hung for a second or more, so far
	Lost    int // of these, are gone by reset or by giving up
	Freed   int // of these, went on
}

// hang is what the truth remembers of a socket that hangs.
type hang struct {
	fault int
	signs time.Duration // when the second sign came, 0: not yet
}

// sampleEvery is how often the truth is measured.
const sampleEvery = 250 * time.Millisecond

// measurer follows hanging sockets from moment to moment.
type measurer struct {
	hangs map[*end]*hang
	tally []Tally
	other map[*end]bool
}

func (w *World) measure() {
	m := &measurer{hangs: make(map[*end]*hang), tally: make([]Tally, len(w.plan.Faults)), other: make(map[*end]bool)}
	var again func()
	again = func() {
		w.sample(m)
		w.after(sampleEvery, again)
	}
	w.at(0, again)
}

// cause is the fault for whose sake an end hangs, -1 for none: it lost what this end sent, or the answers to that.
func (e *end) cause(w *World) int {
	if e.lostBy != 0 && e.lostAt >= e.hungAt {
		return e.lostBy - 1
	}
	other := e.conn.server
	if e.server {
		other = e.conn.dialer
	}
	if other != nil && other.lostBy != 0 && other.lostAt >= e.hungAt {
		return other.lostBy - 1
	}
	if other != nil && (e.timer == timerProbe0 && e.peerWnd == 0) {
		if at := other.place; at.listeners[other.local.port] != nil && at.listeners[other.local.port].hung || other.hung {
			return other.hungBy() - 1
		}
	}
	return -1
}

// hungBy is the fault for whose sake an application does not read.
func (e *end) hungBy() int { return e.place.hungBy }

func (w *World) sample(m *measurer) {
	moment := Moment{At: time.Duration(w.now), Faults: make([]Tally, len(m.tally)), Cross: make([]int, len(w.nodes))}
	for i := range m.tally {
		m.tally[i].Hanging, m.tally[i].Signs, m.tally[i].Long = 0, 0, 0
	}
	for _, n := range w.nodes {
		if n.agent == nil || !n.agent.alive || !n.runs() {
			continue
		}
		for _, p := range n.agent.places() {
			if p.pod != nil && p.pod.dead {
				continue
			}
			for _, e := range p.ends {
				w.sampleEnd(m, &moment, n, e)
			}
		}
	}
	copy(moment.Faults, m.tally)
	w.truth.Moments = append(w.truth.Moments, moment)
}

func (w *World) sampleEnd(m *measurer, moment *Moment, n *node, e *end) {
	h := m.hangs[e]
	shut := e.timer == timerProbe0 && e.peerWnd == 0 && e.zeroAt != 0
	since := e.hungAt
	if shut {
		since = e.zeroAt
	}
	hanging := e.state != closed && since != 0 && w.now-since >= int64(time.Second)
	if e.state != closed && e.state != synRecv {
		moment.Cross[n.id]++
		for _, k := range e.conn.nodes {
			if int(k) != n.id {
				moment.Cross[k]++
			}
		}
		other := e.conn.server
		if e.server {
			other = e.conn.dialer
		}
		if other != nil && other.place.node != nil && other.place.node != n && !slices.Contains(e.conn.nodes, int16(other.place.node.id)) {
			moment.Cross[other.place.node.id]++
		}
	}
	if h != nil && !hanging {
		delete(m.hangs, e)
		if e.state == closed {
			m.tally[h.fault].Lost++
		} else {
			m.tally[h.fault].Freed++
		}
		h = nil
	}
	if !hanging {
		return
	}
	if h == nil {
		by := e.cause(w)
		if by < 0 {
			if w.now-since >= int64(3*time.Second) {
				moment.Other++
			}
			return
		}
		h = &hang{fault: by}
		m.hangs[e] = h
		m.tally[by].Ever++
	}
	t := &m.tally[h.fault]
	t.Hanging++
	if h.signs == 0 && (e.retrans >= 2 || e.probes >= 2 || shut) {
		h.signs = time.Duration(w.now)
	}
	if h.signs != 0 {
		t.Signs++
		if time.Duration(w.now)-h.signs >= 3*time.Second {
			t.Long++
		}
	}
}

// lostEnd notes a socket that ended before a moment could see that it hung: by a reset.
func (w *World) lostEnd(e *end, how string) {
	if how != "rst" || e.conn.blamed == 0 {
		return
	}
	if n := e.place.node; n != nil && n.agent != nil && n.agent.alive {
		w.resets[e.conn.blamed-1]++
	}
}

// touch notes that a fault touched an object.
func (w *World) touch(fault int, kind, name string, direct bool) {
	f := &w.plan.Faults[fault-1]
	t := Touch{Fault: fault - 1, What: f.What, Kind: kind, Name: name, Direct: direct, At: time.Duration(w.now), Until: w.plan.Until}
	w.truth.Touched = append(w.truth.Touched, t)
}

// healed notes the end of a fault.
func (w *World) healed(fault int) {
	for i := range w.truth.Touched {
		if t := &w.truth.Touched[i]; t.Fault == fault-1 {
			t.Until = time.Duration(w.now)
		}
	}
}
