package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/source/stream"
)

// recording is a stream that midhop wrote, opened and looked at: a file, or standard input for "-".
type recording struct {
	name    string
	pipe    bool // its end comes when the writer ends
	in      io.Reader
	file    *os.File
	opening event.Event    // the first line that can be read; no Body where none can
	started *event.Started // its body, where it is the stream's beginning
	close   func()
}

// peekLines bounds how far a recording is searched for its first good line.
const peekLines = 1000

// openRecording opens a recording and waits for its first line. A name that cannot be opened is a mistake in the command
// line.
func openRecording(ctx context.Context, path string) (*recording, error) {
	r := &recording{name: path, close: func() {}}
	file := os.Stdin
	if path == "-" {
		r.name, r.pipe = "standard input", true
	} else {
		var err error
		if file, err = await(ctx, func() (*os.File, error) { return os.Open(path) }); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, usageRemedy(recordOne, err)
		}
		if info, err := file.Stat(); err == nil && info.IsDir() {
			file.Close()
			return nil, usageRemedy(recordOne, fmt.Errorf("%s is a directory, not a recording", path))
		}
		r.close = func() { file.Close() }
	}
	r.file = file
	if _, err := await(ctx, func() (any, error) { return nil, r.peek(file) }); err != nil {
		if ctx.Err() == nil { // else it is still being read
			r.close()
		}
		return nil, err
	}
	return r, nil
}

// peek reads up to the first good line, and puts what it read back before the rest. What has none is no recording.
func (r *recording) peek(file io.Reader) error {
	plain, err := jsonl.Plain(file)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	var read bytes.Buffer
	var first *stream.LineError
	found := false
	for i := range peekLines {
		line, err := plain.ReadSlice('\n')
		read.Write(line)
		e, bad := event.Decode(line)
		switch {
		case len(bytes.TrimSpace(line)) == 0:
		case bad == nil:
			found = true
			r.opening = e
			r.started, _ = e.Body.(*event.Started)
		case first == nil:
			first = &stream.LineError{Line: i + 1, Err: bad}
		}
		if found || err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			break // whoever reads on meets the error again
		}
	}
	if !found {
		return recordingError(r.name, read.Bytes()[:min(read.Len(), 4<<10)], first)
	}
	r.in = io.MultiReader(&read, plain)
	return nil
}

// complete says whether findings can be computed again. A stream whose beginning is missing is taken for complete.
func (r *recording) complete() bool { return r.started == nil || r.started.Complete }

// engine is an Engine that folds recordings: time comes from the lines alone.
func (r *recording) engine(lb []netip.Prefix, verbose bool) *tracer.Engine {
	node := ""
	if r.started != nil && strings.HasPrefix(r.opening.Source, "agent/") {
		node = r.started.Host.Node // the recording of one machine
	}
	return tracer.New(tracer.Options{
		Source: "replay", Log: logTo(os.Stderr, verbose), Model: model.Options{Node: node, Balancers: lb},
	})
}

// moment parses --from and --to: a time, a time of day on the recording's first day, or a span from its beginning.
func (r *recording) moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return r.opening.Time.Add(d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"15:04:05.999999999", "15:04"} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		day := r.opening.Time.UTC().Truncate(24 * time.Hour)
		at := day.Add(t.Sub(t.Truncate(24 * time.Hour)))
		if at.Before(r.opening.Time.Add(-12 * time.Hour)) {
			at = at.Add(24 * time.Hour)
		}
		return at, nil
	}
	return time.Time{}, usagef("--%s %q: want a time such as 2026-11-23T11:27:00Z, a time of day in UTC such as 11:27:04, or a span from the beginning such as 90s", flag, text)
}

// badLines tells lines that cannot be used: the first few in full, the rest as a number.
type badLines struct {
	name string
	held *strings.Builder // where they wait while a screen is shown; nil: they are told at once
	told int
	more int
	cut  bool // the recording ends inside a line
}

// badLinesTold is how many bad lines are told one by one.
const badLinesTold = 10

func (b *badLines) tell(bad *stream.LineError) {
	b.cut = b.cut || errors.Is(bad.Err, stream.ErrTruncated)
	if b.told == badLinesTold {
		b.more++
		return
	}
	b.told++
	to := io.Writer(os.Stderr)
	if b.held != nil {
		to = b.held
	}
	fmt.Fprintf(to, "midhop: %s: %v\n", b.name, bad)
}

func (b *badLines) count() int { return b.told + b.more }

// end sums up; the rest of the recording was used.
func (b *badLines) end() {
	if b.held != nil {
		_, _ = io.WriteString(os.Stderr, b.held.String())
	}
	switch {
	case b.more > 0:
		fmt.Fprintf(os.Stderr, "midhop: %s: %s more cannot be used\n  effect: what they said is missing; the rest is used\n", b.name, plural(b.more, "line"))
	case b.told > 0:
		what := "they"
		if b.told == 1 {
			what = "it"
		}
		fmt.Fprintf(os.Stderr, "  effect: what %s said is missing; the rest is used\n", what)
	}
}
