// Package tracer is the Engine: the river that carries facts from sources through one model and its judge to sinks, and
// the owner of the clock. It must not know where facts come from, how they are shown, or what Kubernetes is.
//
//	kernel probes ──ring──> source/kernel ───┐                 ┌─> export/jsonl   NDJSON
//	sockets of all netns ─> source/sockets ──┤                 ├─> export/prom    reads a Snapshot at scrape
//	ctnetlink ────────────> source/conntrack ┼─> tracer.Engine ┼─> fleet          agents to hub
//	Kubernetes API ───────> source/kube ─────┤   model  (fold) └─> report, ui     read a Snapshot, at most 4 Hz
//	nodes file ───────────> source/nodefile ─┤   diagnose
//	file, pipe, stdin ────> source/stream ───┤
//	other nodes ──────────> fleet ───────────┤
//	timer (time only) ───────────────────────┘
//
// Live watching, replay, tests, the lab and a fleet are the same code path: only the sources differ.
//
// # The rooms
//
//   - event: the vocabulary, every fact and finding as a plain value.
//   - model: the fold. Sockets, NAT ledger, inventory, hops; takes its time from facts.
//   - diagnose: the judge. What stalls have in common, what happened to it, what to do.
//   - source/...: where facts come from; each has Run(ctx, emit).
//   - report, export/..., fleet: where events and snapshots go.
//
// # The clock
//
// Time is the largest time of any written line. Judgement happens at instants of a grid of that time ([DefaultTick]) and
// is a function of the folded facts, the instant, and what was found before; an instant that finds nothing changes
// nothing. Live, a timer judges what is due when no line does, and the Engine then writes clock lines so that the lines
// alone reproduce every judgement. A recording replayed, with all findings removed, gives equal findings.
//
// # Words of our own
//
//   - via: the node that a connection crosses between the client's network and the pod.
//   - stall: a socket that sends, or probes, and gets no answer.
//   - census: one look at all sockets of a machine.
//   - ledger: the NAT entries of all nodes that are heard, by what the pod sees of them.
//   - rung: one of several ways to obtain a fact, from the most precise down.
//
// # Who may import whom
//
// imports_test.go holds the table and walks the package graph. In short: event knows nobody; model and diagnose know
// event and the standard library; the Engine knows these three; screens and reports know event and model; each foreign
// library has one home.
package tracer
