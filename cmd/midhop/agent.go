package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/export/prom"
	"github.com/midhop/midhop/tracer/fleet"
)

// agentDelay is how long a line may wait for company: less than a person or a rule notices.
const agentDelay = 10 * time.Millisecond

// The share of a core, in percent, that an agent's census may use where nothing else is said. What else an agent does beside
// healthy sockets takes 0.2 to 0.3. Where the kernel tells of unanswered probes itself, a look in good times only finds out
// which sockets there are.
const (
	agentBudget      = 0.25
	agentBudgetProbe = 0.1
)

// onOneProcessor lets the program's own code run on one processor at a time, unless the environment says otherwise. An
// agent's node has other work to do; what is to be told in a storm fits on one; and with a single one no thread looks for
// work on another, which is a third of what an agent costs while nothing happens.
func onOneProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

// hubOptions are the flags of every command that speaks to a hub, or to the cluster that it keeps its streams in.
type hubOptions struct {
	url   string
	token string
	creds string
	ca    string
}

func (o *hubOptions) register(f *pflag.FlagSet, purpose string) {
	f.StringVar(&o.url, "hub", "", purpose+", as a `URL` such as tls://midhop-hub.midhop:4222")
	f.StringVar(&o.token, "hub-token", "", "`file` of the token that the hub is shown; it is read at every connect")
	f.StringVar(&o.creds, "hub-creds", "", "`file` of NATS credentials, where the streams are in a cluster of your own")
	f.StringVar(&o.ca, "hub-ca", "", "`file` of certificates to trust, beside the system's")
}

// at says where the streams are and what to show there.
func (o *hubOptions) at(log *slog.Logger) fleet.DialOptions {
	return fleet.DialOptions{URL: o.url, TokenFile: o.token, Creds: o.creds, CA: o.ca, Log: log}
}

// dial connects an agent to the streams.
func (o *hubOptions) dial(node string, log *slog.Logger) (*fleet.Conn, error) {
	at := o.at(log)
	at.Node = node
	c, err := fleet.Dial(at)
	if errors.Is(err, fleet.ErrPlain) {
		return nil, usageError{err}
	}
	return c, err
}

// agentOptions are the flags of `midhop agent`.
type agentOptions struct {
	local   localOptions
	hub     hubOptions
	metrics string
	output  string
	kube    kubeOptions
	wait    bool    // see attached
	probed  float64 // the budget where the kernel tells of unanswered probes itself; 0: the same
}

// newAgent is the part of midhop that runs on a node: it sees and tells, and judges nothing.
func newAgent() *cobra.Command {
	var opts agentOptions
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Tell a hub this node's facts, unjudged; without one, standard output",
		Long: `Watches this node and tells what it sees: to a hub with --hub, else to standard output. It judges nothing.

What goes to a hub is kept here while the hub is away, up to a bound; beyond it the oldest facts go, and are counted. Of
the connections that this node translates only those leave it whose ends are both elsewhere: of the others the sockets are
seen by themselves, and their entries are told while some of these are in trouble.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.output != "jsonl" {
				return usagef("unknown output %q: jsonl", opts.output)
			}
			if _, err := opts.local.check(); err != nil {
				return err
			}
			if !cmd.Flags().Changed("census-budget") {
				opts.probed = agentBudgetProbe
			}
			if opts.hub.url == hubInCluster {
				return usagef("--hub %s is for readers: an agent is told its hub's URL", hubInCluster)
			}
			return runAgent(cmd.Context(), opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.local.node, "node", "", "`name` of this node (default: its host name)")
	f.Float64Var(&opts.local.budget, "census-budget", agentBudget, fmt.Sprintf("`percent` of a core that the census of sockets may use; %g by default where the kernel tells of unanswered probes itself", agentBudgetProbe))
	f.BoolVarP(&opts.local.verbose, "verbose", "v", false, "log what happens inside to stderr")
	f.StringVarP(&opts.output, "output", "o", "jsonl", "jsonl; without --hub")
	f.StringVar(&opts.metrics, "metrics", agentMetrics, metricsHelp+"; with --hub")
	f.BoolVar(&opts.wait, "attached", false, "begin when a line comes in on standard input, end with its end: in a debug pod of midhop probe")
	f.BoolVar(&opts.kube.use, "kube", false, "tell this node's own Node object and pods too, from the Kubernetes API; without --hub, which reads the API itself")
	f.StringVar(&opts.kube.access.Kubeconfig, "kubeconfig", "", "kubeconfig `file`; implies --kube")
	f.StringVar(&opts.kube.access.Context, "context", "", "`context` of the kubeconfig; implies --kube")
	opts.hub.register(f, "publish to this hub")
	return cmd
}

// runAgent tells facts until ctx ends or the reader has gone.
func runAgent(ctx context.Context, o agentOptions) error {
	onOneProcessor()
	if o.wait {
		var err error
		if ctx, err = attached(ctx, os.Stdin); err != nil {
			return err
		}
	}
	agent, stop, err := newLocalAgent(fleet.ThisHost(o.local.node), localFacts{
		budget: o.local.budget / 100, budgetProbed: o.probed / 100, ownOnly: true, log: o.local.log(),
	})
	if err != nil {
		return err
	}
	defer stop()
	agent.Started.Complete = true
	if o.kube.wanted() && o.hub.url == "" { // a hub reads the API itself, and takes no agent's word on pods
		api, err := o.kube.own(agent.Node, o.local.log())
		if err != nil {
			return err
		}
		agent.Sources = append(agent.Sources, api)
	}
	if o.hub.url != "" {
		return publishTo(ctx, agent, o)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := jsonl.New(os.Stdout, jsonl.Options{Delay: agentDelay})
	even := fleet.NewEven()
	err = agent.Run(ctx, func(batch []event.Event) {
		if o.wait { // who reads is on another machine; on this one its own clock was set too, and it takes that out
			even.Take(batch)
		}
		if err := out.Write(batch); err != nil {
			cancel(err)
		}
	})
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if cause := context.Cause(ctx); err == nil && cause != context.Canceled {
		err = cause
	}
	return err
}

// publishTo publishes what an agent tells until ctx ends.
func publishTo(ctx context.Context, agent *fleet.Agent, o agentOptions) error {
	conn, err := o.hub.dial(agent.Node, o.local.log())
	if err != nil {
		return err
	}
	defer conn.Close()
	p, err := fleet.NewPublisher(conn, fleet.PublishOptions{
		Node: agent.Node, Restate: agent.Again, Translations: agent.Translations, Log: o.local.log(),
	})
	if err != nil {
		return err
	}
	counters := &prom.Counters{}
	metrics, err := listenMetrics(o.metrics, func() prom.Scrape {
		st := p.Stats()
		box := func(b fleet.OutboxStats) prom.Box {
			return prom.Box{Acked: b.Acked, Dropped: b.Dropped, Bytes: b.Bytes}
		}
		return prom.Scrape{Build: build(), Counters: counters, Publish: &prom.Publish{
			Connected: conn.Connected(), Facts: box(st.Facts), Ledger: box(st.Ledger), Entries: st.Crossing,
		}}
	}, func() error {
		if _, _, ok := agent.Census(); !ok {
			return errors.New("the first census is not complete")
		}
		return nil // a hub that is away is no reason to start the agent again: it keeps what it sees
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go metrics.run(ctx, o.local.log())
	published := make(chan struct{})
	go func() { defer close(published); p.Run(ctx) }()
	err = agent.Run(ctx, func(batch []event.Event) {
		_ = counters.Write(batch) // never fails
		p.Write(batch)
	})
	cancel()
	<-published
	return err
}
