package world

import (
	"net/netip"
	"time"
)

// Plan is a world before it runs.
type Plan struct {
	Seed  uint64        // of all chance: latencies, jitter, who talks when
	Until time.Duration // the end, counted from when the first agent may start; connections are set up in the time before that

	Family    int       // 4 or 6: how addresses are told; plans write them as IPv4
	Inventory Inventory // who tells names

	Nodes    []Node
	Pods     []Pod
	Services []Service
	Clients  []Clients
	Loads    []Load
	Faults   []Fault
}

// Inventory says how names become known.
type Inventory struct {
	By    string        // "file": nodes only, at once; "api": nodes, pods, services and their changes; "none"
	Delay time.Duration // of each change, from an API
}

// Node is a machine of the cluster.
type Node struct {
	Name   string
	IP     netip.Addr
	Pods   netip.Prefix // the range of its pods; the bridge has its first address
	Zone   string
	Agent  bool
	Rung   string        // of its agent's probes: "best", "census" (keepalive probes by the census only), "bare" (the census alone)
	Pace   time.Duration // between two looks of its census, 250 ms if zero
	Late   time.Duration // of its agent's batches on their way, beside their usual tenth of a second
	Skew   time.Duration // of its clock as its agent tells it
	Attach time.Duration // its agent starts then
	Direct bool          // its agent is heard by a way of its own, which no fault of the node's network cuts, as a lab's pipes
	Max    int           // entries that its conntrack table holds, 262,144 if zero
	Drops  bool          // its rules drop what conntrack calls INVALID, as kube-proxy's iptables mode
}

// Pod is a pod with its address.
type Pod struct {
	Name string // namespace/name
	Node string
	IP   netip.Addr
}

// Service is a set of pods behind addresses.
type Service struct {
	Name     string // namespace/name
	Type     string // ClusterIP, NodePort, LoadBalancer
	IP       netip.Addr
	Port     uint16
	NodePort uint16        // 0: none
	VIP      netip.Addr    // of the balancer before it; invalid: none
	Entries  []string      // nodes to which the balancer hands connections
	Idle     time.Duration // after which the balancer forgets a connection silently; 0: never
	Backends []string      // pods
}

// Clients is a network outside the cluster: of people, of a balancer, of servers that pods call.
type Clients struct {
	Name    string
	Net     netip.Prefix
	Latency time.Duration // one way to the cluster
}

// Load is a number of connections of one kind.
type Load struct {
	N    int
	Kind string // vip, direct, cluster, nodeport, egress, headless: see the constants
	From string // clients, or a pod
	To   string // service, pod or clients
	Via  string // the node by which they come in or go out, where the kind has one and the plan fixes it; else the balancer chooses

	Talkers   int           // so many of them talk, the others are idle
	Every     time.Duration // between two messages of a talker, on average
	Size      int           // of a message in bytes, 100 if zero
	Speaks    string        // server, client, both: who sends messages of its own; what clients send is answered
	Keepalive time.Duration // keepalive time of the accepting side, and of the dialling one if it is a pod; 0: none
	Interval  time.Duration // between its probes
	Probes    int
	User      time.Duration // TCP_USER_TIMEOUT
	Retries   int           // tcp_retries2, 15 if zero
	Life      time.Duration // each connection is closed and another opened after about so long; 0: they stay
	Starts    time.Duration // they are dialled then; 0: before all agents
}

// The kinds of loads.
const (
	LoadVIP      = "vip"      // clients, balancer, a node that translates and masquerades, pod
	LoadDirect   = "direct"   // clients speak to the pod itself
	LoadCluster  = "cluster"  // a pod by a service's address, translated on its own node
	LoadNodePort = "nodeport" // a pod by a node's port, translated and masqueraded there
	LoadEgress   = "egress"   // a pod to the outside, masqueraded by a node
	LoadHeadless = "headless" // a pod to a pod
)

// Fault is a primitive: one thing that happens to one object.
type Fault struct {
	At   time.Duration
	For  time.Duration // it heals after this long; 0: it does not, or there is nothing to heal
	What string        // a key of [Primitives]
	Who  string        // node, pod, service or clients, as the primitive wants it
	With string        // what else the primitive wants: another object, a direction
	N    int           // a number: a share in percent, a count, a size
}

func (p *Plan) node(name string) *Node {
	for i := range p.Nodes {
		if p.Nodes[i].Name == name {
			return &p.Nodes[i]
		}
	}
	return nil
}

func (p *Plan) pod(name string) *Pod {
	for i := range p.Pods {
		if p.Pods[i].Name == name {
			return &p.Pods[i]
		}
	}
	return nil
}

func (p *Plan) service(name string) *Service {
	for i := range p.Services {
		if p.Services[i].Name == name {
			return &p.Services[i]
		}
	}
	return nil
}

func (p *Plan) clients(name string) *Clients {
	for i := range p.Clients {
		if p.Clients[i].Name == name {
			return &p.Clients[i]
		}
	}
	return nil
}
