package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Doctor says what the picture is made of: every machine that reports with its rungs, settings and ages, every loss, and
// what is not seen at all.
func Doctor(cx Context, s *model.Snapshot) []Line {
	var out []Line
	head := func(title string) {
		if len(out) > 0 {
			out = append(out, nil)
		}
		out = append(out, Words(Head, title))
	}
	head("COVERAGE")
	out = append(out, Words(Plain, "  "+Seen(cx, s)))
	if w := Watching(cx, s); w != "" {
		out = append(out, Words(Muted, "  "+w))
	}
	head("LOSS")
	if len(s.Lost) == 0 {
		out = append(out, Words(OK, "  nothing was lost between the kernel and this screen"))
	}
	for _, stage := range slices.Sorted(maps.Keys(s.Lost)) {
		out = append(out, Line{}.Append(Warn, "! ").Append(Plain, fmt.Sprintf("%s at %s", plural64(s.Lost[stage], "event"), stage)))
	}
	for i := range s.Agents {
		head(strings.ToUpper(orElse(Clean(s.Agents[i].Node), "?")) + "  " + Clean(s.Agents[i].Source))
		out = append(out, agentLines(cx, &s.Agents[i])...)
	}
	if len(s.Agents) == 0 {
		head("MACHINES")
		out = append(out, Words(Muted, "  none has reported yet"))
	}
	head("MORE")
	return append(out, Line{{S: "  "}}.Append(Key, "midhop doctor").Append(Plain, " on the machine itself; ").
		Append(Key, "midhop doctor --why FACT").Append(Plain, " says why no better rung serves"))
}

func agentLines(cx Context, a *model.AgentView) []Line {
	var out []Line
	alive := Line{{S: "  "}}
	if a.Silent {
		alive = alive.Append(Bad, "silent").Append(Plain, ", last heard "+cx.Ago(a.Heard)+" ago")
	} else {
		alive = alive.Append(OK, "heard").Append(Plain, " "+cx.Ago(a.Heard)+" ago")
	}
	alive = alive.Append(Plain, fmt.Sprintf(", %s", plural(a.Sockets, "socket")))
	if !a.CensusAt.IsZero() {
		alive = alive.Append(Plain, ", newest census "+cx.Ago(a.CensusAt)+" ago")
	}
	out = append(out, alive)
	for _, p := range a.Probes {
		out = append(out, ProbeLines(p)...)
	}
	if len(a.Settings) > 0 {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(a.Settings)) {
			parts = append(parts, fmt.Sprintf("%s=%d", Clean(name), a.Settings[name]))
		}
		out = append(out, Line{{S: "  "}}.Append(Muted, strings.Join(parts, "  ")))
	}
	return out
}

// ProbeLines is one fact with the rung that serves it, ticked off or marked, and below it why no better one does.
func ProbeLines(p event.Probe) []Line {
	line := Line{}
	switch {
	case p.Rung == "":
		line = line.Append(Warn, "! ").Append(Plain, fmt.Sprintf("%-11s ", p.Fact)).Append(Warn, "no way to see it here")
	case !p.Precise:
		line = line.Append(OK, "+ ").Append(Plain, fmt.Sprintf("%-11s by %s", p.Fact, p.Rung)).Append(Muted, ", coarse")
	default:
		line = line.Append(OK, "+ ").Append(Plain, fmt.Sprintf("%-11s by %s", p.Fact, p.Rung)).Append(Muted, ", precise")
	}
	out := []Line{line}
	if p.Cost != "" {
		out = append(out, Line{{S: "    "}}.Append(Plain, "costs you: "+p.Cost))
	}
	if p.Why != "" {
		for _, why := range strings.Split(p.Why, "; ") {
			out = append(out, Line{{S: "    "}}.Append(Muted, why))
		}
	}
	return out
}
