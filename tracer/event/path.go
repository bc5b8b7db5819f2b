package event

import (
	"net/netip"
	"time"
)

// Timestamp is a moment in UTC whose JSON form is RFC 3339 with nanoseconds.
type Timestamp = time.Time

// ViaRole says what the node in the middle does for a connection.
type ViaRole string

// The roles of a via.
const (
	ViaEntry   ViaRole = "entry"   // traffic entered the cluster by this node and was translated there
	ViaEgress  ViaRole = "egress"  // traffic leaves by this node
	ViaLocal   ViaRole = "local"   // the socket's own node translated it: no other node in the middle
	ViaPod     ViaRole = "pod"     // the peer is a pod: nothing in the middle
	ViaDirect  ViaRole = "direct"  // a balancer or client speaks to the pod itself
	ViaUnknown ViaRole = "unknown" // Because says why
)

// Sure tells a proof from an inference.
type Sure string

// The two.
const (
	Proved   Sure = "proved"
	Inferred Sure = "inferred"
)

// Via is the node that a connection crosses.
type Via struct {
	Node    string     `json:"node,omitempty"`
	IP      netip.Addr `json:"ip,omitzero"`
	Role    ViaRole    `json:"role"`
	Sure    Sure       `json:"sure,omitempty"`
	Because string     `json:"because"` // the provenance: which field of which object said so, or why it is unknown
}

// ClientKind says what stands at the far end of the node's outer leg.
type ClientKind string

// The kinds of clients.
const (
	ClientLoadBalancer ClientKind = "load_balancer"
	ClientExternal     ClientKind = "external"
	ClientNode         ClientKind = "node"
	ClientPod          ClientKind = "pod"
	ClientUnknown      ClientKind = "unknown"
)

// Client is the far end of the outer leg, known from the ledger only. Behind an L7 balancer it is the balancer.
type Client struct {
	IP   netip.Addr `json:"ip"`
	Port uint16     `json:"port"`
	Kind ClientKind `json:"kind"`
}

// Tuple is one direction of a conntrack entry.
type Tuple struct {
	Src Endpoint `json:"src"`
	Dst Endpoint `json:"dst"`
}

// NAT is one translated connection: a conntrack entry whose reply tuple is not the mirror of its original one.
type NAT struct {
	Proto    string   `json:"proto"` // tcp
	Original Tuple    `json:"original"`
	Reply    Tuple    `json:"reply"`
	Kinds    []string `json:"kinds"` // snat, dnat
	Zone     uint16   `json:"zone,omitempty"`
	Mark     uint32   `json:"mark,omitempty"`
	Netns    uint32   `json:"netns"`
}

// NATFact is the body of nat.found, nat.created, nat.destroyed and nat.recalled.
type NATFact struct {
	NAT  NAT          `json:"nat"`
	By   By           `json:"by"`
	Rung string       `json:"rung"`           // ctnetlink, dump, fexit, kprobe, kprobe.multi, cilium, calico; checkpoint: repeated from what is known
	Why  string       `json:"why,omitempty"`  // destroyed: closed, timeout, flushed, netns, unknown
	Age  Opt[Seconds] `json:"age_s,omitzero"` // destroyed: how long it lived
	// Since is set where nobody saw the end and a dump found the entry missing: it was seen last then, and ended between
	// that moment and the line's.
	Since Opt[Timestamp] `json:"since,omitzero"`
	// State is the entry's TCP state where the rung tells it, such as established; an entry whose first state is
	// established was picked up in mid-stream (nf_conntrack_tcp_loose): its node had lost it.
	State string `json:"state,omitempty"`
	// Hop is set where the backend sees the client's own address, so that no address of its socket names the node in the
	// middle, and the table that tells of the translation does.
	Hop *Hop `json:"hop,omitempty"`
}

// Hop is the node that a connection crosses, as a dataplane's own table says. One of the two is set.
type Hop struct {
	Node string     `json:"node,omitempty"` // whose table holds the translation
	IP   netip.Addr `json:"ip,omitzero"`    // of the node that handed the connection on
	From string     `json:"from"`           // what says so, such as "tun_ip of the backend's own entry"
}

