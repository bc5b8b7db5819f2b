package model

import (
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

const (
	caller  = "10.48.2.9:41000"   // a pod of node-b that dials
	service = "10.52.9.9:80"      // of which no inventory knows
	outside = "203.0.113.104:443" // far from here
)

// TestEgress: whose ledger shows that it let a connection out is on its path, whatever comes first; that a pod's own node
// masquerades it puts nothing in the middle, and of what belongs to somebody an entry elsewhere proves nothing.
func TestEgress(t *testing.T) {
	address := HopKey{Kind: KindAddress, IP: ip("203.0.113.104")}
	for name, test := range map[string]struct {
		by, to, masq string
		want         HopKey
		role         event.ViaRole
	}{
		"gateway":         {"node-a", outside, "10.146.0.11:41000", HopKey{Kind: KindNode, Name: "node-a"}, event.ViaEgress},
		"own node":        {"node-b", outside, "10.146.0.12:41000", address, event.ViaUnknown},
		"what is a pod's": {"node-a", "10.48.1.7:80", "10.146.0.11:41000", HopKey{Kind: KindPod, IP: ip("10.48.1.7")}, event.ViaPod},
	} {
		for _, first := range []string{"the entry", "the socket"} {
			t.Run(name+", first "+first, func(t *testing.T) {
				f := cluster()
				socket := func() {
					f.seen("agent/node-b", event.SocketSeen, event.RoleDialled, 1, caller, test.to, event.Progress{})
				}
				if first == "the socket" {
					socket()
				}
				f.fold("agent/"+test.by, event.NATCreated, natFact(test.by, caller, test.to, test.to, test.masq))
				if first == "the entry" {
					socket()
				}
				if h, _ := f.Hop(test.want); h.Sockets != 1 {
					t.Errorf("it does not cross %v", test.want)
				}
				if v := f.view(t, 0).Via; v.Role != test.role {
					t.Errorf("via %+v, want the role %s", v, test.role)
				}
				f.check(t)
			})
		}
	}
}

// TestWayForgotten: what a node's table forgets of its own pods' connections is told by their resets, in either order; what
// leads to the same pod again goes on, and what its ends have closed was nobody's loss.
func TestWayForgotten(t *testing.T) {
	entry := func(to, why, state string) *event.NATFact {
		b := natFact("node-b", caller, service, to, caller)
		b.Why, b.State, b.Rung = why, state, "ctnetlink"
		return b
	}
	soon := func(f *facts) { f.t = f.t.Add(-990 * time.Millisecond) }
	destroyed := func(why string) func(*facts) {
		return func(f *facts) {
			soon(f)
			f.fold("agent/node-b", event.NATDestroyed, entry("10.48.1.7:8080", why, "established"))
		}
	}
	again := func(to string) func(*facts) {
		return func(f *facts) { soon(f); f.fold("agent/node-b", event.NATCreated, entry(to, "", "established")) }
	}
	reset := func(f *facts) {
		soon(f)
		f.tcp("agent/node-b", event.TCPReset, 1, caller, service, event.TCPFact{
			Reset: &event.Reset{By: "peer"}, TCP: event.Progress{ReceivedAge: event.Known(event.Seconds(18 * time.Second))}})
		f.tcp("agent/node-b", event.TCPClosed, 1, caller, service, event.TCPFact{How: "rst"})
	}
	answer := func(f *facts) {
		f.seen("agent/node-b", event.SocketChanged, event.RoleDialled, 1, caller, service,
			event.Progress{ReceivedAge: event.Known(event.Seconds(0))})
	}
	for name, test := range map[string]struct {
		steps    []func(*facts)
		forgot   int
		resets   int
		stranded int
	}{
		"told, then reset":             {[]func(*facts){destroyed("unknown"), again("10.48.3.7:8080"), reset}, 1, 1, 0},
		"reset, then told":             {[]func(*facts){reset, destroyed("unknown"), again("10.48.3.7:8080")}, 1, 1, 0},
		"told, and nothing since":      {[]func(*facts){destroyed("flushed")}, 1, 0, 1},
		"told, and to the same pod":    {[]func(*facts){destroyed("unknown"), again("10.48.1.7:8080")}, 1, 0, 0},
		"told, and answered":           {[]func(*facts){destroyed("unknown"), again("10.48.3.7:8080"), answer}, 1, 0, 0},
		"closed by its ends, and then": {[]func(*facts){destroyed("closed"), reset}, 0, 0, 0},
		"reset by its peer alone":      {[]func(*facts){reset}, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := cluster()
			f.seen("agent/node-b", event.SocketSeen, event.RoleDialled, 1, caller, service, event.Progress{})
			f.fold("agent/node-b", event.NATCreated, entry("10.48.1.7:8080", "", "syn_sent"))
			for _, step := range test.steps {
				step(f)
			}
			forgot, resets := 0, 0
			for _, l := range f.Forgot("node-b") {
				forgot += l.Sockets
			}
			h, _ := f.Hop(HopKey{Kind: KindLocal, Name: "node-b"})
			f.EachEnded(&h, 0, func(e Ended) bool {
				if e.Lost == LossUnsaid && e.Kind == EndReset && e.At-e.Received >= Instant(17*time.Second) {
					resets++
				}
				return true
			})
			if forgot != test.forgot || resets != test.resets || h.Stranded != test.stranded {
				t.Errorf("forgot %d, of these reset %d, stranded %d, want %d, %d, %d", forgot, resets, h.Stranded, test.forgot, test.resets, test.stranded)
			}
			f.check(t)
		})
	}
}

