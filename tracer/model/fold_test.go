package model

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
)

// none is a judge that has found nothing.
type none struct{ named map[HopKey]Named }

func (none) Incidents() []IncidentView { return nil }
func (n none) Named() map[HopKey]Named { return n.named }
func (none) Version() uint64           { return 0 }
func ep(s string) event.Endpoint {
	a := netip.MustParseAddrPort(s)
	return event.Endpoint{IP: a.Addr(), Port: a.Port()}
}
func age(d time.Duration) event.Opt[event.Seconds] { return event.Known(event.Seconds(d)) }

var chatLimits = event.Limits{
	Keepalive: true, KeepaliveTime: sec(15), KeepaliveInterval: sec(15), KeepaliveProbes: 9, Retries2: 15, SynRetries: 6,
}

// seen folds one socket of a census.
func (f *facts) seen(source string, c event.Change, role event.Role, cookie uint64, local, peer string, p event.Progress) *event.Event {
	if p.State == "" {
		p.State = "established"
	}
	return f.fold(source, event.PathSockets, &event.Sockets{Pass: 1, Limits: []event.Limits{chatLimits}, Rows: []event.SocketRow{{
		Change: c, Role: role, TCP: p,
		Socket: event.Socket{Cookie: cookie, Netns: 7, Local: ep(local), Peer: ep(peer), Family: event.IPv4},
	}}})
}

func (f *facts) tcp(source string, typ event.Type, cookie uint64, local, peer string, b event.TCPFact) {
	b.Socket = event.Socket{Cookie: cookie, Netns: 7, Local: ep(local), Peer: ep(peer)}
	if b.TCP.State == "" {
		b.TCP.State = "established"
	}
	f.fold(source, typ, &b)
}

func natFact(node, client, vip, pod, masq string) *event.NATFact {
	return &event.NATFact{
		NAT: event.NAT{Proto: "tcp", Kinds: []string{"snat", "dnat"},
			Original: event.Tuple{Src: ep(client), Dst: ep(vip)}, Reply: event.Tuple{Src: ep(pod), Dst: ep(masq)}},
		By: event.By{Node: node}, Rung: "dump",
	}
}

const pod, peerA = "10.48.2.5:8080", "10.146.0.11:40001"

func (f *facts) view(t *testing.T, i int) SocketView {
	t.Helper()
	p := f.Page(PageQuery{}, none{})
	if i >= len(p.Rows) {
		t.Fatalf("%d sockets, want more than %d", len(p.Rows), i)
	}
	return p.Rows[i]
}

// TestNamesAreFilledIn: a fact leaves the fold with the names and the via that are known at its line.
func TestNamesAreFilledIn(t *testing.T) {
	f := cluster()
	ev := f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{ReceivedAge: age(time.Second)})
	row := ev.Body.(*event.Sockets).Rows[0]
	want := &event.K8sRef{Node: "node-b", Namespace: "ws", Pod: "chat-1", Service: "ws/chat"}
	if diff := cmp.Diff(want, row.Socket.K8s); diff != "" {
		t.Error(diff)
	}
	if row.Via == nil || row.Via.Node != "node-a" || row.Via.Role != event.ViaEntry || row.Via.Sure != event.Inferred || row.Via.Because != "status InternalIP" {
		t.Errorf("via %+v", row.Via)
	}
}

