package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer/lab"
)

// labOptions are the flags of `midhop lab`.
type labOptions struct {
	lab     lab.Options
	output  string
	keep    bool
	ascii   bool
	whole   bool
	ask     bool
	verbose bool

	agents      []string
	noInventory bool
}

func newLab() *cobra.Command {
	opts := labOptions{lab: lab.Defaults()}
	cmd := &cobra.Command{
		Use:   "lab [SCENARIO]",
		Short: "Break a small cluster in network namespaces on this machine, and watch it",
		Long: `Builds a small cluster in network namespaces of this machine, with real sockets, real NAT and a midhop agent on
every node, breaks it as the scenario says, and shows what midhop makes of it: live on a terminal, as a table in a pipe.
Nothing of it is left afterwards, and nothing outside its namespaces is touched. It needs root.`,
		Example: "  midhop lab node-gone\n  midhop lab node-gone --connections 1000 --seed 7 -o jsonl\n  midhop lab list",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("one scenario at a time: %q is too many", args[1])
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, s := range lab.Scenarios() {
				names = append(names, s.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				opts.lab.Scenario = args[0]
			}
			for _, a := range opts.agents {
				if k, err := strconv.Atoi(a); err == nil {
					opts.lab.Agents = append(opts.lab.Agents, k)
				} else {
					opts.lab.AgentsOf = append(opts.lab.AgentsOf, a)
				}
			}
			return runLab(cmd.Context(), opts)
		},
	}
	o, f := &opts.lab, cmd.Flags()
	f.IntVar(&o.Connections, "connections", o.Connections, "long-lived connections")
	f.DurationVar(&o.Duration, "duration", o.Duration, "end at the latest")
	f.DurationVar(&o.FaultAfter, "fault-after", 0, "when the fault comes (default: at a third of --duration)")
	f.DurationVar(&o.AttachAfter, "attach-after", 0, "start midhop this long after the fault")
	f.Float64Var(&o.Talk, "talk", o.Talk, "messages a second, each way, on every fifth connection")
	f.DurationVar(&o.Ping, "ping", 0, "let the server ping every connection this often")
	f.IntVar(&o.Pods, "pods", o.Pods, "pods behind the service")
	f.Float64Var(&o.Loss, "loss", o.Loss, "`percent` of packets lost, where the scenario loses packets")
	f.IntVar(&o.Victim, "victim", o.Victim, "which node the fault hits, counted from 1")
	f.Int64Var(&o.Seed, "seed", 0, "vary names, addresses, ports and the number of nodes")
	f.StringSliceVar(&opts.agents, "agents", nil, "nodes that run an agent, counted from 1, or victim, pods, caller (default: all)")
	f.BoolVar(&opts.noInventory, "no-inventory", false, "let the API say nothing: names come from the agents alone")
	f.BoolVar(&o.NoFault, "no-fault", false, "do everything but the fault")
	f.BoolVar(&o.Reconnect, "reconnect", false, "let clients whose connection ends connect again, by another node")
	f.StringVar(&o.Mode, "mode", o.Mode, "how kube-proxy writes its rules: nftables or iptables")
	f.IntVar(&o.Family, "family", o.Family, "4 or 6")
	f.StringVar(&o.Overlay, "overlay", "", "how nodes reach each other's pods (default: routes)")
	askFlag(f, &opts.ask)
	asciiFlag(cmd, &opts.ascii)
	f.BoolVar(&opts.keep, "keep", false, "leave the cluster standing after the verdict, until Ctrl-C")
	f.BoolVar(&opts.whole, "whole", false, "go on to the end of --duration whatever was found")
	f.StringVarP(&opts.output, "output", "o", "", "table or jsonl (default: screen on a terminal, else table)")
	f.BoolVarP(&opts.verbose, "verbose", "v", false, "log what happens inside to stderr")
	cmd.AddCommand(newLabList())
	return cmd
}

func newLabList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the scenarios",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range lab.Scenarios() {
				expected := describe(s.Expected())
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-18s %s\n%18s expected: %s\n", s.Name, s.Summary, "", expected); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// addHidden adds what midhop runs itself as.
func addHidden(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:                "lab-node",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.ChildMain(cmd.Context(), args)
		},
	})
}

// progress says on a terminal what is being done, so that nobody looks at nothing.
type progress struct {
	w  io.Writer
	on bool
}

func newProgress(f *os.File) progress { return progress{w: f, on: isTerminal(f)} }

func (p progress) say(format string, args ...any) {
	if p.on {
		fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// plural writes a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// runLab builds the lab, watches it, breaks it, and judges the verdict.
func runLab(ctx context.Context, o labOptions) error {
	out, err := chooseOutput(o.output)
	if err != nil {
		return err
	}
	tell := newProgress(os.Stderr)
	tell.say("building a cluster for %s: %s ...", o.lab.Scenario, plural(o.lab.Connections, "connection"))
	start := time.Now()
	watched := make(chan struct{})
	o.lab.Watched = watched
	cluster, err := lab.Start(ctx, o.lab, logTo(os.Stderr, o.verbose))
	if err != nil {
		return labError(err)
	}
	defer cluster.Close()
	tell.say("up after %.1f s; the fault comes in %s", time.Since(start).Seconds(), cluster.FaultAfter())
	return watchLab(ctx, cluster, watched, out, o)
}