// By says which node's table an entry stands in.
type By struct {
	Node string `json:"node"`
}

// Table is the body of nat.table: fill and losses of one node's table of connections, conntrack or a dataplane's map.
type Table struct {
	Node         string      `json:"node"`
	Table        string      `json:"table,omitempty"`     // name of the dataplane's map, such as cilium_snat_v4_external; empty: conntrack
	Translates   Opt[bool]   `json:"translates,omitzero"` // whether the table has held a translated TCP connection since the agent began
	Entries      uint64      `json:"entries"`
	Max          uint64      `json:"max"`
	Created      Opt[uint64] `json:"created,omitzero"` // since boot, where the kernel counts it
	Drop         uint64      `json:"drop"`             // /proc/net/stat/nf_conntrack, as the next four
	EarlyDrop    uint64      `json:"early_drop"`
	InsertFailed uint64      `json:"insert_failed"`
	Invalid      uint64      `json:"invalid"`
	Events       Opt[int]    `json:"events,omitzero"` // net.netfilter.nf_conntrack_events
	// Retries are how many connections did not get the first masquerade port that was tried, and PortsGone how many got none,
	// both since the counters were made (cilium_snat_v4_alloc_retries).
	Retries   Opt[uint64] `json:"retries,omitzero"`
	PortsGone Opt[uint64] `json:"ports_gone,omitzero"`
}

// Address is one address of a node with the place it was read from.
type Address struct {
	IP   netip.Addr `json:"ip"`
	From string     `json:"from"` // "status InternalIP", "podCIDR .0", an annotation key, "agent eth0", "nodes file"
}