// TestLedgerJoin: the entry may come before the socket or after it, twice, and may be destroyed while the socket lives;
// it tells the client, and proves the node.
func TestLedgerJoin(t *testing.T) {
	nat := natFact("node-a", "35.191.0.9:5555", "203.0.113.80:443", pod, peerA)
	socket := func(f *facts) {
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{})
	}
	for name, order := range map[string]func(*facts){
		"entry first":  func(f *facts) { f.fold("agent/node-a", event.NATCreated, nat); socket(f) },
		"socket first": func(f *facts) { socket(f); f.fold("agent/node-a", event.NATFound, nat) },
		"twice": func(f *facts) {
			f.fold("agent/node-a", event.NATCreated, nat)
			socket(f)
			f.fold("agent/node-a", event.NATFound, nat)
		},
		"destroyed": func(f *facts) {
			socket(f)
			f.fold("agent/node-a", event.NATFound, nat)
			f.fold("agent/node-a", event.NATDestroyed, nat)
		},
		"destroyed alone first": func(f *facts) {
			f.fold("agent/node-a", event.NATDestroyed, nat)
			f.fold("agent/node-a", event.NATCreated, nat)
			socket(f)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := cluster()
			order(f)
			v := f.view(t, 0)
			if v.Client == nil || *v.Client != (event.Client{IP: ip("35.191.0.9"), Port: 5555, Kind: event.ClientLoadBalancer}) {
				t.Errorf("client %+v", v.Client)
			}
			if v.VIP == nil || v.VIP.String() != "203.0.113.80:443" {
				t.Errorf("dialled %v", v.VIP)
			}
			if v.Via.Node != "node-a" || v.Via.Sure != event.Proved {
				t.Errorf("via %+v", v.Via)
			}
			f.check(t)
			f.seen("agent/node-b", event.SocketGone, event.RoleAccepted, 1, pod, peerA, event.Progress{})
			if name != "destroyed" && f.ledger.entries.Len() != 1 {
				t.Errorf("%d entries after the socket went, want 1", f.ledger.entries.Len())
			}
			if name == "destroyed" && f.ledger.entries.Len() != 0 {
				t.Error("a destroyed entry outlives its socket")
			}
		})
	}
}

// TestLedgerNamesTheNode: an address that all nodes share is told apart by the node in whose table the entry stands. What
// is received at the shared address is a sign of life of all of them.
func TestLedgerNamesTheNode(t *testing.T) {
	f := cluster()
	f.fold("agent/node-a", event.NATFound, natFact("node-a", "35.191.0.9:5555", "203.0.113.80:443", pod, "10.0.2.15:40001"))
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, "10.0.2.15:40001", event.Progress{ReceivedAge: age(time.Minute)})
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 2, pod, "10.0.2.15:40002", event.Progress{})
	if v := f.view(t, 0); v.Via.Node != "node-a" || v.Via.Sure != event.Proved {
		t.Errorf("joined: via %+v", v.Via)
	}
	if v := f.view(t, 1); v.Via.Node != "" || v.Via.Role != event.ViaUnknown {
		t.Errorf("not joined: via %+v", v.Via)
	}
	f.fold("agent/node-b", event.PathTraffic, &event.Traffic{Pass: 2, Total: 2, Rows: []event.TrafficRow{{
		Netns: 7, Local: ep(pod), Peer: event.Endpoint{IP: ip("10.0.2.15")}, Sockets: 2, Active: 1, ReceivedAge: age(0)}}})
	h, ok := f.Hop(HopKey{Kind: KindNode, Name: "node-a"})
	if !ok || h.Sockets != 1 || h.Received != InstantOf(f.t) {
		t.Errorf("hop %+v, want one socket, last received %v", h, f.t)
	}
	f.check(t)
}

// TestBothEnds: a connection between two sockets of one machine counts at the end that accepted it.
func TestBothEnds(t *testing.T) {
	for _, dialledFirst := range []bool{true, false} {
		f := newFacts(Options{})
		ends := []func(){
			func() {
				f.seen("agent/h", event.SocketSeen, event.RoleDialled, 1, "127.0.0.1:5000", "127.0.0.1:80", event.Progress{})
			},
			func() {
				f.seen("agent/h", event.SocketSeen, event.RoleAccepted, 2, "127.0.0.1:80", "127.0.0.1:5000", event.Progress{})
			},
		}
		if !dialledFirst {
			ends[0], ends[1] = ends[1], ends[0]
		}
		ends[0]()
		ends[1]()
		p := f.Page(PageQuery{}, none{})
		if p.Total != 1 || p.Rows[0].Role != event.RoleAccepted {
			t.Errorf("dialled first %v: %d sockets count", dialledFirst, p.Total)
		}
		f.check(t)
		f.seen("agent/h", event.SocketGone, event.RoleAccepted, 2, "127.0.0.1:80", "127.0.0.1:5000", event.Progress{})
		if p := f.Page(PageQuery{}, none{}); p.Total != 1 || p.Rows[0].Role != event.RoleDialled {
			t.Errorf("dialled first %v: after the accepting end went %d count", dialledFirst, p.Total)
		}
		f.check(t)
	}
}

