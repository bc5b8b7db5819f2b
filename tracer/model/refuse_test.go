package model

import (
	"fmt"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// A flood of SYNs makes a machine send resets for nobody's segments without end. Only so many of them wait for the other end to
// tell of the same, and none for longer than that may take.
func TestRefusalsAreBounded(t *testing.T) {
	f := newFacts(Options{})
	flood := func() {
		for i := range 2 * maxPairs {
			f.Apply(&event.Event{Type: event.TCPReset, Time: f.t, Source: "agent/h", Body: &event.TCPFact{
				Socket: event.Socket{Local: ep("10.79.0.1:8080"), Peer: ep(fmt.Sprintf("10.79.%d.%d:%d", 1+i>>8, i&255, 1024+i))},
				Reset:  &event.Reset{By: "nobody's"},
			}})
		}
	}
	flood()
	if len(f.sent) != maxPairs {
		t.Errorf("%d resets wait for their other half, want %d", len(f.sent), maxPairs)
	}
	f.t = f.t.Add(time.Minute)
	f.fold("agent/h", event.StreamHeartbeat, &event.Heartbeat{})
	if len(f.sent) != 0 {
		t.Errorf("%d of them still wait a minute later", len(f.sent))
	}
	if n := f.socks.Len(); n != 0 {
		t.Errorf("%d sockets were made of them", n)
	}
}

// A connection that talks is told when it is met, and then not again before something happens to it. How long it had been silent
// when its node refused it is what the reset itself says, whichever of the two ends tells first.
func TestRefusedInMidTalk(t *testing.T) {
	received := func(f *facts) {
		f.tcp("agent/node-b", event.TCPReset, 1, pod, peerA, event.TCPFact{Reset: &event.Reset{By: "peer"}, TCP: event.Progress{ReceivedAge: age(50 * time.Millisecond)}})
	}
	sent := func(f *facts) {
		f.tcp("agent/node-a", event.TCPReset, 0, peerA, pod, event.TCPFact{Reset: &event.Reset{By: "nobody's"}})
	}
	for name, ends := range map[string][]func(*facts){"the pod's first": {received, sent}, "the node's first": {sent, received}} {
		t.Run(name, func(t *testing.T) {
			f := cluster()
			f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{ReceivedAge: age(0)})
			since := InstantOf(f.t)
			f.t = f.t.Add(time.Minute)
			for _, tell := range ends {
				tell(f)
			}
			forgot := f.Forgot("node-a")
			if len(forgot) != 1 || forgot[0].Why != LossRefused || forgot[0].Least <= 0 || forgot[0].Least > time.Second {
				t.Errorf("node-a forgot %+v, want one connection that was refused after 50 ms of silence", forgot)
			}
			h, ok := f.Hop(HopKey{Kind: KindNode, Name: "node-a"})
			if !ok {
				t.Fatal("the hop is forgotten")
			}
			n := 0
			f.EachEnded(&h, since, func(e Ended) bool {
				n++
				if silent := time.Duration(e.At - e.Received); e.Kind != EndReset || silent < 0 || silent > time.Second {
					t.Errorf("it ended by %v after %v of silence", e.Kind, silent)
				}
				return true
			})
			if n != 1 {
				t.Errorf("%d connections ended", n)
			}
		})
	}
}
