package model

import (
	"fmt"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// machine is a Node object of one machine: its name, its UID and its boot.
func machine(name, uid, boot string, created time.Time, ips ...string) event.Node {
	return event.Node{Name: name, UID: uid, BootID: boot, Created: created, Addresses: addrs("status InternalIP", ips...)}
}

// talk lets a socket of agent/node-b's pod be met, from the address of a hop.
func (f *facts) talk(cookie uint64, from string, port uint16, heard time.Duration) {
	peer := fmt.Sprintf("%s:%d", from, port)
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, cookie, pod, peer, event.Progress{ReceivedAge: age(heard)})
}

// crossing counts the sockets through a node, by which of its machines.
func (f *facts) crossing(name string, inc uint32) int {
	h, _ := f.Hop(HopKey{Kind: KindNode, Name: name, Inc: inc})
	return h.Sockets
}

func TestAddressPasses(t *testing.T) {
	const hop = "10.146.0.21"
	world := func() *facts {
		f := cluster()
		f.node("kube", "added", machine("alder", "u1", "b1", f.t.Add(-time.Hour), hop))
		f.node("agent/alder", "agent", event.Node{Name: "alder", BootID: "b1", Addresses: addrs("agent eth0", hop)})
		f.talk(1, hop, 20001, 0)
		f.talk(2, hop, 20002, 0)
		return f
	}
	later := func(f *facts) time.Time { f.t = f.t.Add(time.Minute); return f.t }
	for name, test := range map[string]struct {
		what            func(f *facts)
		alder, elder    int
		inc             uint32
		ambiguous, more int // sockets of neither, by the end; sockets opened afterwards
	}{
		"to another node, after the first was deleted": {what: func(f *facts) {
			f.node("kube", "removed", event.Node{Name: "alder"})
			f.node("kube", "added", machine("elder", "u2", "b2", later(f), hop))
		}, more: 3, alder: 2, elder: 3},
		"to another node, told before the first is said to be deleted": {what: func(f *facts) {
			f.node("kube", "added", machine("elder", "u2", "b2", later(f), hop))
			f.node("kube", "removed", event.Node{Name: "alder"})
		}, more: 3, alder: 2, elder: 3},
		"and nobody says that the first is deleted": {what: func(f *facts) {
			f.node("kube", "added", machine("elder", "u2", "b2", later(f), hop))
		}, more: 3, alder: 2, ambiguous: 3},
		"to another machine of the same name, which nobody saw go": {what: func(f *facts) {
			f.node("kube", "changed", machine("alder", "u2", "b2", later(f), hop))
		}, more: 3, alder: 2, elder: 3, inc: 1},
		"to another machine of the same name, after the first was deleted": {what: func(f *facts) {
			f.node("kube", "removed", event.Node{Name: "alder"})
			f.node("kube", "added", machine("alder", "u2", "b2", later(f), hop))
		}, more: 3, alder: 2, elder: 3, inc: 1},
		"to itself: the same machine is registered anew": {what: func(f *facts) {
			f.node("kube", "removed", event.Node{Name: "alder"})
			f.node("kube", "added", machine("alder", "u2", "b1", later(f), hop))
		}, more: 3, alder: 5},
		"to nobody else: an agent's claim does not outweigh the inventory's holder": {what: func(f *facts) {
			f.node("agent/elder", "agent", event.Node{Name: "elder", BootID: "b2", Addresses: addrs("agent eth0", hop)})
		}, more: 3, alder: 5},
	} {
		t.Run(name, func(t *testing.T) {
			f := world()
			test.what(f)
			f.t = f.t.Add(time.Second)
			for i := range test.more {
				f.talk(uint64(10+i), hop, uint16(30001+i), 0)
			}
			heir := "elder"
			if test.inc > 0 {
				heir = "alder"
			}
			h, _ := f.Hop(HopKey{Kind: KindUnknown, IP: ip(hop)})
			if got := [3]int{f.crossing("alder", 0), f.crossing(heir, test.inc), h.Sockets}; got != [3]int{test.alder, test.elder, test.ambiguous} {
				t.Errorf("the former holder, the new one and nobody have %v sockets, want %d, %d, %d", got, test.alder, test.elder, test.ambiguous)
			}
			// A look sums over the address: what it hears is no sign of the former holder's life.
			f.fold("agent/node-b", event.PathTraffic, &event.Traffic{Pass: 99, Total: 5, Rows: []event.TrafficRow{{
				Local: ep(pod), Peer: event.Endpoint{IP: ip(hop)}, Sockets: 5, ReceivedAge: age(0),
			}}})
			if old, _ := f.Hop(HopKey{Kind: KindNode, Name: "alder"}); test.alder == 2 && old.Received >= InstantOf(f.t) {
				t.Error("what comes from the new holder counts for the former one")
			}
		})
	}
}

