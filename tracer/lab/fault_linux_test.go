package lab

import (
	"bufio"
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// broken starts a lab with a scenario and breaks it. It returns the pod's sockets as they were before.
func broken(t *testing.T, scenario string, change ...func(*Options)) (*Cluster, map[netip.Addr][]socket) {
	t.Helper()
	o := testOptions(t)
	o.Scenario = scenario
	for _, f := range change {
		f(&o)
	}
	c := start(t, o)
	before := podSockets(t, c)
	if _, err := c.Fault(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, before
}

// stalled counts the pod's sockets by peer, and among them those whose last two transmissions went unanswered.
func stalled(t *testing.T, c *Cluster) (all, stuck map[netip.Addr]int) {
	all, stuck = map[netip.Addr]int{}, map[netip.Addr]int{}
	for peer, list := range podSockets(t, c) {
		for _, s := range list {
			all[peer]++
			if s.retransmits >= 2 {
				stuck[peer]++
			}
		}
	}
	return all, stuck
}

func resets(t *testing.T, c *Cluster) int { return tcpCounter(t, c.servers[0].net, "EstabResets") }

// agentOf returns the next pipe of a node's agent.
func agentOf(t *testing.T, c *Cluster, node string) AgentPipe {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case p := <-c.Agents():
			if p.Node == node {
				return p
			}
		case <-late:
			t.Fatalf("no agent on %s", node)
		}
	}
}

// beats waits until an agent has said n lines.
func beats(t *testing.T, p AgentPipe, n int) {
	t.Helper()
	done := make(chan bool)
	go func() {
		in := bufio.NewScanner(p.R)
		for i := 0; i < n && in.Scan(); i++ {
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("the agent of %s is silent", p.Node)
	}
}

func TestNodeRebooted(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "node-rebooted", func(o *Options) { o.downFor = time.Second })
	victim := c.plan.Nodes[c.plan.Victim]
	first := checkAgent(t, agentOf(t, c, victim.Name))
	again := checkAgent(t, agentOf(t, c, victim.Name))
	if first.BootID == again.BootID {
		t.Errorf("boot id %s before and after", first.BootID)
	}
	// The node that lost its table answers the pod's retransmissions with resets; nobody gives up by himself.
	eventually(t, "the talking sockets are reset", func() bool { return resets(t, c) >= len(before[victim.Addr])/6 })
	for _, f := range entries(t, c.node(c.plan.Victim)) {
		for _, s := range before[victim.Addr] {
			if f.TupleReply.Proto.DestinationPort == s.peer.Port() && translated(f) {
				t.Errorf("%v survived the reboot", f)
			}
		}
	}
	api, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	told := false
	err := c.API().Run(api, func(batch []event.Event) {
		for _, e := range batch {
			if f, ok := e.Body.(*event.NodeFact); ok && f.What == "rebooted" && f.Node.Name == victim.Name && f.Node.BootID == again.BootID {
				told = true
				stop()
			}
		}
	})
	if err != nil || !told {
		t.Errorf("the API says nothing of the reboot (%v)", err)
	}
}

func TestNATLost(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "nat-lost")
	victim := c.plan.Nodes[c.plan.Victim]
	beats(t, agentOf(t, c, victim.Name), 20)
	eventually(t, "the talking sockets are reset", func() bool { return resets(t, c) >= len(before[victim.Addr])/6 })
	for peer, n := range before {
		if all, _ := stalled(t, c); peer != victim.Addr && all[peer] != len(n) {
			t.Errorf("%d of %d sockets with peer %s are left", all[peer], len(n), peer)
		}
	}
}

func TestNodeLossy(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "node-lossy", func(o *Options) { o.Loss = 30 })
	victim := c.plan.Nodes[c.plan.Victim]
	again := func() map[netip.Addr]uint32 {
		sum := map[netip.Addr]uint32{}
		for peer, list := range podSockets(t, c) {
			for _, s := range list {
				sum[peer] += s.again
			}
		}
		return sum
	}
	// A starved machine retransmits now and then without any loss.
	eventually(t, "20 retransmissions through the victim, and a fifth of it elsewhere at most", func() bool {
		got := again()
		for peer, n := range got {
			if peer != victim.Addr && n > got[victim.Addr]/5 {
				return false
			}
		}
		return got[victim.Addr] >= 20
	})
	if n := resets(t, c); n > 0 || len(podSockets(t, c)[victim.Addr]) != len(before[victim.Addr]) {
		t.Errorf("%d connections were reset, %v of %v are left", n, podSockets(t, c)[victim.Addr], before[victim.Addr])
	}
}

func TestVIPMoved(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "vip-moved")
	victim := c.plan.Nodes[c.plan.Victim]
	beats(t, agentOf(t, c, victim.Name), 20)
	eventually(t, "clients of the moved share are reset", func() bool {
		got, err := c.ClientTally()
		if err != nil {
			t.Fatal(err)
		}
		return got.Ended["connection reset by peer"] >= 2
	})
	eventually(t, "the pod's sockets through the victim stall", func() bool {
		all, stuck := stalled(t, c)
		return all[victim.Addr] == len(before[victim.Addr]) && stuck[victim.Addr] >= 2
	})
}

// Whatever stood before the victim is gone, whatever stands elsewhere is well, and the victim is alive.
func TestFrontGone(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "front-gone")
	victim := c.plan.Nodes[c.plan.Victim]
	beats(t, agentOf(t, c, victim.Name), 20)
	onlyStalled(t, c, before, func(peer netip.Addr) bool { return peer == victim.Addr }, len(before[victim.Addr])/6)
}