// TestBothEndsOfATranslatedConnection: a caller inside the cluster dials a node, which translates it to a pod. Where both
// are watched the connection counts once, in whatever order the two ends and the entry are learned.
func TestBothEndsOfATranslatedConnection(t *testing.T) {
	const caller, nodePort = "10.48.1.9:51000", "10.146.0.11:30080"
	steps := []func(*facts){
		func(f *facts) {
			f.seen("agent/node-c", event.SocketSeen, event.RoleDialled, 1, caller, nodePort, event.Progress{})
		},
		func(f *facts) {
			f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 2, pod, peerA, event.Progress{})
		},
		func(f *facts) {
			f.fold("agent/node-a", event.NATCreated, natFact("node-a", caller, nodePort, pod, peerA))
		},
	}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		f := cluster()
		for _, i := range order {
			steps[i](f)
		}
		f.check(t)
		p := f.Page(PageQuery{}, none{})
		if p.Total != 1 || p.Rows[0].Role != event.RoleAccepted || p.Rows[0].Client == nil || p.Rows[0].Client.Kind != event.ClientPod {
			t.Errorf("order %v: %d count, %+v", order, p.Total, p.Rows)
		}
		// Its application has died: whoever dialled does not know, and is what counts.
		f.seen("agent/node-b", event.SocketChanged, event.RoleAccepted, 2, pod, peerA, event.Progress{State: "fin_wait1", Orphan: true, Unacked: 1})
		f.check(t)
		if p := f.Page(PageQuery{}, none{}); p.Total != 1 || p.Rows[0].Role != event.RoleDialled {
			t.Errorf("order %v: after the pod died %d count", order, p.Total)
		}
		f.seen("agent/node-b", event.SocketGone, event.RoleAccepted, 2, pod, peerA, event.Progress{})
		if p := f.Page(PageQuery{}, none{}); p.Total != 1 || p.Rows[0].Role != event.RoleDialled {
			t.Errorf("order %v: after the pod's end went %d count", order, p.Total)
		}
		f.check(t)
	}
}

// TestStallAndRecovery follows one socket through its statuses and the findings about it.
func TestStallAndRecovery(t *testing.T) {
	f := cluster()
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{ReceivedAge: age(0)})
	retransmit := func(n uint8, stalledFor time.Duration) {
		l := chatLimits
		p := event.Progress{Kind: "rto", Retransmits: n, RTO: sec(0.2), Unacked: 10, ReceivedAge: age(2 * time.Second)}
		if n > 0 {
			p.StalledAge = age(stalledFor)
		}
		f.tcp("agent/node-b", event.TCPRetransmit, 1, pod, peerA, event.TCPFact{TCP: p, Limits: &l})
	}
	status := func(want string) {
		t.Helper()
		if v := f.view(t, 0); v.Status != want {
			t.Errorf("status %s, want %s", v.Status, want)
		}
		f.check(t)
	}
	retransmit(0, 0) // a tail loss probe: nothing is unanswered yet
	status(StatusOK)
	retransmit(1, 0)
	status(StatusAtRisk)
	if len(f.Turns()) != 0 {
		t.Error("a socket at risk is told")
	}
	retransmit(2, 600*time.Millisecond)
	status(StatusStalled)
	turns := f.Turns()
	if len(turns) != 1 || turns[0].Type != event.TCPStall || turns[0].Body.Via.Node != "node-a" ||
		turns[0].Body.Clock != event.ClockRTO || turns[0].Body.DeadlineIs != Exact {
		t.Fatalf("turns %+v", turns)
	}
	if d := f.t.Sub(turns[0].Body.Since); d != time.Second {
		t.Errorf("stalled for %v when first seen so, want since the first retransmission 1 s before", d)
	}
	f.seen("agent/node-b", event.SocketChanged, event.RoleAccepted, 1, pod, peerA, event.Progress{ReceivedAge: age(0)})
	status(StatusOK)
	if turns = f.Turns(); len(turns) != 1 || turns[0].Type != event.TCPRecovered || turns[0].Body.Stalled.V.Duration() < time.Second {
		t.Errorf("turns %+v", turns)
	}
}

