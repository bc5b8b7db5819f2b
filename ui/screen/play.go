package screen

import (
	"fmt"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Play is where a recording is. It is a value: whoever plays hands out a new one.
type Play struct {
	Begin    time.Time
	End      time.Time // of what is known of it; zero: nothing yet
	At       time.Time
	Speed    float64 // 0: as fast as it goes
	Paused   bool
	Ended    bool      // nothing more comes
	Seeking  time.Time // it is on the way there; zero: it is not
	Way      float64   // 0 to 1, how far on that way
	Surveyed float64   // 0 to 1, how much was looked through for the moments below
	Moments  []Moment  // in order of time
	Stalled  []Level   // in order of time
}

// Moment is one of a recording's moments that one may want to see.
type Moment struct {
	Time  time.Time
	After time.Time // where to go to see it: what it comes of was folded
	Mark  byte      // ! incident opened, x timeout, + incident closed
	Text  string
}

// Level is how many sockets were stalled at a moment.
type Level struct {
	Time    time.Time
	Stalled int
}

// Jump returns the first moment with a mark that lies behind t, or before it; false where there is none.
func (p *Play) Jump(t time.Time, mark byte, forward bool) (Moment, bool) {
	var best Moment
	found := false
	for _, m := range p.Moments {
		switch {
		case m.Mark != mark:
		case forward && m.Time.After(t):
			return m, true
		case !forward && m.After.Before(t):
			best, found = m, true
		}
	}
	return best, found
}

// State is what a recording does, in a few words.
func (p *Play) State() report.Line {
	speed := "max"
	if p.Speed > 0 {
		speed = fmt.Sprintf("x%g", p.Speed)
	}
	switch {
	case !p.Seeking.IsZero():
		return report.Line{}.Append(report.Warn, fmt.Sprintf("SEEKING %d %%", int(p.Way*100)))
	case p.Ended:
		return report.Line{}.Append(report.Plain, "REPLAY END")
	case p.Paused:
		return report.Line{}.Append(report.Warn, "REPLAY PAUSED")
	}
	return report.Line{}.Append(report.Plain, "REPLAY "+speed)
}

// draw draws the strip at the top of r and returns how many rows it took.
//
//	|====*-------!------------x------|  ! incident  x timeout
//	 stalled  ..:=*####=:
func (p *Play) draw(c widget.Canvas, r widget.Rect, cx report.Context) int {
	legend := "  ! incident  x timeout"
	if r.W < 80 {
		legend = ""
	}
	width := r.W - 4 - len(legend)
	if width < 10 || p.End.IsZero() || !p.End.After(p.Begin) {
		c.Line(r, 1, 0, report.Words(report.Muted, "the recording is being looked through"))
		return 1
	}
	span := p.End.Sub(p.Begin)
	at := func(t time.Time) int {
		return min(max(int(float64(t.Sub(p.Begin))/float64(span)*float64(width)), 0), width-1)
	}
	cells := []byte(strings.Repeat("-", width))
	here := at(p.At)
	for i := range here {
		cells[i] = '='
	}
	for _, m := range p.Moments {
		if i := at(m.Time); m.Mark == '!' || m.Mark == 'x' && cells[i] != '!' {
			cells[i] = m.Mark
		}
	}
	line := report.Line{{S: "|"}}
	for i, b := range cells {
		class := report.Muted
		switch {
		case i == here:
			b, class = '*', report.Strong
		case b == '!' || b == 'x':
			class = report.Bad
		case b == '=':
			class = report.Plain
		}
		line = append(line, report.Text{S: string(b), Class: class})
	}
	line = append(line, report.Text{S: "|"}, report.Text{S: legend, Class: report.Muted})
	c.Line(r, 1, 0, line)
	return 1 + p.drawLevels(c, r, width, at)
}

// drawLevels draws how many sockets were stalled along the strip, where there is room.
func (p *Play) drawLevels(c widget.Canvas, r widget.Rect, width int, at func(time.Time) int) int {
	if r.H < 25 || len(p.Stalled) == 0 {
		return 0
	}
	values := make([]int, width)
	from, level, most := 0, 0, 0
	for _, l := range p.Stalled {
		i := at(l.Time)
		for j := from; j < i; j++ {
			values[j] = max(values[j], level)
		}
		from, level = i, l.Stalled
		values[i] = max(values[i], level)
		most = max(most, level)
	}
	for j := from; j <= at(p.End); j++ {
		values[j] = max(values[j], level)
	}
	if most == 0 {
		return 0
	}
	line := report.Line{{S: " "}, {S: widget.Spark(c.Theme, values), Class: report.Bad}}
	c.Line(r, 1, 1, line.Append(report.Muted, fmt.Sprintf("   stalled, most %s", report.Count(most))))
	return 1
}
