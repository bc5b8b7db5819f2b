package model

import (
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// dsr is a translation whose backend sees the client itself.
func dsr(by string, hop event.Hop, client string) *event.NATFact {
	return &event.NATFact{
		NAT: event.NAT{Proto: "tcp", Original: event.Tuple{Src: ep(client), Dst: ep("203.0.113.10:80")}, Reply: event.Tuple{Src: ep(pod), Dst: ep(client)}, Kinds: []string{"dnat"}},
		By:  event.By{Node: by}, Rung: "calico", Hop: &hop,
	}
}

// TestHopByTable: where the pod sees its client, the dataplane's own entry names the node in the middle, whether it comes
// before or after the socket, and whether the node's address is known yet.
func TestHopByTable(t *testing.T) {
	const client = "192.0.2.100:40000"
	seen := func(f *facts) {
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, client, event.Progress{})
	}
	byTunnel := dsr("node-b", event.Hop{IP: ip("10.146.0.11"), From: "tun_ip"}, client)
	byHop := dsr("node-a", event.Hop{Node: "node-a", From: "service entry"}, client)
	for name, does := range map[string]func(f *facts){
		"tunnel, entry first":  func(f *facts) { f.fold("agent/node-b", event.NATFound, byTunnel); seen(f) },
		"tunnel, socket first": func(f *facts) { seen(f); f.fold("agent/node-b", event.NATCreated, byTunnel) },
		"the hop's own entry":  func(f *facts) { seen(f); f.fold("agent/node-a", event.NATFound, byHop) },
		"both": func(f *facts) {
			seen(f)
			f.fold("agent/node-a", event.NATFound, byHop)
			f.fold("agent/node-b", event.NATFound, byTunnel)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := cluster()
			does(f)
			h, ok := f.Hop(HopKey{Kind: KindNode, Name: "node-a"})
			if !ok || h.Sockets != 1 {
				t.Fatalf("%+v, %v", h, ok)
			}
			s := f.Snapshot(f.t, none{})
			if len(s.Vias) != 1 || s.Vias[0].Via != "node-a" || s.Vias[0].Sockets != 1 {
				t.Errorf("%+v", s.Vias)
			}
		})
	}
	t.Run("the inventory comes late", func(t *testing.T) {
		f := newFacts(Options{})
		f.fold("agent/node-b", event.NodeChanged, &event.NodeFact{What: "agent", Node: event.Node{Name: "node-b"}})
		f.fold("agent/node-b", event.NATFound, byTunnel)
		seen(f)
		if h, ok := f.Hop(HopKey{Kind: KindAddress, IP: ip("10.146.0.11")}); !ok || h.Sockets != 1 {
			t.Fatalf("%+v, %v", h, ok)
		}
		f.node("kube", "added", event.Node{Name: "node-a", Addresses: addrs("status InternalIP", "10.146.0.11")})
		if h, ok := f.Hop(HopKey{Kind: KindNode, Name: "node-a"}); !ok || h.Sockets != 1 {
			t.Fatalf("%+v, %v", h, ok)
		}
	})
	t.Run("a pod of that node dialled the service", func(t *testing.T) {
		f := cluster()
		const caller = "10.48.1.7:40000" // in node-a's pod range
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, caller, event.Progress{})
		f.fold("agent/node-a", event.NATFound, dsr("node-a", event.Hop{Node: "node-a", From: "service entry"}, caller))
		if h, ok := f.Hop(HopKey{Kind: KindNode, Name: "node-a"}); ok && h.Sockets != 0 {
			t.Errorf("a caller's own node is no hop: %+v", h)
		}
	})
}