// TestTroubleAnew: a socket sends again, is answered between two looks, and sends again later: that is another trouble, which
// began then. One that goes on, or one whose peer was not heard in between, is the same.
func TestTroubleAnew(t *testing.T) {
	for name, c := range map[string]struct {
		stalled, received time.Duration // before the last fact
		anew              bool
	}{
		"answered":  {0, time.Second, true},
		"same":      {10 * time.Second, time.Second, false},
		"no answer": {0, 30 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := cluster()
			f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{ReceivedAge: age(0)})
			tell := func(stalled, received time.Duration) {
				f.tcp("agent/node-b", event.TCPRetransmit, 1, pod, peerA, event.TCPFact{TCP: event.Progress{
					Kind: "rto", Retransmits: 1, RTO: sec(0.2), Unacked: 10, ReceivedAge: age(received), StalledAge: age(stalled),
				}})
			}
			tell(0, time.Second)
			first := InstantOf(f.t)
			f.t = f.t.Add(9 * time.Second)
			tell(c.stalled, c.received)
			want := first
			if c.anew {
				want = InstantOf(f.t)
			}
			h, _ := f.Hop(HopKey{Kind: KindNode, Name: "node-a"})
			n := 0
			f.EachTroubled(&h, func(s *Troubled) bool {
				n++
				if s.First != want || s.Since != want || s.Sign != InstantOf(f.t) {
					t.Errorf("first seen %v after the first, since %v, sign %v", s.First.Time().Sub(first.Time()), s.Since.Time().Sub(first.Time()), s.Sign.Time().Sub(first.Time()))
				}
				return true
			})
			if n != 1 {
				t.Errorf("%d in trouble", n)
			}
		})
	}
}

// TestOlderLook: facts about one socket may come out of order; an older look changes nothing but the newest receive.
func TestOlderLook(t *testing.T) {
	f := cluster()
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{})
	f.seen("agent/node-b", event.SocketChanged, event.RoleAccepted, 1, pod, peerA, event.Progress{Retransmits: 3})
	f.t = f.t.Add(-5 * time.Second)
	f.seen("agent/node-b", event.SocketChanged, event.RoleAccepted, 1, pod, peerA, event.Progress{ReceivedAge: age(0)})
	v := f.view(t, 0)
	if v.Status != StatusStalled || !v.LastHeard.Equal(f.t) {
		t.Errorf("status %s, last heard %v; want STALLED, %v", v.Status, v.LastHeard, f.t)
	}
}

// TestZeroWindow: a peer that does not read but answers is no trouble of the path.
func TestZeroWindow(t *testing.T) {
	f := cluster()
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA,
		event.Progress{Timer: event.TimerProbe0, Backoff: 6, Unsent: 1000, SendWindow: event.Known[uint32](0)})
	if v := f.view(t, 0); v.Status != StatusOK || v.Clock != event.ClockProbe0 || !v.Deadline.IsZero() {
		t.Errorf("%s, clock %s, deadline %v", v.Status, v.Clock, v.Deadline)
	}
}

// TestSourceRestarts: a process that starts anew tells its sockets anew.
func TestSourceRestarts(t *testing.T) {
	f := cluster()
	started := &event.Started{Host: event.Host{Node: "node-b"}}
	f.fold("agent/node-b", event.StreamStarted, started)
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{})
	f.Apply(&event.Event{Type: event.StreamStarted, Time: f.t.Add(time.Second), Source: "agent/node-b",
		ID: event.ID{Origin: "agent/node-b-other", N: 1}, Body: started})
	if p := f.Page(PageQuery{}, none{}); p.Total != 0 {
		t.Errorf("%d sockets of the process before are left", p.Total)
	}
	f.check(t)
}

