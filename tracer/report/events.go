package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// EventFields are the columns of `midhop watch -o table` and of the log screen.
func EventFields() []Field[event.Event] {
	return []Field[event.Event]{
		{Column{Key: "time", Title: "TIME", Width: 12}, func(cx Context, e *event.Event) Text {
			return Text{cx.Millis(e.Time), Muted}
		}},
		{Column{Key: "where", Title: "WHERE", Width: 10, Rank: 3, Name: true}, func(_ Context, e *event.Event) Text {
			return Text{strings.TrimPrefix(e.Source, "agent/"), Muted}
		}},
		{Column{Key: "type", Title: "TYPE", Width: 16, Rank: 2}, func(_ Context, e *event.Event) Text {
			return Text{e.Type.String(), EventClass(e)}
		}},
		{Column{Key: "what", Title: "WHAT", Width: 20, Max: 4096}, func(cx Context, e *event.Event) Text {
			return Text{EventText(cx, e).String(), Plain}
		}},
	}
}

// EventLine is one event as one line: time, where, type and what. It is not cut.
func EventLine(cx Context, e *event.Event) Line {
	where := strings.TrimPrefix(e.Source, "agent/")
	line := Line{}.Append(Muted, cx.Millis(e.Time)+"  ").
		Append(Muted, Column{Name: true}.FitCell(Clean(orElse(where, "-")), 10)+"  ").
		Append(EventClass(e), fmt.Sprintf("%-16s  ", e.Type))
	return append(line, EventText(cx, e)...)
}

// EventClass says how loud an event is.
func EventClass(e *event.Event) Class {
	switch e.Type {
	case event.TCPStall, event.TCPTimeout, event.TCPError, event.StreamLost, event.LabFault:
		return Bad
	case event.TCPRetransmit, event.TCPProbe, event.TCPReset, event.StreamGap:
		return Warn
	case event.TCPRecovered, event.StreamSynced:
		return OK
	case event.IncidentOpened, event.IncidentUpdated:
		if f, ok := e.Body.(*event.IncidentFinding); ok {
			c := Case{Incident: f.Incident}
			return c.Class()
		}
	}
	return Muted
}

// Notable says whether an event belongs in a log for people: findings, changes of nodes, losses and faults, but not every
// single fact.
func Notable(e *event.Event) bool {
	switch e.Type {
	case event.PathCensus:
		return false
	case event.StreamHeartbeat:
		b, ok := e.Body.(*event.Heartbeat)
		return ok && b.ClockSet.OK
	case event.StreamStarted, event.StreamSynced, event.StreamLost, event.NodeChanged, event.NodeAsked, event.TCPError, event.LabFault:
		return true
	}
	return e.Type.IsFinding()
}

// EventText says what happened.
func EventText(cx Context, e *event.Event) Line {
	switch b := e.Body.(type) {
	case *event.Started:
		return Line{}.Append(Plain, startedText(b))
	case *event.Synced:
		return Line{}.Append(Plain, "first look at "+b.Fact+" is complete")
	case *event.Heartbeat:
		if b.ClockSet.OK {
			return Line{}.Append(Warn, clockText(b.ClockSet.V.Duration()))
		}
		return Line{}.Append(Plain, fmt.Sprintf("alive, %s", orElse(optCount(b.Sockets), "no count of sockets")))
	case *event.Lost:
		return Line{}.Append(Bad, fmt.Sprintf("%s lost at %s since %s", plural64(b.Count, "event"), b.Stage, cx.Time(b.Since)))
	case *event.Gap:
		return Line{}.Append(Warn, fmt.Sprintf("no heartbeat from %s for %s", b.Peer, Spoken(b.Silent.Duration())))
	case *event.Sockets:
		return Line{}.Append(Plain, fmt.Sprintf("%s in census %d", plural(len(b.Rows), "row"), b.Pass))
	case *event.Traffic:
		return Line{}.Append(Plain, fmt.Sprintf("%s counted in %s", plural(b.Total, "socket"), Span(b.Took.Duration())))
	case *event.TCPFact:
		return tcpText(e.Type, b)
	case *event.NATFact:
		return natText(b)
	case *event.Table:
		return Line{}.Append(Plain, fmt.Sprintf("conntrack of %s: %s/%s, %s dropped, %s refused", b.Node, Short(b.Entries), Short(b.Max), Short(b.Drop+b.EarlyDrop), Short(b.InsertFailed)))
	case *event.NodeFact:
		return nodeText(&b.Node, b.What)
	case *event.PodFact:
		return Line{}.Append(Plain, b.Pod.Namespace+"/"+b.Pod.Name).Append(Muted, " "+orElse(b.What, "?")+" on "+orElse(b.Pod.Node, "no node"))
	case *event.ServiceFact:
		return Line{}.Append(Plain, b.Service.Namespace+"/"+b.Service.Name).Append(Muted, fmt.Sprintf(" %s, %s", orElse(b.What, "?"), plural(len(b.Service.Backends), "backend")))
	case *event.Asked:
		return askedText(b)
	case *event.Census:
		return Line{}.Append(Plain, plural(len(b.Rows), "group")+" of sockets counted")
	case *event.Stall:
		return stallText(cx, e.Type, b)
	case *event.IncidentFinding:
		c := Case{Incident: b.Incident}
		return c.Headline(cx)
	case *event.Fault:
		return Line{}.Append(Bad, strings.TrimSpace(b.Scenario+": "+b.What+" "+b.Target))
	}
	return Line{}.Append(Muted, "a type that this version does not know")
}

