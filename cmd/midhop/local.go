package main

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/kubeaccess"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/source/ask"
	"github.com/midhop/midhop/tracer/source/kube"
	"github.com/midhop/midhop/tracer/source/nodefile"
)

// localOptions are the flags of every command that looks at this machine.
type localOptions struct {
	nodes   string   // a nodes file, "-" for stdin
	node    string   // which of them this machine is
	lb      []string // ranges that balancers speak from, beside the built-in ones
	kube    kubeOptions
	hub     hubOptions    // look at a hub's stream instead of this machine
	since   time.Duration // of that, how far back
	cut     bool          // of that, nothing that comes later
	budget  float64       // percent of a core for the census
	verbose bool
	ask     bool // put questions to suspected nodes
	screen  bool // it is shown on a screen

	blindOK func(error)       // see localFacts
	served  func(event.Probe) // see localFacts
}

func (o *localOptions) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.nodes, "nodes", "", "nodes `file`: a YAML list, or what kubectl get nodes -o json prints; - for stdin")
	o.kube.register(cmd)
	f.StringVar(&o.node, "node", "", "`name` of the node that this machine is (default: its host name)")
	f.StringSliceVar(&o.lb, "lb", nil, "further load balancer `CIDR`s; Google's two are built in")
	f.Float64Var(&o.budget, "census-budget", 0.5, "`percent` of a core that the census of sockets may use")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log what happens inside to stderr")
	o.hub.register(f, "look at the cluster through this hub instead of at this machine; "+hubInCluster+": the one that runs in the cluster that kubectl would speak to")
}

// check parses what the flags could not.
func (o *localOptions) check() ([]netip.Prefix, error) {
	ranges, err := parseRanges(o.lb)
	if err != nil {
		return nil, err
	}
	if !(o.budget > 0 && o.budget <= 100) {
		return nil, usagef("--census-budget %g: a percentage above 0", o.budget)
	}
	return ranges, nil
}

// parseRanges parses what --lb says.
func parseRanges(lb []string) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for _, text := range lb {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usagef("--lb %q: not a CIDR such as 35.191.0.0/16", text)
		}
		ranges = append(ranges, p.Masked())
	}
	return ranges, nil
}

// log is for people: warnings on stderr, everything with --verbose.
func (o *localOptions) log() *slog.Logger { return logTo(os.Stderr, o.verbose) }

// localWatch is this machine's facts before an Engine folds them.
type localWatch struct {
	sources []namedSource
	options tracer.Options
	expects []string                  // what must have been looked at before a picture is whole: the facts of stream.synced
	api     *kube.Source              // nil where no Kubernetes API is used
	live    <-chan struct{}           // of a hub's stream: closed when its history is through; else nil
	from    time.Time                 // of a hub's stream: what was told before is not to be shown
	cut     func() *fleet.CutOffError // of a hub's stream: see fleet.Follower.Cut; else nil
	close   func()
}

type namedSource struct {
	name   string
	source tracer.Source
}

// openLocal opens this machine's sources. The error explains what is missing where nothing can be seen.
func openLocal(ctx context.Context, o localOptions, log *slog.Logger) (*localWatch, error) {
	ranges, err := o.check()
	if err != nil {
		return nil, err
	}
	if o.hub.url != "" {
		if o.ask {
			return nil, usagef("--ask asks from this machine: with --hub, the hub is to be started with it")
		}
		return openHub(o, log)
	}
	if o.since != 0 {
		return nil, usagef("--since needs --hub: what this machine did before is not kept here")
	}
	host := fleet.ThisHost(o.node)
	var nodes *nodefile.Source
	if o.nodes != "" {
		list, err := readNodes(ctx, o.nodes)
		if err != nil {
			return nil, err
		}
		host.Node = whichNode(list, host.Node, o.node != "", log)
		nodes = nodefile.New(list, time.Now())
	}
	if o.nodes != "" && !o.kube.use && o.kube.named() {
		log.Warn("the names come from the nodes file: --kubeconfig and --context are not used beside --nodes", "remedy", "leave one of them out, or --kube for both")
	}
	var api *kube.Source
	if o.nodes == "" && !o.kube.wanted() && kubeaccess.PodWithoutAccount() {
		log.Warn("this pod has no service account's token: nodes and pods will have no names", "remedy", podNames)
	}
	if o.nodes == "" && o.kube.wanted() || o.kube.use {
		if api, err = o.kube.open(host.Node, log); err != nil {
			return nil, err
		}
	}
	agent, stop, err := newLocalAgent(host, localFacts{budget: o.budget / 100, blindOK: o.blindOK, served: o.served, log: log})
	if err != nil {
		return nil, err
	}
	agent.Started.Complete = true
	// The ranges go through the stream and nowhere else, so that a recording knows them as well as this process does.
	agent.Started.Balancers = ranges
	l := &localWatch{
		sources: []namedSource{{"agent", agent}},
		options: tracer.Options{Live: true, Log: log, Model: model.Options{Node: host.Node}},
		expects: []string{"sockets"},
		close:   stop,
	}
	if hasLedger(agent.Started.Probes) {
		l.expects = append(l.expects, "nat")
	}
	if o.ask {
		asker := ask.New(ask.Options{Node: host.Node, Log: log})
		l.sources = append(l.sources, namedSource{"ask", asker})
		l.options.Ask = asks(asker)
	}
	if nodes != nil {
		l.sources = append(l.sources, namedSource{"nodes file", nodes})
		l.expects = append(l.expects, "nodes")
	}
	if api != nil {
		l.api = api
		l.sources = append(l.sources, namedSource{"kubernetes", api})
		l.expects = append(l.expects, api.Facts()...)
	}
	return l, nil
}

// watch is this machine's facts on their way into an Engine.
type watch struct {
	engine  *tracer.Engine
	expects []string // see localWatch
	live    <-chan struct{}
	from    time.Time
	cut     func() *fleet.CutOffError
	close   func()
}

// watchLocal puts this machine's sources behind an Engine.
func watchLocal(ctx context.Context, o localOptions, log *slog.Logger) (*watch, error) {
	l, err := openLocal(ctx, o, log)
	if err != nil {
		return nil, err
	}
	engine := tracer.New(l.options)
	for _, s := range l.sources {
		engine.AddSource(s.name, s.source)
	}
	if l.api != nil {
		suspicions{l.api}.attach(engine)
	}
	return &watch{engine: engine, expects: l.expects, live: l.live, from: l.from, cut: l.cut, close: l.close}, nil
}

// hasLedger says whether NAT entries come from anywhere.
func hasLedger(probes []event.Probe) bool {
	for _, p := range probes {
		if p.Fact == "nat" {
			return p.Rung != ""
		}
	}
	return false
}
