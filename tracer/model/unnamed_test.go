package model

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// TestUnnamed: whose ledger is worth asking is whoever has three sockets in trouble of which nobody knows the client.
func TestUnnamed(t *testing.T) {
	stuck := event.Progress{Retransmits: 2}
	shut := event.Progress{Timer: event.TimerProbe0, SendWindow: event.Known(uint32(0)), Unsent: 9000}
	for name, p := range map[string]event.Progress{"stalled": stuck, "do not read": shut} {
		t.Run(name, func(t *testing.T) {
			f := cluster()
			masq := func(i int) string { return fmt.Sprintf("10.146.0.11:4000%d", i) }
			for i := range 3 {
				if got := f.Unnamed(); got != nil {
					t.Fatalf("asks %q for %d sockets", got, i)
				}
				f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, uint64(i+1), pod, masq(i), p)
			}
			if got := f.Unnamed(); !slices.Equal(got, []string{"node-a"}) {
				t.Fatalf("asks %q", got)
			}
			f.fold("hub", event.NATRecalled, natFact("node-a", "198.51.100.7:5555", "203.0.113.80:443", pod, masq(1)))
			if got := f.Unnamed(); got != nil {
				t.Errorf("asks %q again", got)
			}
		})
	}
}

// TestARecalledEntryGoesWithItsSocket: nobody tells its end, and the node's port may have another client then.
func TestARecalledEntryGoesWithItsSocket(t *testing.T) {
	recalled := natFact("node-a", "198.51.100.7:5555", "203.0.113.80:443", pod, peerA)
	client := func(f *facts, cookie uint64) *event.Client {
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, cookie, pod, peerA, event.Progress{})
		return f.view(t, 0).Client
	}
	f := cluster()
	f.fold("hub", event.NATRecalled, recalled)
	if c := client(f, 1); c == nil {
		t.Fatal("the entry is not joined")
	}
	f.seen("agent/node-b", event.SocketGone, event.RoleAccepted, 1, pod, peerA, event.Progress{State: "close"})
	if c := client(f, 2); c != nil {
		t.Errorf("another connection by the same port is said to be %v's", c.IP)
	}

	// A pod that dialled may stall after the socket that it reached has gone: where that was must not be forgotten before it.
	f = cluster()
	f.fold("agent/node-c", event.NATRecalled, natFact("node-c", "10.48.3.9:5555", "10.52.0.9:80", pod, "10.146.0.13:40001"))
	f.seen("agent/node-c", event.SocketSeen, event.RoleDialled, 1, "10.48.3.9:5555", "10.52.0.9:80", event.Progress{})
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 2, pod, "10.146.0.13:40001", event.Progress{})
	f.seen("agent/node-b", event.SocketGone, event.RoleAccepted, 2, pod, "10.146.0.13:40001", event.Progress{State: "close"})
	f.seen("agent/node-c", event.SocketChanged, event.RoleDialled, 1, "10.48.3.9:5555", "10.52.0.9:80", event.Progress{Retransmits: 2})
	backend := ""
	for _, h := range f.Sick() {
		f.EachTroubled(&h, func(s *Troubled) bool { backend = s.Backend.String(); return true })
	}
	if backend != "10.48.2.5" {
		t.Errorf("the connection leads to %q", backend)
	}

	// Whoever tells its sockets anew, as an agent does that was started again, is not told their clients again.
	f = cluster()
	f.fold("agent/node-b", event.StreamStarted, &event.Started{Complete: true})
	f.fold("hub", event.NATRecalled, recalled)
	client(f, 1)
	f.Apply(&event.Event{Type: event.StreamStarted, Time: f.t.Add(time.Second), Source: "agent/node-b",
		ID: event.ID{Origin: "agent/node-b-later", N: 1}, Body: &event.Started{Complete: true}})
	if len(f.Page(PageQuery{}, none{}).Rows) != 0 {
		t.Fatal("the sockets of the process before are still there")
	}
	if c := client(f, 1); c == nil {
		t.Error("an agent that was started again has lost the client")
	}
}

// TestShutAtTheOwnNode: the address of the node that translated is not the client's.
func TestShutAtTheOwnNode(t *testing.T) {
	f := cluster()
	f.node("kube", "added", event.Node{Name: "node-b", Addresses: []event.Address{{IP: ip("10.146.0.12"), From: "status InternalIP"}}})
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, "10.146.0.12:40001",
		event.Progress{Timer: event.TimerProbe0, SendWindow: event.Known(uint32(0)), Unsent: 9000})
	shut := f.ShutSockets()
	if len(shut) != 1 || shut[0].Hop.Kind != KindLocal || shut[0].Client.IsValid() {
		t.Errorf("shut %+v", shut)
	}
}
