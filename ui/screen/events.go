package screen

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/filter"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Events shows what happened, the newest first; of a recording with a strip of its whole length above.
type Events struct {
	list[Entry]
	all    bool // facts too, not only what is notable
	shownN bool // what rows were made for
	seen   uint64
	logged uint64
	json   bool // the selected event is shown as its line of the stream
}

// NewEvents returns the log screen with a filter, which may be empty; one that cannot be read is left out.
func NewEvents(text string) *Events {
	n := &Events{list: newList(source[Entry]{
		key: func(e *Entry) uint64 { return e.N },
		mark: func(e *Entry) report.Text {
			switch report.EventClass(&e.Event) {
			case report.Bad:
				return report.Text{S: "x", Class: report.Bad}
			case report.Warn:
				return report.Text{S: "!", Class: report.Warn}
			}
			return report.Text{S: " "}
		},
		names: report.EventNames,
		field: func(*Entry, string) (string, bool) { return "", false },
		match: func(f *filter.Filter, e *Entry) bool {
			for _, r := range report.EventRecords(&e.Event) {
				if f.Match(r) {
					return true
				}
			}
			return f.Empty()
		},
	})}
	n.shown.fields = entryFields()
	if f, err := filter.Parse(text, n.FilterNames()); err == nil {
		n.filter, n.own = f, f
	}
	return n
}

// NewEventsOf returns the log of what names something.
func NewEventsOf(name string) *Events { return NewEvents(strconv.Quote(name)) }

// newEventsOfIDs returns the log of the events with some ids, facts included.
func newEventsOfIDs(ids []string) *Events {
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = strconv.Quote(id)
	}
	n := NewEvents("id:" + strings.Join(quoted, ","))
	n.all = true
	return n
}

// newEventsOfSocket returns the log of one connection, facts included.
func newEventsOfSocket(v *model.SocketView) *Events {
	n := NewEvents(fmt.Sprintf("local:%q peer:%q", v.Socket.Local.String(), v.Socket.Peer.String()))
	n.all = true
	return n
}

func flowOf(v *model.SocketView) string { return event.FlowID(v.Socket.Local, v.Socket.Peer) }

// FilterNames implements Lister: the fields of events, which are those of --filter.
func (n *Events) FilterNames() []string { return report.EventNames }

// entryFields are the columns of events for entries of the log.
func entryFields() []report.Field[Entry] {
	fields := report.EventFields()
	out := make([]report.Field[Entry], len(fields))
	for i, f := range fields {
		out[i] = report.Field[Entry]{Column: f.Column, Cell: func(cx report.Context, e *Entry) report.Text { return f.Cell(cx, &e.Event) }}
	}
	return out
}

// Crumb implements Screen.
func (n *Events) Crumb(*Frame) string {
	if n.all {
		return "log, all facts"
	}
	return "log"
}

// Keys implements Screen.
func (n *Events) Keys() []Binding {
	return append([]Binding{
		{Keys: []string{"a"}, Short: "all facts", Help: "show every fact, or only findings and changes", Do: func(*Frame) Action {
			n.all = !n.all
			return Action{}
		}},
		{Keys: []string{"J"}, Short: "json", Help: "the selected event as its line of the stream, or in words", Do: func(*Frame) Action {
			n.json = !n.json
			return Action{}
		}},
		{Keys: []string{"i", "enter"}, Help: "the incident that the selected event is about, else the first open one", Do: func(f *Frame) Action {
			if e := n.selected(); e != nil {
				if b, ok := e.Body.(*event.IncidentFinding); ok {
					return Action{Open: NewIncident(b.Incident.ID)}
				}
			}
			return openIncident(f, nil)
		}},
	}, n.keys()...)
}

// Draw implements Screen.
func (n *Events) Draw(c widget.Canvas, r widget.Rect, f *Frame) {
	if n.logged != f.Log.Life() || f.Until != n.seen || n.all != n.shownN || n.shown.source == nil {
		n.logged, n.seen, n.shownN = f.Log.Life(), f.Until, n.all
		entries := f.Log.Tail(1<<30, f.Until, !n.all)
		for i, j := 0, len(entries)-1; i < j; i, j = i+1, j-1 { // the newest first
			entries[i], entries[j] = entries[j], entries[i]
		}
		n.update(entries, entryFields(), f)
	}
	n.refresh(f)
	body := r
	if f.Play != nil && !f.Low() {
		y := f.Play.draw(c, r, f.Context())
		c.Rule(r, y)
		body = r.Rows(y+1, r.H)
	}
	if e := n.selected(); e != nil && !f.Low() {
		body = body.Rows(0, body.H-n.drawDetail(c, body, f, &e.Event))
	}
	why := "nothing happened yet that is worth a line; a shows every fact"
	if !n.filter.Empty() && len(n.given) > 0 {
		why = "no event is taken by the filter " + n.filter.String()
	}
	n.table.Draw(c, body, []report.Line{report.Words(report.Muted, why)})
}

// drawDetail writes the selected event in full at the foot of r and returns how many rows it took.
func (n *Events) drawDetail(c widget.Canvas, r widget.Rect, f *Frame, e *event.Event) int {
	if n.json {
		return foot(c, r, report.Words(report.Plain, string(event.AppendJSON(nil, e))).Wrap(r.W-2, 2))
	}
	lines := report.EventText(f.Context(), e).Wrap(r.W-2, 2)
	lines = append(lines, report.Words(report.Muted, e.Time.UTC().Format("2006-01-02T15:04:05.000000000Z")+"  "+e.Source+"  "+e.Flow).Wrap(r.W-2, 2)...)
	return foot(c, r, lines)
}

// Item implements Exporter.
func (n *Events) Item(f *Frame) (name, text string, value any, ok bool) {
	e := n.selected()
	if e == nil {
		return "", "", nil, false
	}
	return "the event " + e.Type.String(), report.EventLine(f.Context(), &e.Event).String() + "\n", line(&e.Event), true
}

// All implements Exporter.
func (n *Events) All(*Frame) any {
	lines := make([]json.RawMessage, len(n.shown.rows))
	for i := range lines {
		lines[i] = line(&n.shown.rows[i].Event)
	}
	return struct {
		Events []json.RawMessage `json:"events"` // the newest first
	}{lines}
}

// line is an event as it stands in the stream.
func line(e *event.Event) json.RawMessage { return event.AppendJSON(nil, e) }
