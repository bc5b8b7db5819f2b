package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
)

// doctorPatience is how long the doctor waits for rungs to fire: the kernel's first window probe takes 200 ms.
const doctorPatience = 2 * time.Second

func newDoctor() *cobra.Command {
	var output, why, names string
	var hub hubOptions
	var verbose bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what works here, on which rung, and why not on a better one",
		Long: `Opens every source of facts as a watch would, makes two connections of its own on the loopback device to see whether the
rungs fire, says which rung serves each fact, what a lower one costs you and what stands in the way of a better one, and closes all
again. A fact on a lower rung is seen later or less exactly, never wrongly. The same list opens every stream; --why and -v add what
the kernel itself says. Exit code 3: no probe works here.

With --hub it looks at what a hub's stream of facts holds instead, and says what a hub does not believe of it: messages of
nobody who may write there, agents that claim other nodes' addresses, and such as tell more than their quota.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usagef("unknown output %q: text or json", output)
			}
			if hub.url != "" {
				return doctorHub(cmd.Context(), cmd.OutOrStdout(), hub, output)
			}
			var nodes []event.Node
			if names != "" {
				var err error
				if nodes, err = readNodes(cmd.Context(), names); err != nil {
					return err
				}
			}
			var blind error
			// What does not serve is the answer here, so it is not logged as well.
			agent, stop, err := newLocalAgent(fleet.ThisHost(""), localFacts{
				budget: 0.005, patience: doctorPatience, detail: verbose || why != "", log: slog.New(slog.DiscardHandler),
				blindOK: func(err error) { blind = err },
			})
			if err != nil {
				return err
			}
			defer stop()
			s := agent.Started
			if why != "" {
				if s.Probes, err = onlyFact(s.Probes, why); err != nil {
					return err
				}
				s.Machine = nil
			}
			if output == "json" {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(s)
			} else {
				err = writeDoctor(cmd.OutOrStdout(), &s)
			}
			if err == nil && nodes != nil && output == "text" {
				err = writeNetwork(cmd.OutOrStdout(), nodes, s.Host.Node)
			}
			if err != nil {
				return err
			}
			return blind
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	hub.register(cmd.Flags(), "say what is wrong with a hub's stream of facts instead")
	cmd.Flags().StringVar(&names, "nodes", "", "nodes `file`: say which network plugin its nodes have, what follows for addresses, and which node this machine is; with -o text")
	cmd.Flags().StringVar(&why, "why", "", "tell of one `fact` only, such as nat, why no better rung serves, in the kernel's words too")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "add what the kernel itself says of the rungs that do not serve")
	return cmd
}

// onlyFact picks one fact.
func onlyFact(probes []event.Probe, fact string) ([]event.Probe, error) {
	i := slices.IndexFunc(probes, func(p event.Probe) bool { return p.Fact == fact })
	if i >= 0 {
		return probes[i : i+1], nil
	}
	var known []string
	for _, p := range probes {
		known = append(known, p.Fact)
	}
	return nil, usagef("no fact %q: there are %s", fact, strings.Join(known, ", "))
}

// writeDoctor prints rungs and circumstances for people.
func writeDoctor(w io.Writer, s *event.Started) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, Linux %s, %s\n%-12s %-15s %-14s %s\n", s.Host.Node, s.Host.Kernel, s.Host.Arch, "FACT", "RUNG", "PRECISION", "SEEN TO FIRE")
	for _, p := range s.Probes {
		b.WriteString(probeLine(p) + reasons(p) + "\n")
	}
	for i, c := range s.Machine {
		if i == 0 {
			b.WriteString("\nMACHINE\n")
		}
		fmt.Fprintf(&b, "%-18s %s\n", c.Name, c.Is)
		if c.Note != "" {
			fmt.Fprintf(&b, "    %s\n", c.Note)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func probeLine(p event.Probe) string {
	rung, precision, fired := p.Rung, "precise", "not tried"
	switch {
	case rung == "":
		rung, precision = "none", "not available"
	case !p.Precise:
		precision = "coarse"
	}
	switch {
	case p.Fired:
		fired = "yes"
	case p.Unproven != "":
		fired = "no: " + p.Unproven
	case p.Rung == "":
		fired = "-"
	}
	return fmt.Sprintf("%-12s %-15s %-14s %s", p.Fact, rung, precision, fired)
}

// reasons says what the rung costs, then why the better ones do not serve, one to a line, then the kernel's own words.
func reasons(p event.Probe) string {
	var lines []string
	if p.Cost != "" {
		lines = append(lines, "costs you: "+p.Cost)
	}
	if p.Why != "" {
		if p.Cost == "" && p.Rung != "" {
			lines = append(lines, "costs you nothing: it tells the same as the best one")
		}
		lines = append(lines, strings.Split(p.Why, "; ")...)
	}
	for i, line := range p.Detail {
		if i == 0 {
			lines = append(lines, "the kernel's own words:")
		}
		lines = append(lines, "  "+line)
	}
	if len(lines) == 0 {
		return ""
	}
	return "\n    " + strings.Join(lines, "\n    ")
}
