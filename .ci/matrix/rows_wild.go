package main

// wildRows are the faults that are not the node in the middle's, or whose addresses are not one thing from first to last. Each run
// is looked at with all agents and the API, with one agent, and with no inventory; -short has three runs of each.
func wildRows() []row {
	var all []row
	for _, r := range []row{
		{scenario: "window-invalid", want: noNode(true)},
		{scenario: "address-reused", want: ended("node-gone")},
		{scenario: "returns-elsewhere", want: ended("node-gone")},
		{scenario: "peered-range", want: noNode(false), most: 1},
		{scenario: "quick-reboot", want: ended("node-rebooted")},
		{scenario: "one-way", want: noNode(false), most: 1},
		{scenario: "uplink-returns", args: []string{"--connections", "30"}, want: cutOff, most: 1},
		{scenario: "uplink-returns", args: []string{"--connections", "600"}, want: cutOff, most: 1},
		{scenario: "backend-node", want: node("node-gone"), most: 1},
		{scenario: "egress-node", want: node("node-gone"), most: 1},
		{scenario: "partial-backend", want: noNode(false), most: 1},
		{scenario: "outside-idle", want: noNode(false), most: 1},
		{scenario: "own-node-idle", want: node("idle-expired")},
		{scenario: "floating-address", want: noNode(true)},
		{scenario: "pod-address-reused", want: noNode(true)},
	} {
		// Whoever is named wrongly late is named wrongly: each runs to its end.
		r.args = append(r.args, "--whole", "--fault-after", "4s", "--duration", "19s")
		r.runs, r.short = often, some
		r.vantages = []vantage{oneAgent(r.scenario), {name: "no inventory", noInventory: true}}
		all = append(all, r)
	}
	return all
}

// oneAgent is the view of the node of those who are hurt, and what can be known there.
func oneAgent(scenario string) vantage {
	v := vantage{name: "one agent", one: "pods"}
	switch scenario {
	case "window-invalid", "backend-node", "egress-node", "partial-backend", "outside-idle", "own-node-idle", "pod-address-reused":
		v.one = "caller"
	}
	switch scenario {
	case "egress-node":
		v.want = noNode(false) // nobody there knows by which node what leaves the cluster leaves it
	case "uplink-returns":
		// Either the own uplink, or everybody else at once: there is no other witness.
		v.want, v.any = append(noNode(true), verdict{rule: "local-node", kind: "local_node", may: true, ends: true}), true
	case "floating-address":
		// The victim's own connections hang, and nothing that is seen there is a sign of its life: the hedge is right.
		v.want = append(noNode(true), verdict{rule: "node-gone", kind: "node", sure: "inferred", other: true, may: true, ends: true})
	case "quick-reboot":
		// Where the node was away too shortly for its silence to be a case, its resets are told by nobody there: what is lost
		// shows as losses only.
		v.want = []verdict{{rule: "node-rebooted", kind: "node", may: true, ends: true}}
	}
	return v
}

// noNode is the verdict that names no node; with may, silence is right too.
func noNode(may bool) []verdict { return []verdict{{kind: nobody, may: may, ends: true}} }

// ended is a node's verdict whose trouble may be over by the end.
func ended(rule string) []verdict { return []verdict{{rule: rule, kind: "node", ends: true}} }

var cutOff = []verdict{{rule: "local-node", kind: "local_node", ends: true}}
