package lab

import (
	"slices"
	"strings"
	"time"
)

// Scenario is a fault, or none, and the verdict that midhop must come to.
type Scenario struct {
	Name    string
	Summary string // what the lab does, in one line
	Rule    string // the expected rule, empty for none, or for any where there is a kind
	Kind    string // the expected culprit's kind, as in event.CulpritKind, or [Nobody]; empty where nothing may be found
	Second  string // the expected rule of a second node, where two are hit
	May     bool   // that nothing is found is right too
	Ends    bool   // the trouble may be over before the lab is: what was last said of it counts

	target   targetKind
	direct   bool // the balancer speaks to the pods themselves
	message  int  // bytes of a message, where an ordinary chat's would not do
	push     int  // bytes of every other talking connection's messages from the service, where they differ
	churn    bool // all the time new clients come, and go again
	faithful bool // clients connect again when a connection ends
	mobile   bool // outside clients are each in a network of their own
	proxy    bool // an HTTP balancer stands before the service too
	pods     int  // behind the service at least

	inside   bool // only the calling pod has connections, by the service's cluster address
	outside  bool // and to a service outside the cluster
	balanced bool // which is one address, with servers behind it
	forgets  bool // which forget who is silent
	egress   bool // the pods' way to it leads by the victim
	spread   bool // every other pod of the service stands on the victim
	peered   bool // pods of a cluster with equal pod ranges have connections too
	heir     bool // there is a node yet to come that gets the victim's address
	floating bool // the victim masquerades by an address that may move
	keeps    bool // the victim's masquerade keeps a client's port where it can
	second   bool // a second node takes a part, and carries no pod
	routed   bool // wants to reach pods without an overlay

	downFor time.Duration // how long what goes is away; 0: 5 s
}

// targetKind says what a scenario's fault hits, so that the plan can name it.
type targetKind int

const (
	targetNone     targetKind = iota
	targetVictim              // the node that --victim names
	targetHome                // the node that the pods live on
	targetPod                 // the first pod of the service
	targetClient              // the clients' network
	targetService             // the service
	targetCaller              // the calling pod's node
	targetPeers               // a peered cluster's pods
	targetOutside             // the service outside
	targetFloating            // the address that moves
)

