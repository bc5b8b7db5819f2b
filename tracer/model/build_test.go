package model

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
)

// TestIncidentPeers is the pod of the incident that this project exists for: its sockets by peer, as they were counted by
// hand, have to come out as nodes, this node and pods.
func TestIncidentPeers(t *testing.T) {
	f := newFacts(Options{Node: "node-12"})
	for name, addr := range map[string]string{
		"node-10": "10.146.0.10", "node-11": "10.146.0.11", "node-3": "10.146.0.3", "node-60": "10.146.0.60", "node-98": "10.146.0.98",
	} {
		f.node("nodes file", "added", event.Node{Name: name, Addresses: addrs("nodes file", addr), Spot: "preemptible"})
	}
	for name, cidr := range map[string]string{"node-12": "10.48.12.0/24", "node-204": "10.48.204.0/24", "node-207": "10.48.207.0/24"} {
		f.node("nodes file", "added", event.Node{Name: name, PodCIDRs: []netip.Prefix{netip.MustParsePrefix(cidr)}})
	}
	f.fold("kube", event.PodChanged, &event.PodFact{What: "added", Pod: event.Pod{Namespace: "ws", Name: "chat-1", Node: "node-12", IPs: []netip.Addr{ip("10.48.12.9")}}})
	f.fold("kube", event.ServiceChanged, &event.ServiceFact{What: "added", Service: event.Service{Namespace: "ws", Name: "chat", Backends: []netip.Addr{ip("10.48.12.9")}}})
	f.fold("agent/node-12", event.StreamHeartbeat, &event.Heartbeat{})
	cookie := uint64(0)
	for _, p := range []struct {
		peer  string
		count int
	}{
		{"10.146.0.10", 833}, {"10.146.0.11", 399}, {"10.146.0.3", 4224}, {"10.146.0.60", 4225}, {"10.146.0.98", 449},
		{"10.48.12.1", 4259}, {"10.48.204.24", 194}, {"10.48.204.46", 228}, {"10.48.207.248", 3903},
	} {
		body := &event.Sockets{Pass: 1, Limits: []event.Limits{chatLimits}}
		for i := range p.count {
			cookie++
			body.Rows = append(body.Rows, event.SocketRow{Change: event.SocketSeen, Role: event.RoleAccepted,
				TCP: event.Progress{State: "established"},
				Socket: event.Socket{Cookie: cookie, Netns: 7, Local: ep("10.48.12.9:8080"),
					Peer: event.Endpoint{IP: ip(p.peer), Port: uint16(1024 + i)}}})
		}
		f.fold("agent/node-12", event.PathSockets, body)
	}
	if s := f.Snapshot(f.t, none{}); s.Complete {
		t.Error("complete before the census says so")
	}
	f.fold("agent/node-12", event.StreamSynced, &event.Synced{Fact: "sockets"})
	f.fold("kube", event.NATTable, &event.Table{Node: "node-60", Entries: 61000, Max: 262144})

	s := f.Snapshot(f.t, none{})
	var got []string
	for _, r := range s.Vias {
		got = append(got, fmt.Sprintf("%s %s %d %v %v %s %d", r.Via, r.Kind, r.Sockets, r.Pods, r.Services, r.Node.Spot, r.Table.Entries))
	}
	want := []string{
		"(pods) pod 4325 [ws/chat-1] [ws/chat]  0",
		"(this node) local 4259 [ws/chat-1] [ws/chat]  0",
		"node-60 node 4225 [ws/chat-1] [ws/chat] preemptible 61000",
		"node-3 node 4224 [ws/chat-1] [ws/chat] preemptible 0",
		"node-10 node 833 [ws/chat-1] [ws/chat] preemptible 0",
		"node-98 node 449 [ws/chat-1] [ws/chat] preemptible 0",
		"node-11 node 399 [ws/chat-1] [ws/chat] preemptible 0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s.Totals.Sockets != 18714 || s.Totals.Crossing != 10130 || !s.Complete {
		t.Errorf("%d sockets, %d crossing, complete %v; want 18714, 10130, true", s.Totals.Sockets, s.Totals.Crossing, s.Complete)
	}
	if s.Coverage.NodesKnown != 8 || s.Coverage.NodesSeen != 1 {
		t.Errorf("coverage %+v, want 1 of 8 nodes", s.Coverage)
	}
	if again := f.Snapshot(f.t, none{}); again != s {
		t.Error("a second snapshot was built though nothing changed")
	}

	p := f.Page(PageQuery{Via: "node-60", Offset: 4000, Limit: 1000}, none{})
	if p.Total != 4225 || len(p.Rows) != 225 {
		t.Errorf("page: %d of %d", len(p.Rows), p.Total)
	}
	p = f.Page(PageQuery{
		Match: func(v *SocketView) bool { return v.Socket.Peer.Port < 1034 },
		Order: func(v *SocketView) Rank { return Rank{Number: -float64(v.Socket.Peer.Port)} }, Limit: 9,
	}, none{})
	if p.Total != 90 || len(p.Rows) != 9 || p.Rows[0].Socket.Peer.Port != 1033 || p.Rows[8].Socket.Peer.Port != 1033 {
		t.Errorf("page of %d: %d rows, first port %d", p.Total, len(p.Rows), p.Rows[0].Socket.Peer.Port)
	}
}

