// Command midhop names the node that hanging TCP connections crossed. This package is wiring only: one file per
// subcommand; what it wires lives in tracer, bpf and ui.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Set by the linker, see the Makefile.
var (
	version = "devel"
	commit  = ""
)

func main() {
	os.Exit(run(os.Args[0], os.Args[1:]))
}

// run executes one command line and returns the exit code. The name of the program says whether it is kubectl's plugin.
func run(program string, args []string) int {
	if code, is := isGuardian(args); is {
		return code
	}
	// A reader that has gone is met as an error of the write, which ends the command quietly.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	heedMemoryLimit()
	go paceCollector(ctx)
	root := newRoot()
	if isPlugin(program) {
		asPlugin(root)
	}
	root.SetArgs(args)
	context.AfterFunc(ctx, stop) // whoever asks a second time does not want to wait for what is being put away
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && ctx.Err() != nil {
		return exitInterrupted
	}
	return exitWith(os.Stderr, cmd, err)
}

// newRoot builds the command tree. Without a subcommand midhop is the live TUI on a terminal and `midhop watch` in a pipe.
func newRoot() *cobra.Command {
	var opts localOptions
	var ascii bool
	root := &cobra.Command{
		Use:   "midhop",
		Short: "Names the node that hanging connections crossed",
		Long: `midhop finds the node in the middle of connections that hang, says what happened to it with evidence for and
against, when each socket gives up, who the clients were, and what to do.

Without a subcommand it watches this machine: as a live screen on a terminal, as "midhop watch" in a pipe. As kubectl midhop
(the same program under the name kubectl-midhop) it shows the cluster instead, through the hub that runs there.`,
		Args:          noArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if isTerminal(os.Stdout) && isTerminal(os.Stdin) {
				return runScreen(cmd.Context(), opts, ascii)
			}
			return runWatch(cmd.Context(), watchOptions{local: opts, output: "table"})
		},
	}
	opts.register(root)
	root.Flags().DurationVar(&opts.since, "since", 0, sinceHelp)
	askFlag(root.Flags(), &opts.ask)
	asciiFlag(root, &ascii)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newWatch(), newVia(), newLab(), newAgent(), newHub(), newDeploy(), newSchema(), newVersion(), newDoctor(),
		newRecord(), newReplay(), newIncidents(), newCheck(), newImpact(), newRelief(), newProbe(),
	)
	addHidden(root)
	addReliefChild(root)
	fromEnvironment(root)
	return root
}
