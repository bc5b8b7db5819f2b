package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// NodeFields are the columns of the nodes screen for the vias of a snapshot: what hurts stands left, DOOMED before STALL.
func NodeFields(s *model.Snapshot) []Field[model.ViaRow] {
	total := s.Totals.Sockets
	number := func(n int, c Class) Text {
		if n == 0 {
			return Text{"0", Muted}
		}
		return Text{Count(n), c}
	}
	fields := []Field[model.ViaRow]{
		{Column{Key: "via", Title: "VIA", Width: 12, Max: 44, Name: true}, func(_ Context, r *model.ViaRow) Text {
			return Text{r.Via, viaClass(r)}
		}},
		{Column{Key: "kind", Title: "KIND", Width: 7, Rank: 6}, func(_ Context, r *model.ViaRow) Text {
			return Text{string(r.Kind), Muted}
		}},
		{Column{Key: "sockets", Title: "SOCKETS", Width: 7, Right: true}, func(_ Context, r *model.ViaRow) Text {
			return Text{S: Count(r.Sockets)}
		}},
		{Column{Key: "share", Title: "SHARE", Width: 5, Right: true, Rank: 7}, func(_ Context, r *model.ViaRow) Text {
			return Text{Percent(r.Sockets, total), Muted}
		}},
		{Column{Key: "risk", Title: "RISK", Width: 5, Right: true, Rank: 4}, func(_ Context, r *model.ViaRow) Text {
			return number(r.AtRisk, Warn)
		}},
		{Column{Key: "doomed", Title: "DOOMED", Width: 6, Right: true}, func(_ Context, r *model.ViaRow) Text {
			return number(r.Doomed(), Bad)
		}},
		{Column{Key: "stall", Title: "STALL", Width: 6, Right: true, Rank: 2}, func(_ Context, r *model.ViaRow) Text {
			return number(r.Stalled, Bad)
		}},
		{Column{Key: "left", Title: "LEFT", Width: 9, Right: true}, func(cx Context, r *model.ViaRow) Text {
			return viaLeft(cx, s, r)
		}},
		{Column{Key: "heard", Title: "HEARD", Width: 6, Right: true, Rank: 5}, func(cx Context, r *model.ViaRow) Text {
			if r.Sockets == 0 {
				return Text{"-", Muted}
			}
			return Text{S: cx.Ago(r.LastHeard)}
		}},
		{Column{Key: "gone_by", Title: "GONE BY", Width: 7, Right: true, Rank: 5}, func(cx Context, r *model.ViaRow) Text {
			return goneByText(cx, r.Node)
		}},
		{Column{Key: "conntrack", Title: "CONNTRACK", Width: 10, Right: true, Rank: 8}, func(_ Context, r *model.ViaRow) Text {
			return fill(r.Table)
		}},
		{Column{Key: "state", Title: "STATE", Width: 8, Rank: 3}, func(_ Context, r *model.ViaRow) Text {
			return Text{orElse(r.Status, "?"), StatusClass(r.Status)}
		}},
		{Column{Key: "node_is", Title: "NODE IS", Width: 16, Rank: 9}, func(cx Context, r *model.ViaRow) Text {
			return Text{NodeIs(cx, r.Node), Muted}
		}},
	}
	if !slices.ContainsFunc(s.Vias, func(r model.ViaRow) bool { return !GoneBy(r.Node).IsZero() }) {
		fields = slices.DeleteFunc(fields, func(f Field[model.ViaRow]) bool { return f.Key == "gone_by" })
	}
	return fields
}

// firstOf is the first deadline of a via's sockets and what it is. A row knows those of sockets in trouble; where an
// incident is open, idle ones that have not noticed may come first.
func firstOf(s *model.Snapshot, r *model.ViaRow) (time.Time, string) {
	if r.Incident == "" {
		return r.First, r.FirstIs
	}
	for i := range s.Incidents {
		v := &s.Incidents[i]
		if d := v.FirstDeadline; v.ID == r.Incident && d.OK && (r.First.IsZero() || d.V.Before(r.First)) {
			return d.V, ""
		}
	}
	return r.First, r.FirstIs
}

// viaLeft says how long until the first of its sockets gives up.
func viaLeft(cx Context, s *model.Snapshot, r *model.ViaRow) Text {
	first, is := firstOf(s, r)
	switch {
	case first.IsZero() && r.Never > 0:
		return Text{"never", Bad}
	case first.IsZero() && r.Doomed()+r.AtRisk > 0:
		return Text{"?", Muted}
	case first.IsZero():
		return Text{"-", Muted}
	}
	left := first.Sub(cx.Now)
	switch {
	case left <= 0:
		return Text{"due", Bad}
	case is == "lower_bound":
		return Text{S: ">=" + Span(left)}
	}
	return Text{S: Span(left)}
}

