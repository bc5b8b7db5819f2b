package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

func TestUp(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, way := range []struct {
		mode    string
		overlay string
		family  int
	}{
		{"nftables", "", 4},
		{"nftables", "", 6},
		{"nftables", "vxlan", 4},
		{"nftables", "vxlan", 6},
		{"iptables", "", 4},
		{"iptables", "", 6},
		{"iptables", "vxlan", 4},
	} {
		t.Run(fmt.Sprintf("%s ipv%d%s", way.mode, way.family, way.overlay), func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			o.Connections, o.Pods = 200, 2
			o.Mode, o.Family, o.Overlay = way.mode, way.family, way.overlay
			testUp(t, start(t, o))
		})
	}
}

func testUp(t *testing.T, c *Cluster) {
	for _, side := range []func() (Tally, error){c.ServiceTally, c.ClientTally} {
		got, err := side()
		if err != nil {
			t.Fatal(err)
		}
		if got.Open != 200 || len(got.Ended) > 0 {
			t.Errorf("tally %+v, want 200 open and none ended", got)
		}
	}
	// Every socket of the pod is the mirror of one translated entry's reply on the node that its peer address names.
	mirrored, bySocket := map[netip.AddrPort]string{}, podSockets(t, c)
	ours := func(a netip.Addr) bool {
		return slices.ContainsFunc(c.plan.Pods, func(p podPlan) bool { return p.Addr == a })
	}
	for k, n := range c.plan.Nodes {
		count := 0
		for _, f := range entries(t, c.node(k)) {
			r := f.TupleReply
			if ours(r.IP.SourceAddress) && r.Proto.SourcePort == c.plan.Service.TargetPort && translated(f) {
				mirrored[netip.AddrPortFrom(r.IP.DestinationAddress, r.Proto.DestinationPort)] = n.Name
				count++
			}
		}
		peer := seenFrom(c, k)
		t.Logf("%s: %d translated, pod sees %s", n.Name, count, peer)
		if count < 60 {
			t.Errorf("%s carries %d of 200 connections", n.Name, count)
		}
		if len(bySocket[peer]) != count {
			t.Errorf("%s: %d entries, %d sockets of the pod with peer %s", n.Name, count, len(bySocket[peer]), peer)
		}
		for _, s := range bySocket[peer] {
			if mirrored[s.peer] != n.Name {
				t.Errorf("socket with peer %s is not in the table of %s", s.peer, n.Name)
			}
		}
	}
	boots := map[string]bool{}
	for range c.plan.Nodes {
		boots[checkAgent(t, <-c.Agents()).BootID] = true
	}
	if len(boots) != len(c.plan.Nodes) {
		t.Errorf("boot ids %v are not one a node", boots)
	}
}

// checkAgent reads an agent's first line and checks where it stands.
func checkAgent(t *testing.T, p AgentPipe) sight {
	t.Helper()
	line, err := bufio.NewReader(p.R).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var s sight
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if s.Node != p.Node || s.Hostname != p.Node {
		t.Errorf("agent of %s says it is %s on %s", p.Node, s.Node, s.Hostname)
	}
	// CAP_NET_ADMIN 12, CAP_PERFMON 38, CAP_BPF 39
	if want := fmt.Sprintf("%016x", 1<<12|1<<38|1<<39); s.Caps != want || s.Bound != want {
		t.Errorf("capabilities %s within %s, want %s", s.Caps, s.Bound, want)
	}
	if s.Procs > 4 {
		t.Errorf("agent of %s sees %d processes", p.Node, s.Procs)
	}
	return s
}

func TestTalk(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	o.Ping = 50 * time.Millisecond
	c := start(t, o)
	eventually(t, "100 messages in each direction", func() bool {
		service, err := c.ServiceTally()
		if err != nil {
			t.Fatal(err)
		}
		clients, err := c.ClientTally()
		if err != nil {
			t.Fatal(err)
		}
		return min(service.Sent, service.Received, clients.Sent, clients.Received) > 100+60
	})
}

func TestNodeGone(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"first":           func(*Options) {},
		"home of pods":    func(o *Options) { o.Victim = 2 },
		"seeded":          func(o *Options) { o.Victim, o.Seed, o.Pods = 2, 7, 2 },
		"overlay":         func(o *Options) { o.Overlay = "vxlan" },
		"seeded and ipv6": func(o *Options) { o.Victim, o.Seed, o.Family = 3, 8, 6 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := testOptions(t)
			change(&o)
			testNodeGone(t, start(t, o))
		})
	}
}

