package screen

import (
	"fmt"
	"strings"

	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/widget"
)

// Help lists the keys of another screen, then those that work everywhere, then the words and marks. It is made from the
// key map and so cannot name a key that does nothing.
type Help struct {
	of     string
	own    []Binding
	play   []Binding // of a recording
	global []Binding
	typed  [][2]string // commands
	pane   widget.Pane
}

// NewHelp returns the help for a screen.
func NewHelp(of string, own, play, global []Binding, typed [][2]string) *Help {
	return &Help{of: of, own: own, play: play, global: global, typed: typed}
}

// Crumb implements Screen.
func (n *Help) Crumb(*Frame) string { return "help" }

// Move implements Screen.
func (n *Help) Move(m widget.Move, _ *Frame) { n.pane.Scroll(m) }

// Place implements Screen.
func (n *Help) Place(*Frame) string {
	if below := n.pane.Below(); below > 0 {
		return fmt.Sprintf("%d more lines below: j", below)
	}
	return ""
}

// Keys implements Screen.
func (n *Help) Keys() []Binding { return nil }

// words are the terms that screens use.
var words = [][2]string{
	{"via", "the node that a connection crosses between its client and the pod"},
	{"at-risk", "a segment or probe went unanswered once"},
	{"STALLED", "unanswered twice in a row: no progress"},
	{"DOOMED", "stalled, or idle through a node that is proven gone: dead, noticed or not"},
	{"LEFT", "until the kernel gives the first socket up; >= where only a lower bound is known"},
	{"HEARD", "since anything was received through it"},
	{"look", "age of the oldest of the newest censuses of sockets"},
	{"x ! ?", "lost, at risk, unknown"},
}

// Draw implements Screen.
func (n *Help) Draw(c widget.Canvas, r widget.Rect, _ *Frame) {
	var lines []report.Line
	title := func(s string) {
		if len(lines) > 0 {
			lines = append(lines, nil)
		}
		lines = append(lines, report.Words(report.Head, s))
	}
	entry := func(class report.Class, left, right string) {
		line := report.Line{{S: "  "}}.Append(class, fmt.Sprintf("%-24s ", left)).Append(report.Plain, right)
		lines = append(lines, line.Wrap(r.W-2, 27)...)
	}
	if len(n.own) > 0 {
		title("ON THIS SCREEN: " + n.of)
		for _, b := range n.own {
			entry(report.Key, strings.Join(b.Keys, " "), b.Help)
		}
	}
	if len(n.play) > 0 {
		title("THE RECORDING")
		for _, b := range n.play {
			entry(report.Key, strings.Join(b.Keys, " "), b.Help)
		}
	}
	title("EVERYWHERE")
	for _, b := range n.global {
		entry(report.Key, strings.Join(b.Keys, " "), b.Help)
	}
	for _, m := range widget.Moves {
		entry(report.Key, strings.Join(m.Keys, " "), m.Help)
	}
	title("COMMANDS")
	for _, c := range n.typed {
		entry(report.Key, c[0], c[1])
	}
	title("WORDS")
	for _, w := range words {
		entry(report.Strong, w[0], w[1])
	}
	n.pane.Draw(c, r.Columns(1, r.W-2), lines)
}
