package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/source/bpfnat"
	"github.com/midhop/midhop/tracer/source/conntrack"
	"github.com/midhop/midhop/tracer/source/kernel"
	"github.com/midhop/midhop/tracer/source/sockets"
)

// localFacts says how this machine is to be watched.
type localFacts struct {
	budget float64 // share of a core for the census
	// budgetProbed is the share where the kernel tells of unanswered probes itself; the same if zero.
	budgetProbed float64
	ownOnly      bool        // keep kernel events of network namespaces that the own census knows, and no others
	blindOK      func(error) // called where no probe can be loaded, with the reason: sock_diag has to do; nil: that is an error
	// patience is how long the self-test of the probes may take, [bpf.QuickSelfTest] if zero.
	patience time.Duration
	// detail has the kernel's own words on rungs that do not serve told too. The verifier takes its time for them.
	detail bool
	served func(event.Probe) // told every fact as soon as it is settled how it is served; nil: nobody
	log    *slog.Logger
}

// rungsVariable forces rungs, such as "nat=ctnetlink,probe=census": for tests, and to see what a lower one would tell.
const rungsVariable = "MIDHOP_RUNGS"

// newLocalAgent opens every source of facts that this machine has. What cannot be opened costs its facts only; without
// probes there is nothing to watch, and the error says why.
func newLocalAgent(host event.Host, o localFacts) (*fleet.Agent, func(), error) {
	forced, err := bpf.ParseRungs(os.Getenv(rungsVariable))
	if err != nil {
		return nil, nil, usagef("%s: %v", rungsVariable, err)
	}
	detail := o.detail || o.log.Enabled(context.Background(), slog.LevelDebug)
	probes, report, err := bpf.Load(bpf.Options{Log: o.log, Rungs: forced, VerifierText: detail, Served: func(f bpf.FactReport) {
		if o.served != nil {
			o.served(probeOf(f))
		}
	}})
	switch {
	case err != nil && o.blindOK != nil:
		o.blindOK(blind(err))
		return diagAgent(host, o, err), func() {}, nil
	case err != nil:
		return nil, nil, blind(err)
	}
	if o.patience == 0 {
		o.patience = bpf.QuickSelfTest
	}
	report = probes.SelfTest(context.Background(), o.patience, report)
	if o.budgetProbed > 0 && report.Fact(bpf.FactProbe).Rung != "" {
		o.budget = o.budgetProbed
	}
	census := sockets.New(probes, sockets.Options{Budget: o.budget, Log: o.log})
	nat := report.Fact(bpf.FactNAT).Rung
	opts := kernel.Options{Suspect: census.Suspect, Node: host.Node, NATRung: nat, Log: o.log}
	if o.ownOnly {
		opts.Namespaces = census.Namespaces()
	}
	agent := &fleet.Agent{
		Node: host.Node,
		Started: event.Started{
			Midhop: build(), Host: host, Settings: fleet.ClockSettings(), Probes: probesOf(report, o.detail), Machine: fleet.Machine(),
		},
		Sources: []fleet.Source{census},
		Census:  census.Newest,
		Restate: census.Restate,
		Failed:  func(err error) { o.log.Warn("a source of facts has ended", "error", err) },
	}
	if ledger := addLedger(agent, nat != "", o.log, slog.LevelWarn); ledger != nil && nat != "" {
		opts.Ledger = ledger.Take
	}
	addMaps(agent, probes.HZ(), o.log)
	agent.Sources = append(agent.Sources, kernel.New(probes, opts))
	return agent, func() { _ = probes.Close() }, nil
}

