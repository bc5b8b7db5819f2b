package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

var created = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

func node(name string, change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(created)},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.11"}, {Type: corev1.NodeHostName, Address: name}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			NodeInfo:   corev1.NodeSystemInfo{BootID: "boot-1"},
		},
	}
	if change != nil {
		change(n)
	}
	return n
}

func podOf(name, on, ip string, change func(*corev1.Pod)) *corev1.Pod {
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ws", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"pod-template-hash": "5f6c"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "chat-5f6c", Controller: &yes}},
		},
		Spec:   corev1.PodSpec{NodeName: on},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func chat() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ws", Name: "chat", Annotations: map[string]string{"cloud.google.com/neg": `{"exposed_ports":{"443":{}}}`}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			ClusterIP: "10.96.0.50", ClusterIPs: []string{"10.96.0.50"},
			Ports: []corev1.ServicePort{{Name: "wss", Port: 443, TargetPort: intstr.FromString("tls"), NodePort: 30080}},
		},
		Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.10"}}}},
	}
}

func chatSlice(ips ...string) *discoveryv1.EndpointSlice {
	port, name := int32(8443), "wss"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ws", Name: "chat-x1", Labels: map[string]string{discoveryv1.LabelServiceName: "chat"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return s
}

// told collects the facts of a running source.
type told struct {
	t    *testing.T
	mu   sync.Mutex
	all  []event.Event
	more chan struct{}
	from int // what was waited for already
}