// ViaMark is the mark beside a row of the nodes screen; see [Mark]. A culprit is marked whatever its status says.
func ViaMark(r *model.ViaRow) Text {
	if r.Incident != "" && StatusClass(r.Status) != Bad {
		if r.Doomed() > 0 {
			return Text{"x", Bad}
		}
		return Text{"!", Warn}
	}
	return Mark(r.Status)
}

// ViaFacts says all that is known of one via, for the pane beside the table.
func ViaFacts(cx Context, s *model.Snapshot, r *model.ViaRow) []Line {
	head := Line{}.Append(Strong, r.Via)
	if r.IP.IsValid() && r.IP.String() != r.Via {
		head = head.Append(Plain, "  "+r.IP.String())
	}
	out := []Line{head}
	add := func(c Class, format string, args ...any) {
		out = append(out, Line{}.Append(c, fmt.Sprintf(format, args...)))
	}
	if r.Node.Zone != "" {
		add(Muted, "zone %s", r.Node.Zone)
	}
	add(Muted, "%s", kindWords(r.Kind))
	if is := NodeIs(cx, r.Node); is != "" {
		add(Plain, "%s", is)
	}
	if at := GoneBy(r.Node); !at.IsZero() {
		add(Warn, "gone by %s at the latest (24 h old)", cx.Time(at))
	}
	if w := readyWords(r.Node.Ready); w != "" {
		add(Plain, "%s", w)
	}
	switch r.Agent {
	case "silent":
		add(Bad, "%s", "! "+agentWords(r.Agent))
	case "heard":
		add(OK, "%s", agentWords(r.Agent))
	case "none":
		if r.Kind == model.KindNode {
			add(Muted, "%s", agentWords(r.Agent))
		}
	}
	if r.Because != "" {
		add(Muted, "known by %s", r.Because)
	}
	out = append(out, nil)
	add(Plain, "%s, %s active", plural(r.Sockets, "socket"), Count(r.Active))
	if r.Doomed()+r.AtRisk > 0 {
		add(Bad, "%s stalled, %s not noticed yet", Count(r.Stalled), Count(r.Presumed))
		add(Warn, "%s at risk", Count(r.AtRisk))
	}
	if r.TimedOut > 0 {
		add(Bad, "%s timed out", Count(r.TimedOut))
	}
	if r.Never > 0 {
		add(Bad, "%s never notice (no keepalive)", Count(r.Never))
	}
	if first, is := firstOf(s, r); !first.IsZero() {
		out = append(out, Line{}.Append(Plain, "first gives up "+lowerBound(is)+cx.Time(first)))
	}
	if !r.LastHeard.IsZero() {
		add(Plain, "last heard %s, %s ago", cx.Time(r.LastHeard), cx.Ago(r.LastHeard))
	}
	if r.Retrans > 0 {
		add(Plain, "%s sent again", plural64(r.Retrans, "segment"))
	}
	if r.Clients > 0 {
		add(Plain, "%s known", plural(r.Clients, "client"))
	}
	if f := fill(r.Table); f.S != "" {
		out = append(out, Line{}.Append(Plain, "conntrack ").Append(f.Class, f.S))
	}
	out = appendNames(out, "SERVICES", r.Services)
	return appendNames(out, "PODS", r.Pods)
}

func lowerBound(is string) string {
	if is == "lower_bound" {
		return ">= "
	}
	return ""
}

func plural64(n uint64, one string) string { return plural(int(min(n, 1<<62)), one) }

// mostNames is how many names a pane lists before it counts the rest.
const mostNames = 8

func appendNames(out []Line, title string, names []string) []Line {
	if len(names) == 0 {
		return out
	}
	out = append(out, nil, Line{{title, Head}})
	for i, name := range names {
		if i == mostNames {
			return append(out, Line{}.Append(Muted, fmt.Sprintf("  +%d", len(names)-mostNames)))
		}
		out = append(out, Line{}.Append(Plain, "  "+name))
	}
	return out
}

func kindWords(k model.ViaKind) string {
	switch k {
	case model.KindNode:
		return "another node stands in the middle"
	case model.KindLocal:
		return "translated by the sockets' own node"
	case model.KindPod:
		return "the peers are pods"
	case model.KindDirect:
		return "peers speak to the pod itself"
	case model.KindAddress:
		return "an address that no list of nodes names"
	}
	return "unknown"
}

