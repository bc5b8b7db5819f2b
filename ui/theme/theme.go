// Package theme turns the classes of report into terminal styles and says which characters lines are drawn with. It must
// not know what is shown: every meaning is in the words already, a style only helps the eye.
package theme

import (
	"github.com/gdamore/tcell/v2"

	"github.com/midhop/midhop/tracer/report"
)

// Theme is how things look. The zero Theme draws box characters in colour.
type Theme struct {
	NoColor bool // attributes only: bold, dim, reverse
	ASCII   bool // no character outside ASCII in frames
}

// Style returns the style of a class. The background is always the terminal's own, and only the eight colours that every
// terminal lets its user choose are used.
func (t Theme) Style(c report.Class) tcell.Style {
	s := tcell.StyleDefault
	switch c {
	case report.Head, report.Strong:
		return s.Bold(true)
	case report.Muted:
		return s.Dim(true)
	case report.Bad:
		return t.paint(s.Bold(true), tcell.ColorMaroon)
	case report.Warn:
		return t.paint(s, tcell.ColorOlive)
	case report.OK:
		return t.paint(s, tcell.ColorGreen)
	case report.Key:
		return t.paint(s.Bold(true), tcell.ColorTeal)
	}
	return s
}

func (t Theme) paint(s tcell.Style, c tcell.Color) tcell.Style {
	if t.NoColor {
		return s
	}
	return s.Foreground(c)
}

// Selected is the style of the row under the cursor, which is marked with > as well.
func (t Theme) Selected() tcell.Style { return tcell.StyleDefault.Reverse(true) }

// Bar is the style of an alarm that takes a whole line.
func (t Theme) Bar(c report.Class) tcell.Style { return t.Style(c).Reverse(true) }

// Horizontal is the character of horizontal rules.
func (t Theme) Horizontal() rune {
	if t.ASCII {
		return '-'
	}
	return tcell.RuneHLine
}

// Vertical is the character of vertical rules.
func (t Theme) Vertical() rune {
	if t.ASCII {
		return '|'
	}
	return tcell.RuneVLine
}

// Join is the character where a vertical rule meets a horizontal one from below or, with up, from above.
func (t Theme) Join(up bool) rune {
	switch {
	case t.ASCII:
		return '+'
	case up:
		return tcell.RuneBTee
	}
	return tcell.RuneTTee
}

// Arrow marks the column that a table is sorted by.
func (t Theme) Arrow(reverse bool) string {
	switch {
	case t.ASCII && reverse:
		return "^"
	case t.ASCII:
		return "v"
	case reverse:
		return "▲"
	}
	return "▼"
}

// Levels are the characters of a sparkline, from none to most.
func (t Theme) Levels() []rune {
	if t.ASCII {
		return []rune(" .:-=+*#")
	}
	return []rune(" ▁▂▃▄▅▆▇█")
}