// watching runs a source until the test ends.
func watching(t *testing.T, opts Options) (*Source, *told) {
	t.Helper()
	opts.BackoffMax = time.Second
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	got := &told{t: t, more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(batch []event.Event) {
			got.mu.Lock()
			got.all = append(got.all, batch...)
			got.mu.Unlock()
			select {
			case got.more <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, got
}

// whole waits for all first looks, and then for what comes after them.
func (g *told) whole() {
	g.t.Helper()
	last := 0
	for _, fact := range []string{"nodes", "pods", "services"} {
		g.from = 0
		g.next("first look at "+fact, synced(fact))
		last = max(last, g.from)
	}
	g.from = last
}

// next waits for a fact that comes after the last one waited for.
func (g *told) next(what string, is func(event.Body) bool) event.Body {
	g.t.Helper()
	deadline := time.After(time.Minute)
	for {
		g.mu.Lock()
		for i := g.from; i < len(g.all); i++ {
			if body := g.all[i].Body; is(body) {
				g.from = i + 1
				g.mu.Unlock()
				return body
			}
		}
		g.mu.Unlock()
		select {
		case <-g.more:
		case <-deadline:
			g.t.Fatalf("%s was not told; what was: %s", what, g)
		}
	}
}

func (g *told) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b strings.Builder
	for i := range g.all {
		line := event.AppendJSON(nil, &g.all[i])
		b.Write(line)
	}
	return b.String()
}

// count counts facts told so far.
func (g *told) count(is func(event.Body) bool) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.all {
		if is(g.all[i].Body) {
			n++
		}
	}
	return n
}

func synced(fact string) func(event.Body) bool {
	return func(b event.Body) bool {
		s, ok := b.(*event.Synced)
		return ok && s.Fact == fact && s.Behind == ""
	}
}

func behind(fact, why string) func(event.Body) bool {
	return func(b event.Body) bool {
		s, ok := b.(*event.Synced)
		return ok && s.Fact == fact && strings.Contains(s.Behind, why)
	}
}

func nodeFact(what, name string) func(event.Body) bool {
	return func(b event.Body) bool {
		n, ok := b.(*event.NodeFact)
		return ok && n.What == what && n.Node.Name == name
	}
}

func podFact(what, name string) func(event.Body) bool {
	return func(b event.Body) bool {
		p, ok := b.(*event.PodFact)
		return ok && p.What == what && p.Pod.Name == name
	}
}

func serviceFact(what string, backends int) func(event.Body) bool {
	return func(b event.Body) bool {
		s, ok := b.(*event.ServiceFact)
		return ok && s.What == what && len(s.Service.Backends) == backends
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster serves a node, two pods, of which one has ended, and a service.
func cluster(t *testing.T) *served {
	a := serve(t)
	a.put("nodes", node("node-a", nil))
	a.put("pods", podOf("chat-5f6c-a", "node-a", "10.244.1.5", nil))
	a.put("pods", podOf("chat-5f6c-b", "node-b", "10.244.2.5", nil))
	a.put("pods", podOf("migrate", "node-a", "10.244.1.9", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }))
	a.put("services", chat())
	a.put("endpointslices", chatSlice("10.244.1.5", "10.244.2.5"))
	return a
}

// TestFirstLook reads a cluster by watch-list, and by lists where the server has nothing better.
func TestFirstLook(t *testing.T) {
	for name, lists := range map[string]bool{"watch-list": false, "lists": true} {
		t.Run(name, func(t *testing.T) {
			a := cluster(t)
			a.lists = lists
			_, got := watching(t, Options{Config: a.config()})
			got.whole()
			got.from = 0
			n := got.next("node-a", nodeFact("added", "node-a")).(*event.NodeFact).Node
			want := event.Node{
				Name: "node-a", UID: "uid-node-a", Created: created, BootID: "boot-1", Ready: "true",
				Addresses: []event.Address{{IP: netip.MustParseAddr("192.0.2.11"), From: "status InternalIP"}},
				PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
			}
			if d := cmp.Diff(want, n, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Errorf("want -, have +\n%s", d)
			}
			got.from = 0
			p := got.next("the pod", podFact("added", "chat-5f6c-a")).(*event.PodFact).Pod
			if p.Workload != "deployment/chat" || p.Node != "node-a" || len(p.IPs) != 1 || p.UID != "uid-chat-5f6c-a" {
				t.Errorf("the pod is told as %+v", p)
			}
			if got.count(podFact("added", "migrate")) != 0 {
				t.Error("a pod that has ended is told: its address may be another's by now")
			}
			got.from = 0
			s := got.next("the service", serviceFact("added", 2)).(*event.ServiceFact).Service
			if got.count(func(b event.Body) bool { _, ok := b.(*event.ServiceFact); return ok }) != 1 {
				t.Errorf("the service is told before its endpoints are known: %s", got)
			}
			if s.Ports[0].TargetPort != 8443 || s.NodePorts[0] != 30080 || len(s.VIPs) != 2 || !s.Direct || s.Policy != "Cluster" {
				t.Errorf("the service is told as %+v", s)
			}
			if listed := a.requests("GET pods?") - a.requests("watch=true"); lists != (a.requests("GET pods?limit=500") > 0) {
				t.Errorf("%d lists of pods: %q", listed, a.asked)
			}
		})
	}
}

// TestFates follows a node through everything that may happen to it.
func TestFates(t *testing.T) {
	a := cluster(t)
	_, got := watching(t, Options{Config: a.config()})
	got.whole()
	cause := func(what string, kind event.CauseKind) event.Cause {
		t.Helper()
		var c event.Cause
		got.next(string(kind), func(b event.Body) bool {
			n, ok := b.(*event.NodeFact)
			if !ok || n.What != what || n.Node.Name != "node-a" {
				return false
			}
			i := slices.IndexFunc(n.Node.Causes, func(c event.Cause) bool { return c.What == kind })
			if i >= 0 {
				c = n.Node.Causes[i]
			}
			return i >= 0
		})
		return c
	}
	start := time.Now().Add(-time.Second)
	cordoned := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	a.put("nodes", node("node-a", cordoned))
	if c := cause("changed", event.CauseCordoned); c.Since.Before(start) || c.From != "spec.unschedulable" {
		t.Errorf("cordoned: %+v", c)
	}
	a.put("pods", podOf("chat-5f6c-a", "node-a", "10.244.1.5", func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", LastTransitionTime: metav1.NewTime(created.Add(time.Hour)),
		}}
	}))
	if c := cause("changed", event.CauseDraining); !c.Since.Equal(created.Add(time.Hour)) {
		t.Errorf("draining: %+v", c)
	}
	a.put("nodes", node("node-a", nil)) // uncordoned: nothing is left of it
	got.next("an end of the drain", func(b event.Body) bool {
		n, ok := b.(*event.NodeFact)
		return ok && n.Node.Name == "node-a" && len(n.Node.Causes) == 0
	})
	a.put("nodes", node("node-a", func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "cloud.google.com/impending-node-termination", Effect: corev1.TaintEffectNoSchedule}}
	}))
	if c := cause("changed", event.CausePreempted); c.Since.Before(start) {
		t.Errorf("preempted: %+v", c)
	}
	a.put("nodes", node("node-a", func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", LastTransitionTime: metav1.NewTime(created.Add(2 * time.Hour)),
		}}
	}))
	if c := cause("changed", event.CauseUnknown); !c.Since.Equal(created.Add(2*time.Hour)) || c.From != "condition Ready=Unknown (NodeStatusUnknown)" {
		t.Errorf("unknown: %+v", c)
	}
	rebooted := func(n *corev1.Node) { n.Status.NodeInfo.BootID = "boot-2" }
	a.put("nodes", node("node-a", rebooted))
	cause("rebooted", event.CauseRebooted)
	other := func(n *corev1.Node) { n.UID, n.CreationTimestamp = "uid-2", metav1.NewTime(created.Add(3*time.Hour)) }
	a.put("nodes", node("node-a", other))
	cause("removed", event.CauseRecreated)
	if c := cause("added", event.CauseRecreated); !c.Since.Equal(created.Add(3 * time.Hour)) {
		t.Errorf("recreated: %+v", c)
	}
	a.remove("nodes", "", "node-a")
	cause("removed", event.CauseDeleted)
	a.put("nodes", node("node-a", func(n *corev1.Node) { n.UID, n.CreationTimestamp = "uid-3", metav1.NewTime(created.Add(4*time.Hour)) }))
	if c := cause("added", event.CauseRecreated); !c.Since.Equal(created.Add(4 * time.Hour)) {
		t.Errorf("recreated after its deletion: %+v", c)
	}
}

