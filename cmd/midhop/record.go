package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/redact"
)

// recordOptions are the flags of `midhop record`.
type recordOptions struct {
	local    localOptions
	file     string
	maxSize  string
	maxFiles int
	force    bool
	redact   string
}

func newRecord() *cobra.Command {
	var opts recordOptions
	cmd := &cobra.Command{
		Use:   "record FILE",
		Short: "Write everything that is seen to a file, to be replayed",
		Long: `Writes every fact of this machine, and what was found in them, to FILE until Ctrl-C. A name that ends in .zst is
compressed. midhop replay FILE shows it again.

With --max-size a full FILE is renamed to FILE with a number before its extension (rec.jsonl becomes rec.1.jsonl), and a new
FILE is begun. Every file stands alone: it begins by telling again the nodes, the sockets and the translated connections that
are known, and incidents that are open are opened again in it, under the id of a line of that file.

With --redact clients it can be given away: addresses that are not of nodes, pods, services or load balancers are replaced by
pseudonyms before anything is written or judged. Names of pods and nodes stay.

Where the disk is full, lines are left out whole and counted; the recording goes on as soon as there is room.`,
		Example: "  midhop record incident.jsonl.zst\n  midhop record /var/log/midhop.jsonl.zst --max-size 100M --max-files 10",
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.file = args[0]
			return runRecord(cmd.Context(), opts)
		},
	}
	opts.local.register(cmd)
	askFlag(cmd.Flags(), &opts.local.ask)
	f := cmd.Flags()
	f.DurationVar(&opts.local.since, "since", 0, "of a hub: what it holds of this long ago until now, and then end")
	f.StringVar(&opts.maxSize, "max-size", "", "begin the next file at this `size`: 64M, 1G, ... (default: one file without bound)")
	f.IntVar(&opts.maxFiles, "max-files", 0, "keep this many files, the oldest go (default: all)")
	f.StringVar(&opts.redact, "redact", "", redactHelp)
	f.BoolVar(&opts.force, "force", false, "replace FILE where it exists")
	return cmd
}

// parseSize returns bytes: 4096, 64k, 10M, 2GiB. All units are powers of 1024, as in ls -h.
func parseSize(text string) (int64, error) {
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(text), "b"), "i")
	shift := 0
	if n := len(number); n > 0 {
		if i := strings.IndexByte("kmgt", number[n-1]); i >= 0 {
			number, shift = number[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<62>>shift {
		return 0, usagef("--max-size %q: want a size such as 64M or 1G", text)
	}
	return n << shift, nil
}

// runRecord records until the user has had enough.
//
// With rotation there is one Engine per file. Between two of them the facts are held back for a moment; the next one is
// told what is still true and then goes on where the last one stopped. So each file holds exactly what one fold of it
// gives, and can be replayed and verified alone.
func runRecord(ctx context.Context, o recordOptions) error {
	var opts jsonl.FileOptions
	var err error
	if o.maxSize != "" {
		if opts.MaxSize, err = parseSize(o.maxSize); err != nil {
			return err
		}
	}
	switch {
	case o.maxFiles < 0:
		return usagef("--max-files %d: at least 1", o.maxFiles)
	case o.maxFiles > 0 && opts.MaxSize == 0:
		return usagef("--max-files says how many files are kept: it needs --max-size")
	}
	opts.MaxFiles, opts.Overwrite = o.maxFiles, o.force
	if err := checkTarget(o.file, o.force); err != nil {
		return err
	}
	redactor, err := newRedactor(o.redact, true)
	if err != nil {
		return err
	}
	o.local.cut = o.local.since > 0
	l, err := openLocal(ctx, o.local, o.local.log())
	if err != nil {
		return err
	}
	defer l.close()
	return l.record(ctx, o.file, opts, redactor)
}

// record writes the facts of a watch to a file, redacted where redactor is given.
func (l *localWatch) record(ctx context.Context, path string, opts jsonl.FileOptions, redactor *redact.Redactor) error {
	r := recorder{path: path}
	full := make(chan struct{}, 1)
	if opts.MaxSize > 0 {
		r.head = jsonl.NewHead()
		opts.Full = func() { full <- struct{}{} }
	}
	opts.Trouble = func(err error) { explain(os.Stderr, "midhop: ", r.trouble(err)) }
	var err error
	if r.file, err = createRecording(ctx, path, opts); err != nil {
		return err
	}
	newProgress(os.Stderr).say("recording to %s; Ctrl-C ends it", path)

	sources, stop := context.WithCancel(ctx)
	defer stop()
	facts := startRelay(sources, l.sources)
	var first []event.Event
	for {
		engine := tracer.New(l.options)
		engine.AddSource("facts", facts.redacted(first, redactor))
		engine.AddSink("file", &r, tracer.Policy{Wait: recordWait})
		run, next := context.WithCancel(ctx)
		turn := make(chan struct{})
		go func() {
			defer close(turn)
			select {
			case <-full:
				next()
			case <-run.Done():
			}
		}()
		err = engine.Run(run)
		again := run.Err() != nil && ctx.Err() == nil && err == nil
		next()
		<-turn
		if !again {
			break
		}
		if err = r.file.Next(); err != nil {
			break
		}
		first = r.head.Facts()
	}
	stop()
	if failed := facts.wait(); err == nil {
		err = failed
	}
	if closeErr := r.file.Close(); err == nil {
		err = closeErr
	}
	return r.end(err)
}

// checkTarget tells a name that cannot be meant before anything is watched.
func checkTarget(path string, force bool) error {
	if path == "-" {
		return usagef("record writes to a file; for a pipe: midhop watch --complete -o jsonl")
	}
	if strings.HasSuffix(path, ".gz") {
		return usagef("%s: gzip is not written; name it %s.zst", path, strings.TrimSuffix(path, ".gz"))
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return usagef("%s is a directory", path)
	case err == nil && info.Mode().IsRegular() && !force:
		return usagef("%s exists; name another file, or replace it with --force", path)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return usageError{err}
	}
	return nil
}

// createRecording begins the file; opening a pipe waits for its reader, which may never come.
func createRecording(ctx context.Context, path string, opts jsonl.FileOptions) (*jsonl.File, error) {
	type made struct {
		file *jsonl.File
		err  error
	}
	done := make(chan made, 1)
	go func() {
		f, err := jsonl.CreateFile(path, opts)
		done <- made{f, err}
	}()
	select {
	case m := <-done:
		return m.file, m.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// recorder is the sink of a recording.
type recorder struct {
	path string
	file *jsonl.File
	head *jsonl.Head // nil without rotation
}

// Write implements tracer.Sink.
func (r *recorder) Write(batch []event.Event) error {
	if r.head != nil {
		r.head.Take(batch)
	}
	return r.file.Write(batch)
}

// trouble explains that there is no room.
func (r *recorder) trouble(err error) error {
	return blindError{
		cause:  fmt.Errorf("%s: %w", r.path, err),
		effect: "lines are left out, whole and counted, until there is room again",
		remedy: "make room; a later recording can be bounded with --max-size and --max-files",
	}
}

// end says what was written. That the user has stopped the recording is how it ends.
func (r *recorder) end(err error) error {
	s := r.file.Stats()
	newProgress(os.Stderr).say("%s: %d lines, %s", r.path, s.Lines-s.Lost, plural(s.Files, "file"))
	if s.Lost > 0 {
		fmt.Fprintf(os.Stderr, "midhop: %s: %d of %d lines are missing: there was no room for them\n", r.path, s.Lost, s.Lines)
	}
	if err == nil || errors.Is(err, context.Canceled) {
		return errStopped
	}
	return quiet(err)
}
