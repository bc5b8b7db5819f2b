package ui

import (
	"slices"
	"strings"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/midhop/midhop/ui/screen"
	"github.com/midhop/midhop/ui/widget"
)

// global is the key map of keys that work on every screen.
func (a *app) global() []screen.Binding {
	root := func(make func() screen.Screen) func(*screen.Frame) screen.Action {
		return func(*screen.Frame) screen.Action { return screen.Action{Root: make()} }
	}
	do := func(what screen.Action) func(*screen.Frame) screen.Action {
		return func(*screen.Frame) screen.Action { return what }
	}
	tells := func(f func()) func(*screen.Frame) screen.Action {
		return func(*screen.Frame) screen.Action { f(); return screen.Action{} }
	}
	keys := []screen.Binding{
		{Keys: []string{"esc", "backspace"}, Short: "back", Help: "take the filter away, or back to the screen before", Do: func(*screen.Frame) screen.Action {
			if l, ok := a.top().(screen.Lister); ok && l.Clear() {
				return screen.Action{}
			}
			return screen.Action{Back: true}
		}},
		{Keys: []string{"/"}, Short: "filter", Help: "filter the list: state:stalled left<5m !pod~^canary", Do: do(screen.Action{Prompt: '/'})},
		{Keys: []string{":"}, Short: "command", Help: "type a command; tab completes, up recalls", Do: do(screen.Action{Prompt: ':'})},
		{Keys: []string{"1"}, Short: "", Help: "nodes: who crosses which node, and what it costs",
			Do: root(func() screen.Screen { return screen.NewNodes() })},
		{Keys: []string{"2"}, Short: "incidents", Help: "incidents, open and closed",
			Do: root(func() screen.Screen { return screen.NewIncidents() })},
		{Keys: []string{"3"}, Short: "", Help: "all sockets, those in trouble first",
			Do: root(func() screen.Screen { return screen.NewSockets("") })},
		{Keys: []string{"4"}, Short: "", Help: "path of the first socket in trouble", Do: func(*screen.Frame) screen.Action {
			to, err := a.firstPath("")
			if err != nil {
				return screen.Action{Say: err.Error()}
			}
			return to
		}},
		{Keys: []string{"5"}, Short: "log", Help: "log of what happened",
			Do: root(func() screen.Screen { return screen.NewEvents(a.LogFilter) })},
		{Keys: []string{"6"}, Short: "", Help: "doctor: what works here, what was lost, who is silent",
			Do: root(func() screen.Screen { return screen.NewDoctor() })},
		{Keys: []string{"space"}, Short: "pause", Help: "freeze the screen, or go on; nothing is lost meanwhile",
			Do: do(screen.Action{Pause: true})},
		{Keys: []string{"c"}, Short: "copy", Help: "copy what the cursor is on, as text", Do: tells(func() { a.copyItem(false) })},
		{Keys: []string{"C"}, Help: "copy what the cursor is on, as JSON", Do: tells(func() { a.copyItem(true) })},
		{Keys: []string{"s"}, Short: "save", Help: "save the list as JSON and the screen as text; the paths are told at the end", Do: tells(a.save)},
		{Keys: []string{"t"}, Help: "moments in local time, in UTC, or relative to now", Do: func(*screen.Frame) screen.Action {
			return a.timeTo((a.times + 1) % 3)
		}},
		{Keys: []string{"?"}, Short: "help", Help: "this help", Last: true,
			Do: func(*screen.Frame) screen.Action { return screen.Action{Open: a.help()} }},
		{Keys: []string{"q"}, Short: "quit", Help: "leave midhop", Last: true, Do: do(screen.Action{Quit: true})},
		{Keys: []string{"ctrl-c"}, Short: "", Help: "leave at once", Do: do(screen.Action{Break: true})},
		{Keys: []string{"ctrl-z"}, Help: "stop midhop; fg continues it", Do: do(screen.Action{Sleep: true})},
		{Keys: []string{"ctrl-l"}, Short: "", Help: "paint the screen anew", Do: tells(a.Screen.Sync)},
	}
	if a.Player != nil { // space plays
		keys = slices.DeleteFunc(keys, func(b screen.Binding) bool { return b.Keys[0] == "space" })
	}
	return keys
}

func (a *app) top() screen.Screen { return a.stack[len(a.stack)-1] }

func (a *app) help() screen.Screen {
	if _, ok := a.top().(*screen.Help); ok {
		return nil // it is open already
	}
	own := a.top().Keys()
	var typed [][2]string
	for _, c := range commands() {
		typed = append(typed, [2]string{strings.TrimSpace(":" + c.name + " " + c.arg), c.help})
	}
	return screen.NewHelp(a.top().Crumb(&a.frame), own, unshadowed(a.playKeys(), own), a.global(), typed)
}

// unshadowed leaves out the keys that a screen uses for itself.
func unshadowed(keys, own []screen.Binding) []screen.Binding {
	return slices.DeleteFunc(keys, func(b screen.Binding) bool {
		return slices.ContainsFunc(own, func(o screen.Binding) bool { return slices.Contains(o.Keys, b.Keys[0]) })
	})
}

// handle deals with one event of the terminal and says whether the application ends.
func (a *app) handle(ev tcell.Event) (end bool, err error) {
	switch ev := ev.(type) {
	case *tcell.EventResize:
		a.keys++
	case *tcell.EventKey:
		a.keys++
		a.play() // keys act on where the recording is now
		if a.prompt.kind != 0 {
			return a.typeKey(ev)
		}
		return a.press(widget.KeyName(ev))
	}
	return false, nil
}

func (a *app) press(key string) (end bool, err error) {
	a.said = ""
	for _, list := range [][]screen.Binding{a.top().Keys(), a.playKeys(), a.global()} {
		for _, b := range list {
			if slices.Contains(b.Keys, key) {
				return a.act(b.Do(&a.frame))
			}
		}
	}
	for _, m := range widget.Moves {
		if slices.Contains(m.Keys, key) {
			a.top().Move(m.Move, &a.frame)
			return false, nil
		}
	}
	return false, nil
}

// sayFor is how long a message stays.
const sayFor = 3 * time.Second

func (a *app) act(do screen.Action) (end bool, err error) {
	switch {
	case do.Quit:
		return true, nil
	case do.Break:
		return true, ErrInterrupted
	case do.Pause:
		a.pause()
	case do.Sleep:
		if err := a.Suspend(a.Screen); err != nil {
			a.say("cannot stop: " + err.Error())
		}
	case do.Prompt != 0:
		a.openPrompt(do.Prompt, do.Begin)
	case do.Back && len(a.stack) > 1:
		a.stack = a.stack[:len(a.stack)-1]
	case do.Root != nil:
		// The nodes screen stays at the bottom with its cursor: esc leads back to it from everywhere.
		a.stack = a.stack[:1]
		if _, ok := do.Root.(*screen.Nodes); !ok {
			a.stack = append(a.stack, do.Root)
		}
	case do.Open != nil:
		a.stack = append(a.stack, do.Open)
	}
	if do.Say != "" {
		a.say(do.Say)
	}
	return false, nil
}

// say shows a message for a while.
func (a *app) say(text string) { a.said, a.until = text, a.Now().Add(sayFor) }

func (a *app) pause() {
	a.paused = !a.paused
	if !a.paused {
		a.frame.Snap, a.frame.Answer = a.live.snap, a.live.answer
	}
}
