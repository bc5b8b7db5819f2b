package report

import (
	"fmt"
	"strings"

	"github.com/midhop/midhop/tracer/model"
)

// Section is a titled part of a case.
type Section struct {
	Title  string
	Lines  []Line
	Indent int // of what a line continues on the next one
}

// Facts returns the case's head block: culprit, impact, hit and clock, and unless short where it was seen from, each as a
// label and a line.
func (c *Case) Facts(cx Context, short bool) []Section {
	out := []Section{
		{Title: "Culprit", Lines: []Line{c.Culprit(cx, short)}},
		{Title: "Impact", Lines: []Line{c.Impact()}},
	}
	if who := c.Who(short); len(who) > 0 {
		out = append(out, Section{Title: "Hit", Lines: []Line{who}})
	}
	out = append(out, Section{Title: "Clock", Lines: []Line{c.Clock(cx, short)}})
	if short {
		return out
	}
	return append(out, Section{Title: "Seen", Lines: []Line{c.Seen(cx)}})
}

// Seen says from where the incident was judged.
func (c *Case) Seen(cx Context) Line {
	s := model.Snapshot{Coverage: c.Incident.Coverage, Complete: true}
	text := Seen(cx, &s)
	if w := Watching(cx, &s); w != "" {
		text += "; " + w
	}
	return Words(Muted, text)
}

// barWidth is how many characters the bars of a time line have.
const barWidth = 24

// Timeline draws the marks with a bar for the stalled sockets; it wants at least 60 columns for the bars.
func (c *Case) Timeline(cx Context, width int) Section {
	most := 0
	for _, m := range c.Marks {
		most = max(most, m.Stalled)
	}
	text := width - 2 - 12 - 2 - (1 + barWidth + 2 + 14)
	bars := most > 0 && text >= 20
	var lines []Line
	for _, m := range c.Marks {
		line := Line{}.Append(Muted, cx.Millis(m.Time)+"  ")
		if bars {
			full := (m.Stalled*barWidth + most - 1) / most
			line = append(line, Text{S: Column{}.FitCell(Clean(m.Text), text)}, Text{" |" + strings.Repeat("#", full), Bad},
				Text{S: strings.Repeat(" ", barWidth-full) + "|"})
			if m.Stalled > 0 {
				line = line.Append(Plain, " "+Count(m.Stalled)+" stalled")
			}
		} else {
			line = line.Append(Plain, m.Text)
			if m.Stalled > 0 {
				line = line.Append(Bad, fmt.Sprintf("  %s stalled", Count(m.Stalled)))
			}
		}
		lines = append(lines, line)
	}
	return Section{"TIMELINE", lines, 14}
}

// For lists the evidence for the verdict.
func (c *Case) For() Section {
	s := Section{Title: "EVIDENCE FOR", Indent: 2}
	for _, e := range c.Incident.Evidence {
		if e.For {
			s.Lines = append(s.Lines, Line{{"+ ", OK}}.Append(Plain, e.Text))
		}
	}
	return s
}

// Against lists the evidence against the verdict and, marked with ?, what could not be looked at.
func (c *Case) Against() Section {
	s := Section{Title: "EVIDENCE AGAINST / NOT SEEN", Indent: 2}
	for _, e := range c.Incident.Evidence {
		if e.Against {
			s.Lines = append(s.Lines, Line{{"- ", Warn}}.Append(Plain, e.Text))
		}
	}
	for _, fact := range c.Incident.Coverage.Missing {
		s.Lines = append(s.Lines, Line{{"? ", Muted}}.Append(Muted, "not seen here: "+fact))
	}
	if n := len(c.Incident.Coverage.Silent); n > 0 {
		s.Lines = append(s.Lines, Line{{"? ", Muted}}.Append(Muted, "no agent heard on "+firstFew(c.Incident.Coverage.Silent, 4)))
	}
	return s
}

// Remedies lists what to do, the urgent first, each with its command, effect, risk and condition; short leaves out all of
// these but the command and how great the risk is. Keep, where it is not nil, picks remedies by their word for when.
func (c *Case) Remedies(short bool, keep func(when string) bool) Section {
	s := Section{Title: "REMEDY", Indent: 7}
	for i, r := range c.Incident.Remedy {
		if keep != nil && !keep(r.When) {
			continue
		}
		line := Line{}.Append(Strong, fmt.Sprintf("%d %-4s ", i+1, r.When)).Append(Plain, r.Text)
		if risk, _, _ := strings.Cut(r.Risk, ":"); short && risk != "" {
			line = line.Append(Muted, "  (risk "+risk+")")
		}
		s.Lines = append(s.Lines, line)
		for command := range strings.Lines(r.Command) {
			s.Lines = append(s.Lines, Line{{S: "       "}}.Append(Key, strings.TrimRight(command, "\r\n")))
		}
		if short {
			continue
		}
		var notes []string
		for _, note := range [][2]string{{"effect", r.Effect}, {"risk", r.Risk}, {"needs", r.Needs}} {
			if note[1] != "" {
				notes = append(notes, note[0]+": "+note[1])
			}
		}
		if len(notes) > 0 {
			s.Lines = append(s.Lines, Line{{S: "       "}}.Append(Muted, strings.Join(notes, "; ")))
		}
	}
	return s
}

// Alternatives lists the other explanations that were weighed.
func (c *Case) Alternatives() Section {
	s := Section{Title: "ALTERNATIVES CONSIDERED", Indent: 6}
	for _, a := range c.Incident.Alternatives {
		s.Lines = append(s.Lines, Line{}.Append(Muted, fmt.Sprintf("%.2f  ", a.Confidence)).
			Append(Plain, fmt.Sprintf("%s, %s %s", a.Rule, strings.ReplaceAll(string(a.Culprit.Kind), "_", " "), a.Culprit.Name)))
	}
	return s
}

// Text lays the whole case out for a page of width columns, 0 for no limit: to print, or to paste into a chat.
func (c *Case) Text(cx Context, width int) []Line {
	limit := width
	if limit == 0 {
		limit = 1 << 20
	}
	out := c.Head(cx, false).Wrap(limit, 2)
	label := func(s string) Text { return Text{fmt.Sprintf("%-9s ", s), Head} }
	for _, f := range c.Facts(cx, false) {
		for _, l := range f.Lines {
			out = append(out, append(Line{label(f.Title)}, l...).Wrap(limit, 10)...)
		}
	}
	barsAt := width
	if width == 0 {
		barsAt = 100
	}
	for _, s := range []Section{c.Timeline(cx, barsAt), c.For(), c.Against(), c.Remedies(false, nil), c.Alternatives()} {
		if len(s.Lines) == 0 {
			continue
		}
		out = append(out, nil, Line{{s.Title, Head}})
		for _, l := range s.Lines {
			out = append(out, append(Line{{S: "  "}}, l...).Wrap(limit, s.Indent+2)...)
		}
	}
	id := Words(Muted, "id "+c.Incident.ID+", opened "+cx.in(c.Incident.Opened).Format("2006-01-02T15:04:05.000Z07:00"))
	return append(append(out, nil), id.Wrap(limit, 2)...)
}
