package ui

import (
	"slices"
	"strings"

	"github.com/gdamore/tcell/v2"

	"github.com/midhop/midhop/tracer/filter"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/screen"
	"github.com/midhop/midhop/ui/widget"
)

// prompt is the line in which commands (:) and filters (/) are typed. While it is open it gets every key.
type prompt struct {
	kind   rune // : or /, 0 while it is closed
	text   []rune
	at     int            // of the cursor, in text
	before *filter.Filter // what esc goes back to
	bad    string         // what is wrong with the text; empty: nothing
	back   int            // how far back in the history
	typed  []rune         // what stood there before going back
}

// openPrompt opens it, with a text to begin with.
func (a *app) openPrompt(kind rune, text string) {
	p := prompt{kind: kind, text: []rune(text)}
	if l, ok := a.top().(screen.Lister); ok && kind == '/' {
		p.before = l.Filter()
		if text == "" {
			p.text = []rune(p.before.String())
		}
	} else if kind == '/' {
		a.say("there is nothing to filter on this screen")
		return
	}
	p.at = len(p.text)
	a.prompt = p
	a.check()
}

// key deals with a key while the prompt is open.
func (p *prompt) edit(ev *tcell.EventKey, name string) (changed bool) {
	switch name {
	case "backspace":
		if p.at > 0 {
			p.text = slices.Delete(p.text, p.at-1, p.at)
			p.at--
		}
	case "delete", "ctrl-d":
		if p.at < len(p.text) {
			p.text = slices.Delete(p.text, p.at, p.at+1)
		}
	case "left", "ctrl-b":
		p.at = max(p.at-1, 0)
	case "right", "ctrl-f":
		p.at = min(p.at+1, len(p.text))
	case "home", "ctrl-a":
		p.at = 0
	case "end", "ctrl-e":
		p.at = len(p.text)
	case "ctrl-u":
		p.text, p.at = p.text[p.at:], 0
	case "ctrl-k":
		p.text = p.text[:p.at]
	case "ctrl-w":
		from := p.at
		for from > 0 && p.text[from-1] == ' ' {
			from--
		}
		for from > 0 && p.text[from-1] != ' ' {
			from--
		}
		p.text = slices.Delete(p.text, from, p.at)
		p.at = from
	default:
		if ev.Key() != tcell.KeyRune || len(p.text) >= maxPrompt {
			return false
		}
		p.text = slices.Insert(p.text, p.at, ev.Rune())
		p.at++
	}
	return true
}

// maxPrompt bounds what is typed or pasted.
const maxPrompt = 2000

// typeKey deals with a key while the prompt is open, and says whether the application ends.
func (a *app) typeKey(ev *tcell.EventKey) (end bool, err error) {
	p := &a.prompt
	a.said = ""
	switch name := widget.KeyName(ev); name {
	case "ctrl-c":
		return true, ErrInterrupted
	case "esc":
		if l, ok := a.top().(screen.Lister); ok && p.kind == '/' {
			l.SetFilter(p.before)
		}
		a.prompt = prompt{}
	case "enter":
		return a.enter()
	case "tab":
		a.complete()
		a.check()
	case "up", "ctrl-p":
		a.recall(1)
	case "down", "ctrl-n":
		a.recall(-1)
	default:
		if name == "backspace" && len(p.text) == 0 {
			a.prompt = prompt{}
			return false, nil
		}
		if p.edit(ev, name) {
			p.back = 0
			a.check()
		}
	}
	return false, nil
}

// check says at once whether what is typed is valid; a valid filter is applied while it is typed.
func (a *app) check() {
	p := &a.prompt
	p.bad = ""
	switch p.kind {
	case '/':
		l, ok := a.top().(screen.Lister)
		if !ok {
			return
		}
		f, err := filter.Parse(string(p.text), l.FilterNames())
		if err != nil {
			p.bad = strings.TrimPrefix(err.Error(), "filter: ")
			return
		}
		l.SetFilter(f)
	case ':':
		if word, _, _ := strings.Cut(string(p.text), " "); word != "" && !a.begins(word) {
			p.bad = "no command " + word
		}
	}
}

