package ui

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/filter"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/ui/screen"
)

// command is what can be typed after a colon.
type command struct {
	name string
	arg  string // what follows it, for the help; empty: nothing
	help string
	args func(a *app) []string // what may follow; nil: anything
	run  func(a *app, arg string) (screen.Action, error)
}

func goes(to func() screen.Screen) func(*app, string) (screen.Action, error) {
	return func(*app, string) (screen.Action, error) { return screen.Action{Root: to()}, nil }
}

// commands is the list of commands; completion and help are made from it.
func commands() []command {
	return []command{
		{name: "nodes", help: "nodes screen", run: goes(func() screen.Screen { return screen.NewNodes() })},
		{name: "incidents", help: "incidents screen", run: goes(func() screen.Screen { return screen.NewIncidents() })},
		{name: "sockets", arg: "[VIA]", help: "all sockets, or those that cross a node", args: viaNames, run: func(_ *app, arg string) (screen.Action, error) {
			return screen.Action{Root: screen.NewSockets(arg)}, nil
		}},
		{name: "path", help: "path of the first socket in trouble", run: (*app).firstPath},
		{name: "log", arg: "[NAME]", help: "log of what happened, or of what names something", args: viaNames, run: func(a *app, arg string) (screen.Action, error) {
			if arg == "" {
				return screen.Action{Root: screen.NewEvents(a.LogFilter)}, nil
			}
			return screen.Action{Root: screen.NewEventsOf(arg)}, nil
		}},
		{name: "doctor", help: "what works here and why not", run: goes(func() screen.Screen { return screen.NewDoctor() })},
		{name: "help", help: "the keys", run: func(a *app, _ string) (screen.Action, error) { return screen.Action{Open: a.help()}, nil }},
		{name: "sort", arg: "COLUMN", help: "sort by a column", args: columnNames, run: (*app).sortBy},
		{name: "time", arg: "utc|local|relative", help: "how moments are written", run: (*app).setTime,
			args: func(*app) []string { return []string{"local", "relative", "utc"} }},
		{name: "export", help: "save what the screen lists", run: func(a *app, _ string) (screen.Action, error) { a.save(); return screen.Action{}, nil }},
		{name: "goto", arg: "TIME", help: "of a recording: go to a moment, such as 11:27:04 or +30s", run: (*app).goTo},
		{name: "speed", arg: "N|max", help: "of a recording: how fast it goes", run: (*app).setSpeed,
			args: func(*app) []string { return []string{"1", "2", "5", "10", "max"} }},
		{name: "quit", help: "leave midhop", run: func(*app, string) (screen.Action, error) { return screen.Action{Quit: true}, nil }},
	}
}

// begins says whether a command begins so.
func (a *app) begins(word string) bool {
	for _, c := range commands() {
		if strings.HasPrefix(c.name, word) {
			return true
		}
	}
	return false
}

// completions returns what may follow the words typed.
func (a *app) completions(words []string) []string {
	if len(words) == 0 {
		var names []string
		for _, c := range commands() {
			names = append(names, c.name)
		}
		return names
	}
	for _, c := range commands() {
		if c.name == words[0] && c.args != nil && len(words) == 1 {
			return c.args(a)
		}
	}
	return nil
}

// command finds the command of a line, which may be cut short as far as it stays clear, and runs it.
func (a *app) command(text string) (screen.Action, error) {
	word, arg, _ := strings.Cut(text, " ")
	var names []string
	var found []command
	for _, c := range commands() {
		names = append(names, c.name)
		if c.name == word {
			found = []command{c}
			break
		}
		if strings.HasPrefix(c.name, word) {
			found = append(found, c)
		}
	}
	switch {
	case len(found) == 0:
		if near := filter.Nearest(word, names); near != "" {
			return screen.Action{}, fmt.Errorf("no command %q, did you mean %s?", word, near)
		}
		return screen.Action{}, fmt.Errorf("no command %q; tab lists them", word)
	case len(found) > 1:
		return screen.Action{}, fmt.Errorf("%q may be %s or %s", word, found[0].name, found[1].name)
	}
	return found[0].run(a, strings.TrimSpace(arg))
}

func viaNames(a *app) []string {
	var names []string
	for i := range a.frame.Snap.Vias {
		names = append(names, report.Clean(a.frame.Snap.Vias[i].Via))
	}
	return names
}

func columnNames(a *app) []string {
	if l, ok := a.top().(screen.Lister); ok {
		return l.FilterNames()
	}
	return nil
}

func (a *app) sortBy(column string) (screen.Action, error) {
	l, ok := a.top().(screen.Lister)
	if !ok {
		return screen.Action{}, fmt.Errorf("there is nothing to sort on this screen")
	}
	return screen.Action{}, l.SortBy(column)
}

func (a *app) firstPath(string) (screen.Action, error) {
	if len(a.frame.Snap.Trouble) == 0 {
		return screen.Action{}, fmt.Errorf("no socket is in trouble; choose one on the sockets screen")
	}
	return screen.Action{Root: screen.NewPath(a.frame.Snap.Trouble[0])}, nil
}

// timeStyle is how moments are written.
type timeStyle int

const (
	timeLocal timeStyle = iota
	timeUTC
	timeRelative
)

func (a *app) setTime(arg string) (screen.Action, error) {
	styles := map[string]timeStyle{"local": timeLocal, "utc": timeUTC, "relative": timeRelative}
	style, ok := styles[strings.ToLower(arg)]
	if !ok {
		return screen.Action{}, fmt.Errorf(":time wants local, utc or relative")
	}
	return a.timeTo(style), nil
}

func (a *app) timeTo(style timeStyle) screen.Action {
	a.times = style
	a.frame.Relative, a.frame.Zone = false, a.Zone
	say := "times are local"
	switch style {
	case timeUTC:
		a.frame.Zone, say = time.UTC, "times are UTC"
	case timeRelative:
		a.frame.Relative, say = true, "times are relative to now"
	}
	return screen.Action{Say: say}
}

func (a *app) goTo(arg string) (screen.Action, error) {
	if a.Player == nil {
		return screen.Action{}, errLive
	}
	t, err := moment(arg, a.frame.Play, a.frame.Context())
	if err != nil {
		return screen.Action{}, err
	}
	return screen.Action{Say: a.seek(t)}, nil
}

func (a *app) setSpeed(arg string) (screen.Action, error) {
	if a.Player == nil {
		return screen.Action{}, errLive
	}
	x := 0.0
	if arg != "max" {
		var err error
		if x, err = strconv.ParseFloat(strings.TrimSuffix(strings.TrimPrefix(arg, "x"), "x"), 64); err != nil || !(x > 0 && x <= 1e6) {
			return screen.Action{}, fmt.Errorf(":speed wants a number such as 2 or 0.5, or max")
		}
	}
	a.Player.Speed(x)
	return screen.Action{Say: speedWords(x)}, nil
}
