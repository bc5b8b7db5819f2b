package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/report"
)

// watchOptions are the flags of `midhop watch`.
type watchOptions struct {
	local    localOptions
	output   string
	complete bool
	filter   string
}

func newWatch() *cobra.Command {
	opts := watchOptions{}
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Write findings and sockets in trouble as they come",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output != outTable && opts.output != outJSONL {
				return usagef("unknown output %q: table or jsonl", opts.output)
			}
			return runWatch(cmd.Context(), opts)
		},
	}
	opts.local.register(cmd)
	f := cmd.Flags()
	askFlag(f, &opts.local.ask)
	f.StringVarP(&opts.output, "output", "o", outTable, "table or jsonl")
	f.DurationVar(&opts.local.since, "since", 0, sinceHelp)
	f.BoolVar(&opts.complete, "complete", false, "jsonl: every fact too, so that the stream can be replayed")
	f.StringVar(&opts.filter, "filter", "", filterHelp+strings.Join(report.EventNames, ", "))
	return cmd
}

// runWatch writes until the user or the reader has had enough.
func runWatch(ctx context.Context, o watchOptions) error {
	keep, err := parseFilter(o.filter)
	if err != nil {
		return err
	}
	w, err := watchLocal(ctx, o.local, o.local.log())
	if err != nil {
		return err
	}
	defer w.close()
	if !o.complete { // a stream that can be replayed begins where its state does
		keep = sinceFrom(w.from, keep)
	}
	return show(ctx, w.engine, o.output, outputOptions{complete: o.complete, keep: keep})
}

// show runs an Engine with one output until either ends. An interrupt is how a watch ends, and no error.
func show(ctx context.Context, engine *tracer.Engine, kind string, o outputOptions) error {
	out, err := newOutput(engine, kind, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { defer cancel(); return engine.Run(ctx) })
	g.Go(func() error { defer cancel(); return out.run(ctx) })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if closeErr := out.close(); err == nil {
		err = closeErr
	}
	return quiet(err)
}
