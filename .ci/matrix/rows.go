package main

import (
	"slices"
	"strings"
	"time"
)

// row is one way to run the lab, and the verdict it must come to.
type row struct {
	scenario string
	args     []string
	runs     int
	want     []verdict     // none: nothing may be found
	sure     string        // how sure the culprit has to be, where that is part of the verdict
	within   time.Duration // from the fault to the name, for 95 of 100 runs; 0: no bound
	fixed    bool          // the victim is the first node, as the other arguments want it
	any      bool          // one of the verdicts that need not be found has to be
	most     int           // incidents that the one cause may open; 0: no bound
	short    int           // runs with -short; 0: a third
	vantages []vantage     // from where each run is looked at beside
}

// verdict is a rule and the kind of its culprit. The culprit's name is the fault's target where nothing else is said.
type verdict struct {
	rule, kind string // no rule: any
	other      bool   // it is another node than the fault's target
	may        bool   // need not be found
	sure       string // allowed only where it is said to be so sure; empty: however sure
	ends       bool   // may be closed by the end
}

// nobody is the kind of a verdict that names no node, whatever else it names.
const nobody = "nobody"

func (v verdict) String() string {
	rule := v.rule
	if rule == "" {
		rule = "anything"
	}
	if v.may {
		rule = "perhaps " + rule
	}
	return rule + ", " + strings.TrimSpace(v.sure+" "+v.kind)
}

func (r row) name() string {
	name := r.scenario
	for _, a := range r.args {
		name += " " + a
	}
	return name
}

func node(rule string) []verdict { return []verdict{{rule: rule, kind: "node"}} }

// How often rows are run: those that the product stands and falls with, and the rest.
const (
	often = 10
	some  = 3
)

// rows is the matrix: every scenario, and the first ones in every form of a cluster.
func rows() []row {
	all := []row{
		{scenario: "healthy", runs: often},
		{scenario: "direct", runs: often},
		// The figure that midhop promises: a second, at the default rate of talk.
		{scenario: "node-gone", runs: often, want: node("node-gone"), within: time.Second},
		// On a machine where many namespaces come and go, a node may take much longer than its 5 s to be back.
		{scenario: "node-rebooted", args: []string{"--duration", "60s"}, runs: often, want: node("node-rebooted")},
		{scenario: "nat-lost", runs: often, want: node("nat-lost")},
		{scenario: "vip-moved", runs: some, want: []verdict{{rule: "vip-moved", kind: "service"}}},
		{scenario: "node-lossy", runs: some, want: node("node-lossy")},
		{scenario: "table-full", runs: some, want: node("conntrack-full")},
		{scenario: "ports-exhausted", runs: some, want: node("snat-exhausted")},
		{scenario: "http-502", runs: some, want: node("node-gone")},
		{scenario: "two-nodes", args: []string{"--duration", "60s"}, runs: some, want: []verdict{{rule: "node-gone", kind: "node"}, {rule: "node-lossy", kind: "node", other: true}}},
		{scenario: "pod-gone", runs: some, want: []verdict{{rule: "pod-gone", kind: "pod"}}},
		{scenario: "service-down", runs: some, want: []verdict{{rule: "service-down", kind: "service"}}},
		{scenario: "reader-hung", runs: some, want: []verdict{{rule: "peer-not-reading", kind: "client"}}},
		{scenario: "client-gone", runs: some, want: []verdict{{rule: "client-gone", kind: "client"}}},
		{scenario: "front-gone", runs: some, want: []verdict{{rule: "front-gone", kind: "unknown"}}},
		{scenario: "pmtu", runs: some, want: node("pmtu-blackhole")},
		{scenario: "pmtu-gone", runs: some, want: node("node-gone")},
		{scenario: "idle-expired", runs: some, want: node("idle-expired")},
		{scenario: "uplink", runs: some, want: []verdict{{rule: "local-node", kind: "local_node"}}},
		{scenario: "mobile-clients", runs: often},
		{scenario: "drain", runs: often},
		{scenario: "rolling", runs: often, args: []string{"--duration", "60s"}},
		// The usual first look: only the machine of the pods has an agent.
		{
			scenario: "node-gone", args: []string{"--agents", "2"}, runs: some, want: node("node-gone"),
			sure: "inferred", within: 2 * time.Second, fixed: true,
		},
		// The same with leave to ask: an answer rules the node out, silence proves its death. The proof comes after the name.
		{
			scenario: "node-gone", args: []string{"--agents", "2", "--ask", "--whole", "--duration", "18s"}, runs: some,
			want: node("node-gone"), sure: "proved", fixed: true,
		},
		{
			scenario: "front-gone", args: []string{"--agents", "2", "--ask"}, runs: some,
			want: []verdict{{rule: "front-gone", kind: "unknown"}}, fixed: true,
		},
	}
	for _, form := range [][]string{{"--mode", "iptables"}, {"--family", "6"}, {"--overlay", "vxlan"}} {
		for _, r := range all[1:5] {
			if r.scenario == "direct" && form[0] == "--overlay" {
				continue // a balancer cannot speak to pods inside an overlay
			}
			r.args, r.runs, r.within = slices.Concat(r.args, form), some, 0
			all = append(all, r)
		}
	}
	for _, r := range wildRows() {
		if !slices.Contains(awaited, r.scenario) {
			all = append(all, r)
		}
	}
	return all
}

// awaited are scenarios whose verdict does not come yet: '-row' runs them all the same.
var awaited = []string{"one-way", "uplink-returns"}
