package lab

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// said waits until the API says something of which is holds.
func said(t *testing.T, c *Cluster, what string, is func(event.Event) bool) {
	t.Helper()
	eventually(t, "the API says "+what, func() bool {
		c.bulletin.mu.Lock()
		items := slices.Clone(c.bulletin.items)
		c.bulletin.mu.Unlock()
		return slices.ContainsFunc(items, func(n news) bool { return slices.ContainsFunc(n.facts(n.due), is) })
	})
}

func nodeSaid(what, name string, addr netip.Addr) func(event.Event) bool {
	return func(e event.Event) bool {
		f, ok := e.Body.(*event.NodeFact)
		return ok && f.What == what && f.Node.Name == name && f.Node.Addresses[0].IP == addr
	}
}

// resetBy waits until a machine has reset three connections of the service's pods, and checks that no other machine has.
func resetBy(t *testing.T, c *Cluster, h *host) {
	t.Helper()
	eventually(t, h.name+" resets what it does not know", func() bool { return min(tcpCounter(t, h.net, "OutRsts"), resets(t, c)) >= 3 })
	for k := range c.plan.Nodes {
		if other := c.node(k); other != nil && other != h {
			if n := tcpCounter(t, other.net, "OutRsts"); n > 0 {
				t.Errorf("%s has sent %d resets", other.name, n)
			}
		}
	}
}

// TestAddressReused: a new node under the dead one's address resets what was the dead one's, and what is silent hangs on.
func TestAddressReused(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "address-reused", func(o *Options) { o.downFor = 0 })
	victim, heir := c.plan.Nodes[c.plan.Victim], c.plan.Heir
	if heir.Addr != victim.Addr || heir.Name == victim.Name || heir.UID == victim.UID {
		t.Fatalf("%+v follows %+v", heir, victim)
	}
	said(t, c, "that the victim is gone", nodeSaid("removed", victim.Name, victim.Addr))
	eventually(t, "sockets stall while nobody has the address", func() bool {
		_, stuck := stalled(t, c)
		return stuck[victim.Addr] >= 2 && resets(t, c) == 0
	})
	<-c.Settled()
	said(t, c, "that there is a new node", nodeSaid("added", heir.Name, heir.Addr))
	c.mu.Lock()
	h := c.nodes[len(c.nodes)-1]
	c.mu.Unlock()
	resetBy(t, c, h)
	all, _ := stalled(t, c)
	if left := all[victim.Addr]; left == 0 || left == len(before[victim.Addr]) {
		t.Errorf("%d of %d sockets are left", left, len(before[victim.Addr]))
	}
	for peer, list := range before {
		if peer != victim.Addr && all[peer] != len(list) {
			t.Errorf("%d of %d sockets with peer %s are left", all[peer], len(list), peer)
		}
	}
}

// TestReturnsElsewhere: a node that comes back under a dead one's address resets what was the dead one's. Its own were ended before.
func TestReturnsElsewhere(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "returns-elsewhere", func(o *Options) { o.drainFor = 1e9 })
	victim, second := c.plan.Nodes[c.plan.Victim], c.plan.Nodes[c.plan.Second]
	if len(before[second.Addr]) == 0 {
		t.Fatalf("nothing crosses %s", second.Name)
	}
	<-c.Settled()
	said(t, c, "that it is back elsewhere", nodeSaid("rebooted", second.Name, victim.Addr))
	h := c.node(c.plan.Second)
	resetBy(t, c, h)
	if left := podSockets(t, c)[second.Addr]; len(left) > 0 {
		t.Errorf("%d sockets still cross %s under its old address", len(left), second.Name)
	}
}

// TestFloatingAddress: whoever holds the address that connections were masqueraded by resets them, and the entries stay where they
// are.
func TestFloatingAddress(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "floating-address")
	p := c.plan
	if len(before[p.Floating]) == 0 || len(before[p.Nodes[p.Victim].Addr]) > 0 {
		t.Fatalf("%d sockets with peer %s", len(before[p.Floating]), p.Floating)
	}
	resetBy(t, c, c.node(p.Second))
	by := 0
	for _, f := range entries(t, c.node(p.Victim)) {
		if f.TupleReply.IP.DestinationAddress == p.Floating {
			by++
		}
	}
	if by < len(before[p.Floating])/2 {
		t.Errorf("%d entries by %s are left of %d", by, p.Floating, len(before[p.Floating]))
	}
}

// TestPodAddressReused: the pod that has got a dead one's address resets what was the dead one's; no node does, and the entries
// that lead to the address stay until then.
func TestPodAddressReused(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "pod-address-reused", func(o *Options) { o.Connections = 150 })
	old := c.plan.Pods[0]
	<-c.Settled()
	pods := c.endpoints()
	if len(pods) != 1 || pods[0].Addr != old.Addr || pods[0].UID == old.UID || pods[0].Node != old.Node {
		t.Fatalf("%+v follows %+v", pods, old)
	}
	heir := c.backends()[0]
	eventually(t, "the new pod resets", func() bool {
		return min(tcpCounter(t, heir.net, "OutRsts"), tcpCounter(t, c.caller.net, "EstabResets")) >= 3
	})
	for k := range c.plan.Nodes {
		if n := tcpCounter(t, c.node(k).net, "OutRsts"); n > 0 {
			t.Errorf("%s has sent %d resets", c.node(k).name, n)
		}
	}
}
