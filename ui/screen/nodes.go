package screen

import (
	"fmt"
	"hash/fnv"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Nodes is the first screen: which node is hurting whom, and how long until sockets die.
//
//	S               M                        L
//	+------------+  +---------+------------+ +------------------+------------+
//	| headline   |  | headline             | | headline                      |
//	| totals     |  | totals         trend | | totals                  trend |
//	+------------+  +---------+------------+ +------------------+------------+
//	| list       |  | list    | detail     | | list             | detail     |
//	|            |  |         |            | |                  +------------+
//	|            |  |         |            | |                  | evidence   |
//	+------------+  +---------+------------+ +------------------+------------+
//	                | newest events        | | newest events                 |
//	                +----------------------+ +-------------------------------+
type Nodes struct {
	list[model.ViaRow]
	snap   *model.Snapshot // that rows were made from
	panes  [2]widget.Pane  // detail, evidence
	inView int             // how many of these were drawn
	focus  int             // 0: the list, else a pane
}

// NewNodes returns the nodes screen.
func NewNodes() *Nodes {
	return &Nodes{list: newList(source[model.ViaRow]{
		key:  func(r *model.ViaRow) uint64 { return hashOf(r.Via) },
		mark: report.ViaMark, names: report.ViaNames, field: report.ViaField,
	})}
}

// Crumb implements Screen.
func (n *Nodes) Crumb(*Frame) string { return "nodes" }

// Move implements Screen.
func (n *Nodes) Move(m widget.Move, f *Frame) {
	if n.focus > 0 {
		n.panes[n.focus-1].Scroll(m)
		return
	}
	n.list.Move(m, f)
	n.panes[0].Reset()
	n.panes[1].Reset()
}

// Place implements Screen.
func (n *Nodes) Place(f *Frame) string {
	if n.focus == 0 {
		return n.list.Place(f)
	}
	return "in the " + [...]string{"detail", "evidence"}[n.focus-1] + " pane" + below(&n.panes[n.focus-1])
}

func below(p *widget.Pane) string {
	if n := p.Below(); n > 0 {
		return fmt.Sprintf(", %d more lines below", n)
	}
	return ""
}

// Keys implements Screen.
func (n *Nodes) Keys() []Binding {
	return append([]Binding{
		{Keys: []string{"enter"}, Short: "sockets", Help: "the sockets that cross the selected node, those in trouble first", Do: func(*Frame) Action {
			if r := n.selected(); r != nil {
				return Action{Open: NewSockets(r.Via)}
			}
			return Action{Say: "there is no node to open"}
		}},
		{Keys: []string{"i"}, Short: "incident", Help: "the incident that names the selected node, else the first open one", Do: func(f *Frame) Action {
			return openIncident(f, n.selected())
		}},
		{Keys: []string{"p"}, Short: "path", Help: "the path of the first socket in trouble through the selected node", Do: func(f *Frame) Action {
			return openFirstPath(f, n.selected())
		}},
		{Keys: []string{"e"}, Help: "what happened to the selected node: the log, filtered", Do: func(*Frame) Action {
			if r := n.selected(); r != nil {
				return Action{Open: NewEventsOf(r.Via)}
			}
			return Action{Say: "there is no node to ask about"}
		}},
		{Keys: []string{"tab"}, Help: "from the list to the panes beside it, and back", Do: func(*Frame) Action {
			if n.inView == 0 {
				return Action{Say: "there are panes from 100 columns on"}
			}
			n.focus = (n.focus + 1) % (n.inView + 1)
			return Action{}
		}},
	}, n.keys()...)
}

func openIncident(f *Frame, r *model.ViaRow) Action {
	id := ""
	if r != nil {
		id = r.Incident
	}
	if id == "" {
		id = report.FirstOpen(f.Snap)
	}
	if id == "" {
		if len(f.Snap.Incidents) > 0 {
			return Action{Open: NewIncidents()}
		}
		return Action{Say: "no incident is open"}
	}
	return Action{Open: NewIncident(id)}
}

func openFirstPath(f *Frame, r *model.ViaRow) Action {
	if r == nil {
		return Action{Say: "there is no node to open"}
	}
	for i := range f.Snap.Trouble {
		if v := &f.Snap.Trouble[i]; belongs(r, v) {
			return Action{Open: NewPath(*v)}
		}
	}
	return Action{Say: "no socket through " + report.Clean(r.Via) + " is in trouble; enter lists them all"}
}

// Draw implements Screen.
func (n *Nodes) Draw(c widget.Canvas, r widget.Rect, f *Frame) {
	if n.snap != f.Snap {
		n.snap = f.Snap
		n.update(report.ViaOrder(f.Snap.Vias), report.NodeFields(f.Snap), f)
	}
	n.refresh(f)

	y := headline(c, r, f)
	if !f.Low() {
		if f.Snap.Complete {
			c.Line(r, 1, y, report.Totals(f.Snap.Totals, f.Class == Small))
		}
		if f.Class > Small {
			trend(c, r, y, f)
		}
		c.Rule(r, y+1)
		y += 2
	}
	body := r.Rows(y, r.H-y)
	if f.Class > Small && f.Height >= 30 {
		body = body.Rows(0, body.H-recent(c, body, f))
	}
	n.table.Draw(c, n.drawPanes(c, body, f), n.empty(f, body.W-4))
}

// drawPanes draws what stands beside the list and returns the room that is left.
func (n *Nodes) drawPanes(c widget.Canvas, body widget.Rect, f *Frame) widget.Rect {
	n.inView = 0
	row := n.selected()
	if f.Class == Small || n.wide || row == nil {
		n.focus = 0
		return body
	}
	width := min(max(body.W/3, 30), 56)
	if f.Class == Large {
		width = max(largePane, body.W-largeList)
	}
	c.Divider(body, body.W-width-1)
	side := body.Columns(body.W-width+1, width-1)
	facts := wrapAll(report.ViaFacts(f.Context(), f.Snap, row), side.W-1, 2)
	if n.inView = 1; f.Class == Large {
		n.inView = 2
		h := max(min(len(facts), side.H/2), 0)
		c.Rule(side, h)
		n.panes[1].Draw(c, side.Rows(h+1, side.H), evidenceOf(f, row, side.W-1))
		side = side.Rows(0, h)
	}
	n.panes[0].Draw(c, side, facts)
	n.focus = min(n.focus, n.inView)
	return body.Columns(0, body.W-width-1)
}

// On a large screen all columns of the list find room, and what is left is for the panes.
const (
	largeList = 121
	largePane = 58
)

func wrapAll(lines []report.Line, width, indent int) []report.Line {
	var out []report.Line
	for _, l := range lines {
		out = append(out, l.Wrap(width, indent)...)
	}
	return out
}

// evidenceOf is the case for and against in short: of the incident that names a node, else of the first open one.
func evidenceOf(f *Frame, r *model.ViaRow, width int) []report.Line {
	id := r.Incident
	if id == "" {
		id = report.FirstOpen(f.Snap)
	}
	cs, ok := report.CaseOf(f.Snap, id)
	if !ok {
		return append(Calm(f).Wrap(width, 2), nil, report.Words(report.Muted, "evidence for and against stands here once there is an incident"))
	}
	out := cs.Head(f.Context(), true).Wrap(width, 2)
	for _, s := range []report.Section{
		cs.For(), cs.Against(), cs.Remedies(true, func(when string) bool { return when == "now" }), cs.Alternatives(),
	} {
		if len(s.Lines) == 0 {
			continue
		}
		out = append(out, nil, report.Line{{S: s.Title, Class: report.Head}})
		out = append(out, wrapAll(s.Lines, width, s.Indent)...)
	}
	return out
}

// Item implements Exporter.
func (n *Nodes) Item(f *Frame) (name, text string, value any, ok bool) {
	r := n.selected()
	if r == nil {
		return "", "", nil, false
	}
	return r.Via, plain(report.ViaFacts(f.Context(), f.Snap, r)), report.NewNodeJSON(f.Snap, r), true
}

// All implements Exporter.
func (n *Nodes) All(f *Frame) any {
	rows := make([]report.NodeJSON, len(n.shown.rows))
	for i := range rows {
		rows[i] = report.NewNodeJSON(f.Snap, n.shown.rows[i])
	}
	incidents := make([]event.Incident, len(f.Snap.Incidents))
	for i := range incidents {
		incidents[i] = f.Snap.Incidents[i].Incident
	}
	return struct {
		Rows      []report.NodeJSON `json:"rows"`
		Incidents []event.Incident  `json:"incidents"`
		Coverage  event.Coverage    `json:"coverage"`
	}{rows, incidents, f.Snap.Coverage}
}

// empty says why the table is empty, and before the first look what is attached by now.
func (n *Nodes) empty(f *Frame, width int) []report.Line {
	switch {
	case !n.Filter().Empty() && len(n.given) > 0:
		return []report.Line{report.Words(report.Muted, "the filter hides all of it; / then ctrl-u and enter shows it again")}
	case f.Snap.Complete:
		return []report.Line{
			report.Line{}.Append(report.Muted, "To see an incident on this machine: ").Append(report.Key, "midhop lab"),
			report.Line{}.Append(report.Muted, "To see what works here and why not: ").Append(report.Key, "midhop doctor").Append(report.Muted, ", or 6"),
		}
	}
	var out []report.Line
	for i := range f.Snap.Agents {
		a := &f.Snap.Agents[i]
		if i > 0 {
			out = append(out, nil)
		}
		out = append(out, report.Words(report.Head, a.Source))
		for _, p := range a.Probes {
			out = append(out, report.ProbeLines(p)[0].Fit(width))
		}
	}
	if len(out) == 0 {
		out = append(out, report.Words(report.Muted, "probes are being attached"))
	}
	return out
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s)) // never fails
	return h.Sum64() >> 1
}

// plain is text without classes.
func plain(lines []report.Line) string {
	s := ""
	for _, l := range lines {
		s += l.String() + "\n"
	}
	return s
}
