package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// How long after the fact a real API server says something.
const (
	// readyUnknownAfter is kube-controller-manager's node monitor grace period: counted from the last Lease, which a
	// kubelet renews every 10 s, so from a death it may be less. 50 s is the default since Kubernetes 1.32.
	readyUnknownAfter = 50 * time.Second
	// statusAfterBoot is how long a kubelet takes to post its first status.
	statusAfterBoot = 2 * time.Second
	// podRemovedAfter is how long a deletion takes to be seen.
	podRemovedAfter = time.Second
)

// apiSource is the Source of the inventory's events, as it is of the real API's.
const apiSource = "kube"

// bulletin holds what the API has yet to say.
type bulletin struct {
	mu    sync.Mutex
	items []news
	added chan struct{} // one place: something was added since it was last read
}

// news is something the API says at a time, unless facts returns nothing by then.
type news struct {
	due   time.Time
	facts func(now time.Time) []event.Event
}

func newBulletin() *bulletin { return &bulletin{added: make(chan struct{}, 1)} }

func (b *bulletin) add(n news) {
	b.mu.Lock()
	b.items = append(b.items, n)
	b.mu.Unlock()
	select {
	case b.added <- struct{}{}:
	default:
	}
}

// take removes and returns what is due, and how long until the next item is: an hour where there is none.
func (b *bulletin) take(now time.Time) (due []news, next time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next = time.Hour
	var later []news
	for _, n := range b.items {
		if wait := n.due.Sub(now); wait > 0 {
			later, next = append(later, n), min(next, wait)
		} else {
			due = append(due, n)
		}
	}
	b.items = later
	return due, next
}

// API plays the cluster's API server: a source of node, pod and service facts. It says what a real one would say, when
// it would say it.
type API struct{ c *Cluster }

// API returns the source of the inventory.
func (c *Cluster) API() *API { return &API{c} }

