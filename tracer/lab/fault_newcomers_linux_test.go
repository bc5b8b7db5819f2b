package lab

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	route "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Faults whose victims are those who come while it lasts.

// callerStalls waits until connections of the pod that dials the service hang.
func callerStalls(t *testing.T, c *Cluster) {
	t.Helper()
	eventually(t, "the calling pod's sockets stall", func() bool {
		stuck := 0
		for _, s := range sockets(t, c.caller.net, 0, false) {
			if s.retransmits >= 2 {
				stuck++
			}
		}
		return stuck >= 2
	})
}

func TestPodGone(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "pod-gone")
	callerStalls(t, c)
	<-c.Settled()
	led := 0
	for k := range c.plan.Nodes {
		for _, f := range entries(t, c.node(k)) {
			if f.TupleReply.IP.SourceAddress == c.plan.Pods[0].Addr && translated(f) {
				led++
			}
		}
	}
	if led < c.opts.Connections {
		t.Errorf("%d entries lead to the dead pod, of %d connections", led, c.opts.Connections)
	}
	if n := tcpCounter(t, c.caller.net, "EstabResets"); n > 0 {
		t.Errorf("%d of the caller's connections were reset", n)
	}
	// Whoever comes now gets to the pod's successor, by every node.
	newcomersGoBy(t, c, func(int) bool { return true })
}

// TestServiceDown: connections to every pod stall, the entries that lead to them stay, and whoever comes later is refused
// by every way that there was.
func TestServiceDown(t *testing.T) {
	needRoot(t)
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			c, _ := broken(t, "service-down", func(o *Options) { o.Mode = mode })
			if len(c.plan.Pods) != 2 {
				t.Fatalf("%d pods", len(c.plan.Pods))
			}
			callerStalls(t, c)
			<-c.Settled()
			led := map[netip.Addr]int{}
			for k := range c.plan.Nodes {
				for _, f := range entries(t, c.node(k)) {
					if translated(f) {
						led[f.TupleReply.IP.SourceAddress]++
					}
				}
			}
			for _, p := range c.plan.Pods {
				if led[p.Addr] == 0 {
					t.Errorf("no entry leads to %s any more", p.Name)
				}
			}
			s := c.plan.Service
			ways := map[string]netip.AddrPort{
				"the cluster address": netip.AddrPortFrom(s.ClusterIP, s.Port),
				"the own node's port": netip.AddrPortFrom(c.plan.Nodes[c.plan.Caller.Node].Addr, s.NodePort),
				"a node's port":       netip.AddrPortFrom(c.plan.Nodes[c.plan.Victim].Addr, s.NodePort),
			}
			for way, to := range ways {
				// A kernel sends few refusals a second to one address (icmp_ratelimit), and others dial as well.
				eventually(t, "a connection by "+way+" is refused", func() bool {
					err := c.caller.net.do(func() error {
						conn, err := net.DialTimeout("tcp", to.String(), time.Second)
						if err == nil {
							conn.Close()
						}
						return err
					})
					if err == nil {
						t.Fatalf("somebody answers by %s", way)
					}
					return errors.Is(err, unix.ECONNREFUSED)
				})
			}
		})
	}
}

// newcomersGoBy waits until by each node of which well holds another two new connections were made.
func newcomersGoBy(t *testing.T, c *Cluster, well func(k int) bool) {
	t.Helper()
	made := func() map[int]DialTally {
		got, err := c.ClientTally()
		if err != nil {
			t.Fatal(err)
		}
		return got.New
	}
	before := made()
	eventually(t, "new connections stand", func() bool {
		now := made()
		for k := range c.plan.Nodes {
			if well(k) && now[k].Made < before[k].Made+2 {
				return false
			}
		}
		return true
	})
}

// newcomersStall waits until new connections of the calling pod by the victim, and by it alone, wait for the third time, and
// the victim's counters say why; and checks that those by other nodes come through, and that what stood before stands.
func newcomersStall(t *testing.T, c *Cluster, counted func() bool) {
	t.Helper()
	victim := c.plan.Nodes[c.plan.Victim]
	eventually(t, "SYNs by the victim, and no others, are repeated twice and counted", func() bool {
		stuck := map[netip.Addr]int{}
		for _, s := range socketsIn(t, c.caller.net, route.TCP_SYN_SENT, 0, false) {
			if s.retransmits >= 2 {
				stuck[s.peer.Addr()]++
			}
		}
		// On a starved machine a healthy SYN may be repeated twice, but not for long.
		return stuck[victim.Addr] >= 2 && len(stuck) == 1 && counted()
	})
	newcomersGoBy(t, c, func(k int) bool { return k != c.plan.Victim })
	// The clients know which of their connections are to last; the pods do not.
	if got, err := c.ClientTally(); err != nil || got.Open != c.opts.Connections || len(got.Ended) > 0 {
		t.Errorf("of %d connections %d stand, %v ended: %v", c.opts.Connections, got.Open, got.Ended, err)
	}
	if n := resets(t, c); n > 0 {
		t.Errorf("%d connections were reset", n)
	}
}

func TestTableFull(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "table-full")
	h := c.node(c.plan.Victim)
	newcomersStall(t, c, func() bool { return conntrackCounter(t, h.net, "drop") >= 5 })
	if failed := conntrackCounter(t, h.net, "insert_failed"); failed > 0 {
		t.Errorf("insert_failed %d", failed)
	}
}

func TestPortsExhausted(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, _ := broken(t, "ports-exhausted")
	h := c.node(c.plan.Victim)
	newcomersStall(t, c, func() bool { return conntrackCounter(t, h.net, "insert_failed") >= 5 })
}

func TestHTTP502(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	o.Scenario = "http-502"
	o.patience = 4 * time.Second // a second is soon over where others keep the processors busy, and none of them is a 502
	c := start(t, o)
	requests := func() HTTPTally {
		got, err := c.Requests()
		if err != nil {
			t.Fatal(err)
		}
		return *got
	}
	eventually(t, "the pool leads by every node", func() bool {
		got := requests()
		return got.OK > 2*visitors && len(got.Pool) == len(c.plan.Nodes)
	})
	before := requests()
	if before.BadGateway+before.Other > 0 {
		t.Fatalf("before the fault: %+v", before)
	}
	if _, err := c.Fault(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What was connected between the look before and the fault is in the pool yet: it is waited for patiently.
	pool := max(before.Pool[c.plan.Victim], requests().Pool[c.plan.Victim])
	eventually(t, "502s", func() bool { return requests().BadGateway > 0 })
	var last HTTPTally
	eventually(t, "no 502 any more", func() bool {
		got := requests()
		calm := got.BadGateway == last.BadGateway && got.OK > last.OK+8*visitors
		if got.BadGateway != last.BadGateway || last.OK == 0 {
			last = got
		}
		return calm
	})
	// Every pooled connection costs one 502 at most. Until the health checks have failed so do new ones by the victim:
	// one of three at most, of a few bursts.
	t.Logf("before %+v, after %+v", before, last)
	if last.BadGateway > pool+visitors {
		t.Errorf("%d answers with 502, %d connections of the pool led by the victim", last.BadGateway, pool)
	}
}