// TestOnlyNews: a status that says the same is no fact.
func TestOnlyNews(t *testing.T) {
	a := cluster(t)
	_, got := watching(t, Options{Config: a.config()})
	got.whole()
	before := got.count(func(b event.Body) bool { _, ok := b.(*event.NodeFact); return ok })
	beat := func(n *corev1.Node) {
		n.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
		n.Status.Images = []corev1.ContainerImage{{Names: []string{"chat:2"}}}
	}
	a.put("nodes", node("node-a", beat))
	a.put("pods", podOf("chat-5f6c-a", "node-a", "10.244.1.5", func(p *corev1.Pod) { p.Status.QOSClass = corev1.PodQOSBurstable }))
	a.put("nodes", node("node-b", nil))
	got.next("node-b", nodeFact("added", "node-b"))
	if n := got.count(func(b event.Body) bool { _, ok := b.(*event.NodeFact); return ok }); n != before+1 {
		t.Errorf("%d facts of nodes where one is news", n-before)
	}
	a.remove("pods", "ws", "chat-5f6c-a")
	got.next("the removal", podFact("removed", "chat-5f6c-a"))
	if got.count(podFact("changed", "chat-5f6c-a")) != 0 {
		t.Error("a change of nothing that is told is told")
	}
	a.put("endpointslices", chatSlice("10.244.2.5"))
	got.next("one backend less", serviceFact("changed", 1))
}

// TestOwnPods: an agent asks for its own node's pods and for nothing else.
func TestOwnPods(t *testing.T) {
	a := cluster(t)
	a.put("nodes", node("node-b", nil))
	_, got := watching(t, Options{Config: a.config(), Node: "node-a", Own: true})
	got.next("pods", synced("pods"))
	got.from = 0
	got.next("nodes", synced("nodes"))
	if got.count(podFact("added", "chat-5f6c-b")) != 0 || got.count(nodeFact("added", "node-b")) != 0 {
		t.Errorf("what is another node's was told: %s", got)
	}
	if a.requests("GET services")+a.requests("GET endpointslices")+a.requests("GET leases") != 0 {
		t.Errorf("an agent asked for more than its own: %q", a.asked)
	}
}

// TestOutage stops the API and starts it again: what was said stands, it is said that it may be out of date, and what
// happened meanwhile is caught up with.
func TestOutage(t *testing.T) {
	a := cluster(t)
	_, got := watching(t, Options{Config: a.config()})
	got.whole()
	a.down()
	for _, fact := range []string{"nodes", "pods", "services"} {
		got.from = 0
		got.next(fact+" behind", behind(fact, "cannot be reached"))
	}
	a.remove("pods", "ws", "chat-5f6c-b")
	a.put("nodes", node("node-a", func(n *corev1.Node) { n.Spec.Unschedulable = true }))
	if got.count(func(b event.Body) bool {
		n, isNode := b.(*event.NodeFact)
		p, isPod := b.(*event.PodFact)
		return (isNode && n.What == "removed") || (isPod && p.What == "removed") // told only once the API is back
	}) != 0 {
		t.Errorf("an outage removed something: %s", got)
	}
	a.up()
	got.next("nodes again", synced("nodes"))
	got.from = 0
	got.next("the cordon", nodeFact("changed", "node-a"))
	got.from = 0
	got.next("the removal", podFact("removed", "chat-5f6c-b"))
}

// TestCompacted cuts the watches when their place in the history is forgotten: 410.
func TestCompacted(t *testing.T) {
	a := cluster(t)
	_, got := watching(t, Options{Config: a.config()})
	got.whole()
	a.down()
	got.next("pods behind", behind("pods", "cannot be reached"))
	a.remove("pods", "ws", "chat-5f6c-b")
	a.compact()
	a.up()
	got.next("the removal", podFact("removed", "chat-5f6c-b"))
	if got.count(func(b event.Body) bool { s, ok := b.(*event.Synced); return ok && strings.Contains(s.Behind, "410") }) != 0 {
		t.Error("410 is told as a failure, and is the start of a new look")
	}
}