// TestPresumed: sockets through a hop that is proven gone are lost though they do not know it, and have a deadline.
func TestPresumed(t *testing.T) {
	f := cluster()
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{ReceivedAge: age(time.Second)})
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 2, pod, "10.146.0.11:40002", event.Progress{ReceivedAge: age(time.Minute), Retransmits: 2})
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 3, pod, "10.48.1.77:40002", event.Progress{})
	since := InstantOf(f.t)
	s := f.Snapshot(f.t, none{named: map[HopKey]Named{{Kind: KindNode, Name: "node-a"}: {ID: "x-1", Gone: true, Since: since}}})
	r := s.Vias[0]
	if r.Via != "node-a" || r.Stalled != 1 || r.Presumed != 1 || r.Doomed() != 2 || r.Status != StatusDead || r.Incident != "x-1" {
		t.Errorf("%+v", r)
	}
	if s.Totals.Presumed != 1 || s.Totals.Doomed() != 2 || s.Totals.Crossing != 2 {
		t.Errorf("%+v", s.Totals)
	}
	if len(s.Trouble) != 2 || s.Trouble[0].Status != StatusStalled || s.Trouble[1].Status != StatusPresumed {
		t.Fatalf("trouble %+v", s.Trouble)
	}
	v := s.Trouble[1]
	if v.Clock != event.ClockKeepalive || v.Deadline.Before(f.t) || v.Deadline.After(f.t.Add(150*time.Second)) {
		t.Errorf("clock %s, gives up after %v", v.Clock, v.Deadline.Sub(f.t))
	}
	if len(s.Pods) != 1 || s.Pods[0].Sockets != 3 || s.Pods[0].Crossing != 2 || s.Pods[0].Presumed != 1 || s.Pods[0].Node != "node-b" {
		t.Errorf("pods %+v", s.Pods)
	}
}

// TestActive: what moved comes from the census' sums, for whoever counts by hop or by pod.
func TestActive(t *testing.T) {
	f := cluster()
	for i := range 5 {
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, uint64(i+1), pod, fmt.Sprintf("10.146.0.11:%d", 40000+i), event.Progress{})
	}
	for pass, active := range []int{4, 2} {
		f.fold("agent/node-b", event.PathTraffic, &event.Traffic{Pass: uint64(pass + 1), Total: 5, Rows: []event.TrafficRow{{
			Netns: 7, Local: ep(pod), Peer: event.Endpoint{IP: ip("10.146.0.11")}, Sockets: 5, Active: active, Retransmitted: 3, ReceivedAge: age(0)}}})
		s := f.Snapshot(f.t, none{})
		if r := s.Vias[0]; r.Active != active || r.Retrans != uint64(3*(pass+1)) || !r.LastHeard.Equal(f.t) {
			t.Errorf("pass %d: %d active, %d sent again, last heard %v", pass, r.Active, r.Retrans, r.LastHeard)
		}
		if rows := f.CensusRows(nil); len(rows) != 1 || rows[0].Active != active || rows[0].Established != 5 || rows[0].Pod != "ws/chat-1" {
			t.Errorf("census %+v", rows)
		}
	}
}

// TestNoLedger: a node whose conntrack is read and translates nothing, though sockets cross it, keeps no ledger; before the
// first look at its table, or once a connection was translated, nothing of the kind is said.
func TestNoLedger(t *testing.T) {
	f := cluster()
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{})
	f.fold("agent/node-a", event.StreamHeartbeat, &event.Heartbeat{})
	says := func() bool {
		for _, r := range f.Snapshot(f.t, none{}).Vias {
			if r.Via == "node-a" {
				return r.NoLedger
			}
		}
		t.Fatal("no row of node-a")
		return false
	}
	if says() {
		t.Error("its table was not read yet")
	}
	f.fold("agent/node-a", event.StreamSynced, &event.Synced{Fact: "nat"})
	if !says() {
		t.Error("its table translates nothing")
	}
	entry := &event.NATFact{By: event.By{Node: "node-a"}, NAT: event.NAT{Proto: "tcp",
		Original: event.Tuple{Src: ep("198.51.100.7:40001"), Dst: ep("10.146.0.11:30080")},
		Reply:    event.Tuple{Src: ep(pod), Dst: ep(peerA)}}}
	f.fold("agent/node-a", event.NATFound, entry)
	if says() {
		t.Error("its table translates a connection")
	}
	f.fold("agent/node-a", event.NATDestroyed, entry)
	if says() {
		t.Error("its table was emptied: that is another story")
	}
}

// TestDirectFrom names the networks of what crosses no node: the balancer's range, or the client's neighbourhood.
func TestDirectFrom(t *testing.T) {
	f := cluster()
	for i, peer := range []string{"35.191.3.4:1", "35.191.9.9:2", "203.0.114.7:3"} {
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, uint64(i+1), pod, peer, event.Progress{})
	}
	got := make(map[string]int)
	for _, r := range f.Snapshot(f.t, none{}).Vias {
		for _, n := range r.From {
			got[r.Via+" "+n.Prefix.String()] += n.Sockets
		}
	}
	if diff := cmp.Diff(map[string]int{"(balancer) 35.191.0.0/16": 2, "(clients) 203.0.114.0/24": 1}, got); diff != "" {
		t.Error(diff)
	}
}
