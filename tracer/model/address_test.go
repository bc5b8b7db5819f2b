package model

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// facts folds facts one second apart; a fact without a time gets one.
type facts struct {
	*Model
	t time.Time
	n uint64
}

func newFacts(o Options) *facts {
	return &facts{Model: New(o), t: time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)}
}

func (f *facts) fold(source string, typ event.Type, b event.Body) *event.Event {
	f.t = f.t.Add(time.Second)
	f.n++
	ev := &event.Event{Type: typ, Time: f.t, Source: source, ID: event.ID{Origin: source + "-b", N: f.n}, Body: b}
	f.Apply(ev)
	return ev
}

func (f *facts) node(source, what string, n event.Node) {
	f.fold(source, event.NodeChanged, &event.NodeFact{What: what, Node: n})
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(from string, ips ...string) (out []event.Address) {
	for _, a := range ips {
		out = append(out, event.Address{IP: ip(a), From: from})
	}
	return out
}

// cluster has nodes of the several kinds of networks that paths-and-variants tables tell apart.
func cluster() *facts {
	f := newFacts(Options{Balancers: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	f.node("kube", "added", event.Node{
		Name: "node-a", Addresses: append(addrs("status InternalIP", "10.146.0.11", "2001:db8::11"),
			event.Address{IP: ip("100.64.0.11"), From: "k8s.ovn.org/node-gateway-router-lrp-ifaddr"}),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")},
	})
	f.node("kube", "added", event.Node{
		Name: "node-b", Addresses: addrs("status InternalIP", "10.146.0.12"),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.2.0/24"), netip.MustParsePrefix("2001:db8:2::/64")},
	})
	for _, n := range []string{"node-a", "node-b", "node-c"} { // the same NAT address on every node
		f.node("agent/"+n, "agent", event.Node{Name: n, Addresses: addrs("agent eth0", "10.0.2.15")})
	}
	f.node("agent/node-c", "agent", event.Node{Name: "node-c", Addresses: addrs("agent weave", "10.0.2.15", "10.32.0.3")})
	f.fold("kube", event.PodChanged, &event.PodFact{What: "added", Pod: event.Pod{
		Namespace: "ws", Name: "chat-1", Node: "node-b", IPs: []netip.Addr{ip("10.48.2.5")}}})
	f.fold("kube", event.PodChanged, &event.PodFact{What: "added", Pod: event.Pod{
		Namespace: "kube-system", Name: "proxy", Node: "node-a", HostNetwork: true, IPs: []netip.Addr{ip("10.146.0.11")}}})
	f.fold("kube", event.ServiceChanged, &event.ServiceFact{What: "added", Service: event.Service{
		Namespace: "ws", Name: "chat", VIPs: []netip.Addr{ip("10.52.0.9"), ip("203.0.113.80")}, Backends: []netip.Addr{ip("10.48.2.5")}}})
	f.node("kube", "added", event.Node{Name: "old", Addresses: addrs("status InternalIP", "10.146.0.99"),
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.9.0/24")}})
	f.node("kube", "removed", event.Node{Name: "old"})
	return f
}

// TestResolve has a row for each way in which a peer's address may name the hop, as seen from a pod on node-b.
func TestResolve(t *testing.T) {
	f := cluster()
	for _, test := range []struct {
		peer    string
		dialled bool
		kind    ViaKind
		node    string
		because string // is contained
	}{
		{"10.146.0.11", false, KindNode, "node-a", "status InternalIP"},
		{"2001:db8::11", false, KindNode, "node-a", "status InternalIP"},
		{"100.64.0.11", false, KindNode, "node-a", "k8s.ovn.org"},
		{"10.32.0.3", false, KindNode, "node-c", "agent weave"},
		{"10.146.0.12", false, KindLocal, "node-b", "of this node"},
		{"10.48.1.0", false, KindNode, "node-a", "podCIDR .0"},
		{"10.48.1.1", false, KindNode, "node-a", "podCIDR .1"},
		{"2001:db8:1::1", false, KindNode, "node-a", "podCIDR .1"},
		{"10.48.2.0", false, KindLocal, "node-b", "podCIDR .0 of this node"},
		{"10.48.2.1", false, KindLocal, "node-b", "podCIDR .1 of this node"},
		{"10.48.1.77", false, KindPod, "node-a", "in podCIDR 10.48.1.0/24 of node-a"},
		{"10.48.2.5", false, KindPod, "node-b", "address of pod ws/chat-1"},
		{"10.52.0.9", true, KindLocal, "node-b", "address of service ws/chat"},
		{"10.0.2.15", false, KindUnknown, "", "ambiguous: node-a, node-b, node-c"},
		{"35.191.7.7", false, KindDirect, "", "balancer range 35.191.0.0/16"},
		{"130.211.3.255", false, KindDirect, "", "balancer range 130.211.0.0/22"},
		{"130.211.4.0", false, KindDirect, "", "outside every known range"},
		{"198.51.100.4", false, KindDirect, "", "balancer range 198.51.100.0/24"},
		{"8.8.8.8", false, KindDirect, "", "outside every known range"},
		{"8.8.8.8", true, KindAddress, "", "dialled"},
		{"10.146.0.50", false, KindUnknown, "", "no node holds it"},
		{"10.146.0.99", false, KindNode, "old", "status InternalIP, held from 2026-11-01T10:00:10Z until 2026-11-01T10:00:11Z"},
		{"10.48.9.0", false, KindNode, "old", "podCIDR .0, held from 2026-11-01T10:00:10Z until 2026-11-01T10:00:11Z"},
		{"127.0.0.1", false, KindLocal, "node-b", "loopback"},
		{"::1", false, KindLocal, "node-b", "loopback"},
	} {
		r := f.addrs.resolve(question{ip: ip(test.peer), own: "node-b", dialled: test.dialled}, f.inv)
		if r.Kind != test.kind || r.Node != test.node || !strings.Contains(r.Because, test.because) {
			t.Errorf("%s (dialled %v): %s %q because %q; want %s %q because ...%q...",
				test.peer, test.dialled, r.Kind, r.Node, r.Because, test.kind, test.node, test.because)
		}
	}
	if r := f.addrs.resolve(question{ip: ip("10.9.9.9"), own: "node-b", self: true}, f.inv); r.Kind != KindLocal {
		t.Errorf("its own address: %s", r.Kind)
	}
}

// TestResolveWithoutInventory: with nothing but the agents' own words everything else stays a bare address.
func TestResolveWithoutInventory(t *testing.T) {
	f := newFacts(Options{})
	f.node("agent/host", "agent", event.Node{Name: "host", Addresses: addrs("agent eth0", "192.0.2.7")})
	for peer, want := range map[string]ViaKind{
		"192.0.2.7": KindLocal, "192.0.2.9": KindAddress, "10.1.2.3": KindAddress, "35.191.0.1": KindDirect,
	} {
		if r := f.addrs.resolve(question{ip: ip(peer), own: "host"}, f.inv); r.Kind != want {
			t.Errorf("%s: %s, want %s", peer, r.Kind, want)
		}
	}
}

// TestBalancersAreFacts: ranges that a stream.started tells count from its line on, once each, and not without bound.
func TestBalancersAreFacts(t *testing.T) {
	f := newFacts(Options{})
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, "198.51.100.9:4000", event.Progress{})
	if v := f.view(t, 0); v.Via.Role == event.ViaDirect {
		t.Fatalf("via %+v before anybody told of balancers", v.Via)
	}
	f.fold("agent/node-b", event.StreamStarted, &event.Started{Balancers: []netip.Prefix{netip.MustParsePrefix("198.51.100.9/24"), {}}})
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 1, pod, "198.51.100.9:4000", event.Progress{})
	if v := f.view(t, 0); v.Via.Role != event.ViaDirect {
		t.Errorf("via %+v, want direct", v.Via)
	}
	var many []netip.Prefix
	for i := range 2 * maxBalancers {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	for range 2 {
		f.fold("agent/node-b", event.StreamStarted, &event.Started{Balancers: many})
	}
	if n := len(f.addrs.balancers); n != maxBalancers {
		t.Errorf("%d ranges are kept, want %d", n, maxBalancers)
	}
}

// TestAddressMoves: an address that is re-leased belongs to its new holder, and after that one is gone to the last.
func TestAddressMoves(t *testing.T) {
	f := newFacts(Options{})
	ask := func() Resolution { return f.addrs.resolve(question{ip: ip("10.0.0.5"), own: "x"}, f.inv) }
	f.node("kube", "added", event.Node{Name: "one", Addresses: addrs("status InternalIP", "10.0.0.5")})
	f.node("kube", "changed", event.Node{Name: "one", Addresses: addrs("status InternalIP", "10.0.0.6")})
	if r := ask(); r.Node != "one" || !strings.Contains(r.Because, "held from 2026-11-01T10:00:01Z until 2026-11-01T10:00:02Z") {
		t.Errorf("after it was given up: %+v", r)
	}
	f.node("kube", "added", event.Node{Name: "two", Addresses: addrs("status InternalIP", "10.0.0.5")})
	if r := ask(); r.Node != "two" || r.Because != "status InternalIP; one held it from 2026-11-01T10:00:01Z until 2026-11-01T10:00:02Z" {
		t.Errorf("after it was leased again: %+v", r)
	}
	for range 10 {
		f.node("kube", "removed", event.Node{Name: "two"})
		f.node("kube", "added", event.Node{Name: "two", Addresses: addrs("status InternalIP", "10.0.0.5")})
	}
	if n := len(f.addrs.exact[ip("10.0.0.5")]); n > maxTombstones+1 {
		t.Errorf("%d holdings are remembered", n)
	}
	f.node("kube", "removed", event.Node{Name: "two"})
	if r := ask(); r.Node != "two" {
		t.Errorf("after both are gone: %+v", r)
	}
}

// TestServiceOf: a pod's port belongs to the service that targets it.
func TestServiceOf(t *testing.T) {
	f := newFacts(Options{})
	svc := func(name string, backend string, ports ...event.ServicePort) {
		f.fold("kube", event.ServiceChanged, &event.ServiceFact{What: "added", Service: event.Service{
			Namespace: "n", Name: name, Backends: []netip.Addr{ip(backend)}, Ports: ports}})
	}
	svc("chat", "10.1.0.5", event.ServicePort{Port: 443, TargetPort: 8080})
	svc("metrics", "10.1.0.5", event.ServicePort{Port: 80, TargetPort: 9090})
	svc("named", "10.1.0.6", event.ServicePort{Port: 80})
	for _, test := range []struct {
		ip   string
		port uint16
		want string
	}{
		{"10.1.0.5", 8080, "n/chat"}, {"10.1.0.5", 9090, "n/metrics"}, {"10.1.0.5", 1234, ""},
		{"10.1.0.6", 7777, "n/named"}, {"10.1.0.7", 8080, ""},
	} {
		if got := f.inv.serviceOf(ip(test.ip), test.port); got != test.want {
			t.Errorf("%s:%d is %q, want %q", test.ip, test.port, got, test.want)
		}
	}
	f.fold("kube", event.ServiceChanged, &event.ServiceFact{What: "removed", Service: event.Service{Namespace: "n", Name: "chat"}})
	if got := f.inv.serviceOf(ip("10.1.0.5"), 8080); got != "" {
		t.Errorf("after its removal: %q", got)
	}
}
