package prom

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Scrape is what is told beside the counters. What a process does not have stays nil.
type Scrape struct {
	Build    event.Build
	Counters *Counters
	Snapshot *model.Snapshot // of a process that folds
	Publish  *Publish        // of an agent with a hub
	Stream   *Stream         // of a hub
}

// Publish is what an agent knows of its way to the hub.
type Publish struct {
	Connected     bool
	Facts, Ledger Box
	Entries       int // of the ledger
}

// Box is one subject's events.
type Box struct {
	Acked, Dropped uint64
	Bytes          int
}

// Stream is what a hub knows of the stream.
type Stream struct {
	Messages, Duplicate, Bad, Shifted, Refused, Recalled uint64
	Foreign                                              uint64 // messages
	Trouble                                              bool
	Breaks                                               map[string]uint64        // by stream: facts, ledger, incidents
	Claims, Over                                         map[string]uint64        // by node
	Skews                                                map[string]event.Seconds // by node
	Reach                                                map[string]Reach         // of the streams: facts, ledger
}

// Reach is how far back a stream goes.
type Reach struct {
	Span         time.Duration
	Bytes, Limit uint64
	Cut          bool // by the limit on its size, before its age
}

// Write writes the text format of Prometheus, version 0.0.4. The output is sorted, so that two scrapes can be compared.
func (s *Scrape) Write(w io.Writer) error {
	o := &out{w: w}
	values := s.collect()
	for _, m := range Metrics() {
		if !s.has(&m) {
			continue
		}
		o.head(&m)
		if m.Kind == Histogram {
			o.histogram(m.Name, s.Counters)
			continue
		}
		o.series(&m, values[m.Name])
	}
	return o.err
}

// has says whether this process tells a metric at all.
func (s *Scrape) has(m *Metric) bool {
	switch m.From {
	case "hub":
		return s.Snapshot != nil
	case "agent":
		return s.Snapshot == nil
	}
	return true
}

// samples are the values of one metric by its labels' values, joined with a zero byte.
type samples map[string]float64

func key(labels ...string) string { return strings.Join(labels, "\x00") }

func (s *Scrape) collect() map[string]samples {
	v := make(map[string]samples)
	set := func(name string, value float64, labels ...string) {
		m := v["midhop_"+name]
		if m == nil {
			m = make(samples)
			v["midhop_"+name] = m
		}
		m[key(labels...)] += value
	}
	set("build_info", 1, s.Build.Version, s.Build.Commit)
	s.counters(set)
	if s.Snapshot != nil {
		s.snapshot(set)
	}
	if p := s.Publish; p != nil {
		set("hub_connected", float64(model01(p.Connected)))
		set("ledger_entries", float64(p.Entries))
		for stream, b := range map[string]Box{"facts": p.Facts, "ledger": p.Ledger} {
			set("publish_events_total", float64(b.Acked), stream, "acknowledged")
			set("publish_events_total", float64(b.Dropped), stream, "dropped")
			set("publish_buffer_bytes", float64(b.Bytes), stream)
		}
	}
	if t := s.Stream; t != nil {
		set("stream_messages_total", float64(t.Messages-t.Duplicate), "folded")
		set("stream_messages_total", float64(t.Duplicate), "duplicate")
		set("stream_messages_total", float64(t.Bad), "bad")
		set("stream_messages_total", float64(t.Shifted), "shifted")
		set("stream_refused_total", float64(t.Refused))
		set("stream_foreign_total", float64(t.Foreign))
		set("stream_trouble", float64(model01(t.Trouble)))
		for _, name := range allStreams {
			set("stream_breaks_total", float64(t.Breaks[name]), name)
		}
		for node, n := range t.Claims {
			set("agent_claims_refused_total", float64(n), node)
		}
		for node, n := range t.Over {
			set("stream_over_quota_events_total", float64(n), node)
		}
		set("recalled_total", float64(t.Recalled))
		for _, name := range streamNames {
			r := t.Reach[name]
			set("stream_reach_seconds", r.Span.Seconds(), name)
			set("stream_bytes", float64(r.Bytes), name)
			set("stream_limit_bytes", float64(r.Limit), name)
			set("stream_cut", float64(model01(r.Cut)), name)
		}
		for node, skew := range t.Skews {
			set("agent_clock_offset_seconds", skew.Duration().Seconds(), node)
		}
	}
	return v
}

func model01(b bool) int {
	if b {
		return 1
	}
	return 0
}

// standing sets what one source stands on: what midhop doctor shows.
func standing(b *event.Started, set setter) {
	for _, p := range b.Probes {
		if !slices.Contains(facts, p.Fact) {
			continue
		}
		rung := p.Rung
		if rung == "" {
			rung = "none"
		}
		set("probe_attached", 1, p.Fact, oneOf(rungs, rung))
		set("probes", 1, p.Fact, oneOf(rungs, rung))
		set("probes_precise", float64(model01(p.Precise)), p.Fact)
		set("probes_fired", float64(model01(p.Fired)), p.Fact)
	}
	for _, m := range b.Machine {
		set("machines_limited", float64(model01(m.Note != "")), oneOf(checks, m.Name))
	}
}