// TestInventoryComesLate: when nodes are learned after the sockets, the sockets move to their hop with all that is counted.
func TestInventoryComesLate(t *testing.T) {
	f := newFacts(Options{})
	for i := range 10 {
		p := event.Progress{ReceivedAge: age(time.Minute)}
		if i < 4 {
			p.Retransmits = 2
		}
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, uint64(i+1), pod, fmt.Sprintf("10.146.0.11:%d", 40000+i), p)
	}
	if h := f.Sick(); len(h) != 1 || h[0].Key.Kind != KindAddress || h[0].Stalled != 4 {
		t.Fatalf("before: %+v", h)
	}
	received := f.Sick()[0].Received
	f.node("kube", "added", event.Node{Name: "node-a", Addresses: addrs("status InternalIP", "10.146.0.11")})
	h := f.Sick()
	if len(h) != 1 || h[0].Key != (HopKey{Kind: KindNode, Name: "node-a"}) || h[0].Stalled != 4 || h[0].Sockets != 10 || h[0].Received != received {
		t.Errorf("after: %+v", h)
	}
	f.check(t)
}

// TestCaps: tables are bounded, what goes is healthy, and it is counted.
func TestCaps(t *testing.T) {
	f := newFacts(Options{Sockets: 50, Ledger: 20})
	for i := range 200 {
		p := event.Progress{}
		if i%5 == 0 {
			p.Retransmits = 2
		}
		if i > 100 {
			p.Retransmits = 0
		}
		f.seen("agent/h", event.SocketSeen, event.RoleAccepted, uint64(i+1), "10.0.0.1:80", fmt.Sprintf("10.0.%d.2:%d", i%7, 1000+i), p)
		f.fold("agent/h", event.NATCreated, natFact("h", fmt.Sprintf("192.0.2.1:%d", 1000+i), "10.9.9.9:80", "10.0.0.1:80", fmt.Sprintf("10.0.%d.2:%d", i%7, 1000+i)))
	}
	s := f.Snapshot(f.t, none{})
	if f.socks.Len() > 50 || f.ledger.entries.Len() > 20 {
		t.Errorf("%d sockets, %d entries", f.socks.Len(), f.ledger.entries.Len())
	}
	if s.Totals.Stalled != 21 {
		t.Errorf("%d stalled sockets are left of 21", s.Totals.Stalled)
	}
	if s.Lost["model.sockets"] != 150 || s.Lost["model.ledger"] != 180 {
		t.Errorf("lost %v", s.Lost)
	}
	f.check(t)
}

// TestStrangers: a million clients take no more room than was given to them, what did not fit is counted, and neither a
// node nor a socket of a client that is known already is ever turned away.
func TestStrangers(t *testing.T) {
	f := newFacts(Options{Strangers: 100})
	f.fold("kube", event.NodeChanged, &event.NodeFact{What: "added", Node: event.Node{Name: "node-a", Addresses: []event.Address{{IP: ep(peerA).IP, From: "status InternalIP"}}}})
	n := uint64(0)
	seen := func(peer string) {
		n++
		f.seen("agent/h", event.SocketSeen, event.RoleAccepted, n, pod, peer, event.Progress{})
	}
	for i := range 1000 {
		seen(fmt.Sprintf("198.51.%d.%d:%d", i/250, 1+i%250, 1000+i))
	}
	seen(peerA)
	seen("198.51.0.1:999")
	if f.peers.Len() != 101 || f.socks.Len() != 102 {
		t.Errorf("%d far ends, %d sockets; want 101 and 102", f.peers.Len(), f.socks.Len())
	}
	if s := f.Snapshot(f.t, none{}); s.Lost["model.strangers"] != 900 {
		t.Errorf("lost %v", s.Lost)
	}
	f.check(t)
	for i := range n {
		f.seen("agent/h", event.SocketGone, event.RoleAccepted, i+1, pod, peerA, event.Progress{})
	}
	f.t = f.t.Add(2 * time.Minute)
	f.fold("agent/h", event.StreamHeartbeat, &event.Heartbeat{})
	if f.strangers != 0 {
		t.Errorf("%d strangers are left", f.strangers)
	}
}