// scenarios is the contract's table, in its order.
var scenarios = []Scenario{
	{Name: "healthy", Summary: "nothing happens", churn: true},
	{Name: "direct", Summary: "container-native load balancing: no node in the middle, nothing happens", direct: true},
	{Name: "node-gone", Summary: "a node loses power: links and agent stop, nothing is said",
		Rule: "node-gone", Kind: "node", target: targetVictim},
	{Name: "node-rebooted", Summary: "a node loses power and is back 5 s later, same addresses, empty conntrack",
		Rule: "node-rebooted", Kind: "node", target: targetVictim},
	{Name: "nat-lost", Summary: "a node lives, its conntrack table is emptied",
		Rule: "nat-lost", Kind: "node", target: targetVictim},
	{Name: "vip-moved", Summary: "the service address moves to another node while the first lives",
		Rule: "vip-moved", Kind: "service", target: targetService},
	{Name: "node-lossy", Summary: "a node drops --loss percent of its packets",
		Rule: "node-lossy", Kind: "node", target: targetVictim},
	{Name: "table-full", Summary: "a node's conntrack table is full",
		Rule: "conntrack-full", Kind: "node", target: targetVictim, churn: true},
	{Name: "ports-exhausted", Summary: "a node has no masquerade port left",
		Rule: "snat-exhausted", Kind: "node", target: targetVictim, churn: true},
	{Name: "http-502", Summary: "a proxy keeps HTTP connections through a node that then loses power",
		Rule: "node-gone", Kind: "node", target: targetVictim, proxy: true},
	{Name: "two-nodes", Summary: "one node loses power, another loses packets",
		Rule: "node-gone", Kind: "node", target: targetVictim, Second: "node-lossy"},
	{Name: "pod-gone", Summary: "the backend pod vanishes, its DNAT entries stay",
		Rule: "pod-gone", Kind: "pod", target: targetPod, churn: true},
	{Name: "service-down", Summary: "all pods of the service vanish, two at least, their DNAT entries stay",
		Rule: "service-down", Kind: "service", target: targetService, churn: true, pods: 2},
	{Name: "reader-hung", Summary: "a peer application stops reading",
		Rule: "peer-not-reading", Kind: "client", target: targetClient, message: 4096}, // fills a window within seconds
	{Name: "client-gone", Summary: "one client network vanishes",
		Rule: "client-gone", Kind: "client", target: targetClient},
	{Name: "front-gone", Summary: "everything before a node vanishes while the node and its agent live",
		Rule: "front-gone", Kind: "unknown", target: targetVictim},
	{Name: "pmtu", Summary: "full-size segments vanish through a node, small ones pass",
		Rule: "pmtu-blackhole", Kind: "node", target: targetVictim, push: 4096},
	{Name: "pmtu-gone", Summary: "full-size segments vanish through a node, which loses power later",
		Rule: "node-gone", Kind: "node", target: targetVictim, push: 4096},
	{Name: "idle-expired", Summary: "conntrack forgets idle connections, which then speak",
		Rule: "idle-expired", Kind: "node", target: targetVictim},
	{Name: "uplink", Summary: "the pods' own node loses its uplink",
		Rule: "local-node", Kind: "local_node", target: targetHome},
	{Name: "mobile-clients", Summary: "single clients vanish all the time, as they do", churn: true, faithful: true, mobile: true},
	{Name: "drain", Summary: "a node is drained as it should be: cordon, out of the balancer, connections end", target: targetVictim, churn: true, faithful: true},
	{Name: "rolling", Summary: "nodes restart one after another with drains, under load", churn: true, faithful: true},
	{Name: "window-invalid", Summary: "segments beyond the window are INVALID to the client's own node, reach the client untranslated, who resets them",
		Kind: Nobody, May: true, target: targetCaller, inside: true},
	{Name: "address-reused", Summary: "a node dies and is deleted, a new one gets its address while old sockets hang",
		Rule: "node-gone", Kind: "node", Ends: true, target: targetVictim, heir: true, routed: true, downFor: 6 * time.Second},
	{Name: "returns-elsewhere", Summary: "a node dies, another is drained, restarts and comes back under the dead one's address",
		Rule: "node-gone", Kind: "node", Ends: true, target: targetVictim, second: true, faithful: true, routed: true},
	{Name: "peered-range", Summary: "pods of a peered cluster, with addresses of a node's pod range, fall silent",
		Kind: Nobody, target: targetPeers, peered: true, routed: true},
	{Name: "quick-reboot", Summary: "a node loses power and is back in a second; what it can pick up in mid-stream goes on, the rest is reset",
		Rule: "node-rebooted", Kind: "node", Ends: true, target: targetVictim, keeps: true, routed: true, downFor: time.Second},
	{Name: "one-way", Summary: "everything from the pods to a node is lost, what it sends arrives",
		Kind: Nobody, target: targetVictim, routed: true},
	{Name: "uplink-returns", Summary: "the pods' own node loses its uplink and has it back 8 s later",
		Rule: "local-node", Kind: "local_node", Ends: true, target: targetHome, downFor: 8 * time.Second},
	{Name: "backend-node", Summary: "a node loses power with pods that others have connections to by a cluster address",
		Rule: "node-gone", Kind: "node", target: targetVictim, inside: true, spread: true, pods: 4},
	{Name: "egress-node", Summary: "a node by which pods' connections leave the cluster, masqueraded, loses power",
		Rule: "node-gone", Kind: "node", target: targetVictim, inside: true, outside: true, egress: true, routed: true},
	{Name: "partial-backend", Summary: "one of the servers behind an address outside falls silent, the others go on",
		Kind: Nobody, target: targetOutside, inside: true, outside: true, balanced: true, routed: true},
	{Name: "outside-idle", Summary: "a balancer outside forgets silent connections, which then speak to nobody",
		Kind: Nobody, target: targetOutside, inside: true, outside: true, balanced: true, forgets: true, routed: true},
	{Name: "own-node-idle", Summary: "conntrack of the clients' own node forgets idle connections to a cluster address, which then speak",
		Rule: "idle-expired", Kind: "node", target: targetCaller, inside: true, pods: 4},
	{Name: "floating-address", Summary: "the address that a node masquerades by moves to another node, both live",
		Kind: Nobody, May: true, target: targetFloating, floating: true, second: true, routed: true},
	{Name: "pod-address-reused", Summary: "the backend pod dies, a new one gets its address and resets what was the old one's",
		Kind: Nobody, May: true, target: targetPod, Ends: true},
}

// Scenarios returns all scenarios in the order of the contract.
func Scenarios() []Scenario { return slices.Clone(scenarios) }

func findScenario(name string) (Scenario, error) {
	var names []string
	for _, s := range scenarios {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, usage("no scenario %q: there are %s", name, strings.Join(names, ", "))
}