// diagAgent is the lowest rung of all: the sockets of the own network namespace by sock_diag, and conntrack where that is
// allowed. why is what stands in the way of probes.
func diagAgent(host event.Host, o localFacts, why error) *fleet.Agent {
	census := sockets.New(sockets.Diag{}, sockets.Options{Budget: o.budget, Log: o.log})
	agent := &fleet.Agent{
		Node:    host.Node,
		Started: event.Started{Midhop: build(), Host: host, Settings: fleet.ClockSettings(), Machine: fleet.Machine()},
		Sources: []fleet.Source{census},
		Census:  census.Newest,
		Restate: census.Restate,
		Failed:  func(err error) { o.log.Warn("a source of facts has ended", "error", err) },
	}
	for _, f := range bpf.Facts() {
		p := event.Probe{Fact: string(f), Why: why.Error()}
		switch f {
		case bpf.FactProbe:
			p.Rung = "census"
		case bpf.FactSockets:
			p.Rung = "sock_diag"
		}
		p.Cost = costOf(p.Fact, p.Rung)
		agent.Started.Probes = append(agent.Started.Probes, p)
	}
	addLedger(agent, false, o.log, slog.LevelInfo) // the coverage says so: nobody expects it here
	return agent
}

// addLedger adds this namespace's NAT entries: what probes tell of them, or else what ctnetlink does. Where the table may
// not be read, it says so at the given level and returns nil.
func addLedger(agent *fleet.Agent, probed bool, log *slog.Logger, level slog.Level) *conntrack.Source {
	ledger, err := conntrack.Open(conntrack.Options{Node: agent.Node, Probed: probed, Log: log})
	if err != nil {
		log.Log(context.Background(), level, "no NAT ledger", "error", err)
		serveNAT(&agent.Started, "", err.Error())
		return nil
	}
	agent.Sources = append(agent.Sources, ledger)
	agent.Translations = ledger.Restate
	serveNAT(&agent.Started, conntrack.Rung, "")
	return ledger
}

// addMaps adds the translations that a dataplane keeps in its own BPF maps: now, or once it is installed.
func addMaps(agent *fleet.Agent, hz uint32, log *slog.Logger) {
	maps := bpfnat.New(bpfnat.Options{Node: agent.Node, Root: os.Getenv("MIDHOP_MAPS"), HZ: hz, Log: log})
	agent.Sources = append(agent.Sources, maps)
	for _, dataplane := range maps.Present() {
		agent.Started.Probes = append(agent.Started.Probes, event.Probe{Fact: "nat maps", Rung: dataplane, Why: "maps are looked at every 10 s or less often: what began since is not known yet"})
	}
	conntrack := agent.Translations
	agent.Translations = func(want func(original, reply event.Tuple, zone uint16) bool) {
		if conntrack != nil {
			conntrack(want)
		}
		maps.Restate(want)
	}
}

func probeOf(f bpf.FactReport) event.Probe {
	return event.Probe{
		Fact: string(f.Fact), Rung: f.Rung, Precise: f.Precise, Why: strings.Join(f.Reasons(), "; "), Cost: costOf(string(f.Fact), f.Rung),
		Fired: f.Fired, Unproven: f.Unproven,
	}
}

// probesOf puts the loader's report into the stream's words.
func probesOf(report bpf.Report, detail bool) []event.Probe {
	out := make([]event.Probe, 0, len(report))
	for _, f := range report {
		p := probeOf(f)
		if detail {
			for _, a := range f.Tried {
				p.Detail = append(p.Detail, a.Rung+": "+a.Err.Error())
			}
			p.Detail = append(p.Detail, f.VerifierTexts()...)
		}
		out = append(out, p)
	}
	return out
}

// serveNAT names ctnetlink as the rung of NAT facts where no program serves them; why is added where it does not either.
func serveNAT(s *event.Started, rung, why string) {
	for i := range s.Probes {
		p := &s.Probes[i]
		if p.Fact != string(bpf.FactNAT) || p.Rung != "" {
			continue
		}
		p.Rung, p.Cost = rung, costOf(p.Fact, rung)
		if why != "" {
			p.Why += "; ctnetlink: " + why
		}
	}
}

// blind explains why no probe could be loaded.
func blind(err error) error {
	var rights *bpf.PrivilegeError
	if errors.As(err, &rights) {
		return blindError{cause: errors.New(rights.Cause), effect: rights.Effect, remedy: rights.Remedy}
	}
	var kernel *bpf.KernelError
	if errors.As(err, &kernel) {
		return blindError{cause: errors.New(kernel.Cause), effect: kernel.Effect, remedy: kernel.Remedy}
	}
	return err
}