func testNodeGone(t *testing.T, c *Cluster) {
	victim := c.plan.Nodes[c.plan.Victim]
	want := []Verdict{{Rule: "node-gone", Kind: "node", Name: victim.Name}}
	if got := c.Expected(); !slices.Equal(got, want) {
		t.Errorf("expects %+v, want %+v", got, want)
	}
	before, seen := podSockets(t, c), seenFrom(c, c.plan.Victim)
	if len(before[seen]) < 4 {
		t.Fatalf("%d sockets cross %s", len(before[seen]), victim.Name)
	}
	var pipe AgentPipe
	for pipe.Node != victim.Name {
		pipe = <-c.Agents()
	}
	asked := time.Now()
	f, err := c.Fault(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Target != victim.Name || f.Scenario != "node-gone" || f.Time.Before(asked) || f.Time.After(time.Now()) {
		t.Errorf("fault %+v", f)
	}
	// What was on its way arrives; then there is silence, not an end.
	heard := make(chan string, 1)
	go func() {
		in := bufio.NewScanner(pipe.R)
		for in.Scan() {
		}
		heard <- fmt.Sprint("the agent's pipe ended: ", in.Err())
	}()
	onlyStalled(t, c, before, func(peer netip.Addr) bool { return peer == seen }, len(before[seen])/6)
	select {
	case what := <-heard:
		t.Error(what)
	default:
	}
	type ends struct{ local, peer netip.AddrPort }
	acked := map[ends]uint64{}
	for _, list := range before {
		for _, s := range list {
			acked[ends{s.local, s.peer}] = s.acked
		}
	}
	eventually(t, "everything else goes on", func() bool {
		for peer, list := range podSockets(t, c) {
			moved := func(s socket) bool { return s.acked > acked[ends{s.local, s.peer}] }
			if peer != seen && !slices.ContainsFunc(list, moved) {
				return false
			}
		}
		return true
	})
	if _, err := c.Fault(t.Context()); err == nil {
		t.Error("a second fault was made")
	}
	// The API says nothing until a real one would.
	if early, _ := c.bulletin.take(f.Time.Add(49 * time.Second)); len(early) > 0 {
		t.Errorf("the API says %v within 49 s", early[0].facts(time.Now()))
	}
	late, _ := c.bulletin.take(f.Time.Add(51 * time.Second))
	if len(late) != 1 {
		t.Fatalf("the API says %d things after 51 s", len(late))
	}
	facts := late[0].facts(time.Now())
	if len(facts) != 1 {
		t.Fatalf("the API says %v", facts)
	}
	if n := facts[0].Body.(*event.NodeFact).Node; n.Name != victim.Name || n.Ready != "unknown" {
		t.Errorf("the API says %+v", n)
	}
}

func TestDirect(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	o.Scenario = "direct"
	c := start(t, o)
	if len(c.Expected()) > 0 || c.HasFault() {
		t.Errorf("expects %+v", c.Expected())
	}
	for k, n := range c.plan.Nodes {
		for _, f := range entries(t, c.node(k)) {
			if translated(f) {
				t.Errorf("%s translates %v to %v", n.Name, f.TupleOrig, f.TupleReply)
			}
		}
	}
	total := 0
	for peer, list := range podSockets(t, c) {
		if !c.plan.Balancer.Prefix.Contains(peer) {
			t.Errorf("the pod sees %s", peer)
		}
		total += len(list)
	}
	if total != o.Connections {
		t.Errorf("%d connections, want %d", total, o.Connections)
	}
}

func TestRun(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	o.Connections, o.Duration, o.AttachAfter, o.Agents = 20, 3*time.Second, 500*time.Millisecond, []int{2, 3}
	c := start(t, o)
	select {
	case p := <-c.Agents():
		t.Fatalf("agent of %s runs already", p.Node)
	default:
	}
	ctx, stop := contextWithStop(t)
	faults := make(chan FaultInfo, 2)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func(f FaultInfo) { faults <- f }) }()
	f := <-faults
	if after := f.Time.Sub(c.Up()); after < time.Second { // how much later is up to the machine
		t.Errorf("fault came %s after the lab was up, want a third of 3 s", after)
	}
	for range 2 {
		if p := <-c.Agents(); p.Node == f.Target {
			t.Errorf("agent of %s starts on a dead node", p.Node)
		}
	}
	if late := time.Since(f.Time); late < o.AttachAfter {
		t.Errorf("agents came %s after the fault", late)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The fault waits until it is watched, however late that is.
func TestFaultWaits(t *testing.T) {
	needRoot(t)
	t.Parallel()
	o := testOptions(t)
	watched := make(chan struct{})
	o.Connections, o.Duration, o.Watched = 20, 3*time.Second, watched
	c := start(t, o)
	ctx, stop := contextWithStop(t)
	faults := make(chan FaultInfo, 2)
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func(f FaultInfo) { faults <- f }) }()
	const late = 2500 * time.Millisecond
	select {
	case f := <-faults:
		t.Fatalf("the fault came %s after the lab was up, and nobody watched", f.Time.Sub(c.Up()))
	case <-time.After(time.Until(c.Up().Add(late))):
	}
	close(watched)
	if f := <-faults; f.Time.Sub(c.Up()) < late {
		t.Errorf("the fault came %s after the lab was up", f.Time.Sub(c.Up()))
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// The inventory names exactly what was built.
func TestInventory(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c := start(t, testOptions(t))
	counts := map[event.Type]int{}
	for _, e := range c.Inventory() {
		counts[e.Type]++
		switch b := e.Body.(type) {
		case *event.NodeFact:
			k := c.plan.nodeNamed(b.Node.Name)
			if k < 0 || b.Node.Addresses[0].IP != c.plan.Nodes[k].Addr || b.Node.BootID != c.node(k).bootID {
				t.Errorf("node %+v", b.Node)
			}
		case *event.PodFact:
			if c.plan.nodeNamed(b.Pod.Node) < 0 || len(b.Pod.IPs) != 1 {
				t.Errorf("pod %+v", b.Pod)
			}
		case *event.ServiceFact:
			if b.Service.NodePorts[0] != c.plan.Service.NodePort || b.Service.Backends[0] != c.plan.Pods[0].Addr || b.Service.Direct {
				t.Errorf("service %+v", b.Service)
			}
		}
		if !e.Type.IsFact() || e.Time.IsZero() {
			t.Errorf("event %+v", e)
		}
	}
	want := map[event.Type]int{event.NodeChanged: 3, event.PodChanged: 2, event.ServiceChanged: 1, event.StreamSynced: 3}
	if !maps.Equal(counts, want) {
		t.Errorf("said %v, want %v", counts, want)
	}
}