func TestUplink(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "uplink")
	onlyStalled(t, c, before, func(netip.Addr) bool { return true }, 3)
}

// onlyStalled waits until through each bad peer at least n sockets stall, and checks that none is reset and that none
// stalls through the others.
func onlyStalled(t *testing.T, c *Cluster, before map[netip.Addr][]socket, bad func(netip.Addr) bool, n int) {
	t.Helper()
	eventually(t, "just these sockets stall", func() bool {
		_, stuck := stalled(t, c)
		for peer := range before {
			// On a starved machine a healthy socket may retransmit twice, but not for long.
			if bad(peer) && stuck[peer] < n || !bad(peer) && stuck[peer] > 0 {
				return false
			}
		}
		return true
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

func TestClientGone(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "client-gone")
	eventually(t, "sockets stall through every node", func() bool {
		_, stuck := stalled(t, c)
		return len(stuck) == len(before)
	})
	// The balancer's clients are well, through every node.
	tally, err := c.callers[1].do(order{Tally: true}, orderWait)
	if err != nil || tally.Tally.Open == 0 || len(tally.Tally.Ended) > 0 {
		t.Errorf("the other clients: %+v, %v", tally, err)
	}
}

func TestTwoNodes(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "two-nodes", func(o *Options) { o.Loss, o.Connections = 30, 120 })
	gone, lossy := seenFrom(c, c.plan.Victim), seenFrom(c, c.plan.Second)
	eventually(t, "one node is silent, one loses", func() bool {
		_, stuck := stalled(t, c)
		again := uint32(0)
		for _, s := range podSockets(t, c)[lossy] {
			again += s.again
		}
		return stuck[gone] >= len(before[gone])/6 && again >= 20
	})
	if n := resets(t, c); n > 0 {
		t.Errorf("%d connections were reset", n)
	}
}

func TestPathMTU(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "pmtu", func(o *Options) { o.Connections = 150 })
	victim := c.plan.Nodes[c.plan.Victim]
	large := func(s socket) bool { return s.queued > uint32(c.plan.Push) }
	eventually(t, "large messages are stuck, small ones and other ways pass", func() bool {
		stuck, passed := 0, 0
		for peer, list := range podSockets(t, c) {
			for _, s := range list {
				was := slices.IndexFunc(before[peer], func(o socket) bool { return o.peer == s.peer })
				switch {
				case s.retransmits >= 2 && (peer != victim.Addr || !large(s)):
					return false // On a starved machine a healthy socket may retransmit twice, but not for long.
				case s.retransmits >= 2:
					stuck++
				case peer == victim.Addr && s.retransmits == 0 && was >= 0 && s.acked > before[peer][was].acked+1000:
					passed++
				}
			}
		}
		return stuck >= 2 && passed >= 2
	})
	if n := snmpCounter(t, c.node(c.plan.Victim).net, "Icmp:", "OutDestUnreachs"); n > 0 {
		t.Errorf("the victim said %d times that something was too large", n)
	}
}

// TestPathMTUThenGone: large messages are stuck first; then the small ones are too, and nothing answers.
func TestPathMTUThenGone(t *testing.T) {
	needRoot(t)
	t.Parallel()
	seen := make(chan struct{})
	c, before := broken(t, "pmtu-gone", func(o *Options) { o.Connections, o.goneWhen = 150, seen })
	victim := c.plan.Nodes[c.plan.Victim]
	count := func() (large, small int) {
		for _, s := range podSockets(t, c)[victim.Addr] {
			switch {
			case s.retransmits < 2:
			case s.queued > uint32(c.plan.Push):
				large++
			default:
				small++
			}
		}
		return large, small
	}
	eventually(t, "large messages are stuck, small ones pass", func() bool {
		large, small := count()
		return large >= 2 && small == 0
	})
	beats(t, agentOf(t, c, victim.Name), 1)
	close(seen)
	// They stall one by one, each when it next writes: their number is waited for.
	eventually(t, "small messages are stuck too, by the victim alone", func() bool {
		_, small := count()
		_, stuck := stalled(t, c)
		return small >= 2 && stuck[victim.Addr] >= len(before[victim.Addr])/6 && len(stuck) == 1
	})
	if n := resets(t, c); n > 0 {
		t.Errorf("%d connections were reset", n)
	}
}

func TestIdleExpired(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "idle-expired")
	victim := c.plan.Nodes[c.plan.Victim]
	<-c.Settled()
	idle := 0
	for _, g := range c.plan.shares(c.opts, false) {
		for _, g := range g.spec.Groups {
			if g.Entry == c.plan.Victim && g.Talk == 0 {
				idle += g.Count
			}
		}
	}
	eventually(t, "what was silent by the victim is reset", func() bool { return resets(t, c) == idle })
	after := podSockets(t, c)
	for peer, list := range before {
		want := len(list)
		if peer == victim.Addr {
			want -= idle
		}
		if len(after[peer]) != want {
			t.Errorf("%d of %d sockets with peer %s are left, want %d", len(after[peer]), len(list), peer, want)
		}
	}
}

func TestReaderHung(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "reader-hung")
	eventually(t, "the pod's sockets wait for a window", func() bool {
		waiting := map[netip.Addr]int{}
		for peer, list := range podSockets(t, c) {
			for _, s := range list {
				if s.window == 0 && s.queued > 0 {
					waiting[peer]++
				}
			}
		}
		return len(waiting) == len(before)
	})
	if n := resets(t, c); n > 0 {
		t.Errorf("%d connections were reset", n)
	}
}
