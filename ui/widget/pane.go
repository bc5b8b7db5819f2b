package widget

import (
	"github.com/midhop/midhop/tracer/report"
)

// Pane is text that scrolls.
type Pane struct {
	top, page, total int
}

// Scroll moves the text.
func (p *Pane) Scroll(m Move) {
	switch m {
	case Up, Down, PageUp, PageDown, HalfUp, HalfDown, Top:
		p.top = m.step(p.top, p.total, p.page)
	case Bottom:
		p.top = p.total
	}
	p.clamp()
}

func (p *Pane) clamp() { p.top = max(0, min(p.top, p.total-p.page)) }

// Reset goes back to the first line.
func (p *Pane) Reset() { p.top = 0 }

// Show moves the text as little as brings a line into view.
func (p *Pane) Show(line int) {
	p.top = max(min(p.top, line), line-p.page+1)
	p.clamp()
}

// Draw writes the lines that are in view.
func (p *Pane) Draw(c Canvas, r Rect, lines []report.Line) {
	p.page, p.total = r.H, len(lines)
	p.clamp()
	for y := range r.H {
		if p.top+y < len(lines) {
			c.Line(r, 0, y, lines[p.top+y])
		}
	}
}

// Below says how many lines are below the view, and above how many are above it.
func (p *Pane) Below() int { return max(0, p.total-p.page-p.top) }

// Above says how many lines are above the view.
func (p *Pane) Above() int { return p.top }
