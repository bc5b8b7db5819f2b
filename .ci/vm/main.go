package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// words is a list whose values may also be separated by commas or blanks.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }
func (w *words) Set(s string) error {
	*w = append(*w, strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })...)
	return nil
}

var errUsage = errors.New("usage: vm fetch KERNEL... | vm run [-native] -kernel KERNEL [-pkg 'DIR [TEST...]']... [-bin 'PATH ARGS']...")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:])
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	var (
		flags    = flag.NewFlagSet("vm "+args[0], flag.ContinueOnError)
		mirror   = flags.String("mirror", "", "URL of a Debian archive (default: the one in this machine's apt sources)")
		kernels  words
		pkgs     list
		bins     list
		run      = flags.String("run", "", "run only the tests that match this regular expression")
		deadline = flags.Duration("deadline", 25*time.Minute, "longest time for one guest, boot included")
		memory   = flags.Int("memory", 1536, "memory of a guest, MiB")
		native   = flags.Bool("native", false, "run the jobs on this machine too, as a column of its own (root)")
		keep     = flags.String("log", "", "directory that keeps each guest's console and output")
	)
	flags.Var(&kernels, "kernel", "kernels to boot: "+strings.Join(kernelNames(), " "))
	flags.Var(&pkgs, "pkg", "package whose tests run in the guest, and the names of those that do where not all do (repeatable)")
	flags.Var(&bins, "bin", "static binary with its arguments, separated by blanks (repeatable)")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	wanted, err := findKernels(append(kernels, flags.Args()...))
	if err != nil {
		return err
	}
	switch args[0] {
	case "fetch":
		_, err := fetch(ctx, wanted, *mirror)
		return err
	case "run":
		return runAll(ctx, plan{
			kernels: wanted, mirror: *mirror, pkgs: pkgs, bins: bins, run: *run,
			native: *native, deadline: *deadline, memory: *memory, logs: *keep,
		})
	}
	return errUsage
}
