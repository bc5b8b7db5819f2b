// Command bench runs midhop's benchmarks beside its peers, in one run on one machine, and writes one report: a table for
// people, JSON for programs, and a picture of how costs grow. Goals that are missed are named with the distance; what could
// not be run is named too.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

type options struct {
	out  string
	only *regexp.Regexp
	fast bool
}

func main() {
	var o options
	only := flag.String("only", "", "only suites whose name matches this regular `expression`")
	flag.StringVar(&o.out, "out", "bin/bench", "`directory` for report.txt, report.json and growth.svg")
	flag.BoolVar(&o.fast, "fast", false, "leave out what takes minutes: a million sockets, the blame epochs")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures and writes. A suite that fails costs its own lines only; a missed goal is no failure of the run.
func run(ctx context.Context, o options) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	rep := report{Date: time.Now().UTC().Format(time.RFC3339), Machine: thisMachine(), Load: []string{loadNow()}}
	rep.Skipped = installPeers(ctx)
	all := results{}
	for _, s := range suites(o.fast) {
		if !o.only.MatchString(s.name) {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s ... ", s.name)
		err := s.run(ctx, all)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "%.0f s\n", time.Since(began).Seconds())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			rep.Skipped = append(rep.Skipped, fmt.Sprintf("%s: %v", s.name, err))
		}
	}
	rep.Load = append(rep.Load, loadNow())
	rep.Lines, rep.Growth = lines(all), growth(all)
	rep.Measured = all
	for name, write := range map[string]func(io.Writer) error{
		"report.txt": rep.text, "report.json": rep.json, "growth.svg": rep.svg,
	} {
		f, err := os.Create(filepath.Join(o.out, name))
		if err != nil {
			return err
		}
		err = write(f)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return rep.text(os.Stdout)
}