func readyWords(ready string) string {
	switch ready {
	case "true":
		return "Ready, says the API"
	case "false":
		return "NOT Ready, says the API"
	case "unknown":
		return "Ready unknown to the API"
	}
	return ""
}

// Totals is the summary line above the table; short leaves out what only wide screens have room for.
func Totals(t model.Totals, short bool) Line {
	number := func(n int, c Class) (string, Class) {
		if n == 0 {
			c = Muted
		}
		return Count(n), c
	}
	var line Line
	join := " | "
	add := func(label string, n int, c Class) {
		if len(line) > 0 {
			line = line.Append(Muted, join)
		}
		s, c := number(n, c)
		line = line.Append(Muted, label+" ").Append(c, s)
	}
	if !short {
		add("sockets", t.Sockets, Plain)
	}
	add("crossing", t.Crossing, Plain)
	if !short {
		add("active", t.Active, Plain)
	}
	add("at-risk", t.AtRisk, Warn)
	add("DOOMED", t.Doomed(), Bad)
	add("stalled", t.Stalled, Bad)
	add("15m: timed out", t.TimedOut, Bad)
	if !short {
		join = ", "
		add("back", t.Recovered, OK)
		add("reset", t.Reset, Warn)
	}
	return line
}

// Health is the line about midhop itself: agents, probes, rate, loss and the age of the newest look. Rate is events per
// second, negative where it is not known yet; short is for screens under 100 columns.
func Health(cx Context, s *model.Snapshot, rate float64, short bool) Line {
	gap := "   "
	if short {
		gap = "  "
	}
	var line Line
	sep := func() {
		if len(line) > 0 {
			line = append(line, Text{S: gap})
		}
	}
	if heard, silent := agents(s); heard+silent > 1 || silent > 0 {
		c := Plain
		if silent > 0 {
			c = Warn
		}
		line = line.Append(c, fmt.Sprintf("%d/%d agents", heard, heard+silent))
	}
	if have, all, missing, coarse := Probes(s); all > 0 {
		sep()
		c := Plain
		if have < all {
			c = Warn
		}
		line = line.Append(c, fmt.Sprintf("probes %d/%d", have, all))
		switch {
		case short:
		case len(missing) > 0:
			line = line.Append(Warn, " (no "+firstFew(missing, 2)+")")
		case len(coarse) > 0:
			line = line.Append(Muted, " (coarse: "+firstFew(coarse, 3)+")")
		}
	}
	if rate >= 0 {
		sep()
		line = line.Append(Plain, Short(uint64(rate+0.5))+" ev/s")
	}
	lost := uint64(0)
	for _, n := range s.Lost {
		lost += n
	}
	sep()
	if lost > 0 {
		line = line.Append(Warn, "LOST "+Short(lost))
	} else {
		line = line.Append(Plain, "lost 0")
	}
	if age := s.Coverage.LookAge; age.OK {
		sep()
		c := Plain
		if age.V.Duration() > staleLook {
			c = Warn
		}
		line = line.Append(c, "look "+Span(age.V.Duration()))
	}
	return line
}

// staleLook is the age from which the newest census of some node is shown as a warning; the longest pause between two
// censuses under its budget is shorter.
const staleLook = 90 * time.Second

func agents(s *model.Snapshot) (heard, silent int) {
	for i := range s.Agents {
		if s.Agents[i].Silent {
			silent++
		} else {
			heard++
		}
	}
	return heard, silent
}

// Probes counts the facts that some rung serves on every agent, names those that an agent lacks, and those that an agent
// sees by a lower rung only.
func Probes(s *model.Snapshot) (have, all int, missing, coarse []string) {
	served, lower := map[string]bool{}, map[string]bool{}
	var order []string
	note := func(p event.Probe) {
		ok, known := served[p.Fact]
		if !known {
			order = append(order, p.Fact)
			ok = true
		}
		served[p.Fact] = ok && p.Rung != ""
		lower[p.Fact] = lower[p.Fact] || !p.Precise
	}
	for i := range s.Agents {
		for _, p := range s.Agents[i].Probes {
			note(p)
		}
	}
	for _, fact := range s.Coverage.Missing {
		note(event.Probe{Fact: fact})
	}
	for _, fact := range order {
		switch {
		case !served[fact]:
			missing = append(missing, fact)
			continue
		case lower[fact]:
			coarse = append(coarse, fact)
		}
		have++
	}
	return have, len(order), missing, coarse
}
