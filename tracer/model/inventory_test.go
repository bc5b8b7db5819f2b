package model

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// TestRemovedNode: what was known of a node outlives its object, with what was told of the end; another machine of the name
// starts anew.
func TestRemovedNode(t *testing.T) {
	m := New(Options{})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tell := func(what string, n event.Node) {
		at = at.Add(time.Second)
		m.Apply(&event.Event{Type: event.NodeChanged, Time: at, Source: "kube", Body: &event.NodeFact{What: what, Node: n}})
	}
	tell("added", event.Node{Name: "node-a", UID: "1", Spot: "preemptible", Created: at})
	tell("removed", event.Node{Name: "node-a", UID: "1", Causes: []event.Cause{{What: event.CauseDeleted, From: "the Node object is gone", Since: at}}})
	n, ok := m.Node("node-a")
	if !ok || n.Spot != "preemptible" || n.UID != "1" || len(n.Causes) != 1 || n.Causes[0].What != event.CauseDeleted {
		t.Errorf("after its end: %+v", n)
	}
	tell("added", event.Node{Name: "node-a", UID: "2"})
	if n, _ = m.Node("node-a"); n.UID != "2" || n.Spot != "" || n.Causes != nil {
		t.Errorf("another machine: %+v", n)
	}
}

// TestBehind: a fact that cannot be followed is a gap in what a verdict covers, until it can.
func TestBehind(t *testing.T) {
	m := New(Options{})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	say := func(behind string) []string {
		m.Apply(&event.Event{Type: event.StreamSynced, Time: at, Source: "kube", Body: &event.Synced{Fact: "pods", Behind: behind}})
		return m.Coverage(InstantOf(at), nil).Behind
	}
	if got := say("403: may not"); !slices.Equal(got, []string{"pods (403: may not)"}) {
		t.Errorf("behind: %q", got)
	}
	if got := say(""); got != nil {
		t.Errorf("up to date again: %q", got)
	}
}

// TestAgentSpeaksWithTwoVoices: an agent that reads the API of its own node says two things of it, and neither replaces the
// other. What it lists is no inventory: an address that it does not know may be any other node's.
func TestAgentSpeaksWithTwoVoices(t *testing.T) {
	f := newFacts(Options{})
	f.node("agent/node-b", "agent", event.Node{Name: "node-b", BootID: "b-1", Addresses: addrs("agent eth1", "198.51.100.12")})
	f.node("agent/node-b", "added", event.Node{Name: "node-b", UID: "u", Spot: "spot", Addresses: addrs("status InternalIP", "10.146.0.12")})
	f.fold("agent/node-b", event.PodChanged, &event.PodFact{What: "added", Pod: event.Pod{Namespace: "ws", Name: "chat-1", Node: "node-b", IPs: []netip.Addr{ip("10.48.2.5")}}})
	for addr, from := range map[string]string{"198.51.100.12": "agent eth1", "10.146.0.12": "status InternalIP"} {
		if r := f.addrs.resolve(question{ip: ip(addr), own: "node-c"}, f.inv); r.Node != "node-b" || r.Because != from {
			t.Errorf("%s is %+v, want node-b by %s", addr, r, from)
		}
	}
	if n, _ := f.Node("node-b"); n.Spot != "spot" || n.UID != "u" || len(n.Addresses) != 2 {
		t.Errorf("the node is %+v", n)
	}
	if r := f.addrs.resolve(question{ip: ip("10.146.0.11"), own: "node-b"}, f.inv); r.Kind != KindAddress {
		t.Errorf("an address that nobody has listed is %+v, want a bare address", r)
	}
	f.node("agent/node-b", "agent", event.Node{Name: "node-b", BootID: "b-1", Addresses: addrs("agent eth2", "198.51.100.13")})
	if n, _ := f.Node("node-b"); len(n.Addresses) != 2 || n.Spot != "spot" {
		t.Errorf("after new addresses the node is %+v", n)
	}
	f.node("agent/node-b", "removed", event.Node{Name: "node-b"})
	if r := f.addrs.resolve(question{ip: ip("10.146.0.12"), own: "node-c"}, f.inv); r.Node != "node-b" || !strings.Contains(r.Because, "until") {
		t.Errorf("after its removal the address is %+v, want a tombstone", r)
	}
}