// askedText says what a node answered to the question whether it lives.
func askedText(a *event.Asked) Line {
	said := func(r *event.Reply) string {
		switch r.Answer {
		case event.AnswerNone:
			return "no answer within " + Span(r.Took.Duration())
		case event.AnswerFailed:
			return "the question failed: " + r.Error
		}
		return orElse(string(r.Answer), "?") + " after " + Span(r.Took.Duration())
	}
	class := Plain
	if a.Asked.Answer == event.AnswerNone {
		class = Warn
	}
	at := ""
	if a.Asked.To.IP.IsValid() {
		at = " at " + a.Asked.To.String()
	}
	l := Line{}.Append(class, fmt.Sprintf("asked %s%s: %s", orElse(a.Asked.Node, "?"), at, said(&a.Asked)))
	if c := a.Control; c != nil {
		l = l.Append(Muted, fmt.Sprintf("; %s: %s", c.Node, said(c)))
	}
	return l
}

func optCount(n event.Opt[int]) string {
	if !n.OK {
		return ""
	}
	return plural(n.V, "socket")
}

// clockText says that the machine's clock was set, which the stream does not follow.
func clockText(step time.Duration) string {
	switch {
	case step > 0:
		return "this machine's clock was set " + Spoken(step) + " ahead: the times here go on as before, that much behind it"
	case step < 0:
		return "this machine's clock was set back by " + Spoken(-step) + ": the times here go on as before, that much ahead of it"
	}
	return "this machine's clock shows the times that are told here again"
}

func startedText(b *event.Started) string {
	var have, missing []string
	for _, p := range b.Probes {
		if p.Rung == "" {
			missing = append(missing, p.Fact)
		} else {
			have = append(have, p.Fact+" by "+p.Rung)
		}
	}
	s := fmt.Sprintf("midhop %s on %s, kernel %s", b.Midhop.Version, orElse(b.Host.Node, "?"), orElse(b.Host.Kernel, "?"))
	if len(have) > 0 {
		s += ": " + strings.Join(have, ", ")
	}
	if len(missing) > 0 {
		s += "; none for " + strings.Join(missing, ", ")
	}
	return s
}

func tcpText(t event.Type, b *event.TCPFact) Line {
	line := Line{}.Append(Plain, Subject(&b.Socket))
	if b.Via != nil {
		line = line.Append(Muted, " via ").Append(Plain, ViaName(b.Via))
	}
	switch t {
	case event.TCPRetransmit:
		line = line.Append(Warn, fmt.Sprintf("  #%d", b.TCP.Retransmits)).Append(Muted, fmt.Sprintf(" %s, rto %s, %d B unacked", orElse(b.TCP.Kind, "?"), Span(b.TCP.RTO.Duration()), b.TCP.Unacked))
	case event.TCPProbe:
		line = line.Append(Warn, fmt.Sprintf("  %s probe #%d unanswered", orElse(b.TCP.Kind, "?"), b.TCP.ProbesOut))
	case event.TCPReset:
		if b.Reset != nil {
			line = line.Append(Warn, "  reset by "+b.Reset.By).Append(Muted, " "+b.Reset.Reason)
		}
	case event.TCPError:
		line = line.Append(Bad, "  "+b.Errno)
	case event.TCPClosed:
		line = line.Append(Muted, "  closed by "+orElse(b.How, "?"))
	}
	return line.Append(Muted, fmt.Sprintf("  %s <- %s", endpoint(b.Socket.Local), endpoint(b.Socket.Peer)))
}

func natText(b *event.NATFact) Line {
	o, r := b.NAT.Original, b.NAT.Reply
	line := Line{}.Append(Plain, fmt.Sprintf("%s -> %s becomes %s -> %s", endpoint(o.Src), endpoint(o.Dst), endpoint(r.Dst), endpoint(r.Src))).Append(Muted, " at "+orElse(b.By.Node, "?"))
	if b.Why != "" {
		line = line.Append(Muted, ", "+b.Why)
	}
	return line
}

func nodeText(n *event.Node, what string) Line {
	line := Line{}.Append(Plain, orElse(n.Name, "?")+" "+orElse(what, "?"))
	if n.Ready != "" {
		line = line.Append(Muted, ", Ready "+n.Ready)
	}
	if n.Spot != "" {
		line = line.Append(Muted, ", "+n.Spot)
	}
	if len(n.Addresses) > 0 {
		line = line.Append(Muted, ", "+n.Addresses[0].IP.String())
		if len(n.Addresses) > 1 {
			line = line.Append(Muted, fmt.Sprintf(" +%d", len(n.Addresses)-1))
		}
	}
	return line
}

func stallText(cx Context, t event.Type, b *event.Stall) Line {
	line := Line{}.Append(Strong, Subject(&b.Socket)).Append(Muted, " via ").Append(Strong, ViaName(&b.Via))
	switch t {
	case event.TCPStall:
		switch {
		case b.Deadline.OK:
			line = line.Append(Bad, "  gives up "+lowerBound(b.DeadlineIs)+cx.Time(b.Deadline.V)).Append(Muted, " ("+clockName(b.Clock)+")")
		case b.Clock == event.ClockNone:
			line = line.Append(Bad, "  never notices (no keepalive)")
		}
	case event.TCPRecovered:
		line = line.Append(OK, "  moves again")
		if b.Stalled.OK {
			line = line.Append(Muted, " after "+Span(b.Stalled.V.Duration()))
		}
	case event.TCPTimeout:
		line = line.Append(Bad, "  given up by the kernel, "+orElse(b.Errno, "errno unknown"))
	}
	line = line.Append(Muted, fmt.Sprintf("  %s <- %s", endpoint(b.Socket.Local), endpoint(b.Socket.Peer)))
	if b.Client != nil {
		line = line.Append(Muted, ", client "+client(b.Client))
	}
	return line
}
