package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/ui"
)

// logLines is how many events the log screen remembers.
const logLines = 10000

// screenOutput shows the Engine's snapshots live.
type screenOutput struct {
	opts ui.Options
	log  *ui.Log
}

func newScreen(engine *tracer.Engine, o outputOptions) *screenOutput {
	s := &screenOutput{log: ui.NewLog(logLines)}
	s.opts = screenOptions(o)
	s.opts.View, s.opts.Log = engine, s.log
	engine.AddSink("screen", o.sink(logSink{log: s.log}), tracer.Policy{Optional: true})
	return s
}

// screenOptions are those that do not depend on what is shown.
func screenOptions(o outputOptions) ui.Options {
	return ui.Options{
		Title: o.title, Zone: time.Local, Replay: o.replay,
		NoColor:  os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb",
		ASCII:    o.ascii || os.Getenv("TERM") == "linux",
		History:  historyFile(),
		SaveDirs: []string{".", os.TempDir()},
		Saved: func(paths []string) {
			fmt.Fprintln(os.Stderr, "midhop: saved")
			for _, p := range paths {
				if abs, err := filepath.Abs(p); err == nil {
					p = abs
				}
				fmt.Fprintln(os.Stderr, " ", p)
			}
		},
	}
}

// historyFile is where what is typed at the prompt is remembered, by the XDG base directory specification; empty where
// there is no home.
func historyFile() string {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // as the specification wants it
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "midhop", "history")
}

// asciiFlag lets a command that has screens draw them with ASCII characters only.
func asciiFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "ascii", false, "draw the screen with ASCII characters only (the default on TERM=linux)")
}

// showScreens runs the screens, and sees to it that the terminal is as before whatever ends this process.
func showScreens(ctx context.Context, o ui.Options) error {
	if o.Screen == nil {
		defer guardTerminal()()
	}
	return ui.Run(ctx, o)
}

// run shows the screen until the user leaves it; Ctrl-C is the other way to leave.
func (s *screenOutput) run(ctx context.Context) error {
	err := showScreens(ctx, s.opts)
	if errors.Is(err, ui.ErrInterrupted) {
		return context.Canceled
	}
	return err
}

func (s *screenOutput) fault(e event.Event) { s.log.Write([]event.Event{e}) }

func (s *screenOutput) close() error { return nil }

// logSink lets the screen's log be a sink; it never fails.
type logSink struct {
	log  *ui.Log
	keep func(*event.Event) bool // nil: all
}

// Write implements tracer.Sink.
func (l logSink) Write(batch []event.Event) error {
	if l.keep != nil {
		batch = slices.DeleteFunc(slices.Clone(batch), func(e event.Event) bool { return !l.keep(&e) })
	}
	l.log.Write(batch)
	return nil
}
