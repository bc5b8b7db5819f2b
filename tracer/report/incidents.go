package report

import (
	"cmp"
	"slices"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// IncidentOrder returns incidents as tables show them: open ones first, then by severity, the newest first.
func IncidentOrder(incidents []model.IncidentView) []model.IncidentView {
	out := slices.Clone(incidents)
	slices.SortStableFunc(out, func(a, b model.IncidentView) int {
		return cmp.Or(
			cmp.Compare(b2i(a.Closed.OK), b2i(b.Closed.OK)),
			cmp.Compare(severityOrder(a.Severity), severityOrder(b.Severity)),
			b.Opened.Compare(a.Opened),
			cmp.Compare(a.ID, b.ID),
		)
	})
	return out
}

// IncidentMark is the mark beside an incident: x critical, ! less than that, nothing when it is closed.
func IncidentMark(v *model.IncidentView) Text {
	switch {
	case v.Closed.OK:
		return Text{" ", Muted}
	case v.Severity == event.Critical:
		return Text{"x", Bad}
	}
	return Text{"!", Warn}
}

// IncidentFields are the columns of `midhop incidents` and of the list of incidents.
func IncidentFields() []Field[model.IncidentView] {
	class := func(v *model.IncidentView) Class {
		c := Case{Incident: v.Incident}
		return c.Class()
	}
	return []Field[model.IncidentView]{
		{Column{Key: "opened", Title: "OPENED", Width: 8, Max: 14, Rank: 5}, func(cx Context, v *model.IncidentView) Text {
			return Text{cx.Time(v.Opened), Muted}
		}},
		{Column{Key: "state", Title: "STATE", Width: 9, Max: 12}, func(cx Context, v *model.IncidentView) Text {
			if v.Closed.OK {
				return Text{"closed", Muted}
			}
			return Text{"open " + cx.Ago(v.Opened), class(v)}
		}},
		{Column{Key: "severity", Title: "SEVERITY", Width: 8, Rank: 4}, func(_ Context, v *model.IncidentView) Text {
			return Text{string(v.Severity), class(v)}
		}},
		{Column{Key: "rule", Title: "RULE", Width: 12, Max: 16, Rank: 3}, func(_ Context, v *model.IncidentView) Text {
			return Text{S: v.Rule}
		}},
		{Column{Key: "culprit", Title: "CULPRIT", Width: 12, Max: 44, Name: true}, func(_ Context, v *model.IncidentView) Text {
			return Text{orElse(v.Culprit.Name, "?"), Strong}
		}},
		{Column{Key: "sure", Title: "SURE", Width: 8, Rank: 7}, func(_ Context, v *model.IncidentView) Text {
			return Text{orElse(string(v.Culprit.Sure), "?"), Muted}
		}},
		{Column{Key: "lost", Title: "LOST", Width: 7, Right: true}, func(_ Context, v *model.IncidentView) Text {
			dead, _ := Lost(v.Sockets)
			return Text{Count(dead), class(v)}
		}},
		{Column{Key: "know", Title: "KNOW IT", Width: 7, Right: true}, func(_ Context, v *model.IncidentView) Text {
			_, know := Lost(v.Sockets)
			return Text{S: Count(know)}
		}},
		{Column{Key: "why", Title: "WHY CLOSED", Width: 10, Max: 40, Rank: 6}, func(_ Context, v *model.IncidentView) Text {
			return Text{v.Why, Muted}
		}},
	}
}

// Incidents is the table of `midhop incidents`.
func Incidents(cx Context, s *model.Snapshot) Table {
	t := Build(cx, IncidentFields(), IncidentOrder(s.Incidents))
	t.Empty = Words(Muted, "no incident")
	t.After = []Line{Words(Muted, Seen(cx, s))}
	if w := Watching(cx, s); w != "" {
		t.After = append(t.After, Words(Muted, w))
	}
	return t
}
