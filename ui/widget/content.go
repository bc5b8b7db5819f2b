package widget

import (
	"github.com/gdamore/tcell/v2"
	"github.com/rivo/tview"

	"github.com/midhop/midhop/tracer/report"
)

// content hands rows to tview one visible cell at a time. Column widths come from the column definitions alone, so that
// no other row need be looked at. Cell text goes through tview.Escape: a pod called "[red]" is shown as such.
type content struct {
	tview.TableContentReadOnly
	rows     Rows
	order    []int // display order where it differs from the rows' own
	selected int

	sorted  string // key of the column that rows are sorted by; empty: they come in an order of their own
	reverse bool
	wide    bool // show what else there is in place of what fits first

	canvas  Canvas
	columns []report.Column
	shown   []int // indices of the columns that fit
	widths  []int // of all columns
	cache   map[int][]report.Text
}

func (c *content) len() int {
	if c.rows == nil {
		return 0
	}
	if c.order != nil {
		return len(c.order)
	}
	return c.rows.Len()
}

func (c *content) at(i int) int {
	if c.order != nil {
		return c.order[i]
	}
	return i
}

func (c *content) keyAt(i int) uint64 { return c.rows.Key(c.at(i)) }

// marks is how many columns the cursor and the mark take.
const marks = 2

func (c *content) layout(canvas Canvas, width int) {
	c.canvas = canvas
	c.cache = make(map[int][]report.Text, 64)
	c.shown = c.shown[:0]
	if c.rows == nil {
		return
	}
	c.columns = append(c.columns[:0], c.rows.Columns()...)
	for i := range c.columns {
		if c.columns[i].Key == c.sorted && c.sorted != "" {
			c.columns[i].Title += c.canvas.Theme.Arrow(c.reverse)
		}
	}
	c.widths = report.Choose(c.columns, width-marks-1, 1)
	if c.wide {
		c.turn(width)
	}
	for i, w := range c.widths {
		if w > 0 {
			c.shown = append(c.shown, i)
		}
	}
}

// turn shows the columns that found no room, beside the first, which names the row. Where all found room it does nothing.
func (c *content) turn(width int) {
	hidden := make([]report.Column, 0, len(c.columns))
	at := make([]int, 0, len(c.columns))
	for i, w := range c.widths {
		if i == c.name() || w == 0 {
			hidden, at = append(hidden, c.columns[i]), append(at, i)
		}
	}
	if len(hidden) < 2 {
		return
	}
	for i := range c.widths {
		c.widths[i] = 0
	}
	for i, w := range report.Choose(hidden, width-marks-1, 1) {
		c.widths[at[i]] = w
	}
}

// name is the column that names the row: the first of names, else the first.
func (c *content) name() int {
	for i := range c.columns {
		if c.columns[i].Name {
			return i
		}
	}
	return 0
}

// GetRowCount implements tview.TableContent; the first row is the head.
func (c *content) GetRowCount() int { return c.len() + 1 }

// GetColumnCount implements tview.TableContent; the first column holds the cursor and the mark.
func (c *content) GetColumnCount() int { return len(c.shown) + 1 }

// GetCell implements tview.TableContent.
func (c *content) GetCell(row, column int) *tview.TableCell {
	if row == 0 {
		if column == 0 {
			return c.cell("  ", tcell.StyleDefault).SetSelectable(false)
		}
		i := c.shown[column-1]
		return c.cell(c.columns[i].FitCell(c.columns[i].Title, c.widths[i]), c.canvas.Theme.Style(report.Head)).SetSelectable(false)
	}
	if row > c.len() {
		return nil
	}
	row--
	if column == 0 {
		cursor := " "
		if row == c.selected {
			cursor = ">"
		}
		mark := c.rows.Mark(c.at(row))
		return c.cell(cursor+report.Clean(mark.S), c.canvas.Theme.Style(mark.Class))
	}
	cells, ok := c.cache[row]
	if !ok {
		cells = c.rows.Cells(c.at(row))
		c.cache[row] = cells
	}
	i := c.shown[column-1]
	return c.cell(c.columns[i].FitCell(report.Clean(cells[i].S), c.widths[i]), c.canvas.Theme.Style(cells[i].Class))
}

func (c *content) cell(text string, style tcell.Style) *tview.TableCell {
	return tview.NewTableCell(tview.Escape(text)).SetStyle(style)
}