// TestForbidden refuses one resource: it costs one fact, and is noticed when it is allowed.
func TestForbidden(t *testing.T) {
	a := cluster(t)
	a.deny["pods"] = true
	_, got := watching(t, Options{Config: a.config()})
	why := got.next("pods behind", behind("pods", "403")).(*event.Synced).Behind
	if !strings.Contains(why, `cannot list resource "pods"`) {
		t.Errorf("the reason is %q", why)
	}
	for _, fact := range []string{"nodes", "services"} {
		got.from = 0
		got.next(fact, synced(fact))
	}
	a.set(func() { a.deny["pods"] = false })
	got.from = 0
	got.next("the pod", podFact("added", "chat-5f6c-a"))
	got.next("pods", synced("pods"))
}

// TestExpiredToken lets the credentials expire and be renewed in their file, as those of a service account are.
func TestExpiredToken(t *testing.T) {
	a := cluster(t)
	a.token = "first"
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	config := a.config()
	config.BearerTokenFile = file
	_, got := watching(t, Options{Config: config})
	got.next("nodes", synced("nodes"))
	a.set(func() { a.token = "second" })
	a.down() // the server ends watches when they expire
	a.up()
	got.next("nodes behind", behind("nodes", "401"))
	write("second")
	a.put("nodes", node("node-b", nil))
	got.next("node-b", nodeFact("added", "node-b"))
	got.from = 0
	if got.count(nodeFact("removed", "node-a")) != 0 {
		t.Error("expired credentials removed a node")
	}
}

// TestSlow lets the API swallow requests for pods: that is told, and the others do not wait.
func TestSlow(t *testing.T) {
	a := cluster(t)
	a.hang["pods"] = true
	_, got := watching(t, Options{Config: a.config(), slow: 200 * time.Millisecond})
	got.next("services", synced("services"))
	got.from = 0
	got.next("pods behind", behind("pods", "has not answered"))
	a.set(func() { a.hang["pods"] = false })
	a.down()
	a.up()
	got.next("pods", synced("pods"))
}

// TestTunnelAddresses takes Cilium's own objects where there are any.
func TestTunnelAddresses(t *testing.T) {
	a := cluster(t)
	c := &CiliumNode{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}
	c.Spec.Addresses = append(c.Spec.Addresses, kubenode.CiliumAddress{Type: "CiliumInternalIP", IP: "10.0.1.77"})
	c.Spec.IPAM.PodCIDRs = []string{"10.0.1.0/24"}
	a.put("ciliumnodes", c)
	_, got := watching(t, Options{Config: a.config()})
	got.next("the tunnel's address", func(b event.Body) bool {
		n, ok := b.(*event.NodeFact)
		return ok && slices.Contains(n.Node.Addresses, event.Address{IP: netip.MustParseAddr("10.0.1.77"), From: "CiliumNode CiliumInternalIP"}) &&
			slices.Equal(n.Node.PodCIDRs, []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}) && n.Node.PodCIDRsFrom == "CiliumNode spec.ipam.podCIDRs" &&
			n.Node.PodCIDRsOwn.OK && len(n.Node.PodCIDRsOwn.V) == 0 && n.Node.Plugin == "cilium"
	})
}

// TestLease follows the Lease of a suspect.
func TestLease(t *testing.T) {
	at := func(s int) time.Time { return created.Add(time.Duration(s) * time.Second) }
	l := &lease{}
	for _, step := range []struct {
		name         string
		renewed, now int
		stale, known bool
	}{
		{"first read, old already: a skewed clock, or a dead kubelet", 0, 40, false, false},
		{"not renewed, but it may come yet", 0, 50, false, false},
		{"not renewed for longer than a renewal takes", 0, 51, true, true},
		{"renewed", 55, 56, false, true},
		{"not renewed for 11 s, which is no age", 55, 67, false, false},
		{"and then it is", 55, 81, true, true},
	} {
		c, known := l.read(at(step.renewed), at(step.now))
		if (c != nil) != step.stale || known != step.known {
			t.Errorf("%s: %+v, known %v", step.name, c, known)
		}
	}
}

// TestLeasesOfSuspectsOnly asks for no Lease before a suspicion, and for that of the suspect then.
func TestLeasesOfSuspectsOnly(t *testing.T) {
	a := cluster(t)
	renewed := metav1.NewMicroTime(time.Now())
	a.put("leases", &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: "node-a"}, Spec: coordinationv1.LeaseSpec{RenewTime: &renewed}})
	s, got := watching(t, Options{Config: a.config()})
	got.next("nodes", synced("nodes"))
	if n := a.requests("GET leases"); n != 0 {
		t.Errorf("%d Leases were read though nobody is a suspect", n)
	}
	s.Suspect("node-a")
	waitFor(t, "look at the Lease", func() bool { return a.requests("GET leases") == 1 })
}
