package report

import (
	"fmt"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// Culprit says who is blamed, how sure that is and what is known of it.
func (c *Case) Culprit(cx Context, short bool) Line {
	k := &c.Incident.Culprit
	name := k.Name
	if name == "" {
		name = "nobody yet"
	}
	line := Line{}.Append(Strong, name)
	if k.IP.IsValid() && k.IP.String() != k.Name {
		line = line.Append(Plain, " "+k.IP.String())
	}
	line = line.Append(Plain, "  "+strings.ReplaceAll(string(k.Kind), "_", " "))
	switch k.Sure {
	case event.Proved:
		line = line.Append(Plain, ", proved")
	case event.Inferred:
		line = line.Append(Warn, ", inferred and not proved")
	}
	if short {
		if c.Row != nil && c.Row.Node.Spot != "" {
			line = line.Append(Plain, "; "+c.Row.Node.Spot)
		}
		if since := c.Incident.SilentSince; since.OK {
			line = line.Append(Plain, "; silent since "+cx.Time(since.V))
		}
		return line
	}
	behind := k.Kind == event.CulpritPod || k.Kind == event.CulpritClient || k.Kind == event.CulpritService
	if c.Row != nil && !behind { // what is known of the hop says nothing of what stands behind it
		if is := NodeIs(cx, c.Row.Node); is != "" {
			line = line.Append(Plain, "; "+is)
		}
		if c.Row.Node.Zone != "" {
			line = line.Append(Plain, "; zone "+c.Row.Node.Zone)
		}
		if a := agentWords(c.Row.Agent); a != "" {
			line = line.Append(Plain, "; "+a)
		}
	}
	if since := c.Incident.SilentSince; since.OK {
		through := "through"
		if behind {
			through = "from"
		}
		line = line.Append(Plain, fmt.Sprintf("; nothing received %s it since %s", through, cx.Millis(since.V)))
	}
	return line
}

func agentWords(state string) string {
	switch state {
	case "heard":
		return "its agent is heard"
	case "silent":
		return "its agent is silent"
	case "none":
		return "no agent there"
	}
	return ""
}

// Impact counts what is hit: sockets, services, pods, clients.
func (c *Case) Impact() Line {
	n := c.Incident.Sockets
	line := Line{}.Append(Plain, fmt.Sprintf("%s crossing it: ", plural(n.Crossing, "socket")))
	parts := []struct {
		n    int
		what string
		cl   Class
	}{
		{n.Stalled, "stalled", Bad}, {n.Presumed, "dead unnoticed", Bad}, {n.AtRisk, "at risk", Warn},
		{n.TimedOut, "timed out", Bad}, {n.Reset, "reset", Bad}, {n.GaveUp, "given up by their program", Bad},
	}
	first := true
	for _, p := range parts {
		if p.n == 0 {
			continue
		}
		if !first {
			line = line.Append(Plain, ", ")
		}
		first = false
		line = line.Append(p.cl, Count(p.n)+" "+p.what)
	}
	if first {
		line = line.Append(OK, "none in trouble")
	}
	if s := hits(c.Incident.Services, 3); s != "" {
		line = line.Append(Plain, "; "+s)
	}
	return line
}

// Who counts the pods and clients that are hit; empty where neither is known.
func (c *Case) Who(short bool) Line {
	var line Line
	if n := len(c.Incident.Pods); short && n > 1 {
		line = line.Append(Plain, plural(n, "pod"))
	} else if s := hits(c.Incident.Pods, 4); s != "" {
		line = line.Append(Plain, s)
	}
	k := c.Incident.Clients
	if k.Total == 0 {
		return line
	}
	if len(line) > 0 {
		line = line.Append(Plain, "; ")
	}
	line = line.Append(Plain, plural(k.Total, "client"))
	if k.Networks > 0 {
		line = line.Append(Plain, " in "+plural(k.Networks, "network"))
	}
	var kinds []string
	if k.LoadBalancer > 0 {
		kinds = append(kinds, Count(k.LoadBalancer)+" behind a load balancer")
	}
	if k.External > 0 {
		kinds = append(kinds, Count(k.External)+" external")
	}
	if len(kinds) > 0 {
		line = line.Append(Muted, " ("+strings.Join(kinds, ", ")+")")
	}
	return line
}

func hits(list []event.Hit, most int) string {
	var b strings.Builder
	for i, h := range list {
		if i == most {
			fmt.Fprintf(&b, " +%d", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(Clean(h.Name) + " " + Count(h.Sockets))
	}
	return b.String()
}

// Clock says when sockets notice: the first, the last, and how many never do.
func (c *Case) Clock(cx Context, short bool) Line {
	i := &c.Incident
	var line Line
	if f := i.FirstDeadline; f.OK {
		left := f.V.Sub(cx.Now)
		if left > 0 {
			line = line.Append(Plain, "first gives up ").Append(Strong, c.bound()+cx.Time(f.V)).Append(Plain, " (in "+Span(left))
		} else {
			line = line.Append(Plain, "first was due ").Append(Strong, c.bound()+cx.Time(f.V)).Append(Plain, " ("+Span(-left)+" ago")
		}
		if c.First != "" {
			line = line.Append(Plain, ", "+clockName(c.First))
		}
		line = line.Append(Plain, ")")
	} else {
		line = line.Append(Muted, "no deadline known")
	}
	if l := i.LastDeadline; l.OK && l != i.FirstDeadline {
		line = line.Append(Plain, "; last "+cx.Time(l.V))
	}
	if c.Row != nil && c.Row.Never > 0 {
		line = line.Append(Plain, "; ").Append(Bad, Count(c.Row.Never)+" never")
		if !short {
			line = line.Append(Plain, " (no keepalive)")
		}
	}
	return line
}
