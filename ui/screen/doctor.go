package screen

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Doctor says what the picture is made of, and what is missing in it.
type Doctor struct{ pane widget.Pane }

// NewDoctor returns the doctor screen.
func NewDoctor() *Doctor { return &Doctor{} }

// Crumb implements Screen.
func (n *Doctor) Crumb(*Frame) string { return "doctor" }

// Move implements Screen.
func (n *Doctor) Move(m widget.Move, _ *Frame) { n.pane.Scroll(m) }

// Place implements Screen.
func (n *Doctor) Place(*Frame) string { return scrolled(&n.pane) }

// Keys implements Screen.
func (n *Doctor) Keys() []Binding { return nil }

// Draw implements Screen.
func (n *Doctor) Draw(c widget.Canvas, r widget.Rect, f *Frame) {
	inner := r.Columns(1, r.W-2)
	n.pane.Draw(c, inner, wrapAll(report.Doctor(f.Context(), f.Snap), inner.W, 4))
}

// Item implements Exporter.
func (n *Doctor) Item(f *Frame) (name, text string, value any, ok bool) {
	return "what works here", plain(report.Doctor(f.Context(), f.Snap)), n.All(f), true
}

// All implements Exporter.
func (n *Doctor) All(f *Frame) any {
	type machine struct {
		Source   string           `json:"source"`
		Node     string           `json:"node,omitempty"`
		Silent   bool             `json:"silent"`
		Probes   []event.Probe    `json:"probes"`
		Settings map[string]int64 `json:"settings,omitempty"`
	}
	machines := []machine{}
	for _, a := range f.Snap.Agents {
		machines = append(machines, machine{a.Source, a.Node, a.Silent, a.Probes, a.Settings})
	}
	return struct {
		Machines []machine         `json:"machines"`
		Coverage event.Coverage    `json:"coverage"`
		Lost     map[string]uint64 `json:"lost"`
	}{machines, f.Snap.Coverage, f.Snap.Lost}
}
