package screen

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Incidents lists the open and the closed incidents.
type Incidents struct {
	list[model.IncidentView]
	snap *model.Snapshot
}

// NewIncidents returns the list of incidents.
func NewIncidents() *Incidents {
	return &Incidents{list: newList(source[model.IncidentView]{
		key:  func(v *model.IncidentView) uint64 { return hashOf(v.ID) },
		mark: report.IncidentMark, names: report.IncidentNames, field: report.IncidentField,
	})}
}

// Crumb implements Screen.
func (n *Incidents) Crumb(*Frame) string { return "incidents" }

// Keys implements Screen.
func (n *Incidents) Keys() []Binding {
	return append([]Binding{
		{Keys: []string{"enter", "i"}, Short: "open", Help: "the selected incident in full", Do: func(*Frame) Action {
			if v := n.selected(); v != nil {
				return Action{Open: NewIncident(v.ID)}
			}
			return Action{Say: "there is no incident to open"}
		}},
	}, n.keys()...)
}

// Draw implements Screen.
func (n *Incidents) Draw(c widget.Canvas, r widget.Rect, f *Frame) {
	if n.snap != f.Snap {
		n.snap = f.Snap
		n.update(report.IncidentOrder(f.Snap.Incidents), report.IncidentFields(), f)
	}
	n.refresh(f)
	y := headline(c, r, f)
	if !f.Low() {
		c.Rule(r, y)
		y++
	}
	empty := []report.Line{Calm(f), nil, report.Words(report.Muted, report.Watching(f.Context(), f.Snap))}
	if !n.filter.Empty() && len(n.given) > 0 {
		empty = []report.Line{report.Words(report.Muted, "no incident is taken by the filter "+n.filter.String())}
	}
	n.table.Draw(c, r.Rows(y, r.H), empty)
}

// Item implements Exporter.
func (n *Incidents) Item(f *Frame) (name, text string, value any, ok bool) {
	v := n.selected()
	if v == nil {
		return "", "", nil, false
	}
	cs, _ := report.CaseOf(f.Snap, v.ID)
	return "the incident", plain(cs.Text(f.Context(), 0)), v.Incident, true
}

// All implements Exporter.
func (n *Incidents) All(*Frame) any {
	incidents := make([]event.Incident, len(n.shown.rows))
	for i := range incidents {
		incidents[i] = n.shown.rows[i].Incident
	}
	return struct {
		Incidents []event.Incident `json:"incidents"`
	}{incidents}
}
