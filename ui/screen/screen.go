package screen

import (
	"time"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Class is the layout class of a terminal, by its columns.
type Class int

// The layout classes.
const (
	Small  Class = iota // under 100 columns: one pane
	Medium              // 100 to 139: a list and its detail
	Large               // 140 and more
)

// ClassOf returns the class of a terminal of so many columns.
func ClassOf(width int) Class {
	switch {
	case width < 100:
		return Small
	case width < 140:
		return Medium
	}
	return Large
}

// lowHeight is the height under which summaries are left out.
const lowHeight = 20

// Frame is what there is to draw.
type Frame struct {
	Snap     *model.Snapshot // never nil; not Complete before the first look
	Now      time.Time       // live: the wall clock, frozen while paused
	Wall     time.Time       // the wall clock, whatever is shown
	Zone     *time.Location
	Relative bool    // moments are told by how far they are from Now
	Answer   *Answer // the newest to what an [Asker] asked; nil where there is none
	Class    Class
	Height   int // of the whole terminal
	Log      *Log
	Until    uint64 // number of the newest event of Log to show
	History  []int  // doomed sockets, one a second, the newest last
	Play     *Play  // where a recording is; nil: what is shown is live
	Cut      Cut
}

// Cut is that nothing new comes to be shown, though it should.
type Cut struct {
	Since time.Time // zero: all is well
	Why   string
}

// Line says so.
func (c Cut) Line(cx report.Context) report.Line {
	return report.Words(report.Bad, "nothing has come since "+cx.Time(c.Since.Truncate(time.Second))+": "+c.Why)
}

// Context is what report needs to write moments.
func (f *Frame) Context() report.Context {
	return report.Context{Now: f.Now, Zone: f.Zone, Relative: f.Relative}
}

// Low says whether there is too little height for a summary.
func (f *Frame) Low() bool { return f.Height < lowHeight }

// Ask is a question that a snapshot does not answer.
type Ask struct {
	ID    string // equal questions have equal ids
	Page  *model.PageQuery
	Share uint64 // key of a socket to compare with all others; 0: none
}

// Answer is what came of an [Ask].
type Answer struct {
	ID    string
	Page  model.Page
	Share *model.Share // nil where there is no such socket any more
}

// Asker is a screen that shows what is not in the snapshot. Asks is called after each drawing; an answer comes with one
// of the next frames, or never where nobody can give one.
type Asker interface {
	Asks() Ask
}

// Exporter is a screen of which a part, or all, can be taken along.
type Exporter interface {
	// Item is what the cursor is on: its name, as text, and as a value for JSON. False where there is none.
	Item(f *Frame) (name, text string, value any, ok bool)
	// All is everything that the screen lists, as a value for JSON.
	All(f *Frame) any
}

// Screen is one screen. All methods are called by the same goroutine.
type Screen interface {
	// Crumb names the screen in the line of crumbs.
	Crumb(f *Frame) string
	// Draw draws the screen into r, which is cleared.
	Draw(c widget.Canvas, r widget.Rect, f *Frame)
	// Move moves the cursor or scrolls.
	Move(m widget.Move, f *Frame)
	// Place says where the cursor is or what is out of view, for the line above the keys; empty where there is nothing
	// to say.
	Place(f *Frame) string
	// Keys lists the screen's own keys, the important ones first.
	Keys() []Binding
}

// Binding is a key of the key map. Help screens and lines of keys are made from it.
type Binding struct {
	Keys  []string // as widget.KeyName writes them; the first is shown
	Short string   // for the line of keys; empty: only in the help
	Help  string
	Last  bool // always named at the end of the line of keys
	Do    func(f *Frame) Action
}

// Line names the key in the line of keys.
func (b *Binding) Line() report.Line {
	return report.Line{{S: " "}}.Append(report.Key, b.Keys[0]).Append(report.Plain, " "+b.Short+" ")
}

// Action is what a key asks of the application.
type Action struct {
	Open   Screen // go into this screen; esc comes back
	Root   Screen // start again from this screen
	Back   bool   // go back to the screen before
	Pause  bool   // freeze or go on
	Quit   bool
	Break  bool // ctrl-c
	Sleep  bool // ctrl-z
	Prompt rune // : or / opens the prompt
	Begin  string
	Say    string // a message for a few seconds
}

// foot writes lines below a rule at the foot of r, at most half of it, and returns how many rows they took.
func foot(c widget.Canvas, r widget.Rect, lines []report.Line) int {
	if most := r.H / 2; len(lines) > most {
		lines = lines[:max(most, 0)]
	}
	top := r.H - len(lines) - 1
	c.Rule(r, top)
	for i, line := range lines {
		c.Line(r, 1, top+1+i, line)
	}
	return len(lines) + 1
}
