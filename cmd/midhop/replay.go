package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/redact"
	"github.com/midhop/midhop/tracer/report"
	"github.com/midhop/midhop/tracer/source/nodefile"
	"github.com/midhop/midhop/tracer/source/stream"
)

// replayOptions are the flags of `midhop replay`.
type replayOptions struct {
	file     string
	output   string
	complete bool
	speed    string
	from, to string
	nodes    string
	lb       []string
	filter   string
	verify   bool
	redact   string
	verbose  bool
	ascii    bool
}

func newReplay() *cobra.Command {
	var opts replayOptions
	cmd := &cobra.Command{
		Use:   "replay FILE|-",
		Short: "Show a recording as if it happened now, and find again what was found",
		Long: `Folds the facts of a recording, or of a pipe that midhop writes into, as if they came in now, and judges them
anew: live on a terminal, as lines in a pipe. A name that ends in .zst, or whatever begins like it, is decompressed.

Findings that stand in the recording are not shown but computed again; --verify compares the two. A stream that holds only
a part of the facts (watch without --complete) is shown as it is.`,
		Example: `  midhop replay incident.jsonl.zst
  midhop replay incident.jsonl --speed 10x --from 11:27
  midhop replay incident.jsonl --verify
  ssh node-b midhop agent | midhop replay - --nodes nodes.yaml`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.file = args[0]
			return runReplay(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.output, "output", "o", "", "table or jsonl (default: screen on a terminal, else table)")
	f.BoolVar(&opts.complete, "complete", false, "jsonl: every fact too, so that the stream can be replayed")
	f.StringVar(&opts.speed, "speed", "", "1x, 10x, ... or max (default: 1x on the screen, max elsewhere and for a pipe)")
	f.StringVar(&opts.from, "from", "", "show from this `time` on: a time, a time of day (UTC), or a span from the beginning")
	f.StringVar(&opts.to, "to", "", "end at this `time`")
	f.StringVar(&opts.filter, "filter", "", filterHelp+strings.Join(report.EventNames, ", "))
	f.StringVar(&opts.nodes, "nodes", "", "nodes `file` for names that the recording lacks; see midhop watch --help")
	f.StringSliceVar(&opts.lb, "lb", nil, "further load balancer `CIDR`s")
	asciiFlag(cmd, &opts.ascii)
	f.BoolVar(&opts.verify, "verify", false, "compare the findings with the recorded ones; exit 1 where they differ")
	f.StringVar(&opts.redact, "redact", "", redactHelp+": -o jsonl --complete")
	f.BoolVarP(&opts.verbose, "verbose", "v", false, "log what happens inside to stderr")
	return cmd
}

// oneFile wants exactly one argument.
func oneFile(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usagef("%s: which FILE? - is standard input", cmd.CommandPath())
	case len(args) > 1:
		return usagef("%s: one FILE at a time: %q is too many", cmd.CommandPath(), args[1])
	}
	return nil
}

// replayPlan is what the flags come to, once the recording is open.
type replayPlan struct {
	replayOptions
	rec      *recording
	out      string // screen, table, jsonl, or nothing for a mere comparison
	pace     *stream.Pace
	start    time.Time // zero: from the beginning
	end      time.Time
	ranges   []netip.Prefix
	names    []event.Node
	keepLine func(*event.Event) bool // nil: all
	redactor *redact.Redactor        // nil: nothing is redacted
	others   func(event.Event)       // told of findings and lab.* lines; nil: nobody
}

// outNone is the output of a comparison that nobody wants to see.
const outNone = "none"

func runReplay(ctx context.Context, o replayOptions) error {
	p := replayPlan{replayOptions: o}
	if err := p.check(ctx); err != nil {
		return err
	}
	rec, err := openRecording(ctx, o.file)
	if err != nil {
		return err
	}
	defer rec.close()
	p.rec = rec
	if err := p.settle(); err != nil {
		return err
	}
	if p.redactor, err = newRedactor(o.redact, false, p.ranges...); err != nil {
		return err
	}
	switch {
	case p.redactor != nil && (!rec.complete() || p.out == outScreen):
		return usagef("--redact makes a recording to share of a complete one: -o jsonl --complete > FILE")
	case !rec.complete():
		return p.showAsIs(ctx)
	case p.out == outScreen && !p.verify:
		return newPlayer(&p).run(ctx)
	}
	return p.run(ctx)
}

// check refuses what is wrong whatever the recording holds.
func (p *replayPlan) check(ctx context.Context) (err error) {
	switch {
	case p.verify && p.redact != "":
		return usagef("--verify and --redact contradict each other: redact first, and verify what comes of it")
	case p.verify && p.nodes != "":
		return usagef("--verify and --nodes contradict each other: with other names other findings come out")
	case p.verify && (p.from != "" || p.to != "" || p.filter != ""):
		return usagef("--verify compares the whole recording: it goes without --from, --to and --filter")
	case p.file == "-" && p.nodes == "-":
		return usagef("standard input cannot be both the recording and the nodes file")
	}
	if p.ranges, err = parseRanges(p.lb); err != nil {
		return err
	}
	if p.nodes != "" {
		if p.names, err = readNodes(ctx, p.nodes); err != nil {
			return err
		}
	}
	if _, err = parseSpeed(p.speed); err != nil {
		return err
	}
	if p.keepLine, err = parseFilter(p.filter); err != nil {
		return err
	}
	switch p.out = p.output; {
	case p.out == outTable, p.out == outJSONL:
	case p.out != "":
		return usagef("unknown output %q: table or jsonl", p.out)
	case p.verify:
		p.out = outNone
	case isTerminal(os.Stdout) && (isTerminal(os.Stdin) || p.file == "-"):
		p.out = outScreen
	default:
		p.out = outTable
	}
	return nil
}

