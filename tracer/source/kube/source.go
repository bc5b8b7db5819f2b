package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

// name is the source of every fact of this package.
const name = "kube"

// Options says what is watched.
type Options struct {
	Config  *rest.Config // of the API server
	Log     *slog.Logger // what people should know
	Details *slog.Logger // what client-go has to say beside that; nil: nobody listens

	// Node restricts pods to those of one node, the one that sockets are watched on: nobody holds all pods of a large
	// cluster in every agent. Nodes and services are of the whole cluster all the same, since they name what is crossed.
	Node string
	// Addresses are this machine's own, by which it is found among the nodes where its name is none of theirs.
	Addresses []netip.Addr
	// Own restricts everything to the node itself, for an agent whose hub knows the rest: its Node object and its pods.
	Own bool
	// Namespace restricts pods and services; empty for all.
	Namespace string
	// BackoffMax is the longest pause between two attempts while the API fails, 5 s if zero. Thousands of agents want more.
	BackoffMax time.Duration

	slow time.Duration // slowAfter, for tests
}

// Source watches an API server.
type Source struct {
	opts    Options
	clients *clients
	creds   *credentials
	out     chan []event.Event
	suspect chan string
	health  *health

	mu       sync.Mutex
	nodes    map[string]*nodeState
	graves   map[string]string // UIDs of deleted nodes by name
	pods     map[podKey]podState
	services map[serviceKey]*serviceState
	slices   map[sliceKey]*sliceState
	claims   kubenode.Claims
}

// New prepares a source. It fails on a configuration that cannot be used, and not because the API does not answer.
func New(opts Options) (*Source, error) {
	if opts.BackoffMax <= 0 {
		opts.BackoffMax = 5 * time.Second
	}
	if opts.Details == nil {
		opts.Details = slog.New(slog.DiscardHandler)
	}
	if opts.slow <= 0 {
		opts.slow = slowAfter
	}
	creds := newCredentials(opts.Config)
	c, err := newClients(opts.Config, creds)
	if err != nil {
		return nil, err
	}
	s := &Source{
		opts: opts, clients: c, creds: creds,
		out:      make(chan []event.Event),
		suspect:  make(chan string, 64),
		nodes:    make(map[string]*nodeState),
		graves:   make(map[string]string),
		pods:     make(map[podKey]podState),
		services: make(map[serviceKey]*serviceState),
		slices:   make(map[sliceKey]*sliceState),
	}
	s.health = newHealth(opts.Log, s.Facts())
	return s, nil
}

// Facts are the facts whose first look this source completes, as stream.synced names them.
func (s *Source) Facts() []string {
	if s.opts.Own {
		return []string{"nodes", "pods"}
	}
	return []string{"nodes", "pods", "services"}
}

// Suspect asks for a closer look at a node: its Lease is read until some time after the last suspicion. It never blocks.
func (s *Source) Suspect(node string) {
	select {
	case s.suspect <- node:
	default: // as many are being asked for as can be looked at
	}
}

// Run tells what there is and what changes, until ctx ends. It returns nil then; an API that fails is told, and retried.
func (s *Source) Run(ctx context.Context, emit func([]event.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range s.followers() {
		g.Go(func() error { f.run(ctx); return nil })
	}
	if !s.opts.Own {
		g.Go(func() error { s.watchLeases(ctx); return nil })
	}
	done := make(chan struct{})
	go func() { _ = g.Wait(); close(done) }()
	for {
		select {
		case batch := <-s.out:
			emit(batch)
		case <-done:
			return nil
		}
	}
}

// maxBatch bounds a batch of facts: the first look at 150,000 pods must not be one.
const maxBatch = 512

// batch collects facts that are told together, in order.
type batch struct {
	s   *Source
	ctx context.Context
	now time.Time
	evs []event.Event
}

// begin starts a batch. The caller holds the lock until the batch has been sent, so that the order of facts is that of the
// changes.
func (s *Source) begin(ctx context.Context) *batch {
	return &batch{s: s, ctx: ctx, now: time.Now().UTC()}
}

func (b *batch) add(t event.Type, body event.Body) {
	b.evs = append(b.evs, event.Event{Type: t, Time: b.now, Source: name, Body: body})
	if len(b.evs) >= maxBatch {
		b.send()
	}
}

func (b *batch) send() {
	if len(b.evs) == 0 {
		return
	}
	select {
	case b.s.out <- b.evs:
	case <-b.ctx.Done():
	}
	b.evs = nil
}
