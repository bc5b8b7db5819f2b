// Package widget holds the parts that screens are made of: painted lines, virtual tables, scrolling panes and the names of
// keys. It must not know what is shown in them; it is the only place where report's classes become cells of a screen.
package widget

import (
	"strings"

	"github.com/gdamore/tcell/v2"
	"github.com/rivo/uniseg"

	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/theme"
)

// Rect is a part of the screen, in cells.
type Rect struct{ X, Y, W, H int }

// Rows returns the part of r from row y on, h rows high; what is outside r is cut off.
func (r Rect) Rows(y, h int) Rect {
	y = min(max(y, 0), r.H)
	return Rect{r.X, r.Y + y, r.W, max(0, min(h, r.H-y))}
}

// Columns returns the part of r from column x on, w columns wide; what is outside r is cut off.
func (r Rect) Columns(x, w int) Rect {
	x = min(max(x, 0), r.W)
	return Rect{r.X + x, r.Y, max(0, min(w, r.W-x)), r.H}
}

// Canvas is a screen with a theme.
type Canvas struct {
	Screen tcell.Screen
	Theme  theme.Theme
}

// Put writes text at column x, row y of r and returns the column after it. Nothing is written outside r; every string is
// cleaned, whoever made it.
func (c Canvas) Put(r Rect, x, y int, s string, style tcell.Style) int {
	if y < 0 || y >= r.H {
		return x
	}
	g := uniseg.NewGraphemes(report.Clean(s))
	for g.Next() {
		w := g.Width()
		if x+w > r.W {
			break
		}
		if w == 0 {
			continue
		}
		if x >= 0 {
			runes := g.Runes()
			c.Screen.SetContent(r.X+x, r.Y+y, runes[0], runes[1:], style)
		}
		x += w
	}
	return x
}

// Line writes a line at column x, row y of r, cut with a mark where it is too long, and returns the column after it.
func (c Canvas) Line(r Rect, x, y int, line report.Line) int {
	for _, t := range line.Fit(r.W - x) {
		x = c.Put(r, x, y, t.S, c.Theme.Style(t.Class))
	}
	return x
}

// Right writes a line at the right edge of row y of r and returns the column where it begins.
func (c Canvas) Right(r Rect, y int, line report.Line) int {
	x := max(0, r.W-line.Width())
	c.Line(r, x, y, line)
	return x
}

// Rule draws a horizontal rule on row y of r.
func (c Canvas) Rule(r Rect, y int) {
	if y < 0 || y >= r.H {
		return
	}
	style := c.Theme.Style(report.Muted)
	for x := range r.W {
		c.Screen.SetContent(r.X+x, r.Y+y, c.Theme.Horizontal(), nil, style)
	}
}

// Divider draws a vertical rule at column x of r.
func (c Canvas) Divider(r Rect, x int) {
	if x < 0 || x >= r.W {
		return
	}
	style := c.Theme.Style(report.Muted)
	for y := range r.H {
		c.Screen.SetContent(r.X+x, r.Y+y, c.Theme.Vertical(), nil, style)
	}
}

// Bar fills row y of r with a style and writes a line of one class on it.
func (c Canvas) Bar(r Rect, y int, text string, style tcell.Style) {
	if y < 0 || y >= r.H {
		return
	}
	c.Put(r, 0, y, report.Fit(text, r.W)+strings.Repeat(" ", max(0, r.W-report.Width(text))), style)
}

// Spark writes values as one character each, the newest at the right.
func Spark(th theme.Theme, values []int) string {
	most := 0
	for _, v := range values {
		most = max(most, v)
	}
	levels := th.Levels()
	var b strings.Builder
	for _, v := range values {
		if most == 0 || v <= 0 {
			b.WriteRune(levels[0])
			continue
		}
		b.WriteRune(levels[1+(v*(len(levels)-2))/most])
	}
	return b.String()
}