// enter takes what was typed.
func (a *app) enter() (end bool, err error) {
	p := a.prompt
	text := strings.TrimSpace(string(p.text))
	if p.bad != "" && p.kind == '/' {
		return false, nil // it stays open, and says what is wrong
	}
	a.prompt = prompt{}
	if text != "" {
		a.history.add(p.kind, text)
	}
	if p.kind != ':' || text == "" {
		return false, nil
	}
	do, err := a.command(text)
	if err != nil {
		a.say(err.Error())
		return false, nil
	}
	return a.act(do)
}

// recall goes back and forth in the history.
func (a *app) recall(by int) {
	p := &a.prompt
	old := a.history.of(p.kind)
	if p.back == 0 {
		p.typed = p.text
	}
	p.back = min(max(p.back+by, 0), len(old))
	if p.text = slices.Clone(p.typed); p.back > 0 {
		p.text = []rune(old[len(old)-p.back])
	}
	p.at = len(p.text)
	a.check()
}

// complete completes the word before the cursor as far as it is certain.
func (a *app) complete() {
	p := &a.prompt
	word, all := a.candidates()
	if len(all) == 0 {
		return
	}
	common := all[0]
	for _, c := range all[1:] {
		n := 0
		for n < len(common) && n < len(c) && common[n] == c[n] {
			n++
		}
		common = common[:n]
	}
	if len(all) == 1 && p.kind == ':' {
		common += " "
	}
	if len(common) <= len(word) {
		return
	}
	rest := []rune(common[len(word):])
	p.text = slices.Insert(p.text, p.at, rest...)
	p.at += len(rest)
}

// candidates returns the word before the cursor and what it may become.
func (a *app) candidates() (word string, all []string) {
	before := string(a.prompt.text[:a.prompt.at])
	word = before[strings.LastIndexByte(before, ' ')+1:]
	var from []string
	switch a.prompt.kind {
	case '/':
		word = strings.TrimPrefix(word, "!")
		if l, ok := a.top().(screen.Lister); ok && !strings.ContainsAny(word, ":=<>~!") {
			from = l.FilterNames()
		}
	case ':':
		from = a.completions(strings.Fields(before[:len(before)-len(word)]))
	}
	for _, c := range from {
		if strings.HasPrefix(c, word) {
			all = append(all, c)
		}
	}
	slices.Sort(all)
	return word, all
}

// drawPrompt draws the line and, below it, what is wrong or what it may become.
func (a *app) drawPrompt(r widget.Rect) {
	p := &a.prompt
	shown := p.text
	from := 0
	if room := r.W/2 - 4; p.at > room {
		from = p.at - room
		shown = shown[from:]
	}
	line := report.Line{}.Append(report.Strong, " "+string(p.kind)).Append(report.Plain, string(shown))
	a.canvas.Line(r, 0, 0, line)
	a.Screen.ShowCursor(r.X+2+report.Width(string(p.text[from:p.at])), r.Y)
	word := report.Words(report.OK, "ok ")
	if place := a.top().Place(&a.frame); p.kind == '/' && place != "" {
		word = report.Words(report.OK, "ok, "+place+" ")
	}
	if p.bad != "" {
		word = report.Words(report.Bad, "not valid ")
	}
	a.canvas.Right(r, 0, word)
	below := report.Line{}
	_, all := a.candidates()
	switch {
	case p.bad != "":
		below = below.Append(report.Bad, " "+p.bad)
	case len(all) > 0 && len(all) <= 60:
		below = below.Append(report.Key, " tab ").Append(report.Muted, strings.Join(all, " "))
	default:
		below = below.Append(report.Key, " enter").Append(report.Plain, " take it ").Append(report.Key, " esc").Append(report.Plain, " leave it ").
			Append(report.Key, " up").Append(report.Plain, " what was typed before")
	}
	a.canvas.Line(r, 0, 1, below)
}