// Run says what there is, then what changes, until ctx ends.
func (a *API) Run(ctx context.Context, emit func([]event.Event)) error {
	emit(a.c.Inventory())
	for {
		now := time.Now()
		due, next := a.c.bulletin.take(now)
		for _, n := range due {
			if facts := n.facts(now); len(facts) > 0 {
				emit(facts)
			}
		}
		t := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-a.c.bulletin.added:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// Inventory is what the API said before the lab was up: every node, pod and service, each kind closed by a
// stream.synced.
func (c *Cluster) Inventory() []event.Event {
	at := c.up
	var out []event.Event
	say := func(t event.Type, b event.Body) {
		out = append(out, event.Event{Type: t, Time: at.UTC(), Source: apiSource, Body: b})
	}
	for k := range c.plan.Nodes {
		say(event.NodeChanged, &event.NodeFact{What: "added", Node: c.nodeFact(k)})
	}
	say(event.StreamSynced, &event.Synced{Fact: "nodes"})
	for _, p := range slices.Concat(c.plan.Pods, []podPlan{c.plan.Caller}) {
		say(event.PodChanged, &event.PodFact{What: "added", Pod: c.podFact(p)})
	}
	say(event.StreamSynced, &event.Synced{Fact: "pods"})
	say(event.ServiceChanged, &event.ServiceFact{What: "added", Service: c.serviceFact()})
	say(event.StreamSynced, &event.Synced{Fact: "services"})
	return out
}

func (c *Cluster) nodeFact(k int) event.Node {
	f := c.objectOf(c.plan.Nodes[k])
	c.mu.Lock()
	defer c.mu.Unlock()
	f.BootID = c.boots[k]
	if s := c.facts[k]; s.ready != "" {
		f.Ready = s.ready
	}
	f.Taints = c.facts[k].taints
	return f
}

// objectOf is a node's object as it is when all is well.
func (c *Cluster) objectOf(n nodePlan) event.Node {
	f := event.Node{
		Name: n.Name, UID: n.UID, Zone: n.Zone, Ready: "true",
		Addresses: []event.Address{{IP: n.Addr, From: "status InternalIP"}},
		PodCIDRs:  []netip.Prefix{n.CIDR},
		Created:   c.up.Add(-n.Age).UTC(),
	}
	if n.Spot {
		f.Spot = "preemptible"
	}
	return f
}

// nodeState is what people and controllers have done to a node's object.
type nodeState struct {
	ready  string // empty: true
	taints []string
}

func (c *Cluster) podFact(p podPlan) event.Pod {
	return event.Pod{
		Namespace: p.Namespace, Name: p.Name, UID: p.UID, Workload: p.Workload,
		Node: c.plan.Nodes[p.Node].Name, IPs: []netip.Addr{p.Addr},
	}
}

func (c *Cluster) serviceFact() event.Service {
	s := c.plan.Service
	f := event.Service{
		Namespace: s.Namespace, Name: s.Name, Type: "LoadBalancer", Policy: "Cluster", Direct: c.scenario.direct,
		Ports:     []event.ServicePort{{Name: s.PortName, Port: s.Port, TargetPort: s.TargetPort, NodePort: s.NodePort}},
		NodePorts: []uint16{s.NodePort},
		VIPs:      []netip.Addr{s.ClusterIP, s.VIP},
	}
	for _, p := range c.endpoints() {
		f.Backends = append(f.Backends, p.Addr)
	}
	return f
}

// nodeLost lets the API notice, in its time, that node k has fallen silent; not if it is back by then.
func (c *Cluster) nodeLost(k int, at time.Time) {
	c.bulletin.add(news{due: at.Add(readyUnknownAfter), facts: func(now time.Time) []event.Event {
		if c.node(k) != nil {
			return nil
		}
		n := c.nodeFact(k)
		n.Ready = "unknown"
		n.Taints = []string{"node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"}
		return []event.Event{{Type: event.NodeChanged, Time: now.UTC(), Source: apiSource, Body: &event.NodeFact{What: "changed", Node: n}}}
	}})
}

// nodeBack lets the API hear from the kubelet of node k after a reboot.
func (c *Cluster) nodeBack(k int, at time.Time) {
	c.bulletin.add(news{due: at.Add(statusAfterBoot), facts: func(now time.Time) []event.Event {
		return []event.Event{{Type: event.NodeChanged, Time: now.UTC(), Source: apiSource, Body: &event.NodeFact{What: "rebooted", Node: c.nodeFact(k)}}}
	}})
}

// say lets the API say one thing at a time.
func (c *Cluster) say(at time.Time, t event.Type, body func() event.Body) {
	c.bulletin.add(news{due: at, facts: func(now time.Time) []event.Event {
		return []event.Event{{Type: t, Time: now.UTC(), Source: apiSource, Body: body()}}
	}})
}

// setNode lets the API say what was done to a node's object.
func (c *Cluster) setNode(k int, s nodeState) {
	c.mu.Lock()
	c.facts[k] = s
	c.mu.Unlock()
	fact := &event.NodeFact{What: "changed", Node: c.nodeFact(k)}
	c.say(time.Now(), event.NodeChanged, func() event.Body { return fact })
}

// nodeRemoved lets the API say that a node's object is gone.
func (c *Cluster) nodeRemoved(k int, at time.Time) {
	c.say(at, event.NodeChanged, func() event.Body { return &event.NodeFact{What: "removed", Node: c.nodeFact(k)} })
}

// podRemoved lets the API say that a pod is gone, and podAdded that there is another.
func (c *Cluster) podRemoved(p podPlan, at time.Time) {
	c.say(at.Add(podRemovedAfter), event.PodChanged, func() event.Body { return &event.PodFact{What: "removed", Pod: c.podFact(p)} })
}

func (c *Cluster) podAdded(p podPlan, at time.Time) {
	c.say(at, event.PodChanged, func() event.Body { return &event.PodFact{What: "added", Pod: c.podFact(p)} })
}

// serviceChanged lets the API say which endpoints there are now.
func (c *Cluster) serviceChanged(at time.Time) {
	c.say(at, event.ServiceChanged, func() event.Body { return &event.ServiceFact{What: "changed", Service: c.serviceFact()} })
}

// NodesYAML is the lab's nodes in the form that `--nodes` reads.
func (c *Cluster) NodesYAML() []byte {
	var b bytes.Buffer
	for _, n := range c.plan.Nodes {
		fmt.Fprintf(&b, "- name: %s\n  addresses: [%q]\n  podCIDRs: [%q]\n  labels:\n    topology.kubernetes.io/zone: %s\n", n.Name, n.Addr, n.CIDR, n.Zone)
		if n.Spot {
			fmt.Fprintf(&b, "    cloud.google.com/gke-preemptible: \"true\"\n")
		}
	}
	return b.Bytes()
}
