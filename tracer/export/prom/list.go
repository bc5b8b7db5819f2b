package prom

import (
	"fmt"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// Kind is a metric's type.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Label is one label of a metric.
type Label struct {
	Name   string
	Values []string // all that there are; nil: names of nodes, at most [maxNodes]
}

// Metric describes one metric.
type Metric struct {
	Name   string
	Kind   Kind
	Help   string
	Labels []Label
	From   string // agent, hub, or both: which process has it
}

// maxNodes bounds the series of metrics by node. More are left out, and counted.
const maxNodes = 10_000

// other is the value of a label for what its closed set does not hold.
const other = "other"

// The closed sets.
var (
	roles      = []string{"entry", "egress", "local", "pod", "direct", "unknown"}
	severities = []string{string(event.Critical), string(event.Warning), string(event.Info)}
	rules      = []string{
		"client-gone", "conntrack-full", "front-gone", "idle-expired", "local-node", "nat-lost", "node-gone", "node-lossy", "node-rebooted",
		"peer-not-reading", "peer-unreachable", "pmtu-blackhole", "pod-gone", "service-down", "snat-exhausted", "unexplained", "vip-moved", other,
	}
	stages = []string{
		"encode", "file", "fleet.batch", "fleet.gap", "fleet.line", "fleet.quota", "fold.time", "head", "kube", "line", "model", "netlink", "publish.facts",
		"publish.hub", "publish.ledger", "publish.nat", "ring", "sink", "stream", other,
	}
	facts = []string{"retransmit", "error", "reset", "state", "probe", "sockets", "nat", "recovery", "reset_sent"}
	rungs = []string{
		"tp_btf", "raw_tp", "fentry", "fexit", "state", "kprobe", "kprobe.multi", "sk_storage", "marks", "task_file", "task_file.cast", "sockfs", "sock_diag", "census",
		"ctnetlink", "none", other,
	}
	checks = []string{
		"capabilities", "lockdown", "btf", "kprobes", "pid namespace", "network namespace", "conntrack", "dataplane", "limits", other,
	}
	states = []string{"healthy", "at_risk", "stalled", "presumed"}
	ops    = []string{"found", "created", "destroyed", "recalled"}
	drops  = []string{"drop", "early_drop", "insert_failed", "invalid"}

	streamNames = []string{"facts", "ledger"}
	allStreams  = []string{"facts", "ledger", "incidents"}
)

func types() []string {
	var out []string
	for _, t := range event.Types() {
		out = append(out, t.String())
	}
	return append(out, other)
}

// buckets of tcp_stall_duration_seconds: from what a user notices to the quarter of an hour after which the kernel gives
// up (tcp_retries2 of 15).
var buckets = []float64{0.5, 1, 2, 5, 10, 30, 60, 150, 300, 600, 1000}

// Metrics returns every metric there is, by name.
func Metrics() []Metric {
	node := []Label{{Name: "node"}}
	via := []Label{{Name: "via_node"}}
	list := []Metric{
		{"midhop_build_info", Gauge, "Always 1; the version is a label.", []Label{{Name: "version", Values: []string{}}, {Name: "commit", Values: []string{}}}, "both"},
		{"midhop_events_total", Counter, "Events that passed, by type.", []Label{{"type", types()}}, "both"},
		{"midhop_events_lost_total", Counter, "Events that are known to be lost, by the stage that lost them.", []Label{{"stage", stages}}, "both"},
		{"midhop_probe_attached", Gauge, "1 for the rung that serves a fact on this machine; none where nothing does.", []Label{{"fact", facts}, {"rung", rungs}}, "agent"},
		{"midhop_probes", Gauge, "Agents by the rung that serves a fact.", []Label{{"fact", facts}, {"rung", rungs}}, "hub"},
		{"midhop_probes_precise", Gauge, "Machines whose rung for a fact is the best one: nothing is missed and times are exact.", []Label{{"fact", facts}}, "both"},
		{"midhop_probes_fired", Gauge, "Machines whose rung for a fact was seen to do its work at the start, not only to be attached.", []Label{{"fact", facts}}, "both"},
		{"midhop_machines_limited", Gauge, "Machines of which midhop doctor says that a circumstance costs sight.", []Label{{"check", checks}}, "both"},
		{"midhop_nat_events_total", Counter, "Facts about translated connections.", []Label{{"op", ops}}, "both"},
		{"midhop_tcp_retransmits_total", Counter, "Retransmissions told, by what the node in the middle does.", []Label{{"via_role", roles}}, "hub"},
		{"midhop_tcp_stalls_total", Counter, "Sockets that stalled.", nil, "hub"},
		{"midhop_tcp_recoveries_total", Counter, "Stalled sockets that made progress again.", nil, "hub"},
		{"midhop_tcp_timeouts_total", Counter, "Stalled sockets that the kernel gave up.", nil, "hub"},
		{"midhop_tcp_stall_duration_seconds", Histogram, "How long recovered sockets had stalled.", nil, "hub"},
		{"midhop_sockets", Gauge, "Live connections, by state; the states are disjoint.", []Label{{"state", states}}, "hub"},
		{"midhop_path_sockets", Gauge, "Live connections that cross a node, by state.", append(slices.Clone(via), Label{"state", states}), "hub"},
		{"midhop_sockets_min_deadline_seconds", Gauge, "Until the first socket in trouble through a node gives up; absent where none is known.", via, "hub"},
		{"midhop_nat_mappings", Gauge, "Connections through a node whose client is known.", via, "hub"},
		{"midhop_conntrack_entries", Gauge, "Entries in a node's conntrack table.", node, "both"},
		{"midhop_conntrack_limit", Gauge, "Most entries that a node's conntrack table takes.", node, "both"},
		{"midhop_conntrack_drops_total", Counter, "What a node's conntrack table refused, since its start.", append(slices.Clone(node), Label{"why", drops}), "both"},
		{"midhop_incidents_open", Gauge, "Open incidents.", []Label{{"rule", rules}, {"severity", severities}}, "hub"},
		{"midhop_incidents_total", Counter, "Incidents opened.", []Label{{"rule", rules}}, "hub"},
		{"midhop_agents", Gauge, "Agents heard, and silent for 2.5 heartbeats.", []Label{{"state", []string{"heard", "silent"}}}, "hub"},
		{"midhop_agent_clock_offset_seconds", Gauge, "The hub's clock minus a node's.", node, "hub"},
		{"midhop_stream_messages_total", Counter, "Batches read from the stream of facts.", []Label{{"fate", []string{"folded", "duplicate", "bad", "shifted"}}}, "hub"},
		{"midhop_stream_refused_total", Counter, "Events that their publisher had no business to tell.", nil, "hub"},
		{"midhop_stream_foreign_total", Counter, "Messages in the streams that were passed over: of nobody who may tell anything there, without a proof that a hub wrote them, or not to be read.", nil, "hub"},
		{"midhop_stream_over_quota_events_total", Counter, "Events above the quota of the agent that told them: they are not folded.", node, "hub"},
		{"midhop_agent_claims_refused_total", Counter, "Addresses that a node's agent claims and the inventory gives to another node: somebody lies, or two nodes have one address.", node, "hub"},
		{"midhop_stream_breaks_total", Counter, "Times that a stream was removed, made anew, emptied or thinned out beneath the hub.", []Label{{"stream", allStreams}}, "hub"},
		{"midhop_stream_trouble", Gauge, "1 while a stream cannot be read, and for a minute after something befell one.", nil, "hub"},
		{"midhop_stream_reach_seconds", Gauge, "How far back a stream goes; 0 until it was looked at.", []Label{{"stream", streamNames}}, "hub"},
		{"midhop_stream_bytes", Gauge, "What a stream holds.", []Label{{"stream", streamNames}}, "hub"},
		{"midhop_stream_limit_bytes", Gauge, "The most that a stream may hold: --max-size.", []Label{{"stream", streamNames}}, "hub"},
		{"midhop_stream_cut", Gauge, "1 where a stream goes less far back than its 2 hours because of the limit on its size. See known-issues.md for the size to set.", []Label{{"stream", streamNames}}, "hub"},
		{"midhop_recalled_total", Counter, "Entries read back from ledgers.", nil, "hub"},
		{"midhop_publish_events_total", Counter, "Events given to the stream, by what became of them.", []Label{{"stream", streamNames}, {"fate", []string{"acknowledged", "dropped"}}}, "agent"},
		{"midhop_publish_buffer_bytes", Gauge, "Compressed bytes that wait for the hub.", []Label{{"stream", streamNames}}, "agent"},
		{"midhop_ledger_entries", Gauge, "Translated connections with both ends elsewhere.", nil, "agent"},
		{"midhop_hub_connected", Gauge, "1 while the connection to the hub stands.", nil, "agent"},
		{"midhop_nodes_left_out", Gauge, "Nodes without series because there are too many.", nil, "hub"},
	}
	slices.SortFunc(list, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// stageOf brings a stage into the closed set: by itself, or by what stands before its first dot.
func stageOf(stage string) string {
	if slices.Contains(stages, stage) {
		return stage
	}
	if head, _, _ := strings.Cut(stage, "."); slices.Contains(stages, head) {
		return head
	}
	return other
}

func oneOf(set []string, value string) string {
	if slices.Contains(set, value) {
		return value
	}
	return other
}

// Markdown is the page that documents the metrics.
func Markdown() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\nGenerated by `go generate ./tracer/export/prom`; do not edit.\n\n" +
		"Agents and the hub serve them at `/metrics`, on loopback unless told otherwise. No metric holds an address, a port or a\nclient; " +
		"labels have closed sets of values, all of them there from the start, or are names of nodes.\n\n" +
		"| metric | kind | from | labels | what |\n|---|---|---|---|---|\n")
	for _, m := range Metrics() {
		var labels []string
		for _, l := range m.Labels {
			switch {
			case l.Values == nil:
				labels = append(labels, "`"+l.Name+"` (a node)")
			case len(l.Values) == 0:
				labels = append(labels, "`"+l.Name+"`")
			default:
				labels = append(labels, "`"+l.Name+"` ("+strings.Join(l.Values, ", ")+")")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Kind, m.From, strings.Join(labels, "; "), m.Help)
	}
	return b.String()
}
