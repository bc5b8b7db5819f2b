package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/midhop/midhop/tracer/fleet"
)

// Exit codes, the same for every command.
const (
	exitOK          = 0
	exitFailed      = 1   // failed while running
	exitUsage       = 2   // the command line is wrong
	exitBlind       = 3   // nothing that the command needs works here, or a gate saw too little
	exitFindings    = 4   // a gate command found something
	exitInterrupted = 130 // Ctrl-C
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usageRemedy is a mistake in the command line with what helps.
func usageRemedy(remedy string, err error) error { return usageError{remediedError{err, "", remedy}} }

// remediedError is an error that knows what follows from it and what helps.
type remediedError struct {
	error
	effect, remedy string
}

func (e remediedError) Unwrap() error  { return e.error }
func (e remediedError) Effect() string { return e.effect }
func (e remediedError) Remedy() string { return e.remedy }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errStopped is the end of a command that goes on until the user stops it, and has done what it should: Ctrl-C is no
// interruption of it.
var errStopped = errors.New("stopped")

// findingsError ends a gate command with exit 4 after its output was written; text goes to stderr, if any.
type findingsError struct{ text string }

func (e findingsError) Error() string { return e.text }

// blindError is the lack of every source of a fact that the command needs: what stands in the way, what follows from
// it, and what helps.
type blindError struct {
	cause  error
	effect string
	remedy string
}

func (e blindError) Error() string  { return e.cause.Error() }
func (e blindError) Unwrap() error  { return e.cause }
func (e blindError) Effect() string { return e.effect }
func (e blindError) Remedy() string { return e.remedy }

// explained is an error that also says what follows from it and what helps.
type explained interface {
	error
	Effect() string
	Remedy() string
}

// exitWith prints an error of a command for people and returns the exit code that scripts rely on.
func exitWith(w io.Writer, cmd *cobra.Command, err error) int {
	var (
		usage    usageError
		findings findingsError
		blind    blindError
		cut      *fleet.CutOffError
	)
	switch {
	case errors.As(err, &findings): // before EPIPE: a gate keeps its code when its reader has gone
		if findings.text != "" {
			fmt.Fprintln(w, "midhop:", findings.text)
		}
		return exitFindings
	case err == nil, errors.Is(err, errStopped), errors.Is(err, syscall.EPIPE):
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintf(w, "midhop: %v\n", err)
		var e explained
		if errors.As(err, &e) && e.Effect() != "" {
			fmt.Fprintf(w, "  effect: %s\n", e.Effect())
		}
		fmt.Fprintf(w, "  remedy: %s\n", remedyOf(cmd, err))
		return exitUsage
	}
	explain(w, "midhop: ", err)
	if errors.As(err, &blind) || errors.As(err, &cut) && !cut.Read {
		return exitBlind
	}
	return exitFailed
}

// explain prints cause, effect and remedy, each on a line of its own, as far as the error knows them.
func explain(w io.Writer, prefix string, err error) {
	fmt.Fprintf(w, "%s%v\n", prefix, err)
	var e explained
	if !errors.As(err, &e) {
		return
	}
	if effect := e.Effect(); effect != "" {
		fmt.Fprintf(w, "  effect: %s\n", effect)
	}
	if remedy := e.Remedy(); remedy != "" {
		fmt.Fprintf(w, "  remedy: %s\n", remedy)
	}
}

// noArgs refuses arguments; cobra's own check would not count as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q for %q", args[0], cmd.CommandPath())
	}
	return nil
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
