package model

import (
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// TestCadence: a silence counts as usual only when something came after it, and long ones fade.
func TestCadence(t *testing.T) {
	f := cluster()
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{})
	pass := uint64(0)
	look := func(silent time.Duration) time.Duration {
		pass++
		f.fold("agent/node-b", event.PathTraffic, &event.Traffic{Pass: pass, Total: 1, Rows: []event.TrafficRow{{
			Netns: 7, Local: ep(pod), Peer: event.Endpoint{IP: ep(peerA).IP}, Sockets: 1, ReceivedAge: age(silent)}}})
		h, _ := f.Hop(HopKey{Kind: KindNode, Name: "node-a"})
		return h.Usual
	}
	for range 5 {
		look(10 * time.Millisecond)
	}
	if u := look(10 * time.Millisecond); u != 10*time.Millisecond {
		t.Errorf("usual %v, want 10 ms", u)
	}
	look(900 * time.Millisecond) // looks are a second apart: this silence began after the look before
	if u := look(1900 * time.Millisecond); u > 900*time.Millisecond {
		t.Errorf("a silence that goes on is taken for usual: %v", u)
	}
	look(2896 * time.Millisecond) // read a tick of the kernel's clock later, it is still the same receive
	if u := look(3892 * time.Millisecond); u > 900*time.Millisecond {
		t.Errorf("the kernel's ticks are taken for receives: usual %v", u)
	}
	look(20 * time.Millisecond)
	if u := look(20 * time.Millisecond); u != 3892*time.Millisecond {
		t.Errorf("usual %v, want the 3.9 s that were survived", u)
	}
	for range 400 {
		look(20 * time.Millisecond)
	}
	if u := look(20 * time.Millisecond); u != 20*time.Millisecond {
		t.Errorf("after 400 looks usual is still %v", u)
	}
}
