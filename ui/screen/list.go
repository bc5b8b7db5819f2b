package screen

import (
	"fmt"
	"slices"

	"github.com/midhop/midhop/tracer/filter"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Lister is a screen with rows to choose among. What a filter may ask and how a row answers is the screen's; the grammar
// is that of tracer/filter everywhere.
type Lister interface {
	Filter() *filter.Filter
	SetFilter(*filter.Filter)
	// Clear takes away the filter that the user typed, and says whether there was one.
	Clear() bool
	FilterNames() []string
	// SortBy sorts by a column, or says which columns there are.
	SortBy(key string) error
}

// source is what a list asks of a row of type R.
type source[R any] struct {
	key   func(*R) uint64
	mark  func(*R) report.Text
	names []string                                 // what a filter may ask beside the columns
	field func(row *R, name string) (string, bool) // and its text
	// match takes a row or not; nil: by its fields. Rows that are several things at once have their own way.
	match func(f *filter.Filter, row *R) bool
}

// list is a table of rows of one type: filtered, sorted, and with cells that are made only when they are drawn.
type list[R any] struct {
	source source[R]
	table  *widget.Table
	filter *filter.Filter
	own    *filter.Filter // that the screen was opened with
	sort   string         // key of a column; empty: in the order in which rows come
	rev    bool
	wide   bool

	given []R // before filter and order
	shown rowsOf[R]
	stale bool // filter or order have changed since
}

func newList[R any](s source[R]) list[R] { return list[R]{source: s, table: widget.NewTable()} }

// rowsOf is what is drawn.
type rowsOf[R any] struct {
	rows   []*R // of those given
	fields []report.Field[R]
	cx     report.Context
	source *source[R]
	before int // rows that are known to be there before and after, but not at hand
	after  int
	tail   []*R // come last, after those
}

func (r rowsOf[R]) at(i int) *R {
	i -= r.before
	switch last := i - len(r.rows) - r.after; {
	case i >= 0 && i < len(r.rows):
		return r.rows[i]
	case last >= 0 && last < len(r.tail):
		return r.tail[last]
	}
	return nil
}

// Len implements widget.Rows.
func (r rowsOf[R]) Len() int { return r.before + len(r.rows) + r.after + len(r.tail) }

// Key implements widget.Rows.
func (r rowsOf[R]) Key(i int) uint64 {
	if row := r.at(i); row != nil {
		return r.source.key(row)
	}
	return 1<<63 | uint64(i)
}

// Mark implements widget.Rows.
func (r rowsOf[R]) Mark(i int) report.Text {
	if row := r.at(i); row != nil {
		return r.source.mark(row)
	}
	return report.Text{S: " "}
}

// Cells implements widget.Rows.
func (r rowsOf[R]) Cells(i int) []report.Text {
	if row := r.at(i); row != nil {
		return report.Cells(r.cx, r.fields, row)
	}
	cells := make([]report.Text, len(r.fields))
	for c := range cells {
		cells[c] = report.Text{S: "...", Class: report.Muted}
	}
	return cells
}

// Columns implements widget.Rows.
func (r rowsOf[R]) Columns() []report.Column { return report.ColumnsOf(r.fields) }

// update takes other rows.
func (l *list[R]) update(given []R, fields []report.Field[R], f *Frame) {
	l.given = given
	l.shown.fields, l.shown.source, l.shown.cx = fields, &l.source, f.Context()
	l.shown.rows, l.shown.before, l.shown.after, l.shown.tail = l.order(l.choose(given)), 0, 0, nil
	l.stale = false
	l.table.Update(l.shown, f.Wall)
}

// window takes a part of rows that were chosen and ordered elsewhere.
func (l *list[R]) window(rows []R, before, after int, tail []*R, fields []report.Field[R], f *Frame) {
	l.given, l.stale = rows, false
	l.shown = rowsOf[R]{pointers(rows), fields, f.Context(), &l.source, before, after, tail}
	l.table.Update(l.shown, f.Wall)
}

// refresh makes cells for another moment, and applies another filter or order.
func (l *list[R]) refresh(f *Frame) {
	if l.stale {
		l.update(l.given, l.shown.fields, f)
		return
	}
	l.shown.cx = f.Context()
	l.table.Refresh(l.shown)
}

// judge decides on rows as of one moment. It is a copy of all that it needs, so that another goroutine may ask it.
type judge[R any] struct {
	cx      report.Context
	fields  []report.Field[R]
	source  *source[R]
	filter  *filter.Filter
	sort    string
	reverse bool
}

func (l *list[R]) judge() judge[R] {
	return judge[R]{l.shown.cx, l.shown.fields, &l.source, l.filter, l.sort, l.rev}
}

// recordOf lets a filter look at a row.
type recordOf[R any] struct {
	judge *judge[R]
	row   *R
}

// Field implements filter.Record.
func (r recordOf[R]) Field(name string) (string, bool) {
	if s, ok := r.judge.source.field(r.row, name); ok {
		return s, true
	}
	return report.Shown(r.judge.cx, r.judge.fields, r.row, name)
}

func (j *judge[R]) match(row *R) bool {
	if j.source.match != nil {
		return j.source.match(j.filter, row)
	}
	return j.filter.Match(recordOf[R]{j, row})
}

// rank is a row's place by the chosen column.
func (j *judge[R]) rank(row *R) model.Rank {
	for i := range j.fields {
		if f := &j.fields[i]; f.Key == j.sort {
			return report.RankOf(f.Cell(j.cx, row).S, j.reverse)
		}
	}
	return model.Rank{}
}

// choose returns the rows that the filter takes.
func (l *list[R]) choose(given []R) []*R {
	if l.filter.Empty() {
		return pointers(given)
	}
	var out []*R
	j := l.judge()
	for i := range given {
		if j.match(&given[i]) {
			out = append(out, &given[i])
		}
	}
	return out
}

func pointers[R any](rows []R) []*R {
	out := make([]*R, len(rows))
	for i := range rows {
		out[i] = &rows[i]
	}
	return out
}

// order puts rows into the chosen order, in place.
func (l *list[R]) order(rows []*R) []*R {
	switch {
	case l.sort == "" && l.rev:
		slices.Reverse(rows)
		return rows
	case l.sort == "":
		return rows
	}
	j := l.judge()
	return sorted(rows, j.rank)
}

// selected is the row under the cursor; nil where there is none, or none at hand.
func (l *list[R]) selected() *R {
	if i := l.table.Selected(); i >= 0 {
		return l.shown.at(i)
	}
	return nil
}

// Move implements Screen.
func (l *list[R]) Move(m widget.Move, f *Frame) { l.table.Move(m, f.Wall) }

// Place implements Screen.
func (l *list[R]) Place(*Frame) string {
	row, of := l.table.Position()
	s := ""
	if of > 0 {
		s = fmt.Sprintf("%s of %s", report.Count(row), report.Count(of))
	}
	if hidden := len(l.given) - len(l.shown.rows); hidden > 0 {
		s += fmt.Sprintf(" (%s hidden by the filter)", report.Count(hidden))
	}
	return s
}

// Filter implements Lister.
func (l *list[R]) Filter() *filter.Filter { return l.filter }

// SetFilter implements Lister.
func (l *list[R]) SetFilter(f *filter.Filter) {
	if f.String() != l.filter.String() {
		l.filter, l.stale = f, true
		l.table.Release()
	}
}

// Clear implements Lister.
func (l *list[R]) Clear() bool {
	if l.filter.String() == l.own.String() {
		return false
	}
	l.filter, l.stale = l.own, true
	l.table.Release()
	return true
}

// FilterNames implements Lister.
func (l *list[R]) FilterNames() []string { return report.Names(l.shown.fields, l.source.names) }

// SortBy implements Lister.
func (l *list[R]) SortBy(key string) error {
	var keys []string
	for i := range l.shown.fields {
		if keys = append(keys, l.shown.fields[i].Key); keys[i] == key {
			l.sortBy(key, false)
			return nil
		}
	}
	if near := filter.Nearest(key, keys); near != "" {
		return fmt.Errorf("no column %q, did you mean %s?", key, near)
	}
	return fmt.Errorf("no column %q", key)
}

func (l *list[R]) sortBy(key string, reverse bool) {
	l.sort, l.rev, l.stale = key, reverse, true
	l.table.Sort(key, reverse)
}

// stepSort sorts by the column that is by so many to the right; beside the last and the first there is the rows' own
// order.
func (l *list[R]) stepSort(by int) Action {
	keys := append([]string{""}, l.table.Shown()...)
	i := (max(slices.Index(keys, l.sort), 0) + by + len(keys)) % len(keys)
	l.sortBy(keys[i], false)
	return Action{Say: l.sorted()}
}

// sorted names the order.
func (l *list[R]) sorted() string {
	what := "the worst first"
	for i := range l.shown.fields {
		if l.shown.fields[i].Key == l.sort {
			what = "sorted by " + l.shown.fields[i].Title
		}
	}
	if l.rev {
		what += ", reversed"
	}
	return what
}

// keys are those of every list.
func (l *list[R]) keys() []Binding {
	return []Binding{
		{Keys: []string{">"}, Help: "sort by the next column", Do: func(*Frame) Action { return l.stepSort(1) }},
		{Keys: []string{"<"}, Help: "sort by the column before", Do: func(*Frame) Action { return l.stepSort(-1) }},
		{Keys: []string{"r"}, Help: "reverse the order", Do: func(*Frame) Action {
			l.sortBy(l.sort, !l.rev)
			return Action{Say: l.sorted()}
		}},
		{Keys: []string{"w"}, Short: "wide", Help: "the columns that found no room, without panes beside the list", Do: func(*Frame) Action {
			l.wide = !l.wide
			l.table.Wide(l.wide)
			return Action{}
		}},
	}
}
