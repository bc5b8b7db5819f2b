package fleet

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// ownNAT are the translated connections with an end on this node that have left it. They do so only while sockets of the node
// are in trouble, since what these have in common beyond the node is seen by nobody else: the clients behind its own
// addresses, and the pods behind the services that its own pods dial. The healthy ones go too, up to a bound: what is in trouble
// says nothing without what is not.
type ownNAT struct {
	told    map[crossKey]int     // by the round in which it was told
	round   int                  // checkpoints so far: entries are told again after each
	trouble map[legKey]time.Time // sockets in trouble, by when they were last said to be
	fresh   int                  // of these, since the entries were asked for
	asked   time.Time
	room    int // entries that may yet be told for what was asked
	over    int // and those that found none
	since   time.Time
}

const (
	// ownLeast is how many sockets have to be in trouble: fewer are nobody's case.
	ownLeast = 3
	// ownAgain is the time between two looks at the entries. While it lasts maxOwn of them leave the node at most: trouble
	// everywhere at once must not bury the hub.
	ownAgain = time.Minute
	maxOwn   = 2048
	// ownTrouble is how long a socket is remembered, and ownSockets how many are.
	ownTrouble = 2 * time.Minute
	ownSockets = 4096
)

func newOwnNAT() *ownNAT {
	return &ownNAT{told: make(map[crossKey]int), trouble: make(map[legKey]time.Time)}
}

// watch takes what an event says of the node's own sockets, and says whether their entries are wanted now.
func (o *ownNAT) watch(e *event.Event) bool {
	switch b := e.Body.(type) {
	case *event.TCPFact:
		o.socket(e.Time, &b.Socket, &b.TCP)
	case *event.Sockets:
		for i := range b.Rows {
			if r := &b.Rows[i]; r.Change != event.SocketGone {
				o.socket(e.Time, &r.Socket, &r.TCP)
			}
		}
	default:
		return false
	}
	if o.fresh < ownLeast || e.Time.Sub(o.asked).Abs() < ownAgain {
		return false
	}
	o.asked, o.fresh, o.room, o.over, o.since = e.Time, 0, maxOwn, 0, e.Time
	for k, at := range o.trouble {
		if e.Time.Sub(at).Abs() > ownTrouble {
			delete(o.trouble, k)
		}
	}
	return true
}

// socket notes a socket that got no answer twice in a row, or whose peer answers and does not read.
func (o *ownNAT) socket(at time.Time, s *event.Socket, p *event.Progress) {
	shut := p.Timer == event.TimerProbe0 && p.SendWindow.OK && p.SendWindow.V == 0 && p.Unsent > 0
	if p.Retransmits < 2 && p.ProbesOut < 2 && !shut {
		return
	}
	k := legKey{s.Local, s.Peer}
	if _, known := o.trouble[k]; !known {
		if len(o.trouble) >= ownSockets {
			clear(o.trouble)
		}
		o.fresh++
	}
	o.trouble[k] = at
}

// wants says whether an entry is to be told for what was asked.
func (o *ownNAT) wants(k crossKey) bool {
	if round, known := o.told[k]; known && round == o.round {
		return false
	}
	if o.room == 0 {
		o.over++
		return false
	}
	o.room--
	o.told[k] = o.round
	return true
}

// checkpoint has everything told again, if there still is trouble.
func (o *ownNAT) checkpoint() {
	o.round++
	o.fresh = max(o.fresh, len(o.trouble))
}

// forget says whether an entry that ends was told.
func (o *ownNAT) forget(k crossKey) bool {
	_, known := o.told[k]
	delete(o.told, k)
	return known
}
