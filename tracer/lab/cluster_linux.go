package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Cluster is a lab that stands. Its methods may be called from several goroutines.
type Cluster struct {
	opts     Options
	scenario Scenario
	plan     *plan
	log      *slog.Logger
	id       string
	lock     *runLock
	starter  *starter

	fabric   *space
	balancer *host
	external *host
	hub      *host // nil where the options do not ask for it
	peers    *host // nil where the scenario has none
	bulletin *bulletin

	agents chan AgentPipe
	drains sync.WaitGroup // goroutines that end with the lab
	closed chan struct{}
	up     time.Time

	breaking sync.Mutex     // held while the fault is made, or what follows from it; the lab does not go away under either
	stories  sync.WaitGroup // what the fault has set going and is not over
	settled  chan struct{}

	mu    sync.Mutex
	nodes []*host  // of the plan, in its order, then those that came later; nil where the power is off
	boots []string // the nodes' boot ids
	facts []nodeState
	pipes []*os.File
	fault FaultInfo
	ended bool

	agentProcs map[*host]*proc
	pods       []podPlan // the service's endpoints
	servers    []*worker // the pods of the plan, in its order, then those that took their place
	callers    []*worker // the clients outside
	caller     *worker   // the calling pod
	outside    *worker   // the service outside, nil where there is none
	links      int       // how many pods' cables were laid
	spare      *draw     // for what the plan does not have
}

// FaultInfo says what the lab broke, and when. The zero value: nothing yet.
type FaultInfo struct {
	Scenario string
	What     string
	Target   string // a node, pod, service or client network
	Time     time.Time
}

// Start builds a lab and returns when all connections stand; agents are starting by then. It needs root. A mistake in the
// options is a *[UsageError]. Whoever gets a Cluster closes it; if ctx ends before, nothing is left either.
func Start(ctx context.Context, o Options, log *slog.Logger) (*Cluster, error) {
	o, s, err := o.check()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	dir, err := stateDir(o.StateDir)
	if err != nil {
		return nil, fmt.Errorf("a directory for the lab's lock: %w", err)
	}
	sweep(dir, log)
	p := newPlan(o, s)
	c := &Cluster{
		opts: o, scenario: s, plan: p, log: log, starter: newStarter(),
		nodes: make([]*host, len(p.Nodes)), boots: make([]string, len(p.Nodes)), facts: make([]nodeState, len(p.Nodes)),
		bulletin: newBulletin(), agents: make(chan AgentPipe, 64), closed: make(chan struct{}), settled: make(chan struct{}),
		agentProcs: map[*host]*proc{}, pods: slices.Clone(p.Pods), servers: make([]*worker, len(p.Pods)), links: len(p.Pods) + 1, spare: newDraw(o.Seed ^ 0x7370617265),
	}
	if c.id, c.lock, err = takeLock(dir); err != nil {
		c.starter.stop()
		return nil, err
	}
	err = c.build(ctx)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.up = time.Now()
	return c, nil
}

func (c *Cluster) build(ctx context.Context) error {
	if err := c.layFabric(); err != nil {
		return err
	}
	steps := []func() error{
		func() (err error) { c.balancer, err = c.bootClients(c.plan.Balancer); return err },
		func() (err error) { c.external, err = c.bootClients(c.plan.External); return err },
	}
	if len(c.plan.Peers.Addrs) > 0 {
		steps = append(steps, func() (err error) { c.peers, err = c.bootClients(c.plan.Peers); return err })
	}
	if c.opts.Hub {
		steps = append(steps, c.bootHub)
	}
	for k := range c.plan.Nodes {
		steps = append(steps, func() error { return c.bootNode(k) })
	}
	if err := together(steps...); err != nil {
		return err
	}
	if err := c.routeFabric(); err != nil {
		return err
	}
	if c.opts.AttachAfter == 0 {
		if err := c.startAgents(); err != nil {
			return err
		}
	}
	if err := together(c.awaitAgents, c.startPods); err != nil {
		return err
	}
	return c.connect(ctx)
}

// bootNode brings up node k, its network and its rules, but no pod and no agent.
func (c *Cluster) bootNode(k int) error {
	h, err := c.boot(c.plan.Nodes[k].Name)
	if err != nil {
		return err
	}
	if err := c.plugNode(k, h); err != nil {
		h.kill()
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		h.kill()
		return errClosed
	}
	c.nodes[k], c.boots[k] = h, h.bootID
	return nil
}

func (c *Cluster) bootClients(n clientNet) (*host, error) {
	h, err := c.boot(n.Name)
	if err != nil {
		return nil, err
	}
	return h, c.plugClients(h, n)
}

// node returns the host of node k, nil while its power is off.
func (c *Cluster) node(k int) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[k]
}

// ID is the run's id, which stands in the names of its lock, its processes and the fabric's links.
func (c *Cluster) ID() string { return c.id }

// Up is the moment at which all connections stood.
func (c *Cluster) Up() time.Time { return c.up }

// Options returns the options as they were used: defaults filled in, the duration extended where agents come late.
func (c *Cluster) Options() Options { return c.opts }

// Expected are the verdicts that midhop should come to, none where it should find nothing.
func (c *Cluster) Expected() []Verdict { return c.scenario.expected(c.plan, c.opts.NoFault) }

// Hosts returns the first processes of the lab's machines by name, for people who want to look around with nsenter.
func (c *Cluster) Hosts() map[string]int {
	out := map[string]int{}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range append(append([]*host(nil), c.nodes...), c.balancer, c.external, c.hub, c.peers) {
		if h != nil {
			out[h.name] = h.cmd.Process.Pid
		}
	}
	return out
}

// Close takes everything down and returns when it is gone. Later calls do nothing.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return nil
	}
	c.ended = true
	c.mu.Unlock()
	close(c.closed)
	c.breaking.Lock()
	defer c.breaking.Unlock()
	c.mu.Lock()
	hosts := append(append([]*host(nil), c.nodes...), c.balancer, c.external, c.hub, c.peers)
	c.mu.Unlock()
	var wg sync.WaitGroup
	for _, h := range hosts {
		if h != nil {
			wg.Go(h.kill)
		}
	}
	wg.Wait()
	for _, w := range c.workers() {
		w.line.Close()
	}
	c.starter.stop()
	c.drains.Wait()
	c.fabric.close()
	c.lock.release()
	return nil
}

// together runs steps at once and returns when all have ended, with the errors of those that failed.
func together(steps ...func() error) error {
	errs := make([]error, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() { errs[i] = step() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func unixNano() int64 { return time.Now().UnixNano() }
