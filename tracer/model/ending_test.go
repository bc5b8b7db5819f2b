package model

import (
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// TestEnds: how sockets end, in the orders in which kernels tell it. From 6.10 on (tcp_done_with_error) the close comes
// before the error.
func TestEnds(t *testing.T) {
	stall := event.Progress{Retransmits: 5, Unacked: 1, RTO: sec(6.4)}
	errFact := func(f *facts) {
		f.tcp("agent/node-b", event.TCPError, 1, pod, peerA, event.TCPFact{Errno: "ETIMEDOUT", TCP: event.Progress{State: "close"}})
	}
	closed := func(how string) func(f *facts) {
		return func(f *facts) {
			f.tcp("agent/node-b", event.TCPClosed, 1, pod, peerA, event.TCPFact{How: how, TCP: event.Progress{State: "close"}})
		}
	}
	later := func(f *facts) {
		f.t = f.t.Add(3 * time.Second)
		f.fold("agent/node-b", event.StreamHeartbeat, &event.Heartbeat{})
	}
	reset := func(f *facts) {
		f.tcp("agent/node-b", event.TCPReset, 1, pod, peerA, event.TCPFact{Reset: &event.Reset{By: "peer"}})
	}
	gone := func(f *facts) {
		f.seen("agent/node-b", event.SocketGone, event.RoleAccepted, 1, pod, peerA, stall)
	}
	soon := func(f *facts) { f.t = f.t.Add(-time.Second) } // the next fact comes at the same time
	for name, test := range map[string]struct {
		healthy  bool
		steps    []func(*facts)
		timedOut int
		reset    int
		gaveUp   int
		turns    int
	}{
		"error, close":        {steps: []func(*facts){errFact, closed("abort")}, timedOut: 1, turns: 1},
		"close, error":        {steps: []func(*facts){closed("abort"), soon, errFact}, timedOut: 1, turns: 1},
		"close, gone, error":  {steps: []func(*facts){closed("abort"), soon, gone, soon, errFact}, timedOut: 1, turns: 1},
		"close, no error":     {steps: []func(*facts){closed("abort"), later}},
		"error, gone":         {steps: []func(*facts){errFact, gone}, timedOut: 1, turns: 1},
		"reset, error, close": {steps: []func(*facts){reset, errFact, closed("rst")}, reset: 1},
		"app":                 {steps: []func(*facts){closed("app")}, gaveUp: 1},
		"gone":                {steps: []func(*facts){gone}},
		"healthy close":       {healthy: true, steps: []func(*facts){closed("fin")}},
		"healthy gone":        {healthy: true, steps: []func(*facts){gone}},
	} {
		t.Run(name, func(t *testing.T) {
			f := cluster()
			f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{})
			since := InstantOf(f.t)
			if !test.healthy {
				f.seen("agent/node-b", event.SocketChanged, event.RoleAccepted, 1, pod, peerA, stall)
			}
			f.Turns()
			for _, step := range test.steps {
				step(f)
				f.check(t)
			}
			h, ok := f.Hop(HopKey{Kind: KindNode, Name: "node-a"})
			if !ok {
				t.Fatal("the hop is forgotten")
			}
			im := f.ImpactOf(&h, since)
			if im.TimedOut != test.timedOut || im.Reset != test.reset || im.GaveUp != test.gaveUp {
				t.Errorf("timed out %d, reset %d, gave up %d", im.TimedOut, im.Reset, im.GaveUp)
			}
			if n := len(f.Turns()); n != test.turns {
				t.Errorf("%d findings, want %d", n, test.turns)
			}
			if f.socks.Len() != 0 {
				t.Errorf("%d sockets are left", f.socks.Len())
			}
		})
	}
}
