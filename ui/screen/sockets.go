package screen

import (
	"fmt"

	"github.com/midhop/midhop/tracer/filter"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Sockets lists the sockets of one via or of all, those in trouble first. Healthy ones are there as far as they can be
// asked for: then a window of all rows is at hand, and moves with the cursor.
type Sockets struct {
	list[model.SocketView]
	via    string // empty: all
	snap   *model.Snapshot
	answer *Answer // that the rows were made from
	ask    Ask     // the newest
	offset int     // of the window that is at hand
	paged  bool    // rows are a window
	detail widget.Pane
	focus  bool // on the detail
}

// NewSockets returns the sockets that cross via, all of them where via is empty.
func NewSockets(via string) *Sockets {
	n := &Sockets{via: via, list: newList(source[model.SocketView]{
		key:   func(v *model.SocketView) uint64 { return v.Key &^ (1 << 63) },
		mark:  func(v *model.SocketView) report.Text { return report.Mark(v.Status) },
		names: report.SocketNames, field: report.SocketField,
	})}
	n.shown.fields = report.SocketFields()
	return n
}

// filtered returns a screen of sockets with a filter that midhop wrote itself.
func filtered(n *Sockets, text string) *Sockets {
	if f, err := filter.Parse(text, n.FilterNames()); err == nil {
		n.SetFilter(f)
		n.own = f
	}
	return n
}

// first is the first of its sockets in trouble; nil where there is none.
func (n *Sockets) first(f *Frame) *model.SocketView {
	n.shown.cx, n.shown.source = f.Context(), &n.source
	j, row := n.judge(), n.row(f)
	for i := range f.Snap.Trouble {
		if v := &f.Snap.Trouble[i]; (n.via == "" || belongs(row, v)) && j.match(v) {
			return v
		}
	}
	return nil
}

// Asks implements Asker.
func (n *Sockets) Asks() Ask {
	first, count := n.table.View()
	if n.paged && (first < n.offset || first+count > n.offset+len(n.shown.rows)) {
		n.offset = max(0, first+count/2-model.MaxPage/2)
	}
	j := n.judge()
	q := model.PageQuery{Via: n.via, Offset: n.offset}
	if !n.filter.Empty() {
		q.Match = j.match
	}
	if n.sort != "" {
		q.Order = j.rank
	}
	n.ask = Ask{ID: fmt.Sprintf("%q %q %s %v %d", n.via, n.filter, n.sort, n.rev, n.offset), Page: &q}
	return n.ask
}

// Crumb implements Screen.
func (n *Sockets) Crumb(*Frame) string {
	if n.via == "" {
		return "sockets"
	}
	return n.via + " > sockets"
}

// Move implements Screen.
func (n *Sockets) Move(m widget.Move, f *Frame) {
	if n.focus {
		n.detail.Scroll(m)
		return
	}
	n.list.Move(m, f)
	n.detail.Reset()
}

// Place implements Screen.
func (n *Sockets) Place(f *Frame) string {
	switch {
	case n.focus:
		return "in the pane below" + below(&n.detail)
	case n.paged:
		row, of := n.table.Position()
		s := fmt.Sprintf("%s of %s", report.Count(row), report.Count(of))
		if !n.filter.Empty() {
			s += " (filtered)"
		}
		return s
	}
	return n.list.Place(f)
}

// SetFilter implements Lister.
func (n *Sockets) SetFilter(f *filter.Filter) {
	if f.String() != n.filter.String() {
		n.offset, n.snap = 0, nil
	}
	n.list.SetFilter(f)
}

// Clear implements Lister.
func (n *Sockets) Clear() bool {
	n.offset = 0
	return n.list.Clear()
}

// Keys implements Screen.
func (n *Sockets) Keys() []Binding {
	return append([]Binding{
		{Keys: []string{"enter", "p"}, Short: "path", Help: "the selected connection's path with its client, and its share test", Do: func(*Frame) Action {
			if v := n.selected(); v != nil {
				return Action{Open: NewPath(*v)}
			}
			return Action{Say: "there is no socket to open"}
		}},
		{Keys: []string{"i"}, Short: "incident", Help: "the incident that names this via, else the first open one", Do: func(f *Frame) Action {
			return openIncident(f, n.row(f))
		}},
		{Keys: []string{"e"}, Help: "what happened to the selected socket: the log, filtered", Do: func(*Frame) Action {
			if v := n.selected(); v != nil {
				return Action{Open: newEventsOfSocket(v)}
			}
			return Action{Say: "there is no socket to ask about"}
		}},
		{Keys: []string{"tab"}, Help: "from the list to the pane below, and back", Do: func(*Frame) Action {
			n.focus = !n.focus
			return Action{}
		}},
	}, n.keys()...)
}

// row finds the via that the screen is about.
func (n *Sockets) row(f *Frame) *model.ViaRow {
	for i := range f.Snap.Vias {
		if f.Snap.Vias[i].Via == n.via {
			return &f.Snap.Vias[i]
		}
	}
	return nil
}

// belongs says whether a socket in trouble counts under a row of the nodes screen.
func belongs(r *model.ViaRow, v *model.SocketView) bool {
	name := report.ViaName(&v.Via)
	switch {
	case r == nil:
		return false
	case v.Via.Node != "" || r.Kind == model.KindNode:
		return v.Via.Node == r.Via
	case r.IP.IsValid() && v.Via.IP.IsValid():
		return v.Via.IP == r.IP
	case r.Kind == model.KindPod:
		return name == "(pod)"
	case r.Kind == model.KindDirect:
		return name == "(direct)"
	}
	return name == r.Via || v.Socket.Peer.IP == r.IP
}

// fill makes the rows: of an answer where there is one to what is asked, followed by those in trouble that it cannot
// hold because they ended; else of those in trouble alone.
func (n *Sockets) fill(f *Frame) {
	if n.snap == f.Snap && n.answer == f.Answer && !n.stale {
		return
	}
	n.snap, n.answer = f.Snap, f.Answer
	trouble := f.Snap.Trouble
	if n.via != "" {
		row := n.row(f)
		trouble = nil
		for i := range f.Snap.Trouble {
			if belongs(row, &f.Snap.Trouble[i]) {
				trouble = append(trouble, f.Snap.Trouble[i])
			}
		}
	}
	switch {
	case n.answer != nil && n.answer.ID == n.ask.ID:
	case n.paged && n.answer != nil && !n.stale:
		return // the window is on its way to another place: what is shown stays
	default:
		n.paged = false
		n.update(trouble, report.SocketFields(), f)
		return
	}
	page := &n.answer.Page
	rows, after := page.Rows, max(0, page.Total-n.offset-len(page.Rows))
	n.paged = true
	n.window(rows, min(n.offset, page.Total), after, n.ended(trouble, f), report.SocketFields(), f)
}

// ended picks the sockets that no page holds since they are no more.
func (n *Sockets) ended(trouble []model.SocketView, f *Frame) []*model.SocketView {
	var out []model.SocketView
	n.shown.cx = f.Context()
	for i := range trouble {
		switch trouble[i].Status {
		case model.StatusOK, model.StatusAtRisk, model.StatusStalled, model.StatusPresumed:
		default:
			out = append(out, trouble[i])
		}
	}
	return n.choose(out)
}

// Draw implements Screen.
//
//	+--------------------------+
//	| how many, of which via   |
//	+--------------------------+
//	| list                     |
//	+--------------------------+
//	| path, clocks and owner   |
//	+--------------------------+
func (n *Sockets) Draw(c widget.Canvas, r widget.Rect, f *Frame) {
	n.fill(f)
	n.shown.cx = f.Context()
	n.table.Refresh(n.shown)

	y := 0
	if !f.Low() {
		c.Line(r, 1, 0, n.summary(f))
		c.Rule(r, 1)
		y = 2
	}
	body := r.Rows(y, r.H)
	if v := n.selected(); v != nil && !f.Low() {
		body = body.Rows(0, body.H-n.drawDetail(c, body, f, v))
	}
	n.table.Draw(c, body, []report.Line{n.why(f)})
}

func (n *Sockets) summary(f *Frame) report.Line {
	line := report.Line{}
	if row := n.row(f); row != nil {
		line = line.Append(report.Bad, report.Count(row.Stalled)+" STALLED").
			Append(report.Plain, "  "+report.Count(row.Presumed)+" dead, not noticed  ").
			Append(report.Warn, report.Count(row.AtRisk)+" at-risk").
			Append(report.Muted, fmt.Sprintf("  of %s via ", report.Count(row.Sockets))).
			Append(report.Strong, n.via)
		return line
	}
	return report.Totals(f.Snap.Totals, f.Class == Small)
}

func (n *Sockets) why(f *Frame) report.Line {
	if !n.filter.Empty() && f.Snap.Totals.Sockets > 0 {
		return report.Words(report.Muted, "no socket is taken by the filter "+n.filter.String())
	}
	if n.via == "" || !f.Snap.Complete {
		return Calm(f)
	}
	row := n.row(f)
	switch {
	case row == nil:
		return report.Words(report.Muted, "no socket crosses "+n.via+" any more")
	case f.Snap.Omitted > 0:
		return report.Words(report.Muted, "none of the sockets in trouble that are kept crosses "+n.via)
	}
	return report.Words(report.OK, fmt.Sprintf("%s sockets via %s, none in trouble", report.Count(row.Sockets), n.via))
}

// drawDetail draws what is known of one socket at the foot of r and returns how many rows it took.
func (n *Sockets) drawDetail(c widget.Canvas, r widget.Rect, f *Frame, v *model.SocketView) int {
	var lines []report.Line
	for _, s := range report.SocketFacts(f.Context(), v) {
		lines = append(lines, labelled(s, r.W-2)...)
	}
	h := min(len(lines), r.H/2)
	c.Rule(r, r.H-h-1)
	n.detail.Draw(c, r.Rows(r.H-h, h).Columns(1, r.W-2), lines)
	return h + 1
}

// Item implements Exporter.
func (n *Sockets) Item(f *Frame) (name, text string, value any, ok bool) {
	v := n.selected()
	if v == nil {
		return "", "", nil, false
	}
	for _, s := range report.SocketFacts(f.Context(), v) {
		for _, l := range s.Lines {
			text += fmt.Sprintf("%-6s %s\n", s.Title, l)
		}
	}
	return "the socket " + v.Socket.Local.String() + " <- " + v.Socket.Peer.String(), text, report.NewSocketJSON(v), true
}

// All implements Exporter.
func (n *Sockets) All(f *Frame) any {
	rows := []report.SocketJSON{}
	for _, part := range [][]*model.SocketView{n.shown.rows, n.shown.tail} {
		for _, v := range part {
			rows = append(rows, report.NewSocketJSON(v))
		}
	}
	return struct {
		Via   string              `json:"via,omitempty"`
		Rows  []report.SocketJSON `json:"rows"`
		Total int                 `json:"total"` // those that are not among the rows, too
	}{n.via, rows, n.shown.Len()}
}
