package screen

import (
	"fmt"
	"strconv"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Incident is the case against one culprit: what is lost, the evidence both ways, and what to do.
type Incident struct {
	id   string
	wide bool // on a small screen too the remedies say all that they say on a large one
	pane widget.Pane
	// chosen is the line of evidence that enter opens, from 1, of those that refer to events; 0: none.
	chosen int
	moved  bool // it is to be brought into view
}

// NewIncident returns the screen of the incident with an id.
func NewIncident(id string) *Incident { return &Incident{id: id} }

// Crumb implements Screen.
func (n *Incident) Crumb(f *Frame) string {
	if c, ok := report.CaseOf(f.Snap, n.id); ok {
		return "incident " + c.Title()
	}
	return "incident"
}

// Move implements Screen.
func (n *Incident) Move(m widget.Move, _ *Frame) { n.pane.Scroll(m) }

// Place implements Screen.
func (n *Incident) Place(*Frame) string { return scrolled(&n.pane) }

// Keys implements Screen.
func (n *Incident) Keys() []Binding {
	return []Binding{
		{Keys: []string{"enter", "S"}, Short: "sockets", Help: "the sockets that cross the culprit, those in trouble first; of a chosen line of evidence its events", Do: func(f *Frame) Action {
			c, ok := report.CaseOf(f.Snap, n.id)
			if !ok {
				return Action{Say: "this incident is no longer kept"}
			}
			if e := n.evidence(&c); n.chosen > 0 && n.chosen <= len(e) {
				return Action{Open: newEventsOfIDs(e[n.chosen-1].Refs)}
			}
			return Action{Open: victims(&c)}
		}},
		{Keys: []string{"tab"}, Short: "evidence", Help: "choose the next line of evidence that refers to events, for enter to open these", Do: func(f *Frame) Action {
			c, _ := report.CaseOf(f.Snap, n.id)
			e := n.evidence(&c)
			if len(e) == 0 {
				return Action{Say: "no line of this evidence refers to single events"}
			}
			n.chosen, n.moved = (n.chosen+1)%(len(e)+1), true
			return Action{}
		}},
		{Keys: []string{"p"}, Short: "path", Help: "the path of its first victim, with its client and its share test", Do: func(f *Frame) Action {
			c, ok := report.CaseOf(f.Snap, n.id)
			if !ok {
				return Action{Say: "this incident is no longer kept"}
			}
			if v := victims(&c).first(f); v != nil {
				return Action{Open: NewPath(*v)}
			}
			return Action{Say: "none of its sockets is in trouble any more; enter lists them"}
		}},
		{Keys: []string{"e"}, Short: "events", Help: "what happened to the culprit: the log, filtered", Do: func(f *Frame) Action {
			c, _ := report.CaseOf(f.Snap, n.id)
			return Action{Open: NewEventsOf(c.Incident.Culprit.Name)}
		}},
		{Keys: []string{"w"}, Help: "say effect, risk and condition of each remedy on small screens too", Do: func(*Frame) Action {
			n.wide = !n.wide
			return Action{}
		}},
		{Keys: []string{"]"}, Help: "the next incident", Do: func(f *Frame) Action { return n.step(f, 1) }},
		{Keys: []string{"["}, Help: "the incident before", Do: func(f *Frame) Action { return n.step(f, -1) }},
	}
}

// victims lists the sockets that an incident is about: those through its via, else those that its culprit names, else,
// where nobody is named, all in trouble.
func victims(c *report.Case) *Sockets {
	if c.Row != nil {
		return NewSockets(c.Row.Via)
	}
	k := &c.Incident.Culprit
	field := map[event.CulpritKind]string{
		event.CulpritPod: "pod", event.CulpritService: "service", event.CulpritClient: "client", event.CulpritAddress: "peer",
		event.CulpritLocalNode: "node", event.CulpritNode: "via",
	}[k.Kind]
	name := k.Name
	if k.IP.IsValid() && (k.Kind == event.CulpritClient || k.Kind == event.CulpritAddress) {
		name = k.IP.String()
	}
	text := "state:stalled,at-risk,presumed"
	if field != "" && name != "" {
		text = field + ":" + strconv.Quote(name)
	}
	return filtered(NewSockets(""), text)
}

// evidence returns the evidence that refers to events, in the order in which it is shown.
func (n *Incident) evidence(c *report.Case) (list []event.Evidence) {
	for _, against := range []bool{false, true} {
		for _, e := range c.Incident.Evidence {
			if len(e.Refs) > 0 && (!against && e.For || against && e.Against) {
				list = append(list, e)
			}
		}
	}
	return list
}

// chosenMarks are the signs of evidence, for and against, where its line is chosen.
var chosenMarks = map[string]string{"+ ": "+>", "- ": "->"}

// mark marks the chosen line of evidence among those of a section.
func (n *Incident) mark(s report.Section, c *report.Case) report.Section {
	e := n.evidence(c)
	if n.chosen == 0 || n.chosen > len(e) {
		return s
	}
	for i, l := range s.Lines {
		if len(l) > 1 && chosenMarks[l[0].S] != "" && l[1].S == e[n.chosen-1].Text {
			s.Lines[i] = append(report.Line{{S: chosenMarks[l[0].S], Class: report.Key}}, l[1:]...)
		}
	}
	return s
}

// follow brings the chosen line into view once it is in the body.
func (n *Incident) follow(body []report.Line) {
	if !n.moved {
		return
	}
	for i, l := range body {
		for _, t := range l {
			if t.S == chosenMarks["+ "] || t.S == chosenMarks["- "] {
				n.pane.Show(i)
				n.moved = false
				return
			}
		}
	}
}

func (n *Incident) step(f *Frame, by int) Action {
	all := f.Snap.Incidents
	for i := range all {
		if all[i].ID != n.id {
			continue
		}
		if j := i + by; j >= 0 && j < len(all) {
			n.id = all[j].ID
			n.pane.Reset()
			n.chosen = 0
			return Action{}
		}
	}
	return Action{Say: "there is no other incident that way"}
}

// Item implements Exporter.
func (n *Incident) Item(f *Frame) (name, text string, value any, ok bool) {
	cs, ok := report.CaseOf(f.Snap, n.id)
	return "the incident", plain(cs.Text(f.Context(), 0)), cs.Incident, ok
}

// All implements Exporter.
func (n *Incident) All(f *Frame) any {
	cs, _ := report.CaseOf(f.Snap, n.id)
	return cs.Incident
}

// Draw implements Screen.
func (n *Incident) Draw(c widget.Canvas, r widget.Rect, f *Frame) {
	cs, ok := report.CaseOf(f.Snap, n.id)
	if !ok {
		c.Line(r, 1, 1, report.Words(report.Muted, "this incident is no longer kept; esc goes back"))
		return
	}
	cx := f.Context()
	inner := r.Columns(1, r.W-2)
	var head []report.Line
	head = append(head, cs.Head(cx, f.Class == Small).Wrap(inner.W, 2)...)
	// On a small screen where it was seen from comes last: the case and the remedy need the room.
	for _, s := range cs.Facts(cx, f.Class == Small) {
		head = append(head, labelled(s, inner.W)...)
	}
	if f.Low() || len(head) > r.H/2 {
		// Too little room to keep a head in place: everything scrolls.
		all := append(append(head, nil), n.body(&cs, f, inner.W)...)
		n.follow(all)
		n.pane.Draw(c, inner, all)
		return
	}
	for y, line := range head {
		c.Line(inner, 0, y, line)
	}
	c.Rule(r, len(head))
	body := n.body(&cs, f, inner.W)
	n.follow(body)
	n.pane.Draw(c, inner.Rows(len(head)+1, r.H), body)
}

func labelled(s report.Section, width int) []report.Line {
	var out []report.Line
	for _, l := range s.Lines {
		line := append(report.Line{{S: fmt.Sprintf("%-8s ", s.Title), Class: report.Head}}, l...)
		out = append(out, line.Wrap(width, 9)...)
	}
	return out
}

func (n *Incident) body(cs *report.Case, f *Frame, width int) []report.Line {
	cx := f.Context()
	var out []report.Line
	section := func(s report.Section) {
		if len(s.Lines) == 0 {
			return
		}
		if len(out) > 0 && f.Class > Small {
			out = append(out, nil)
		}
		out = append(out, report.Line{{S: s.Title, Class: report.Head}})
		for _, l := range s.Lines {
			out = append(out, append(report.Line{{S: " "}}, l...).Wrap(width, s.Indent+1)...)
		}
	}
	if f.Class == Small {
		// What is to be done at once must be above the fold of 24 lines.
		urgent := cs.Remedies(!n.wide, func(when string) bool { return when == "now" })
		urgent.Title = "DO NOW"
		section(urgent)
		section(n.mark(cs.For(), cs))
		section(n.mark(cs.Against(), cs))
		later := cs.Remedies(!n.wide, func(when string) bool { return when != "now" })
		later.Title = "LATER"
		section(later)
		section(cs.Timeline(cx, width-1))
		section(cs.Alternatives())
		return append(out, labelled(report.Section{Title: "Seen", Lines: []report.Line{cs.Seen(cx)}}, width)...)
	}
	section(cs.Timeline(cx, width-1))
	out = append(out, nil)
	out = append(out, sideBySide(n.mark(cs.For(), cs), n.mark(cs.Against(), cs), width)...)
	section(cs.Remedies(false, nil))
	section(cs.Alternatives())
	return append(out, nil, report.Words(report.Muted, "id "+cs.Incident.ID+", opened "+cs.Incident.Opened.UTC().Format(time.RFC3339Nano)))
}

// sideBySide sets two sections beside each other.
func sideBySide(a, b report.Section, width int) []report.Line {
	half := (width - 3) / 2
	column := func(s report.Section) []report.Line {
		out := []report.Line{{{S: s.Title, Class: report.Head}}}
		for _, l := range s.Lines {
			out = append(out, append(report.Line{{S: " "}}, l...).Wrap(half, s.Indent+1)...)
		}
		return out
	}
	left, right := column(a), column(b)
	var out []report.Line
	for i := range max(len(left), len(right)) {
		var line report.Line
		if i < len(left) {
			line = append(line, left[i]...)
		}
		line = append(line.Pad(half), report.Text{S: " | ", Class: report.Muted})
		if i < len(right) {
			line = append(line, right[i]...)
		}
		out = append(out, line)
	}
	return out
}