type setter func(name string, value float64, labels ...string)

func (s *Scrape) counters(set setter) {
	c := s.Counters
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	for t, n := range c.types {
		set("events_total", float64(n), t)
	}
	for stage, n := range c.lost {
		set("events_lost_total", float64(n), stage)
	}
	for op, n := range c.ops {
		set("nat_events_total", float64(n), op)
	}
	for role, n := range c.retrans {
		set("tcp_retransmits_total", float64(n), role)
	}
	for rule, n := range c.incidents {
		set("incidents_total", float64(n), rule)
	}
	set("tcp_stalls_total", float64(c.stalls))
	set("tcp_recoveries_total", float64(c.recovered))
	set("tcp_timeouts_total", float64(c.timeouts))
	for _, b := range c.probes {
		standing(b, set)
	}
	for node, t := range c.tables {
		set("conntrack_entries", float64(t.Entries), node)
		set("conntrack_limit", float64(t.Max), node)
		for why, n := range map[string]uint64{"drop": t.Drop, "early_drop": t.EarlyDrop, "insert_failed": t.InsertFailed, "invalid": t.Invalid} {
			set("conntrack_drops_total", float64(n), node, why)
		}
	}
}

func (s *Scrape) snapshot(set setter) {
	t := s.Snapshot.Totals
	setStates := func(name string, sockets, atRisk, stalled, presumed int, labels ...string) {
		for state, n := range map[string]int{"healthy": sockets - atRisk - stalled - presumed, "at_risk": atRisk, "stalled": stalled, "presumed": presumed} {
			set(name, float64(n), append(labels[:len(labels):len(labels)], state)...)
		}
	}
	setStates("sockets", t.Sockets, t.AtRisk, t.Stalled, t.Presumed)
	nodes := 0
	for i := range s.Snapshot.Vias {
		r := &s.Snapshot.Vias[i]
		if r.Kind != model.KindNode { // the names of other rows are addresses, or stand for many
			continue
		}
		if nodes++; nodes > maxNodes {
			continue
		}
		setStates("path_sockets", r.Sockets, r.AtRisk, r.Stalled, r.Presumed, r.Via)
		set("nat_mappings", float64(r.Clients), r.Via)
		if !r.First.IsZero() {
			set("sockets_min_deadline_seconds", max(0, r.First.Sub(s.Snapshot.Clock).Seconds()), r.Via)
		}
	}
	set("nodes_left_out", float64(max(0, nodes-maxNodes)))
	for i := range s.Snapshot.Incidents {
		if in := &s.Snapshot.Incidents[i]; !in.Closed.OK {
			set("incidents_open", 1, oneOf(rules, in.Rule), string(in.Severity))
		}
	}
	for _, a := range s.Snapshot.Agents {
		if a.Silent {
			set("agents", 1, "silent")
		} else {
			set("agents", 1, "heard")
		}
	}
}

// out writes lines and keeps the first error.
type out struct {
	w   io.Writer
	err error
}

func (o *out) printf(format string, args ...any) {
	if o.err == nil {
		_, o.err = fmt.Fprintf(o.w, format, args...)
	}
}

func (o *out) head(m *Metric) {
	o.printf("# HELP %s %s\n# TYPE %s %s\n", m.Name, m.Help, m.Name, m.Kind)
}

// series writes every combination of the closed sets, and of open ones what there is.
func (o *out) series(m *Metric, have samples) {
	keys := []string{}
	closed := true
	for _, l := range m.Labels {
		closed = closed && len(l.Values) > 0
	}
	if closed {
		keys = append(keys, "")
		for i, l := range m.Labels {
			var next []string
			for _, k := range keys {
				for _, v := range l.Values {
					if i == 0 {
						next = append(next, v)
					} else {
						next = append(next, k+"\x00"+v)
					}
				}
			}
			keys = next
		}
	} else {
		for k := range have {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		o.printf("%s%s %s\n", m.Name, labelText(m.Labels, k), number(have[k]))
	}
}

func labelText(labels []Label, k string) string {
	if len(labels) == 0 {
		return ""
	}
	var b strings.Builder
	for i, v := range strings.Split(k, "\x00") {
		b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(&b, `%s="%s"`, labels[i].Name, escape.Replace(v))
	}
	b.WriteByte('}')
	return b.String()
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func (o *out) histogram(name string, c *Counters) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := uint64(0)
	for i, le := range buckets {
		sum += c.buckets[i]
		o.printf("%s_bucket{le=\"%s\"} %d\n", name, number(le), sum)
	}
	sum += c.buckets[len(buckets)]
	o.printf("%s_bucket{le=\"+Inf\"} %d\n%s_sum %s\n%s_count %d\n", name, sum, name, number(c.stalled), name, sum)
}

// ContentType is what to serve the text as.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"
