package lab

import (
	"net/netip"
	"testing"
)

// TestPeeredRange: what the peered cluster's pods had hangs, and what crosses the node that has the same range goes on.
func TestPeeredRange(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "peered-range", func(o *Options) { o.Connections = 150 })
	victim := c.plan.Nodes[c.plan.Victim]
	peers := 0
	for peer := range before {
		if c.plan.Peers.Prefix.Contains(peer) {
			peers++
		}
	}
	if peers < 2 || len(before[victim.Addr]) == 0 || !victim.CIDR.Contains(c.plan.Peers.Addrs[0]) {
		t.Fatalf("%d peers in %s, of them %s; %d sockets cross %s", peers, victim.CIDR, c.plan.Peers.Prefix, len(before[victim.Addr]), victim.Name)
	}
	onlyStalled(t, c, before, c.plan.Peers.Prefix.Contains, 1)
}

// TestQuickReboot: a part of what crossed the node is picked up in mid-stream and goes on, the rest is reset.
func TestQuickReboot(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "quick-reboot", func(o *Options) { o.Connections, o.downFor = 200, 0 })
	victim := c.plan.Nodes[c.plan.Victim]
	<-c.Settled()
	eventually(t, "connections are reset", func() bool { return resets(t, c) >= 2 })
	acked := map[netip.AddrPort]uint64{}
	for _, s := range before[victim.Addr] {
		acked[s.peer] = s.acked
	}
	eventually(t, "others go on", func() bool {
		for _, s := range podSockets(t, c)[victim.Addr] {
			if s.retransmits == 0 && s.queued == 0 && s.acked > acked[s.peer]+1000 {
				return true
			}
		}
		return false
	})
}

// TestOneWay: what the pods send to the node is lost; what it sends still arrives, again and again, for nobody acknowledges it.
func TestOneWay(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "one-way")
	victim := c.plan.Nodes[c.plan.Victim]
	onlyStalled(t, c, before, func(peer netip.Addr) bool { return peer == victim.Addr }, 2)
	again := func() int { return snmpCounter(t, c.servers[0].net, "TcpExt:", "TCPDSACKOldSent") }
	first := again()
	eventually(t, "what was acknowledged comes again", func() bool { return again() >= first+5 })
	if _, stuck := stalled(t, c); stuck[victim.Addr] < 2 {
		t.Errorf("what comes has helped: %v stall", stuck)
	}
}

// TestUplinkReturns: everything hangs while the uplink is away, and everything goes on when it is back.
func TestUplinkReturns(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "uplink-returns", func(o *Options) { o.downFor = 3e9 })
	onlyStalled(t, c, before, func(netip.Addr) bool { return true }, 1)
	<-c.Settled()
	eventually(t, "nothing hangs any more", func() bool {
		_, stuck := stalled(t, c)
		return len(stuck) == 0
	})
	all, _ := stalled(t, c)
	for peer, list := range before {
		if all[peer] != len(list) {
			t.Errorf("%d of %d sockets with peer %s are left", all[peer], len(list), peer)
		}
	}
	if n := resets(t, c); n > 0 {
		t.Errorf("%d connections were reset", n)
	}
}
