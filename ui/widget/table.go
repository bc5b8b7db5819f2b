package widget

import (
	"time"

	"github.com/gdamore/tcell/v2"
	"github.com/rivo/tview"

	"github.com/midhop/midhop/tracer/report"
)

// Rows is what a table shows. Only the rows in view are asked for.
type Rows interface {
	Len() int
	Key(i int) uint64          // stays the same while the row's subject lives
	Mark(i int) report.Text    // one character beside the row
	Cells(i int) []report.Text // one for each column
	Columns() []report.Column  // the same for all rows
}

// hold is how long the order of rows stays as it is after the cursor moved, so that no row jumps away under the finger.
const hold = 2 * time.Second

// maxHeld is the most rows whose order is held; finding them again by key costs a map of all of them.
const maxHeld = 5000

// Table is a table of any number of rows. The row under the cursor is known by its key: it stays selected where it goes
// when rows are sorted anew, and the nearest one takes its place when it goes away.
type Table struct {
	view    *tview.Table
	content content
	key     uint64 // of the selected row, valid where picked
	picked  bool
	moved   time.Time
}

// NewTable returns an empty table.
func NewTable() *Table {
	t := &Table{view: tview.NewTable()}
	t.view.SetContent(&t.content).SetFixed(1, 0).SetSelectable(true, false)
	t.view.SetBackgroundColor(tcell.ColorDefault)
	t.view.SetBordersColor(tcell.ColorDefault)
	return t
}

// Update shows other rows. Now is only used to hold the order after a move.
func (t *Table) Update(rows Rows, now time.Time) {
	order := []int(nil)
	if n := rows.Len(); n <= maxHeld && t.content.rows != nil && now.Sub(t.moved) < hold && !t.moved.IsZero() {
		order = t.held(rows)
	}
	at := t.cursor()
	t.content.rows, t.content.order = rows, order
	t.seek(at)
}

// Sort marks a column as the one that rows are sorted by, empty for none; the next update may change the order at once.
func (t *Table) Sort(key string, reverse bool) {
	t.content.sorted, t.content.reverse = key, reverse
	t.Release()
}

// Release lets the next update change the order although the cursor has just moved: other rows were asked for.
func (t *Table) Release() { t.moved = time.Time{} }

// Wide shows the columns that found no room in place of those that did.
func (t *Table) Wide(on bool) { t.content.wide = on }

// Shown returns the keys of the columns that were drawn last.
func (t *Table) Shown() []string {
	keys := make([]string, 0, len(t.content.shown))
	for _, i := range t.content.shown {
		keys = append(keys, t.content.columns[i].Key)
	}
	return keys
}

// View says which rows were drawn last: the first of them, and how many there was room for.
func (t *Table) View() (first, count int) {
	first, _ = t.view.GetOffset()
	_, _, _, h := t.view.GetInnerRect()
	return first, max(h-1, 0)
}

// Refresh shows the rows of the last update written anew, such as with another time of day. They must be as many and in
// the same order.
func (t *Table) Refresh(rows Rows) { t.content.rows = rows }

// held orders rows as the present ones are; new ones come last.
func (t *Table) held(rows Rows) []int {
	index := make(map[uint64]int, rows.Len())
	for i := range rows.Len() {
		index[rows.Key(i)] = i
	}
	order := make([]int, 0, rows.Len())
	for i := range t.content.len() {
		key := t.content.rows.Key(t.content.at(i))
		if j, ok := index[key]; ok {
			order = append(order, j)
			delete(index, key)
		}
	}
	for i := range rows.Len() {
		if _, ok := index[rows.Key(i)]; ok {
			order = append(order, i)
		}
	}
	return order
}

// cursor is the index of the selected row, counted without the head.
func (t *Table) cursor() int {
	row, _ := t.view.GetSelection()
	return max(row-1, 0)
}

// seek puts the cursor on the row with the remembered key, else as near to at as there is a row.
func (t *Table) seek(at int) {
	n := t.content.len()
	if n == 0 {
		return
	}
	at = min(at, n-1)
	if t.picked {
		for d := range n { // the row is mostly where it was
			if i := at - d; i >= 0 && t.content.keyAt(i) == t.key {
				t.place(i)
				return
			}
			if i := at + d; i < n && t.content.keyAt(i) == t.key {
				t.place(i)
				return
			}
		}
	}
	if !t.picked {
		at = 0
	}
	t.place(at)
}

func (t *Table) place(i int) {
	t.content.selected = i
	t.view.Select(i+1, 0)
	if t.picked {
		t.key = t.content.keyAt(i)
	}
}

// Move moves the cursor. Until it is moved for the first time it stays on the first row, whichever that is.
func (t *Table) Move(m Move, now time.Time) {
	n := t.content.len()
	if n == 0 {
		return
	}
	_, _, _, h := t.view.GetInnerRect()
	t.moved = now
	t.picked = true
	t.place(m.step(t.cursor(), n, h-1))
}

// Pick puts the cursor on the row with a key, if there is one.
func (t *Table) Pick(key uint64) {
	t.key, t.picked = key, true
	t.seek(t.cursor())
}

// Selected returns the index of the row under the cursor in the rows of the last update, -1 where there is none.
func (t *Table) Selected() int {
	if t.content.len() == 0 {
		return -1
	}
	return t.content.at(min(t.cursor(), t.content.len()-1))
}

// Position says which row, from 1, of how many is selected.
func (t *Table) Position() (row, of int) {
	if t.content.len() == 0 {
		return 0, 0
	}
	return t.cursor() + 1, t.content.len()
}

// Draw draws the table; empty stands below the head where there are no rows.
func (t *Table) Draw(c Canvas, r Rect, empty []report.Line) {
	if r.W < 1 || r.H < 1 {
		return
	}
	t.content.layout(c, r.W)
	t.view.SetSelectedStyle(c.Theme.Selected())
	t.view.SetRect(r.X, r.Y, r.W, r.H)
	// The library goes on showing the last row once it was in view, and forgets the cursor when the height changes:
	// naming offset and selection again undoes both.
	t.view.SetOffset(t.view.GetOffset())
	t.view.Select(t.view.GetSelection())
	t.view.Draw(c.Screen)
	if t.content.len() > 0 {
		return
	}
	for i, line := range empty {
		c.Line(r, 2, 2+i, line)
	}
}
