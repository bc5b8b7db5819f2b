package lab

import (
	"slices"
	"strings"
)

// Scenario is a fault, or none, and the verdict that midhop must come to.
type Scenario struct {
	Name    string
	Summary string // what the lab does, in one line
	Rule    string // the expected rule, empty for none
	Kind    string // the expected culprit's kind, as in event.CulpritKind, empty for none
	Second  string // the expected rule of a second node, where two are hit

	target   targetKind
	direct   bool // the balancer speaks to the pods themselves
	message  int  // bytes of a message, where an ordinary chat's would not do
	push     int  // bytes of every other talking connection's messages from the service, where they differ
	churn    bool // all the time new clients come, and go again
	faithful bool // clients connect again when a connection ends
	mobile   bool // outside clients are each in a network of their own
	proxy    bool // an HTTP balancer stands before the service too
	pods     int  // behind the service at least
}

// targetKind says what a scenario's fault hits, so that the plan can name it.
type targetKind int

const (
	targetNone    targetKind = iota
	targetVictim             // the node that --victim names
	targetHome               // the node that the pods live on
	targetPod                // the first pod of the service
	targetClient             // the clients' network
	targetService            // the service
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

// Verdict is one thing that midhop should conclude.
type Verdict struct {
	Rule string // the rule, as its last update names it
	Kind string // the culprit's kind, as in event.CulpritKind
	Name string // the culprit's name
}

// expected names the verdicts for a plan, none where the right answer is that nothing is wrong.
func (s Scenario) expected(p *plan, noFault bool) []Verdict {
	if noFault || s.Rule == "" {
		return nil
	}
	out := []Verdict{{Rule: s.Rule, Kind: s.Kind, Name: s.targetName(p)}}
	if s.Second != "" {
		out = append(out, Verdict{Rule: s.Second, Kind: s.Kind, Name: p.Nodes[p.Second].Name})
	}
	return out
}

// targetName is the name of what the fault hits, empty where there is nothing to hit.
func (s Scenario) targetName(p *plan) string {
	switch s.target {
	case targetVictim:
		return p.Nodes[p.Victim].Name
	case targetHome:
		return p.Nodes[p.Home].Name
	case targetPod:
		return p.Pods[0].Namespace + "/" + p.Pods[0].Name
	case targetClient:
		return p.External.Prefix.String()
	case targetService:
		return p.Service.Namespace + "/" + p.Service.Name
	}
	return ""
}
