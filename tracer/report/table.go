package report

import (
	"bufio"
	"io"
	"strings"
)

// Column describes one column of a table. Its width never depends on rows that are not shown.
type Column struct {
	Key   string // stable name, for sorting and saved settings
	Title string
	Width int  // columns that it gets at least
	Max   int  // columns that it gets at most; 0: no more than Width on a screen, no bound on paper
	Right bool // numbers
	Rank  int  // 0 is always shown; the highest goes first where there is no room
	Name  bool // cells are names that are cut in the middle, see [FitMiddle]
}

// Field is a column together with the way to fill it from a row of type R.
type Field[R any] struct {
	Column
	Cell func(cx Context, row *R) Text
}

// Table is a table ready to be printed.
type Table struct {
	Columns []Column
	Rows    [][]Text
	After   []Line // sentences below
	Empty   Line   // stands in place of the rows where there are none
}

// Build fills a table with rows.
func Build[R any](cx Context, fields []Field[R], rows []R) Table {
	t := Table{Columns: ColumnsOf(fields), Rows: make([][]Text, len(rows))}
	for i := range rows {
		t.Rows[i] = Cells(cx, fields, &rows[i])
	}
	return t
}

// ColumnsOf returns the columns of fields.
func ColumnsOf[R any](fields []Field[R]) []Column {
	out := make([]Column, len(fields))
	for i := range fields {
		out[i] = fields[i].Column
	}
	return out
}

// Cells returns the cells of one row, cleaned.
func Cells[R any](cx Context, fields []Field[R], row *R) []Text {
	cells := make([]Text, len(fields))
	for i := range fields {
		cells[i] = fields[i].Cell(cx, row)
		cells[i].S = Clean(cells[i].S)
	}
	return cells
}

// Choose picks the columns that fit into width, gap columns apart, and says how wide each is; 0 means left out. What
// room remains goes to the columns with a Max, the earlier ones first.
func Choose(columns []Column, width, gap int) []int {
	widths := make([]int, len(columns))
	total := -gap
	for i, c := range columns {
		widths[i] = max(c.Width, Width(c.Title), 1)
		total += widths[i] + gap
	}
	for total > width {
		drop := -1
		for i, c := range columns {
			if widths[i] > 0 && c.Rank > 0 && (drop < 0 || c.Rank >= columns[drop].Rank) {
				drop = i
			}
		}
		if drop < 0 {
			break
		}
		total -= widths[drop] + gap
		widths[drop] = 0
	}
	for total > width { // nothing more to leave out: the widest gives way
		widest := 0
		for i := range widths {
			if widths[i] >= widths[widest] {
				widest = i
			}
		}
		if len(widths) == 0 || widths[widest] <= 1 {
			break
		}
		widths[widest]--
		total--
	}
	for i, c := range columns {
		if more := min(c.Max-widths[i], width-total); widths[i] > 0 && more > 0 {
			widths[i] += more
			total += more
		}
	}
	return widths
}

// FitCell returns a cell's text in exactly width columns.
func (c Column) FitCell(s string, width int) string {
	if c.Name {
		s = FitMiddle(s, width)
	} else {
		s = Fit(s, width)
	}
	pad := strings.Repeat(" ", max(0, width-Width(s)))
	if c.Right {
		return pad + s
	}
	return s + pad
}

// paperGap is how many spaces stand between the columns of a printed table.
const paperGap = 2

// Lines lays the table out for width columns, 0 meaning that nothing is cut: columns are as wide as their widest cell.
func (t Table) Lines(width int) []Line {
	columns := make([]Column, len(t.Columns))
	for i, c := range t.Columns {
		natural := 0
		for _, row := range t.Rows {
			natural = max(natural, Width(row[i].S))
		}
		if width == 0 {
			c.Width = max(c.Width, natural)
		} else {
			c.Max = max(c.Width, natural)
		}
		columns[i] = c
	}
	room := width
	if width == 0 {
		room = 1 << 30
		for i := range columns {
			columns[i].Max = 0
		}
	}
	widths := Choose(columns, room, paperGap)
	layOut := func(cell func(i int) Text) Line {
		var line Line
		first := true
		for i, c := range columns {
			if widths[i] == 0 {
				continue
			}
			if !first {
				line = append(line, Text{S: strings.Repeat(" ", paperGap)})
			}
			first = false
			text := cell(i)
			line = append(line, Text{c.FitCell(text.S, widths[i]), text.Class})
		}
		line = line.trimRight()
		if width > 0 {
			line = line.Fit(width)
		}
		return line
	}
	out := []Line{layOut(func(i int) Text { return Text{columns[i].Title, Head} })}
	for _, row := range t.Rows {
		out = append(out, layOut(func(i int) Text { return row[i] }))
	}
	if len(t.Rows) == 0 && len(t.Empty) > 0 {
		out = append(out, t.Empty)
	}
	for _, line := range t.After {
		if width > 0 {
			out = append(out, line.Wrap(width, 2)...)
		} else {
			out = append(out, line)
		}
	}
	return out
}

// Write prints the table without classes; see [Table.Lines] for width.
func (t Table) Write(w io.Writer, width int) error { return WriteLines(w, t.Lines(width)) }

// WriteLines prints lines without their classes.
func WriteLines(w io.Writer, lines []Line) error {
	b := bufio.NewWriter(w)
	for _, line := range lines {
		for _, t := range line {
			b.WriteString(t.S)
		}
		b.WriteByte('\n')
	}
	return b.Flush()
}
