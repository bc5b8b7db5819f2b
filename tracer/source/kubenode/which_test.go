package kubenode

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

func named(name string, ips ...string) event.Node {
	n := event.Node{Name: name}
	for _, ip := range ips {
		n.Addresses = append(n.Addresses, event.Address{IP: netip.MustParseAddr(ip), From: "status InternalIP"})
	}
	return n
}

// TestWhich: addresses come before names, and nothing is chosen of two.
func TestWhich(t *testing.T) {
	nodes := []event.Node{named("node-a", "10.0.0.1"), named("node-b.example.com", "10.0.0.2", "10.0.2.15"), named("node-c", "10.0.0.3", "10.0.2.15")}
	for _, c := range []struct{ name, own, node, why string }{
		{"vm-17", "10.0.0.2", "node-b.example.com", "which has its address 10.0.0.2"},
		{"node-a", "10.0.0.3", "node-c", "which has its address"}, // a name may be anything
		{"node-a", "192.0.2.1", "node-a", "by its name"},
		{"node-a", "10.0.2.15", "node-a", "by its name"}, // two have the address
		{"node-a.example.com", "", "node-a", "whose name is nearest to"},
		{"node-b", "", "node-b.example.com", "whose name is nearest to"},
		{"NODE-B", "", "node-b.example.com", "whose name is nearest to"},
		{"node-b.example.org", "", "", ""},
		{"vm-17", "10.0.2.15", "", ""},
		{"", "", "", ""},
	} {
		var own []netip.Addr
		if c.own != "" {
			own = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr(c.own)}
		}
		node, why := Which(nodes, c.name, own)
		if node != c.node || !strings.Contains(why, c.why) {
			t.Errorf("%q with %q is %q (%s), want %q (%s)", c.name, c.own, node, why, c.node, c.why)
		}
	}
}

// TestClaims: what two nodes have is told once, whoever comes later, and not after one has given it up.
func TestClaims(t *testing.T) {
	var c Claims
	a, b, d := named("a", "10.0.0.1", "10.0.0.9"), named("b", "10.0.0.1"), named("d", "10.0.0.1")
	a.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	if got := c.Take(&a); len(got) != 0 {
		t.Errorf("one node clashes: %q", got)
	}
	if got := c.Take(&b); len(got) != 1 || !strings.Contains(got[0], "a and b have the same address 10.0.0.1") {
		t.Errorf("told %q", got)
	}
	if got := append(c.Take(&a), c.Take(&d)...); len(got) != 0 {
		t.Errorf("told again: %q", got)
	}
	c.Drop("a")
	e := named("e", "10.0.0.9")
	e.PodCIDRs = a.PodCIDRs
	if got := c.Take(&e); len(got) != 0 {
		t.Errorf("a node that is gone clashes: %q", got)
	}
}
