package model

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// TestSettledInPart changes an inventory at random under sockets, and holds every peer to what its address would be resolved to
// from scratch: those that a change does not concern are not looked at again.
func TestSettledInPart(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := newFacts(Options{})
		addr := func() string { return fmt.Sprintf("10.0.%d.%d", r.IntN(3), r.IntN(5)) }
		for cookie := uint64(1); cookie < 300; cookie++ {
			source := fmt.Sprintf("agent/node-%d", r.IntN(3))
			switch r.IntN(8) {
			case 0:
				n := event.Node{Name: fmt.Sprintf("node-%d", r.IntN(4)), Addresses: addrs("status InternalIP", addr())}
				if r.IntN(2) == 0 {
					n.PodCIDRs = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/%d", r.IntN(3), 24+r.IntN(3)))}
				}
				f.node("kube", []string{"added", "changed", "removed"}[r.IntN(3)], n)
			case 1:
				f.node(source, "agent", event.Node{Name: source[len("agent/"):], Addresses: addrs("agent eth0", addr())})
			case 2:
				pod := event.Pod{Namespace: "a", Name: fmt.Sprint("p", r.IntN(4)), Node: fmt.Sprintf("node-%d", r.IntN(4)), IPs: []netip.Addr{ip(addr())}}
				f.fold("kube", event.PodChanged, &event.PodFact{What: []string{"added", "removed"}[r.IntN(2)], Pod: pod})
			case 3:
				svc := event.Service{Namespace: "a", Name: fmt.Sprint("s", r.IntN(3)), VIPs: []netip.Addr{ip(addr())}}
				f.fold("kube", event.ServiceChanged, &event.ServiceFact{What: []string{"added", "removed"}[r.IntN(2)], Service: svc})
			case 4:
				f.fold(source, event.StreamStarted, &event.Started{Host: event.Host{Node: fmt.Sprintf("node-%d", r.IntN(4))}, Balancers: []netip.Prefix{netip.MustParsePrefix(addr() + "/30").Masked()}})
			default:
				role := []event.Role{event.RoleAccepted, event.RoleDialled}[r.IntN(2)]
				f.seen(source, event.SocketSeen, role, cookie, addr()+":80", fmt.Sprintf("%s:%d", addr(), cookie+1000), event.Progress{State: "established", ReceivedAge: age(time.Second)})
			}
			f.settle()
			for id := uint32(1); id < f.peers.End(); id++ {
				p := f.peers.At(id)
				if p.born == 0 {
					continue
				}
				got := p.res
				p.gen = 0
				f.resolvePeer(id)
				if want := f.peers.At(id).res; got.Kind != want.Kind || got.Node != want.Node || got.Because != want.Because {
					t.Fatalf("seed %d, step %d: %s is %v %q because %q, and was left at %v %q because %q", seed, cookie, p.key.ip.IP(),
						want.Kind, want.Node, want.Because, got.Kind, got.Node, got.Because)
				}
			}
		}
	}
}
