package screen

import (
	"fmt"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// recent draws the newest notable events at the foot of r and returns how many rows it took. Sockets that fare alike in a
// row take one line, so that hundreds of them do not push out what they come of.
func recent(c widget.Canvas, r widget.Rect, f *Frame) int {
	most := 5
	if f.Height < 36 {
		most = 3
	}
	var lines []report.Line
	entries := f.Log.Tail(recentLook, f.Until, true)
	for i := len(entries) - 1; i >= 0; { // the newest first
		e := &entries[i].Event
		alike := 0
		for i--; i >= 0 && sameFate(e, &entries[i].Event); i-- {
			alike++
		}
		if len(lines) == most {
			break
		}
		line := report.EventLine(f.Context(), e)
		if alike > 0 {
			line = line.Fit(r.W-22).Append(report.Muted, fmt.Sprintf("  +%s alike", report.Count(alike)))
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return 0
	}
	top := r.H - len(lines) - 1
	c.Rule(r, top)
	for i, line := range lines {
		c.Line(r, 1, top+1+i, line)
	}
	return len(lines) + 1
}

// recentLook is how far back the newest events are looked for.
const recentLook = 2000

// sameFate says whether two events are about sockets through the same node that fare alike.
func sameFate(a, b *event.Event) bool {
	x, ok := a.Body.(*event.Stall)
	y, ok2 := b.Body.(*event.Stall)
	return ok && ok2 && a.Type == b.Type && report.ViaName(&x.Via) == report.ViaName(&y.Via)
}

// trend draws how many sockets were doomed in the last minutes, at the right of a line.
func trend(c widget.Canvas, r widget.Rect, y int, f *Frame) {
	most := 24
	if f.Class == Large {
		most = 60
	}
	values := f.History
	values = values[max(0, len(values)-most):]
	for _, v := range values {
		if v > 0 {
			line := report.Line{}.Append(report.Muted, fmt.Sprintf("doomed, %d s ", len(values)))
			line = append(line, report.Text{S: widget.Spark(c.Theme, values), Class: report.Bad}, report.Text{S: " "})
			if used := report.Totals(f.Snap.Totals, false).Width() + 4; used+line.Width() <= r.W {
				c.Right(r, y, line)
			}
			return
		}
	}
}

// headline draws the open incident, or that there is none, and returns how many rows it took.
func headline(c widget.Canvas, r widget.Rect, f *Frame) int {
	id := report.FirstOpen(f.Snap)
	if id == "" {
		c.Line(r, 1, 0, Calm(f))
		return 1
	}
	lines := Alarm(f, id).Wrap(r.W-2, 2)
	most := 2
	if f.Low() && r.W >= 60 {
		most = 1
	}
	if len(lines) > most {
		lines = lines[:most]
	}
	for y, line := range lines {
		c.Line(r, 1, y, line)
	}
	return len(lines)
}

// Alarm is the headline of an incident, with the number of others that are open.
func Alarm(f *Frame, id string) report.Line {
	cs, _ := report.CaseOf(f.Snap, id)
	line := cs.Headline(f.Context())
	others := -1
	for i := range f.Snap.Incidents {
		if !f.Snap.Incidents[i].Closed.OK {
			others++
		}
	}
	if others > 0 {
		line = line.Append(report.Warn, fmt.Sprintf("  (+%d more: press 2)", others))
	}
	return line
}

// Calm says that nothing is wrong, or why that cannot be said.
func Calm(f *Frame) report.Line {
	s := f.Snap
	t := &s.Totals
	switch {
	case !f.Cut.Since.IsZero():
		return f.Cut.Line(f.Context())
	case !s.Complete:
		return report.Words(report.Warn, report.NothingYet(s))
	case t.Doomed()+t.AtRisk > 0:
		return report.Words(report.Warn, "no incident: "+fmt.Sprintf("%d sockets in trouble, too few or too scattered to name one culprit", t.Doomed()+t.AtRisk))
	case t.Sockets == 0:
		return report.Words(report.Plain, report.NothingYet(s))
	}
	return report.Words(report.OK, report.Healthy(s))
}