// settle works out what depends on the recording's first line.
func (p *replayPlan) settle() (err error) {
	if p.start, err = p.rec.moment("from", p.from); err != nil {
		return err
	}
	if p.end, err = p.rec.moment("to", p.to); err != nil {
		return err
	}
	if !p.end.IsZero() && p.end.Before(p.start) {
		return usagef("--to %s is before --from %s", p.to, p.from)
	}
	if speed, _ := parseSpeed(p.speed); speed > 0 && p.out != outScreen {
		p.pace = stream.NewPace(speed, p.start)
	}
	if !p.start.IsZero() {
		p.keepLine = both(p.keepLine, func(e *event.Event) bool { return !e.Time.Before(p.start) })
	}
	return nil
}

// parseSpeed returns a speed, 0 for as fast as it goes.
func parseSpeed(text string) (float64, error) {
	if text == "" || text == "max" {
		return 0, nil
	}
	x, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(x > 0 && x <= 1e6) {
		return 0, usagef("--speed %q: want 1x, 10x, 0.5x or max", text)
	}
	return x, nil
}

// run folds the recording and shows what comes of it.
func (p *replayPlan) run(ctx context.Context) error {
	engine := p.rec.engine(p.ranges, p.verbose)
	var (
		bad    = &badLines{name: p.rec.name}
		flow   = newFlow()
		proof  *proof
		lab    faults
		view   output
		err    error
		others = func(event.Event) {}
	)
	if p.verify {
		proof = newProof()
		engine.AddSink("verify", proof, tracer.Policy{Wait: patience})
		others = proof.recorded
	}
	if p.out != outNone {
		view, err = newOutput(engine, p.out, outputOptions{
			complete: p.complete, summary: true, replay: true, ascii: p.ascii, title: "replay " + p.rec.name, keep: p.keepLine,
			wrap: func(s tracer.Sink) tracer.Sink { return flow.sink(lab.before(s)) },
		})
		if err != nil {
			return err
		}
		lab.show = view.fault
		findings := others
		others = func(e event.Event) {
			if e.Type == event.LabFault {
				lab.hold(e)
				return
			}
			findings(e)
		}
	} else {
		engine.AddSink("flow", flow.sink(nothing{}), tracer.Policy{})
	}
	p.others = others
	engine.AddSource("recording", p.source(bad, flow))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer cancel()
		return engine.Run(ctx)
	})
	if view != nil {
		g.Go(func() error { defer cancel(); return view.run(ctx) })
	}
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil // the user has left
	}
	if view != nil {
		lab.rest()
		if closeErr := view.close(); err == nil {
			err = closeErr
		}
	}
	bad.end()
	if err == nil && proof != nil {
		err = proof.verdict(os.Stdout, p.rec.name, bad.count())
	}
	return quiet(err)
}

// source is the recording's facts, at their pace and with the names of the nodes file.
func (p *replayPlan) source(bad *badLines, flow *flow) tracer.Source {
	opts := stream.Options{Pace: p.pace, To: p.end, Others: p.others, Bad: bad.tell}
	facts := tracer.Source(withNodes{stream.New(p.rec.in, opts), p.names, p.rec.opening.Time})
	if p.redactor != nil {
		facts = redacted{facts, p.redactor}
	}
	return flow.source(facts)
}

// patience is how long the Engine waits for an output of a replay. It does not come to that: the source waits for the
// outputs, since a recording is not in a hurry.
const patience = time.Minute

// flow lets a source run only so far ahead of the slowest output, so that a slow reader of a replay loses nothing.
type flow struct{ slots chan struct{} }

// flowAhead is how many batches may be under way; less than a sink's queue has room for.
const flowAhead = 64

func newFlow() *flow { return &flow{slots: make(chan struct{}, flowAhead)} }

// source waits with every batch until there is room. A batch of facts always reaches the outputs as one batch.
func (f *flow) source(s tracer.Source) tracer.Source { return flowSource{f, s} }

type flowSource struct {
	flow *flow
	from tracer.Source
}

// Run implements tracer.Source.
func (s flowSource) Run(ctx context.Context, emit func([]event.Event)) error {
	return s.from.Run(ctx, func(batch []event.Event) {
		if len(batch) == 0 {
			return
		}
		select {
		case s.flow.slots <- struct{}{}:
			emit(batch)
		case <-ctx.Done():
		}
	})
}

// sink makes room when an output has taken a batch.
func (f *flow) sink(s tracer.Sink) tracer.Sink { return flowSink{f, s} }

type flowSink struct {
	flow *flow
	to   tracer.Sink
}

// Write implements tracer.Sink.
func (s flowSink) Write(batch []event.Event) error {
	err := s.to.Write(batch)
	select {
	case <-s.flow.slots:
	default:
	}
	return err
}

// nothing is an output that nobody looks at.
type nothing struct{}

func (nothing) Write([]event.Event) error { return nil }

// withNodes tells nodes right after a stream's first line, as of that line: names that the stream lacks come from them.
type withNodes struct {
	from  tracer.Source
	nodes []event.Node
	at    time.Time
}

// Run implements tracer.Source.
func (w withNodes) Run(ctx context.Context, emit func([]event.Event)) error {
	told := len(w.nodes) == 0
	return w.from.Run(ctx, func(batch []event.Event) {
		if told || len(batch) == 0 {
			emit(batch)
			return
		}
		told = true
		var all []event.Event
		if batch[0].Type == event.StreamStarted {
			all, batch = append(all, batch[0]), batch[1:]
		}
		_ = nodefile.New(w.nodes, w.at).Run(ctx, func(facts []event.Event) { all = append(all, facts...) })
		emit(append(all, batch...))
	})
}