// A socket that is met late is told apart by what it says of its past.
func TestOldSocketMetLate(t *testing.T) {
	f := cluster()
	f.node("kube", "added", machine("alder", "u1", "b1", f.t.Add(-time.Hour), "10.146.0.21"))
	f.t = f.t.Add(time.Minute)
	f.node("kube", "removed", event.Node{Name: "alder"})
	f.node("kube", "added", machine("elder", "u2", "b2", f.t, "10.146.0.21"))
	f.talk(1, "10.146.0.21", 20001, 30*time.Second) // it has been silent since before
	f.talk(2, "10.146.0.21", 20002, 0)
	if a, e := f.crossing("alder", 0), f.crossing("elder", 0); a != 1 || e != 1 {
		t.Errorf("%d through alder, %d through elder, want one each", a, e)
	}
}

// Without an inventory, a node whose agent fell silent keeps what it had when another agent says that it has the address, and
// what is opened since is nobody's for sure. Where both are heard, as with an address that every node has, nobody ever held it alone.
func TestAgentsClaimOneAddress(t *testing.T) {
	claim := func(f *facts, name string) {
		f.node("agent/"+name, "agent", event.Node{Name: name, Addresses: addrs("agent eth0", "10.146.0.21")})
		f.fold("agent/"+name, event.StreamHeartbeat, &event.Heartbeat{})
	}
	for silent, want := range map[time.Duration][3]int{0: {0, 0, 2}, time.Minute: {1, 0, 1}} {
		f := newFacts(Options{})
		claim(f, "alder")
		f.talk(1, "10.146.0.21", 20001, 0)
		f.t = f.t.Add(silent)
		if silent == 0 {
			f.fold("agent/alder", event.StreamHeartbeat, &event.Heartbeat{})
		}
		claim(f, "elder")
		f.t = f.t.Add(time.Second)
		f.talk(2, "10.146.0.21", 20002, 0)
		h, _ := f.Hop(HopKey{Kind: KindUnknown, IP: ip("10.146.0.21")})
		if got := [3]int{f.crossing("alder", 0), f.crossing("elder", 0), h.Sockets}; got != want {
			t.Errorf("after %v of silence: alder, elder and nobody have %v, want %v", silent, got, want)
		}
	}
}

// A reset is evidence against its sender only where that translated the connection.
func TestWhoseReset(t *testing.T) {
	const node = "10.146.0.11" // node-a's
	for name, test := range map[string]struct {
		sender string // agent
		peer   string // what the pod's socket speaks to
		before func(f *facts)
		after  func(f *facts)
		lost   int
	}{
		"the node that the connection crosses":     {sender: "agent/node-a", peer: node, lost: 1},
		"another node, by an address of the first": {sender: "agent/node-c", peer: node},
		"a pod":    {sender: "agent/node-a", peer: "10.48.1.7"},
		"loopback": {sender: "agent/node-b", peer: "127.0.0.1"},
		"who has the address since": {sender: "agent/elder", peer: node, before: func(f *facts) {
			f.node("kube", "removed", event.Node{Name: "node-a"})
			f.node("kube", "added", machine("elder", "u2", "b2", f.t, node))
		}},
		"a node whose entry stands": {sender: "agent/node-a", peer: node, before: func(f *facts) { f.entry(node, event.NATCreated, "") }},
		"a node whose entry is found to be over": {
			sender: "agent/node-a", peer: node, lost: 1,
			before: func(f *facts) { f.entry(node, event.NATCreated, "") },
			after:  func(f *facts) { f.entry(node, event.NATDestroyed, "timeout") },
		},
		"a node whose entry ends in order": {
			sender: "agent/node-a", peer: node,
			before: func(f *facts) { f.entry(node, event.NATCreated, "") },
			after:  func(f *facts) { f.entry(node, event.NATDestroyed, "closed") },
		},
	} {
		for order := range 2 {
			f := cluster()
			f.talk(1, test.peer, 20001, 0)
			f.t = f.t.Add(time.Minute)
			if test.before != nil {
				test.before(f)
			}
			peer := test.peer + ":20001"
			halves := []func(){
				func() {
					f.tcp("agent/node-b", event.TCPReset, 1, pod, peer, event.TCPFact{Reset: &event.Reset{By: "peer"}, TCP: event.Progress{ReceivedAge: age(10 * time.Second)}})
				},
				func() {
					f.tcp(test.sender, event.TCPReset, 0, peer, pod, event.TCPFact{Reset: &event.Reset{By: "nobody's"}})
				},
			}
			halves[order]()
			f.t = f.t.Add(-time.Second) // one moment
			halves[1-order]()
			if test.after != nil {
				f.t = f.t.Add(-time.Second)
				test.after(f)
			}
			lost := 0
			for _, n := range []string{"node-a", "node-b", "node-c", "elder"} {
				for _, l := range f.Forgot(n) {
					lost += l.Sockets
				}
			}
			if lost != test.lost {
				t.Errorf("%s, order %d: %d connections are said to be forgotten, want %d", name, order, lost, test.lost)
			}
		}
	}
}

// entry tells of the entry of a pod's connection at node-a.
func (f *facts) entry(node string, typ event.Type, why string) {
	nat := natFact("node-a", "192.0.2.7:40000", "203.0.113.80:443", pod, node+":20001")
	nat.Why = why
	f.fold("agent/node-a", typ, nat)
}