// TestTheLivingEndCounts: of a connection of which both ends are seen the accepting one counts, and the dialling one where
// that knows more: its own transmissions go unanswered, or the other one's machine is not heard any more. What ends twice has
// ended once.
func TestTheLivingEndCounts(t *testing.T) {
	const far, masq = "10.48.3.7:8080", "10.146.0.11:40001"
	f := cluster()
	f.fold("agent/node-a", event.NATCreated, natFact("node-a", caller, outside, far, masq))
	f.seen("agent/node-b", event.SocketSeen, event.RoleDialled, 1, caller, outside, event.Progress{})
	f.seen("agent/node-c", event.SocketSeen, event.RoleAccepted, 2, far, masq, event.Progress{})
	stalls := func(agent string, role event.Role, cookie uint64, local, peer string, n uint8) {
		f.seen(agent, event.SocketChanged, role, cookie, local, peer, event.Progress{Retransmits: n})
	}
	here := func(n uint8) { stalls("agent/node-b", event.RoleDialled, 1, caller, outside, n) }
	there := func(n uint8) { stalls("agent/node-c", event.RoleAccepted, 2, far, masq, n) }
	want := func(when, source string) {
		t.Helper()
		f.check(t)
		if p := f.Page(PageQuery{}, none{}); len(p.Rows) != 1 || p.Rows[0].Source != source {
			t.Errorf("%s: %d sockets count, the first %+v, want that of %s", when, len(p.Rows), p.Rows[0].Source, source)
		}
		if h, _ := f.Hop(HopKey{Kind: KindNode, Name: "node-a"}); h.Sockets != 1 {
			t.Errorf("%s: %d cross node-a", when, h.Sockets)
		}
	}
	want("healthy", "agent/node-c")
	here(1)
	want("at risk here", "agent/node-c")
	here(2)
	want("stalled here", "agent/node-b")
	there(2)
	want("stalled there too", "agent/node-c")
	there(0)
	here(3)
	want("stalled here alone", "agent/node-b")
	here(0)
	want("recovered", "agent/node-c")
	f.fold("agent/node-c", event.StreamHeartbeat, &event.Heartbeat{})
	there(1)
	f.t = f.t.Add(5 * time.Second)
	here(1)
	want("the other one's machine is silent", "agent/node-b")

	f.tcp("agent/node-b", event.TCPReset, 1, caller, outside, event.TCPFact{Reset: &event.Reset{By: "peer"}})
	f.tcp("agent/node-b", event.TCPClosed, 1, caller, outside, event.TCPFact{How: "rst"})
	f.tcp("agent/node-c", event.TCPReset, 2, far, masq, event.TCPFact{Reset: &event.Reset{By: "peer"}})
	ended := 0
	h, _ := f.Hop(HopKey{Kind: KindNode, Name: "node-a"})
	f.EachEnded(&h, 0, func(Ended) bool { ended++; return true })
	if ended != 1 {
		t.Errorf("one connection has ended %d times", ended)
	}
}
