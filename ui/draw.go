package ui

import (
	"fmt"

	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/screen"
	"github.com/midhop/midhop/ui/widget"
)

// Below this size there is room for one line of summary only.
const (
	leastWidth  = 40
	leastHeight = 10
)

// draw paints everything. tcell sends only the cells that differ to the terminal.
func (a *app) draw() {
	a.play()
	a.clock()
	a.expire()
	a.Screen.Clear()
	a.Screen.HideCursor()
	w, h := a.Screen.Size()
	r := widget.Rect{W: w, H: h}
	a.frame.Class, a.frame.Height = screen.ClassOf(w), h
	switch {
	case w < 1 || h < 1:
	case w < leastWidth || h < leastHeight:
		a.summary(r)
	default:
		a.identity(r.Rows(0, 1))
		a.top().Draw(a.canvas, r.Rows(1, h-3), &a.frame)
		a.foot(r.Rows(h-2, 2))
	}
	a.Screen.Show()
	a.ask()
	if a.Drawn != nil {
		a.Drawn(Drawing{Keys: a.keys, Version: a.frame.Snap.Version, Screen: a.Screen})
	}
}

// ask lets the poller know what the screen in view wants to know.
func (a *app) ask() {
	var q screen.Ask
	if p, ok := a.top().(screen.Asker); ok {
		q = p.Asks()
	}
	old, _ := a.wants.Load().(screen.Ask)
	a.wants.Store(q)
	if q.ID != old.ID && !a.paused {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// summary says the one thing that matters on a terminal too small for screens.
func (a *app) summary(r widget.Rect) {
	line := screen.Calm(&a.frame)
	if id := report.FirstOpen(a.frame.Snap); id != "" {
		line = screen.Alarm(&a.frame, id)
	}
	for y, part := range line.Wrap(r.W, 0) {
		a.canvas.Line(r, 0, y, part)
		if r.W >= leastWidth {
			break
		}
	}
}

// identity is the first line: where one is, how midhop itself is, and whether the view is live.
func (a *app) identity(r widget.Rect) {
	left := a.crumbLine(0)
	state := report.Line{}
	switch {
	case a.paused:
		state = state.Append(report.Warn, "PAUSED ")
	case a.frame.Play != nil:
		state = append(state, append(a.frame.Play.State(), report.Text{S: " "})...)
	case a.Replay:
		state = state.Append(report.Plain, "REPLAY ")
	case !a.frame.Cut.Since.IsZero():
		state = state.Append(report.Bad, "CUT OFF ")
	default:
		state = state.Append(report.OK, "LIVE ")
	}
	clock := a.frame.Context().Clock(a.frame.Now)
	if p := a.frame.Play; p != nil && !p.End.IsZero() && a.frame.Class > screen.Small {
		clock += " / " + a.frame.Context().Clock(p.End)
	}
	if a.times == timeUTC {
		clock += "Z"
	}
	health := report.Health(a.frame.Context(), a.frame.Snap, a.rate.perSecond, a.frame.Class == screen.Small)
	bad := alarming(health)
	if len(" midhop")+2+bad.Width()+2+state.Width()+len(clock)+1 <= r.W { // the clock gives way first
		state = state.Append(report.Plain, clock+" ")
	}
	room := r.W - state.Width() - 2
	if title := (report.Line{}).Append(report.Plain, "  "+a.Title); a.Title != "" && len(a.stack) == 1 &&
		left.Width()+title.Width()+2+health.Width() <= room {
		left = append(left, title...)
	}
	for from := 1; from < len(a.stack)-1 && left.Width()+2+bad.Width() > room; from++ {
		left = a.crumbLine(from) // where one is matters more than whence one came
	}
	if left.Width()+2+health.Width() <= room {
		left = append(left, report.Text{S: "  "})
		left = append(left, health...)
	} else if len(bad) > 0 {
		// No room for all: what is wrong with midhop itself must still be seen.
		left = append(left.Fit(room-bad.Width()-2), report.Text{S: "  "})
		left = append(left, bad...)
	}
	a.canvas.Line(r, 0, 0, left.Fit(room))
	a.canvas.Right(r, 0, state)
}

// crumbLine is the way to where one is, without the first few steps.
func (a *app) crumbLine(without int) report.Line {
	line := report.Line{}.Append(report.Strong, " midhop")
	if without > 0 {
		line = line.Append(report.Muted, " > ..")
	}
	for _, s := range a.stack[1+without:] {
		line = line.Append(report.Muted, " > ").Append(report.Plain, s.Crumb(&a.frame))
	}
	return line
}

// alarming keeps the parts of a line that warn.
func alarming(line report.Line) report.Line {
	var out report.Line
	for _, t := range line {
		if t.Class == report.Warn || t.Class == report.Bad {
			if len(out) > 0 {
				out = append(out, report.Text{S: "  "})
			}
			out = append(out, t)
		}
	}
	return out
}

// foot is the line of messages and the line of keys.
func (a *app) foot(r widget.Rect) {
	if a.prompt.kind != 0 {
		a.drawPrompt(r)
		return
	}
	left := report.Line{}.Append(report.Muted, " "+report.Watching(a.frame.Context(), a.frame.Snap))
	switch {
	case a.said != "":
		left = report.Line{}.Append(report.Strong, " "+a.said)
	case !a.frame.Cut.Since.IsZero():
		left = append(report.Line{{S: " "}}, a.frame.Cut.Line(a.frame.Context())...)
	case a.paused:
		left = report.Line{}.Append(report.Warn, " PAUSED").Append(report.Plain, ", "+a.missed()+" since; space goes on")
	default:
		if l, ok := a.top().(screen.Lister); ok && !l.Filter().Empty() {
			left = report.Line{}.Append(report.Strong, " /").Append(report.Plain, l.Filter().String())
		}
	}
	place := report.Words(report.Muted, a.top().Place(&a.frame)+" ")
	a.canvas.Line(r.Columns(0, r.W-place.Width()-1), 0, 0, left)
	a.canvas.Right(r, 0, place)

	a.canvas.Line(r, 0, 1, a.keyLine(r.W))
}

// keyLine names as many keys as there is room for; the way to the help and the way out are always among them.
func (a *app) keyLine(width int) report.Line {
	var keys, last report.Line
	for _, b := range a.global() {
		if b.Last {
			last = append(last, b.Line()...)
		}
	}
	for _, list := range [][]screen.Binding{a.top().Keys(), a.playKeys(), a.global()} {
		for _, b := range list {
			if b.Short == "" || b.Last || b.Keys[0] == "esc" && len(a.stack) == 1 {
				continue
			}
			if part := b.Line(); keys.Width()+part.Width()+last.Width() <= width {
				keys = append(keys, part...)
			}
		}
	}
	return append(keys, last...)
}

// missed counts the events that came since the screen was frozen.
func (a *app) missed() string {
	shown, now := uint64(0), uint64(0)
	for _, n := range a.frame.Snap.Events {
		shown += n
	}
	for _, n := range a.live.snap.Events {
		now += n
	}
	if now < shown {
		now = shown
	}
	return fmt.Sprintf("+%s events", report.Count(now-shown))
}
