package report

import (
	"strings"
)

// Class says what a piece of text means, so that whoever paints it can choose a style. No meaning is carried by the
// class alone: the words say it too.
type Class uint8

// The classes.
const (
	Plain  Class = iota
	Head         // titles of columns and sections
	Strong       // what the eye should find first
	OK           // healthy
	Warn         // at risk
	Bad          // lost, or about to be
	Muted        // context
	Key          // a key to press or a command to type
)

// Text is a run of characters of one class. It is safe for a terminal once it has been through [Clean].
type Text struct {
	S     string
	Class Class
}

// Line is one line of text.
type Line []Text

// String returns the line without its classes.
func (l Line) String() string {
	if len(l) == 1 {
		return l[0].S
	}
	var b strings.Builder
	for _, t := range l {
		b.WriteString(t.S)
	}
	return b.String()
}

// Width returns how many terminal columns the line takes.
func (l Line) Width() int {
	n := 0
	for _, t := range l {
		n += Width(t.S)
	}
	return n
}

// Append returns the line with a cleaned run added; an empty run adds nothing.
func (l Line) Append(c Class, s string) Line {
	if s == "" {
		return l
	}
	return append(l, Text{Clean(s), c})
}

// Pad returns the line with spaces added until it is width columns wide.
func (l Line) Pad(width int) Line {
	if n := width - l.Width(); n > 0 {
		return append(l, Text{S: strings.Repeat(" ", n)})
	}
	return l
}

// Fit returns the line cut to at most width columns, the last of them being [Cut] where something is missing.
func (l Line) Fit(width int) Line {
	if l.Width() <= width {
		return l
	}
	if width < 1 {
		return nil
	}
	var out Line
	room := width
	for i, t := range l {
		w := Width(t.S)
		if w < room || (w == room && i == len(l)-1) {
			out, room = append(out, t), room-w
			continue
		}
		head, _ := splitAt(t.S, room-1)
		return append(out, Text{head + Cut, t.Class})
	}
	return out
}

// Words makes a line of one class; s is cleaned.
func Words(c Class, s string) Line { return Line{{Clean(s), c}} }

// Wrap breaks a line into lines of at most width columns, at spaces where there are some; lines after the first begin
// with indent spaces. A width below 8 counts as 8.
func (l Line) Wrap(width, indent int) []Line {
	width = max(width, 8)
	indent = min(indent, width/2)
	if l.Width() <= width {
		return []Line{l}
	}
	var (
		out  []Line
		cur  Line
		room = width
		lead = false // nothing but the indent stands in cur
	)
	next := func() {
		out = append(out, cur.trimRight())
		cur, room, lead = Line{{S: strings.Repeat(" ", indent)}}, width-indent, true
	}
	for _, t := range l {
		for _, word := range splitKeepingSpaces(t.S) {
			w := Width(word)
			if word[0] == ' ' {
				if !lead && w <= room {
					cur, room = append(cur, Text{word, t.Class}), room-w
				}
				continue
			}
			if w > room && !lead && len(cur) > 0 && w <= width-indent {
				next()
			}
			for w > room {
				head, tail := splitAt(word, room)
				if head == "" { // a wide character at the edge
					next()
					continue
				}
				cur = append(cur, Text{head, t.Class})
				next()
				word, w = tail, Width(tail)
			}
			if word != "" {
				cur, room, lead = append(cur, Text{word, t.Class}), room-w, false
			}
		}
	}
	return append(out, cur.trimRight())
}

func (l Line) trimRight() Line {
	for len(l) > 0 {
		last := &l[len(l)-1]
		last.S = strings.TrimRight(last.S, " ")
		if last.S != "" {
			break
		}
		l = l[:len(l)-1]
	}
	return l
}

// splitKeepingSpaces cuts s into words and the runs of spaces between them; no part is empty.
func splitKeepingSpaces(s string) []string {
	var out []string
	start := 0
	for i := 1; i < len(s); i++ {
		if (s[i] == ' ') != (s[i-1] == ' ') {
			out = append(out, s[start:i])
			start = i
		}
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}
