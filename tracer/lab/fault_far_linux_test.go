package lab

import (
	"net/netip"
	"testing"
)

// Faults that the calling pod meets, of whose connections only its own node and the far end know.

// ways are where the calling pod's connections lead, by their local port, as a machine's entries have it.
func ways(t *testing.T, h *host) map[uint16]netip.Addr {
	t.Helper()
	out := map[uint16]netip.Addr{}
	for _, f := range entries(t, h) {
		out[f.TupleOrig.Proto.SourcePort] = f.TupleReply.IP.SourceAddress
	}
	return out
}

// callers are the calling pod's connections, and those of them that wait for an acknowledgement for the third time.
func callers(t *testing.T, c *Cluster) (all, stuck []socket) {
	t.Helper()
	for _, s := range sockets(t, c.caller.net, 0, c.plan.V6) {
		all = append(all, s)
		if s.retransmits >= 2 {
			stuck = append(stuck, s)
		}
	}
	return all, stuck
}

// onlyTheseStall waits until three of the calling pod's connections of which bad holds hang, and no other, and checks that none is
// lost.
func onlyTheseStall(t *testing.T, c *Cluster, bad func(socket) bool) {
	t.Helper()
	eventually(t, "just these connections stall", func() bool {
		_, stuck := callers(t, c)
		n := 0
		for _, s := range stuck {
			if !bad(s) {
				return false // on a starved machine a healthy one may too, but not for long
			}
			n++
		}
		return n >= 3
	})
	all, _ := callers(t, c)
	if n := tcpCounter(t, c.caller.net, "EstabResets"); n > 0 || len(all) != c.opts.Connections {
		t.Errorf("%d connections were reset, %d of %d are left", n, len(all), c.opts.Connections)
	}
	acked := map[uint16]uint64{}
	for _, s := range all {
		acked[s.local.Port()] = s.acked
	}
	eventually(t, "others go on", func() bool {
		all, _ := callers(t, c)
		for _, s := range all {
			if !bad(s) && s.acked > acked[s.local.Port()] {
				return true
			}
		}
		return false
	})
}

func toOutside(c *Cluster, s socket) bool { return c.plan.External.Prefix.Contains(s.peer.Addr()) }

// TestBackendNode: what leads to the pods of the dead node hangs, as the entries of the calling pod's own node tell.
func TestBackendNode(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "backend-node")
	dead := map[netip.Addr]bool{}
	for _, p := range c.plan.Pods {
		if p.Node == c.plan.Victim {
			dead[p.Addr] = true
		}
	}
	led := ways(t, c.node(c.plan.Caller.Node))
	onlyTheseStall(t, c, func(s socket) bool { return dead[led[s.local.Port()]] })
}

// TestEgressNode: what leaves the cluster by the dead node hangs, what stays in it goes on.
func TestEgressNode(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	o.Scenario = "egress-node"
	c := start(t, o)
	victim := c.plan.Nodes[c.plan.Victim]
	by := 0
	for _, f := range entries(t, c.node(c.plan.Victim)) {
		if f.TupleOrig.IP.SourceAddress == c.plan.Caller.Addr && f.TupleReply.IP.DestinationAddress == victim.Addr {
			by++
		}
	}
	if want := o.Connections - o.Connections/3; by != want {
		t.Fatalf("%d connections leave by %s, want %d", by, victim.Name, want)
	}
	if _, err := c.Fault(t.Context()); err != nil {
		t.Fatal(err)
	}
	onlyTheseStall(t, c, func(s socket) bool { return toOutside(c, s) })
}

// TestPartialBackend: of the connections to one address those hang that one server behind it had.
func TestPartialBackend(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "partial-backend", func(o *Options) { o.Connections = 120 })
	led := ways(t, c.external)
	silent := map[netip.Addr]bool{}
	onlyTheseStall(t, c, func(s socket) bool {
		if s.retransmits >= 2 {
			silent[led[s.local.Port()]] = true
		}
		return toOutside(c, s) && silent[led[s.local.Port()]]
	})
	if len(silent) != 1 {
		t.Errorf("%v are silent", silent)
	}
}

// TestOutsideIdle: whoever was silent is forgotten outside and hears nothing, whoever talks goes on.
func TestOutsideIdle(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	o.Scenario = "outside-idle"
	c := start(t, o)
	all, _ := callers(t, c)
	first := map[uint16]uint64{}
	for _, s := range all {
		first[s.local.Port()] = s.acked
	}
	if _, err := c.Fault(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, _ = callers(t, c)
	known, idle := ways(t, c.external), map[uint16]bool{}
	for _, s := range all {
		if toOutside(c, s) && known[s.local.Port()] == (netip.Addr{}) {
			idle[s.local.Port()] = true
		}
	}
	if want := (o.Connections - o.Connections/3) / 2; len(idle) != want {
		t.Errorf("%d connections are forgotten, want %d", len(idle), want)
	}
	onlyTheseStall(t, c, func(s socket) bool { return idle[s.local.Port()] })
}

// TestOwnNodeIdle: the calling pod's node forgets who is silent, and who then speaks gets to another pod, which resets him.
func TestOwnNodeIdle(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "own-node-idle")
	talking := (c.opts.Connections + block5 - 1) / block5
	eventually(t, "only the entries of talking connections are left", func() bool {
		return len(ways(t, c.node(c.plan.Caller.Node))) <= talking
	})
	eventually(t, "who speaks is reset", func() bool { return tcpCounter(t, c.caller.net, "EstabResets") >= (c.opts.Connections-talking)/3 })
	<-c.Settled()
	all, _ := callers(t, c)
	if len(all) < talking {
		t.Errorf("%d connections are left, %d of them talked all the time", len(all), talking)
	}
	for k := range c.plan.Nodes {
		if n := tcpCounter(t, c.node(k).net, "OutRsts"); n > 0 {
			t.Errorf("%s has sent %d resets", c.node(k).name, n)
		}
	}
}