// TestReuse: ports and process numbers come round. A socket with the tuple of one that is in trouble is another one, by its
// cookie, and its owner is whoever holds it now.
func TestReuse(t *testing.T) {
	f := newFacts(Options{})
	stalled := event.TCPFact{TCP: event.Progress{Kind: "rto", Retransmits: 3, Unacked: 1}}
	f.seen("agent/h", event.SocketSeen, event.RoleAccepted, 1, pod, peerA, event.Progress{})
	f.tcp("agent/h", event.TCPRetransmit, 1, pod, peerA, stalled)
	if s := f.Snapshot(f.t, none{}); s.Totals.Stalled != 1 {
		t.Fatalf("%d stalled", s.Totals.Stalled)
	}
	f.seen("agent/h", event.SocketSeen, event.RoleAccepted, 2, pod, peerA, event.Progress{}) // before the end of the first is told
	f.seen("agent/h", event.SocketGone, event.RoleAccepted, 1, pod, peerA, event.Progress{Retransmits: 3})
	f.t = f.t.Add(2 * time.Second)
	s := f.Snapshot(f.t, none{})
	if s.Totals.Stalled != 0 || s.Totals.Sockets != 1 {
		t.Errorf("%d stalled of %d, want none of 1", s.Totals.Stalled, s.Totals.Sockets)
	}
	f.tcp("agent/h", event.TCPRetransmit, 1, pod, peerA, stalled) // late news of the first
	if s := f.Snapshot(f.t.Add(2*time.Second), none{}); s.Totals.Stalled > 1 {
		t.Errorf("%d stalled", s.Totals.Stalled)
	}
	f.check(t)
	f.seen("agent/h", event.SocketSeen, event.RoleAccepted, 3, "10.48.2.5:9", "10.146.0.11:9", event.Progress{})
	owned := func(comm string) {
		f.fold("agent/h", event.PathSockets, &event.Sockets{Pass: 1, Limits: []event.Limits{chatLimits}, Rows: []event.SocketRow{{
			Change: event.SocketChanged, Role: event.RoleAccepted, TCP: event.Progress{State: "established"},
			Socket: event.Socket{Cookie: 3, Netns: 7, Local: ep("10.48.2.5:9"), Peer: ep("10.146.0.11:9"), Owner: event.Owner{PID: 4711, Comm: comm}},
		}}})
	}
	owned("old")
	owned("new")
	id := f.byCookie.Get(cookieKey{f.watcherOf["agent/h"], 3})
	if s := f.socketOf(f.socks.At(id)); s.Owner != (event.Owner{PID: 4711, Comm: "new"}) {
		t.Errorf("owner %+v", s.Owner)
	}
}

// TestSweep: peers, ends, cells, lanes and hops that nothing refers to are forgotten.
func TestSweep(t *testing.T) {
	f := newFacts(Options{})
	f.fold("agent/h", event.StreamHeartbeat, &event.Heartbeat{})
	for i := range 300 {
		local, peer := fmt.Sprintf("10.0.0.%d:80", 1+i%100), fmt.Sprintf("192.0.%d.%d:%d", i/250, 1+i%250, 1000+i)
		f.seen("agent/h", event.SocketSeen, event.RoleAccepted, uint64(i+1), local, peer, event.Progress{})
		f.seen("agent/h", event.SocketGone, event.RoleAccepted, uint64(i+1), local, peer, event.Progress{})
	}
	f.t = f.t.Add(2 * time.Minute)
	f.fold("agent/h", event.StreamHeartbeat, &event.Heartbeat{})
	if n := f.cells.Len() + f.ends.Len() + f.peers.Len() + f.lanes.Len() + f.hops.Len() + f.byTuple.Len() + f.byCookie.Len() + f.owners.Len() + f.hosts.Len() + f.pendings.Len(); n != 0 {
		t.Errorf("left: %d cells, %d ends, %d peers, %d lanes, %d hops, %d tuples",
			f.cells.Len(), f.ends.Len(), f.peers.Len(), f.lanes.Len(), f.hops.Len(), f.byTuple.Len())
	}
}

