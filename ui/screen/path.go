package screen

import (
	"fmt"
	"slices"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Path is one connection from its client to its socket, where it breaks, and its share test: what it has in common with
// the others in trouble.
type Path struct {
	view  model.SocketView // as it was seen last
	gone  bool             // it is no longer among the connections
	share *model.Share     // nil: not compared yet
	pane  widget.Pane
}

// NewPath returns the path of a socket.
func NewPath(v model.SocketView) *Path { return &Path{view: v} }

// Asks implements Asker.
func (n *Path) Asks() Ask { return Ask{ID: fmt.Sprintf("share %d", n.view.Key), Share: n.view.Key} }

// Crumb implements Screen.
func (n *Path) Crumb(*Frame) string {
	s := "path of " + report.Subject(&n.view.Socket)
	if n.view.Client != nil {
		s += " <- " + n.view.Client.IP.String()
	}
	return s
}

// Move implements Screen.
func (n *Path) Move(m widget.Move, _ *Frame) { n.pane.Scroll(m) }

// Place implements Screen.
func (n *Path) Place(*Frame) string { return scrolled(&n.pane) }

// scrolled says what of a pane is out of view.
func scrolled(p *widget.Pane) string {
	above, below := p.Above(), p.Below()
	switch {
	case above > 0 && below > 0:
		return fmt.Sprintf("%d lines above, %d more below", above, below)
	case above > 0:
		return fmt.Sprintf("%d lines above", above)
	case below > 0:
		return fmt.Sprintf("%d more lines below: j", below)
	}
	return ""
}

// Keys implements Screen.
func (n *Path) Keys() []Binding {
	sockets := func(say string, pick func(*model.SocketView) string) func(*Frame) Action {
		return func(*Frame) Action {
			if text := pick(&n.view); text != "" {
				return Action{Open: filtered(NewSockets(""), text)}
			}
			return Action{Say: say}
		}
	}
	return []Binding{
		{Keys: []string{"enter", "n"}, Short: "same node", Help: "the sockets that cross the same node", Do: func(*Frame) Action {
			return Action{Open: NewSockets(report.ViaName(&n.view.Via))}
		}},
		{Keys: []string{"o"}, Short: "same pod", Help: "the sockets of the same pod or program", Do: sockets("its pod is not known", func(v *model.SocketView) string {
			if v.Socket.K8s != nil && v.Socket.K8s.Pod != "" {
				return fmt.Sprintf("pod:%q", v.Socket.K8s.Namespace+"/"+v.Socket.K8s.Pod)
			}
			if v.Socket.Owner.Comm != "" {
				return fmt.Sprintf("comm=%q", v.Socket.Owner.Comm)
			}
			return ""
		})},
		{Keys: []string{"u"}, Short: "same client", Help: "the sockets of the same client", Do: sockets("its client is not known", func(v *model.SocketView) string {
			if v.Client != nil {
				return "client:" + v.Client.IP.String()
			}
			return ""
		})},
		{Keys: []string{"i"}, Short: "incident", Help: "the incident that names its node, else the first open one", Do: func(f *Frame) Action {
			return openIncident(f, n.row(f))
		}},
		{Keys: []string{"e"}, Help: "what happened to it: the log, filtered", Do: func(*Frame) Action { return Action{Open: newEventsOfSocket(&n.view)} }},
	}
}

func (n *Path) row(f *Frame) *model.ViaRow {
	for i := range f.Snap.Vias {
		if r := &f.Snap.Vias[i]; belongs(r, &n.view) {
			return r
		}
	}
	return nil
}

// look takes the newest that is known of the socket.
func (n *Path) look(f *Frame) {
	if a := f.Answer; a != nil && a.ID == n.Asks().ID {
		if n.gone = a.Share == nil; a.Share != nil {
			n.share, n.view = a.Share, a.Share.Subject
			return
		}
	}
	for i := range f.Snap.Trouble {
		if f.Snap.Trouble[i].Key == n.view.Key {
			n.view = f.Snap.Trouble[i]
		}
	}
}

// Draw implements Screen.
//
//	CLIENT       DIALLED      ENTRY NODE        SOCKET
//	203.0.113.40 198.51.100.7 node-a            ws/chat
//	        -->          -->           x==x
//	path, broken, gives up, verdict
//	share test
//	what happened to it
func (n *Path) Draw(c widget.Canvas, r widget.Rect, f *Frame) {
	n.look(f)
	inner := r.Columns(1, r.W-2)
	n.pane.Draw(c, inner, n.lines(f, inner.W))
}

func (n *Path) lines(f *Frame, width int) []report.Line {
	lines := stations(report.Stations(f.Context(), f.Snap, &n.view), width)
	if !f.Low() {
		lines = append(lines, nil)
	}
	label := func(title string, l report.Line) {
		lines = append(lines, append(report.Line{{S: fmt.Sprintf("%-8s ", title), Class: report.Head}}, l...).Wrap(width, 9)...)
	}
	if n.gone {
		label("Gone", report.Words(report.Muted, "this connection is no more; it is shown as it was last"))
	}
	for _, s := range report.PathFacts(f.Context(), f.Snap, &n.view, n.share) {
		label(s.Title, s.Lines[0])
	}
	lines = append(lines, nil)
	lines = append(lines, n.shareTest(f, width)...)
	lines = append(lines, nil)
	label("Seen by", report.PathSeen(f.Snap, &n.view))
	if events := n.history(f, width); len(events) > 0 {
		lines = append(lines, nil, report.Words(report.Head, "WHAT HAPPENED TO IT"))
		lines = append(lines, events...)
	}
	return lines
}

// stations sets them beside each other, as wide as there is room.
func stations(all []report.Station, width int) []report.Line {
	const link = 6 // columns of " x==x "
	each := (width - link*(len(all)-1)) / max(len(all), 1)
	each = min(max(each, 8), 34)
	rows := 0
	for _, s := range all {
		rows = max(rows, len(s.Lines)+1)
	}
	out := make([]report.Line, rows)
	for i := range all {
		s := &all[i]
		cells := slices.Concat([]report.Text{{S: s.Title, Class: report.Head}}, s.Lines)
		for y := range rows {
			cell := report.Text{}
			if y < len(cells) {
				cell = cells[y]
			}
			out[y] = append(out[y], report.Text{S: report.Column{Name: y == 1}.FitCell(report.Clean(cell.S), each), Class: cell.Class})
			switch {
			case s.Link == "" || i == len(all)-1:
			case y == 1 && s.Link == "x=x":
				out[y] = append(out[y], report.Text{S: " x==x ", Class: report.Bad})
			case y == 1 && s.Link == "?=?":
				out[y] = append(out[y], report.Text{S: " ?==? ", Class: report.Warn})
			case y == 1:
				out[y] = append(out[y], report.Text{S: " " + s.Link + "  ", Class: report.Muted})
			default:
				out[y] = append(out[y], report.Text{S: "      "})
			}
		}
	}
	return out
}

// shareTest is what the connection has in common with others, and how these fare.
func (n *Path) shareTest(f *Frame, width int) []report.Line {
	if n.share == nil {
		return []report.Line{report.Words(report.Muted, "what it shares with others is being counted")}
	}
	return report.Build(f.Context(), report.ShareFields(n.share.All), n.share.Rows).Lines(width)
}

// history is what the log still holds of the connection, the newest last.
func (n *Path) history(f *Frame, width int) []report.Line {
	var out []report.Line
	for _, e := range f.Log.About(n.view.Socket.Cookie, flowOf(&n.view), f.Until, 8) {
		out = append(out, report.EventLine(f.Context(), &e.Event).Wrap(width, 14)...)
	}
	return out
}

// Item implements Exporter.
func (n *Path) Item(f *Frame) (name, text string, value any, ok bool) {
	return "the path", plain(n.lines(f, 100)), n.All(f), true
}

// All implements Exporter.
func (n *Path) All(*Frame) any { return report.NewShareJSON(&n.view, n.share) }
