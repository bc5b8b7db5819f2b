package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/prom"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/source/ask"
	"github.com/midhop/midhop/tracer/source/kube"
	"github.com/midhop/midhop/tracer/source/stream"
)

// hubRunOptions are the flags of `midhop hub`.
type hubRunOptions struct {
	listen    string
	dir       string
	cert, key string
	door      hubDoor
	nats      string
	creds, ca string
	callout   string // file
	account   string
	tryAgent  string                              // NODE=FILE
	tryReader string                              // file
	trials    func() ([]fleet.DialOptions, error) // of a cluster of the user's own; nil: none
	replicas  int
	maxBytes  string
	nodes     string
	facts     string
	kube      kubeOptions
	lb        []string
	metrics   string
	output    string
	complete  bool
	ask       bool
	verbose   bool
}

func newHub() *cobra.Command {
	var opts hubRunOptions
	cmd := &cobra.Command{
		Use:   "hub",
		Short: "Keep what agents tell, and judge it: one incident, many nodes",
		Long: `Keeps what agents publish in NATS JetStream, folds it in the order of the stream, and tells what it finds. The server is
inside, with its files in --dir, or a cluster of your own with --nats: the subjects and the code are the same.

What a node translates has left it before it dies, so incidents name the clients of a node that is gone. A hub that starts
again comes to the same incidents under the same ids, and so does a second one beside it.

A cluster of your own decides by itself who may come in, by NATS credentials (--hub-creds of agents and readers); or it asks this
hub, with --callout, who then lets in whom it would let in itself, with the same rights. Either way its configuration needs an
account for each agent and one for readers, as midhop deploy --nats-accounts prints them: in one account for all, whoever may ask
may have the answer stored as if the hub had told it. The hub tries that at its start, with --callout by itself, else with the
credentials of --try-agent and --try-reader, and says what does not fail that must.

Off loopback it takes a certificate and tokens: an agent may publish as its own node and nothing else, a reader may read.`,
		Example: "  midhop hub --dir /var/lib/midhop --tokens tokens --nodes nodes.yaml\n  midhop hub --listen 0.0.0.0:4222 --tls-cert tls.crt --tls-key tls.key --tokens tokens --dir /var/lib/midhop",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runHub(cmd.Context(), opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.listen, "listen", "127.0.0.1:4222", "where agents and readers connect, `host:port`")
	f.StringVar(&opts.dir, "dir", "", "`directory` of the streams; needed without --nats")
	f.StringVar(&opts.cert, "tls-cert", "", "`file` of the certificate")
	f.StringVar(&opts.key, "tls-key", "", "`file` of its key")
	f.StringVar(&opts.door.tokens, "tokens", "", "`file` of who may come in: lines of agent NODE[,NODE...] TOKEN or reader NAME TOKEN, with an optional time of expiry")
	f.StringVar(&opts.door.agents, "agents", "", "`NAMESPACE/NAME` of the agents' ServiceAccount: the Kubernetes API says which node a token is of")
	f.StringSliceVar(&opts.door.read, "readers", nil, "`NAMESPACE/NAME` of ServiceAccounts that may read")
	f.StringVar(&opts.nats, "nats", "", "keep the streams in this cluster instead, a `URL` or several")
	f.StringVar(&opts.creds, "creds", "", "`file` of NATS credentials for it")
	f.StringVar(&opts.ca, "ca", "", "`file` of certificates to trust, beside the system's")
	f.StringVar(&opts.callout, "callout", "", "`file` of the issuer's seed by which that cluster takes this hub's word on who may come in (NATS auth callout)")
	f.StringVar(&opts.account, "callout-account", "MIDHOP", "`name` of the cluster's account that the streams are in")
	f.StringVar(&opts.tryAgent, "try-agent", "", "`NODE=FILE`: with --nats, an agent's credentials, to try at the start what must fail with them")
	f.StringVar(&opts.tryReader, "try-reader", "", "`file` of a reader's credentials, for the same")
	f.IntVar(&opts.replicas, "replicas", 1, "copies of each stream in it")
	f.StringVar(&opts.maxBytes, "max-size", "4G", "keep this much of facts, and again of ledgers")
	f.StringVar(&opts.nodes, "nodes", "", "nodes `file`: a YAML list, or what kubectl get nodes -o json prints; - for stdin")
	opts.kube.register(cmd)
	f.StringVar(&opts.facts, "facts", "", "`file` of further facts about nodes, pods and services, as NDJSON; - for stdin")
	f.StringSliceVar(&opts.lb, "lb", nil, "further load balancer `CIDR`s; Google's two are built in")
	f.StringVar(&opts.metrics, "metrics", hubMetrics, metricsHelp)
	f.StringVarP(&opts.output, "output", "o", outTable, "findings to standard output: table or jsonl")
	f.BoolVar(&opts.complete, "complete", false, "jsonl: every fact too, in the order of the stream")
	askFlag(f, &opts.ask)
	f.BoolVarP(&opts.verbose, "verbose", "v", false, "log what happens inside to stderr")
	return cmd
}

func runHub(ctx context.Context, o hubRunOptions) error {
	log := logTo(os.Stderr, o.verbose)
	if o.output != outTable && o.output != outJSONL {
		return usagef("unknown output %q: table or jsonl", o.output)
	}
	ranges, err := parseRanges(o.lb)
	if err != nil {
		return err
	}
	size, err := parseSize(o.maxBytes)
	if err != nil {
		return err
	}
	conn, stop, err := o.connect()
	if err != nil {
		return err
	}
	defer stop()
	opts := fleet.HubOptions{Build: build(), Log: log, Balancers: ranges, Limits: fleet.Limits{Bytes: size, Replicas: o.replicas}}
	if o.nodes != "" {
		nodes, err := openNodes(ctx, o.nodes)
		if err != nil {
			return err
		}
		opts.Sources = append(opts.Sources, nodes)
	}
	var api *kube.Source
	if o.nodes == "" && o.facts == "" && o.kube.wanted() || o.kube.use {
		if api, err = o.kube.open("", log); err != nil {
			return err
		}
		opts.Sources = append(opts.Sources, api)
	}
	if o.facts != "" {
		in := os.Stdin
		if o.facts != "-" {
			if in, err = os.Open(o.facts); err != nil {
				return usageError{err}
			}
			defer in.Close()
		}
		opts.Sources = append(opts.Sources, stream.New(in, stream.Options{}))
	}
	// The Engine has no timer: what it folds is the stream and nothing else, so that every hub comes to the same.
	eo := tracer.Options{Log: log, Source: "hub", Boot: "stream"}
	var caughtUp <-chan struct{}
	if o.ask {
		asker := ask.New(ask.Options{Log: log})
		opts.Sources = append(opts.Sources, asker)
		eo.Ask = func(q diagnose.Question) {
			select {
			case <-caughtUp:
				asker.Ask(question(q))
			default: // what the stream's history suspects is over
			}
		}
	}
	engine := tracer.New(eo)
	opts.Fold = nameless{engine}
	starting, cancel := context.WithTimeout(ctx, streamsWait)
	defer cancel()
	hub, err := fleet.NewHub(starting, conn, opts)
	if err != nil {
		return err
	}
	caughtUp = hub.Live()
	if o.trials != nil {
		go tryDoors(ctx, conn, o.trials, log)
	}
	engine.AddSource("stream", hub)
	engine.AddSink("incidents", hub, tracer.Policy{})
	if api != nil {
		suspicions{api}.attach(engine)
	}
	counters := &prom.Counters{}
	engine.AddSink("metrics", counters, tracer.Policy{Optional: true})
	metrics, err := listenMetrics(o.metrics, func() prom.Scrape {
		return prom.Scrape{Build: build(), Counters: counters, Snapshot: engine.Snapshot(), Stream: hubMetricsOf(hub)}
	}, func() error {
		return cmp.Or(notYet(hub.Live(), "the stream's history is being read"), hub.Trouble())
	})
	if err != nil {
		return err
	}
	ctx, cancelServing := context.WithCancel(ctx)
	defer cancelServing()
	go metrics.run(ctx, log)
	return show(ctx, engine, o.output, outputOptions{complete: o.complete})
}

// hubMetricsOf is what a hub knows of its streams.
func hubMetricsOf(hub *fleet.Hub) *prom.Stream {
	st := hub.Stats()
	out := &prom.Stream{
		Messages: st.Intake.Messages, Duplicate: st.Intake.Duplicate, Bad: st.Intake.Bad, Shifted: st.Intake.Shifted,
		Refused: st.Intake.Refused, Foreign: st.Intake.Foreign + st.Passed, Recalled: st.Recalled, Skews: hub.Skews(),
		Trouble: hub.Trouble() != nil, Breaks: hub.Breaks(), Reach: make(map[string]prom.Reach),
		Claims: make(map[string]uint64), Over: make(map[string]uint64),
	}
	for name, r := range st.Reach {
		out.Reach[name] = prom.Reach{Span: r.Span, Bytes: r.Bytes, Limit: r.Limit, Cut: r.Cut}
	}
	for node, r := range hub.Refusals() {
		if r.Claims > 0 {
			out.Claims[node] = r.Claims
		}
		if r.Over > 0 {
			out.Over[node] = r.Over
		}
	}
	return out
}

// streamsWait is how long making the streams may take: a cluster may be choosing a leader.
const streamsWait = 30 * time.Second

// connect starts the embedded server, or connects to a cluster.
func (o *hubRunOptions) connect() (*fleet.Conn, func(), error) {
	log := logTo(os.Stderr, o.verbose)
	if o.nats != "" {
		conn, err := fleet.Dial(fleet.DialOptions{URL: o.nats, Creds: o.creds, CA: o.ca, Log: log})
		if err != nil {
			return nil, nil, err
		}
		callout, err := o.answer(conn, log)
		if err != nil {
			conn.Close()
			return nil, nil, err
		}
		return conn, func() { callout(); conn.Close() }, nil
	}
	if o.callout != "" {
		return nil, nil, usagef("--callout is a cluster's question to this hub: it needs --nats")
	}
	if o.dir == "" {
		return nil, nil, usagef("--dir is needed: the directory of the streams, which outlives this process")
	}
	so := fleet.ServerOptions{Listen: o.listen, Dir: o.dir, Log: log}
	if (o.cert == "") != (o.key == "") {
		return nil, nil, usagef("--tls-cert and --tls-key belong together")
	}
	if o.cert != "" {
		cert, err := newCertificate(o.cert, o.key)
		if err != nil {
			return nil, nil, err
		}
		so.TLS = &tls.Config{GetCertificate: cert.get, MinVersion: tls.VersionTLS12}
	}
	auth, err := o.door.authenticator(o.kube)
	if err != nil {
		return nil, nil, err
	}
	if auth == nil {
		return nil, nil, usagef("--tokens or --agents is needed: without either nobody can come in, also not on loopback")
	}
	so.Auth = auth
	server, err := fleet.StartServer(so)
	var unsafe *fleet.UnsafeError
	if errors.As(err, &unsafe) {
		return nil, nil, usageError{err}
	}
	if err != nil {
		return nil, nil, err
	}
	conn, err := server.Dial()
	if err != nil {
		server.Close()
		return nil, nil, err
	}
	newProgress(os.Stderr).say("listening on %s, streams in %s", server.Address(), so.Dir)
	return conn, func() { conn.Close(); server.Close() }, nil
}

// answer lets agents and readers into a cluster of the user's own by the tokens that they would show to this hub. Without an
// issuer's key the cluster itself decides.
func (o *hubRunOptions) answer(conn *fleet.Conn, log *slog.Logger) (stop func(), err error) {
	if o.callout == "" {
		if o.door.tokens != "" || o.door.agents != "" || len(o.door.read) > 0 {
			return nil, usagef("--tokens, --agents and --readers need --callout with --nats: that cluster decides who comes in")
		}
		o.trials, err = o.credTrials(log)
		return func() {}, err
	}
	auth, err := o.door.authenticator(o.kube)
	if err != nil {
		return nil, err
	}
	if auth == nil {
		return nil, usagef("--callout needs --tokens or --agents: without either nobody can come in")
	}
	seed, err := os.ReadFile(o.callout)
	if err != nil {
		return nil, usageError{err}
	}
	c := &fleet.Callout{Account: o.account, Auth: auth, Log: log}
	if err := c.Answer(conn, seed); err != nil {
		return nil, usageError{err}
	}
	at := fleet.DialOptions{URL: o.nats, CA: o.ca, Log: log}
	o.trials = func() ([]fleet.DialOptions, error) { return c.Trials(at), nil }
	return c.Close, nil
}

// nameless asks an Engine for the sockets through a node whose client is not known.
type nameless struct{ engine *tracer.Engine }

// Nameless implements fleet.Fold.
func (n nameless) Nameless(ctx context.Context, node string) ([]event.Socket, error) {
	var out []event.Socket
	err := n.engine.Do(ctx, func(m *model.Model) { out = m.Nameless(node) })
	return out, err
}

// Handed implements fleet.Fold.
func (n nameless) Handed(ctx context.Context) ([]string, error) {
	var out []string
	err := n.engine.Do(ctx, func(m *model.Model) { out = m.Handed() })
	return out, err
}

// Unnamed implements fleet.Fold.
func (n nameless) Unnamed(ctx context.Context) ([]string, error) {
	var out []string
	err := n.engine.Do(ctx, func(m *model.Model) { out = m.Unnamed() })
	return out, err
}

// certificate is a pair of files that is read again when it was renewed.
type certificate struct {
	cert, key string

	mu     sync.Mutex
	loaded *tls.Certificate
	at     time.Time // of the certificate's file
}

func newCertificate(cert, key string) (*certificate, error) {
	c := &certificate{cert: cert, key: key}
	_, err := c.get(nil)
	return c, err
}

// get implements tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := os.Stat(c.cert)
	if err == nil && c.loaded != nil && st.ModTime().Equal(c.at) {
		return c.loaded, nil
	}
	pair, loadErr := tls.LoadX509KeyPair(c.cert, c.key)
	switch {
	case loadErr == nil && err == nil:
		c.loaded, c.at = &pair, st.ModTime()
	case c.loaded == nil:
		return nil, fmt.Errorf("read the certificate: %w", errors.Join(err, loadErr))
	}
	return c.loaded, nil // half renewed: the next connection tries again
}
