package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Case is one incident with what is known beside it, ready to be put into words.
type Case struct {
	Incident event.Incident
	Updates  int
	Marks    []model.Mark
	Row      *model.ViaRow // the culprit's; nil where there is none
	First    event.Clock   // the clock of the first deadline, empty where unknown
}

// CaseOf finds an incident of a snapshot by its id.
func CaseOf(s *model.Snapshot, id string) (Case, bool) {
	for i := range s.Incidents {
		v := &s.Incidents[i]
		if v.ID != id {
			continue
		}
		c := Case{Incident: v.Incident, Updates: v.Updates, Marks: v.Marks}
		for j := range s.Vias {
			if s.Vias[j].Incident == id {
				c.Row = &s.Vias[j]
			}
		}
		c.First = firstClock(s, v)
		return c, true
	}
	return Case{}, false
}

// sameClock is how far the first deadline of an incident and of the sockets listed may be apart. Deadlines of idle sockets
// are bounds that move with each census; the least difference between two kinds of clocks is minutes.
const sameClock = 15 * time.Second

func firstClock(s *model.Snapshot, v *model.IncidentView) event.Clock {
	var (
		clock event.Clock
		first time.Time
	)
	for i := range s.Trouble {
		t := &s.Trouble[i]
		if t.Deadline.IsZero() || t.Via.Node != v.Culprit.Name && (!t.Via.IP.IsValid() || t.Via.IP != v.Culprit.IP) {
			continue
		}
		if first.IsZero() || t.Deadline.Before(first) {
			first, clock = t.Deadline, t.Clock
		}
	}
	// Sockets above the cap are not listed: the clock is only told where it rings about when the incident's first does.
	if d := v.FirstDeadline; d.OK && d.V.Sub(first).Abs() > sameClock {
		return ""
	}
	return clock
}

// FirstOpen returns the id of the open incident that comes first by severity, then by time; empty where there is none.
func FirstOpen(s *model.Snapshot) string {
	best := -1
	for i := range s.Incidents {
		v := &s.Incidents[i]
		if v.Closed.OK {
			continue
		}
		if best < 0 || severityOrder(v.Severity) < severityOrder(s.Incidents[best].Severity) ||
			v.Severity == s.Incidents[best].Severity && v.Opened.Before(s.Incidents[best].Opened) {
			best = i
		}
	}
	if best < 0 {
		return ""
	}
	return s.Incidents[best].ID
}

func severityOrder(s event.Severity) int {
	switch s {
	case event.Critical:
		return 0
	case event.Warning:
		return 1
	}
	return 2
}

// Open says whether the incident is not over.
func (c *Case) Open() bool { return !c.Incident.Closed.OK }

// Class is the class that the incident's severity has.
func (c *Case) Class() Class {
	switch {
	case !c.Open():
		return Muted
	case c.Incident.Severity == event.Critical:
		return Bad
	case c.Incident.Severity == event.Warning:
		return Warn
	}
	return Plain
}

// killers are the rules after which a connection through the culprit cannot go on: it is lost, noticed or not.
var killers = map[string]bool{
	"node-gone": true, "node-rebooted": true, "nat-lost": true, "vip-moved": true, "idle-expired": true,
	"pod-gone": true, "client-gone": true, "peer-unreachable": true, "local-node": true, "unexplained": false,
}

// Lost counts the connections that are lost, and of these the ones that know it. Idle ones do not until a probe or
// their next byte goes unanswered.
func Lost(n event.SocketCounts) (dead, know int) {
	know = n.Stalled + n.TimedOut + n.Reset + n.GaveUp
	return know + n.Presumed, know
}

