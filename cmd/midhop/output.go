package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/report"
)

// The ways to show a stream.
const (
	outScreen = "screen"
	outTable  = "table"
	outJSONL  = "jsonl"
)

// chooseOutput returns what -o says, or the default: the screen on a terminal, a table in a pipe.
func chooseOutput(flag string) (string, error) {
	switch flag {
	case outTable, outJSONL:
		return flag, nil
	case "":
		if isTerminal(os.Stdout) && isTerminal(os.Stdin) {
			return outScreen, nil
		}
		return outTable, nil
	}
	return "", usagef("unknown output %q: table or jsonl", flag)
}

// outputOptions say what of the stream is shown.
type outputOptions struct {
	complete bool                          // jsonl: facts too, so that the stream can be replayed
	title    string                        // of the screen
	ascii    bool                          // the screen is drawn without box characters
	summary  bool                          // table: close with the incidents and the table of vias
	replay   bool                          // moments count from the stream's time, not from now
	keep     func(*event.Event) bool       // which events are shown; nil: all. Those that are not are not lost
	wrap     func(tracer.Sink) tracer.Sink // stands between the Engine and the output; nil: nothing does
}

// sink puts what stands before an output in its place.
func (o outputOptions) sink(s tracer.Sink) tracer.Sink {
	if o.wrap == nil {
		return s
	}
	return o.wrap(s)
}

// shown is the choice of events for jsonl, nil for a complete stream.
func (o outputOptions) shown() func(*event.Event) bool {
	switch {
	case !o.complete && o.keep == nil:
		return func(e *event.Event) bool { return e.Type.IsFinding() || e.Type == event.LabFault }
	case !o.complete:
		return func(e *event.Event) bool {
			return (e.Type.IsFinding() || e.Type == event.LabFault) && o.keep(e)
		}
	}
	return o.keep
}

// output is where an Engine's stream goes.
type output interface {
	run(ctx context.Context) error // returns when the reader has had enough, or when ctx ends
	fault(e event.Event)           // shows a line that the Engine must not see
	close() error                  // after the Engine has ended
}

// recordWait is how long the Engine waits for a reader that is behind before it drops lines and counts them.
const recordWait = 200 * time.Millisecond

// newOutput hangs an output on an Engine that does not run yet.
func newOutput(engine *tracer.Engine, kind string, o outputOptions) (output, error) {
	switch kind {
	case outScreen:
		return newScreen(engine, o), nil
	case outJSONL:
		j := &jsonlOutput{writer: jsonl.New(os.Stdout, jsonl.Options{Keep: o.shown()})}
		engine.AddSink("stdout", o.sink(j), tracer.Policy{Wait: recordWait})
		return j, nil
	case outTable:
		t := &tableOutput{engine: engine, summary: o.summary, keep: o.keep, width: terminalWidth(os.Stdout)}
		engine.AddSink("stdout", o.sink(t), tracer.Policy{Wait: recordWait})
		return t, nil
	}
	return nil, fmt.Errorf("no output %q", kind)
}

// jsonlOutput writes lines for programs.
type jsonlOutput struct{ writer *jsonl.Writer }

// Write implements tracer.Sink.
func (j *jsonlOutput) Write(batch []event.Event) error { return j.writer.Write(batch) }

func (j *jsonlOutput) run(ctx context.Context) error { <-ctx.Done(); return nil }
func (j *jsonlOutput) close() error                  { return j.writer.Close() }

// fault writes the lab's own line; an error is met again by the next write.
func (j *jsonlOutput) fault(e event.Event) { _ = j.writer.Write([]event.Event{e}) }

// tableOutput writes findings as lines for people, and closes with the whole picture.
type tableOutput struct {
	engine  *tracer.Engine
	summary bool
	keep    func(*event.Event) bool
	width   int
	mu      sync.Mutex
}

// Write implements tracer.Sink.
func (t *tableOutput) Write(batch []event.Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []report.Line
	for i := range batch {
		e := &batch[i]
		if !report.Notable(e) || t.keep != nil && !t.keep(e) {
			continue
		}
		line := report.EventLine(report.Context{Now: e.Time}, e)
		if t.width > 0 {
			line = line.Fit(t.width)
		}
		lines = append(lines, line)
	}
	return report.WriteLines(os.Stdout, lines)
}

func (t *tableOutput) run(ctx context.Context) error { <-ctx.Done(); return nil }

func (t *tableOutput) fault(e event.Event) { _ = t.Write([]event.Event{e}) }

// close prints every incident in full and who crosses which node.
func (t *tableOutput) close() error {
	if !t.summary {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.engine.Snapshot()
	cx := report.Context{Now: s.Clock}
	for i := range s.Incidents {
		c, ok := report.CaseOf(s, s.Incidents[i].ID)
		if !ok {
			continue
		}
		if err := report.WriteLines(os.Stdout, append([]report.Line{nil}, c.Text(cx, t.width)...)); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stdout)
	return viaTable(t.engine, s, cx).Write(os.Stdout, t.width)
}

// terminalWidth returns the columns of a terminal, 0 for anything else: what goes into a pipe is not cut.
func terminalWidth(f *os.File) int {
	if !isTerminal(f) {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// quiet turns a reader that has gone into a quiet end.
func quiet(err error) error {
	if errors.Is(err, jsonl.ErrClosed) {
		return nil
	}
	return err
}