// Node is what is known of a node. A fact replaces all that the same source said of it before.
type Node struct {
	Name      string    `json:"name"`
	UID       string    `json:"uid,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	// PodCIDRs are the ranges from which only this node's pods have addresses.
	PodCIDRs []netip.Prefix `json:"pod_cidrs,omitempty"`
	// PodCIDRsFrom is the field that names them where it is not spec.podCIDRs, such as "k8s.ovn.org/node-subnets".
	PodCIDRsFrom string `json:"pod_cidrs_from,omitempty"`
	// PodCIDRsOwn tells which addresses of each range are the node itself, counted from the range's first: its tunnel device,
	// bridge or gateway, by the rule of its network plugin. Empty: none is. Absent: nobody knows the plugin, and 0 and 1 are
	// guessed.
	PodCIDRsOwn Opt[[]int] `json:"pod_cidrs_own,omitzero"`
	// PodNets are ranges from which pods of whatever node have addresses: what stands there is a pod, and which node it is on is
	// not told.
	PodNets  []netip.Prefix `json:"pod_nets,omitempty"`
	Plugin   string         `json:"plugin,omitempty"` // the network plugin, as its marks on the object tell
	Zone     string         `json:"zone,omitempty"`
	Platform string         `json:"platform,omitempty"` // gke, eks, aks, where it shows
	Spot     string         `json:"spot,omitempty"`     // preemptible, spot
	OS       string         `json:"os,omitempty"`       // windows; absent: Linux, or not told
	Virtual  string         `json:"virtual,omitempty"`  // what stands behind a node that is no machine, such as fargate: nothing runs there to watch, or to be asked
	Created  Timestamp      `json:"created,omitzero"`
	BootID   string         `json:"boot_id,omitempty"`
	Ready    string         `json:"ready,omitempty"` // true, false, unknown, as the Ready condition says; empty: not told
	Taints   []string       `json:"taints,omitempty"`
	Causes   []Cause        `json:"causes,omitempty"` // what its source says of its fate
}

// CauseKind is one thing that may be the end of a node, or of the connections that cross it.
type CauseKind string

// The causes, from what has happened to what may happen.
const (
	CauseDeleted            CauseKind = "deleted"              // the Node object is deleted, or being so
	CauseRecreated          CauseKind = "recreated"            // the same name with another UID: another machine
	CauseRebooted           CauseKind = "rebooted"             // another bootID
	CauseUnknown            CauseKind = "ready_unknown"        // the kubelet has stopped reporting
	CauseNotReady           CauseKind = "not_ready"            // the kubelet reports that the node is not ready
	CauseLeaseStale         CauseKind = "lease_stale"          // the kubelet has stopped renewing its Lease: earlier than ready_unknown
	CausePreempted          CauseKind = "preempted"            // its provider has announced that it takes the machine
	CausePreemptionLikely   CauseKind = "preemption_likely"    // its provider recommends to leave the machine
	CauseShutdown           CauseKind = "shutdown"             // the machine is stopped
	CauseOutOfService       CauseKind = "out_of_service"       // an operator says that it is gone for good
	CauseScaleDown          CauseKind = "scale_down"           // an autoscaler removes it
	CauseScaleDownCandidate CauseKind = "scale_down_candidate" // an autoscaler finds it unneeded
	CauseMaintenance        CauseKind = "maintenance"          // its provider works on it, or has announced that
	CauseDraining           CauseKind = "draining"             // its pods are being evicted
	CauseCordoned           CauseKind = "cordoned"             // no new pods are put on it
	CauseOutOfBalancer      CauseKind = "out_of_balancer"      // load balancers are told to leave it out
)

// Cause is one thing that is told of a node's fate.
type Cause struct {
	What  CauseKind `json:"what"`
	From  string    `json:"from"`           // the field that says so, such as "taint karpenter.sh/disrupted"
	Since Timestamp `json:"since,omitzero"` // by the API's own time where it keeps one, else when it was first seen; absent: before the watch
}

// NodeFact is the body of node.changed.
type NodeFact struct {
	What string `json:"what"` // added, changed, removed, rebooted, agent
	Node Node   `json:"node"`
}

// Pod is what is known of a pod.
type Pod struct {
	Namespace   string       `json:"namespace"`
	Name        string       `json:"name"`
	UID         string       `json:"uid,omitempty"`
	Workload    string       `json:"workload,omitempty"` // such as deployment/chat
	Node        string       `json:"node,omitempty"`
	IPs         []netip.Addr `json:"ips,omitempty"`
	HostNetwork bool         `json:"host_network,omitempty"`
	KubeletUID  string       `json:"kubelet_uid,omitempty"` // of a static pod: its UID by which its kubelet and its cgroups know it
}

// PodFact is the body of pod.changed.
type PodFact struct {
	What string `json:"what"` // added, changed, removed
	Pod  Pod    `json:"pod"`
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name       string `json:"name,omitempty"`
	Port       uint16 `json:"port"`
	TargetPort uint16 `json:"target_port,omitempty"`
	NodePort   uint16 `json:"node_port,omitempty"`
}

// Service is what is known of a service.
type Service struct {
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Type      string        `json:"type,omitempty"`   // ClusterIP, NodePort, LoadBalancer
	Policy    string        `json:"policy,omitempty"` // externalTrafficPolicy: Cluster, Local
	Ports     []ServicePort `json:"ports,omitempty"`
	NodePorts []uint16      `json:"node_ports,omitempty"`
	VIPs      []netip.Addr  `json:"vips,omitempty"`     // cluster IPs and balancer addresses
	Backends  []netip.Addr  `json:"backends,omitempty"` // pod addresses of its endpoints
	Direct    bool          `json:"direct,omitempty"`   // container-native: the balancer speaks to pods
}

// ServiceFact is the body of service.changed.
type ServiceFact struct {
	What    string  `json:"what"` // added, changed, removed
	Service Service `json:"service"`
}

// CensusRow counts the sockets of one pod, service and via.
type CensusRow struct {
	Pod         string `json:"pod,omitempty"`     // namespace/name
	Service     string `json:"service,omitempty"` // namespace/name
	Via         Via    `json:"via"`
	Established int    `json:"established"`
	Active      int    `json:"active"`
	AtRisk      int    `json:"at_risk"`
	Stalled     int    `json:"stalled"`
	Presumed    int    `json:"presumed"`
}

// Census is the body of the finding path.census.
type Census struct {
	Rows []CensusRow `json:"rows"`
}