// Headline is the incident in one line: what is lost, how much of it is known yet, and when the first gives up.
func (c *Case) Headline(cx Context) Line {
	i := &c.Incident
	line := Line{}.Append(c.Class(), "INCIDENT "+string(i.Severity)+": ").Append(Strong, c.Title())
	if !c.Open() {
		return line.Append(Muted, fmt.Sprintf(", closed %s (%s) after %s", cx.Time(i.Closed.V), why(i.Why), Span(i.Closed.V.Sub(i.Opened))))
	}
	line = line.Append(c.Class(), ": "+c.toll())
	if clock := c.clockShort(cx); clock != "" {
		line = line.Append(Plain, "; "+clock)
	}
	return line
}

func why(s string) string {
	if s == "" {
		return "no reason given"
	}
	return Clean(s)
}

// Title names what happened, as the rule put it.
func (c *Case) Title() string {
	if c.Incident.Title != "" {
		return Clean(c.Incident.Title)
	}
	return Clean(c.Incident.Culprit.Name + " " + c.Incident.Rule)
}

// toll says what is lost: "66 connections dead, 13 know it".
func (c *Case) toll() string {
	n := c.Incident.Sockets
	dead, know := Lost(n)
	var parts []string
	switch {
	case !killers[c.Incident.Rule]:
		parts = append(parts, fmt.Sprintf("%s of %s stalled", Count(n.Stalled), plural(n.Crossing, "connection")))
	case dead == 0 && n.AtRisk == 0:
		parts = append(parts, plural(n.Crossing, "connection")+" cross it")
	case dead == 0:
		parts = append(parts, fmt.Sprintf("%s, none dead yet", plural(n.Crossing, "connection")))
	default:
		knows := "know"
		if know == 1 {
			knows = "knows"
		}
		parts = append(parts, fmt.Sprintf("%s dead, %s %s it", plural(dead, "connection"), Count(know), knows))
	}
	if n.AtRisk > 0 {
		parts = append(parts, Count(n.AtRisk)+" at risk")
	}
	return strings.Join(parts, ", ")
}

func (c *Case) clockShort(cx Context) string {
	var parts []string
	if first := c.Incident.FirstDeadline; first.OK {
		verb := "first gives up "
		if !first.V.After(cx.Now) {
			verb = "first was due "
		}
		s := verb + c.bound() + cx.Time(first.V)
		if c.First != "" {
			s += " (" + clockName(c.First) + ")"
		}
		parts = append(parts, s)
	}
	if c.Row != nil && c.Row.Never > 0 {
		parts = append(parts, Count(c.Row.Never)+" never (no keepalive)")
	}
	return strings.Join(parts, ", ")
}

// bound is what stands before a first deadline that is only known from below.
func (c *Case) bound() string {
	if c.Row != nil && c.Row.FirstIs == "lower_bound" && c.Row.First.Equal(c.Incident.FirstDeadline.V) {
		return ">= "
	}
	return ""
}

func clockName(c event.Clock) string {
	switch c {
	case event.ClockUserTimeout:
		return "TCP_USER_TIMEOUT"
	case event.ClockRTO:
		return "retransmission"
	case event.ClockProbe0:
		return "window probe"
	}
	return string(c)
}

// Head is the case's first line: severity, title, how long it has been open, rule and confidence. Short is for screens
// under 100 columns, here and below.
func (c *Case) Head(cx Context, short bool) Line {
	i := &c.Incident
	line := Line{}.Append(c.Class(), strings.ToUpper(string(i.Severity))+"  ").Append(Strong, c.Title())
	if c.Open() {
		line = line.Append(Plain, "   open "+cx.Ago(i.Opened))
	} else {
		line = line.Append(Muted, fmt.Sprintf("   closed %s: %s", cx.Time(i.Closed.V), why(i.Why)))
	}
	line = line.Append(Muted, "   rule ").Append(Plain, i.Rule)
	if i.Was != "" && !short {
		line = line.Append(Muted, " (was "+i.Was+")")
	}
	line = line.Append(Muted, "   confidence ").Append(Plain, fmt.Sprintf("%.2f", i.Confidence))
	if c.Updates > 0 && !short {
		line = line.Append(Muted, fmt.Sprintf("   updates %d", c.Updates))
	}
	return line
}