// TestHeartbeat: an agent says when its next heartbeat is due, and how punctual they are is learnt and slowly forgotten.
func TestHeartbeat(t *testing.T) {
	f := newFacts(Options{})
	half := event.Known(event.Seconds(500 * time.Millisecond))
	beat := func(after time.Duration, every event.Opt[event.Seconds]) Agent {
		f.t = f.t.Add(after - time.Second) // a fold takes a second
		f.fold("agent/h", event.StreamHeartbeat, &event.Heartbeat{Every: every})
		a, _ := f.AgentOf("h")
		return a
	}
	if a := beat(0, event.Opt[event.Seconds]{}); a.Every != time.Second || a.Late != 0 {
		t.Errorf("unsaid: every %s, late %s", a.Every, a.Late)
	}
	if a := beat(time.Second, half); a.Every != 500*time.Millisecond || a.Late != 0 || a.Beat != InstantOf(f.t) {
		t.Errorf("punctual: every %s, late %s", a.Every, a.Late)
	}
	if a := beat(700*time.Millisecond, half); a.Late != 200*time.Millisecond {
		t.Errorf("late by %s", a.Late)
	}
	for range 200 {
		beat(500*time.Millisecond, half)
	}
	if a := beat(500*time.Millisecond, half); a.Late > 20*time.Millisecond {
		t.Errorf("late by %s after many punctual ones", a.Late)
	}
	if a := beat(time.Minute, half); a.Late != time.Second {
		t.Errorf("late by %s after an absence", a.Late)
	}
	// A promise of less than one a second is none.
	if a := beat(time.Second, event.Known(event.Seconds(time.Hour))); a.Every != time.Second {
		t.Errorf("every %s", a.Every)
	}
}

// TestHostNetworkPods: pods of the host's network share the node's address; the cgroup of the process that holds a socket
// tells which of them it is of, where it listens and where it dials.
func TestHostNetworkPods(t *testing.T) {
	f := cluster()
	seen := func(cookie uint64, role event.Role, local, peer, uid string) {
		f.fold("agent/node-a", event.PathSockets, &event.Sockets{Pass: 1, Limits: []event.Limits{chatLimits}, Rows: []event.SocketRow{{
			Change: event.SocketSeen, Role: role, TCP: event.Progress{State: "established"}, Socket: event.Socket{
				Cookie: cookie, Netns: 1, Local: ep(local), Peer: ep(peer), Owner: event.Owner{PID: int32(cookie), Comm: "x", PodUID: uid},
			}}}})
	}
	seen(1, event.RoleAccepted, "10.146.0.11:443", "203.0.113.200:4001", "uid-ingress")
	seen(2, event.RoleDialled, "10.146.0.11:50001", "10.48.2.5:8080", "uid-ingress")
	seen(3, event.RoleDialled, "10.146.0.11:50002", "10.48.2.5:8080", "hash-of-proxy")
	seen(4, event.RoleDialled, "10.146.0.11:50003", "10.48.2.5:8080", "")
	pod := func(name, uid, kubelet string) event.Pod {
		return event.Pod{Namespace: "infra", Name: name, UID: uid, KubeletUID: kubelet, Node: "node-a", HostNetwork: true, IPs: []netip.Addr{ip("10.146.0.11")}}
	}
	f.fold("kube", event.PodChanged, &event.PodFact{What: "added", Pod: pod("ingress", "uid-ingress", "")})
	f.fold("kube", event.PodChanged, &event.PodFact{What: "added", Pod: pod("static", "uid-of-mirror", "hash-of-proxy")})
	names := func() (out []string) {
		for _, r := range f.Page(PageQuery{Limit: 10}, none{}).Rows {
			name := "-"
			if k := r.Socket.K8s; k != nil && k.Pod != "" {
				name = k.Namespace + "/" + k.Pod
			}
			if r.Socket.Cookie != 0 {
				out = append(out, fmt.Sprint(r.Socket.Cookie, " ", name))
			}
		}
		slices.Sort(out)
		return out
	}
	if diff := cmp.Diff([]string{"1 infra/ingress", "2 infra/ingress", "3 infra/static", "4 -"}, names()); diff != "" {
		t.Error(diff)
	}
	for _, g := range f.Snapshot(f.t, none{}).Pods {
		if g.Name == "infra/ingress" && g.Sockets != 1 {
			t.Errorf("%+v, want the accepted one", g)
		}
	}
	f.fold("kube", event.PodChanged, &event.PodFact{What: "removed", Pod: event.Pod{Namespace: "infra", Name: "ingress"}})
	if diff := cmp.Diff([]string{"1 -", "2 -", "3 infra/static", "4 -"}, names()); diff != "" {
		t.Error(diff)
	}
}
