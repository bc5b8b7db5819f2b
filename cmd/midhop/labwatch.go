package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/lab"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/source/ask"
	"github.com/midhop/midhop/tracer/source/stream"
)

// watchLab merges the agents' pipes into an Engine outside the cluster, makes the fault when it is due, and ends when
// the verdict has stood, or with the lab's time. On a screen it goes on until the user leaves.
func watchLab(ctx context.Context, cluster *lab.Cluster, watched chan<- struct{}, out string, o labOptions) error {
	logs := io.Writer(os.Stderr)
	if out == outScreen {
		logs = io.Discard
	}
	log := logTo(logs, o.verbose)
	eo := tracer.Options{
		Live: true, Source: "lab", Log: log,
		Started: &event.Started{Midhop: build(), Host: fleet.ThisHost(""), Complete: true},
		Model:   model.Options{},
	}
	var asker *ask.Source
	if o.ask {
		asker = ask.New(ask.Options{Log: log, Choose: machinesOf(cluster)})
		eo.Ask = asks(asker)
	}
	engine := tracer.New(eo)
	if asker != nil {
		engine.AddSource("ask", asker)
	}
	if !o.noInventory {
		engine.AddSource("api", cluster.API())
	}
	engine.AddSource("agents", agentPipes{cluster: cluster, log: log})
	v := newVerdict(cluster.Expected())
	engine.AddSink("verdict", v, tracer.Policy{})
	engine.AddSink("watched", newWatchers(cluster.AgentNodes(), watched), tracer.Policy{})
	view, err := newOutput(engine, out, outputOptions{complete: true, summary: true, ascii: o.ascii, title: "lab " + cluster.Options().Scenario})
	if err != nil {
		return err
	}

	whole := ctx
	ctx, cancel := context.WithCancel(whole)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(guard(func() error {
		defer cancel()
		return engine.Run(ctx)
	}))
	g.Go(func() error {
		defer cancel()
		return view.run(ctx)
	})
	g.Go(func() error {
		err := cluster.Run(ctx, func(f lab.FaultInfo) {
			at := engine.Even(f.Time)
			v.fault(at)
			view.fault(event.Event{
				Type: event.LabFault, Time: at.UTC(), Source: "lab", ID: event.ID{Origin: "lab-" + cluster.ID(), N: 1},
				Body: &event.Fault{Scenario: f.Scenario, What: f.What, Target: f.Target},
			})
		})
		if out != outScreen || err != nil {
			cancel()
		}
		return err
	})
	if cluster.HasFault() {
		g.Go(func() error {
			select {
			case <-cluster.Settled():
				v.settled(engine.Now())
			case <-ctx.Done():
			}
			return nil
		})
	} else {
		at := engine.Even(cluster.Up()).Add(cluster.FaultAfter())
		v.fault(at)
		v.settled(at)
	}
	if out != outScreen && !o.whole {
		g.Go(func() error { v.await(ctx, engine.Now, cancel); return nil })
	}
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if closeErr := view.close(); err == nil {
		err = closeErr
	}
	err = quiet(err)
	tellRequests(cluster, engine, v)
	text, right := v.result()
	if out == outTable || !right {
		fmt.Fprintln(os.Stderr, "midhop lab:", text)
	}
	if o.keep && err == nil {
		keepLab(whole, cluster)
	}
	switch {
	case err != nil:
		return err
	case right, out == outScreen && v.innocent():
		return nil // whoever leaves the screen early has not seen a wrong verdict
	case whole.Err() != nil && !o.keep:
		return whole.Err()
	}
	return findingsError{}
}

// watchers is a sink that waits for the first look of every agent.
type watchers struct {
	missing map[string]bool
	all     chan<- struct{} // closed when nobody is missing
}

func newWatchers(nodes []string, all chan<- struct{}) *watchers {
	w := &watchers{missing: make(map[string]bool), all: all}
	for _, name := range nodes {
		w.missing["agent/"+name] = true
	}
	if len(nodes) == 0 {
		close(all)
	}
	return w
}

// Write implements tracer.Sink.
func (w *watchers) Write(batch []event.Event) error {
	for i := range batch {
		if b, ok := batch[i].Body.(*event.Synced); ok && b.Fact == "sockets" && w.missing[batch[i].Source] {
			if delete(w.missing, batch[i].Source); len(w.missing) == 0 {
				close(w.all)
			}
		}
	}
	return nil
}

// machinesOf lets the machines of the lab's nodes ask, each from its own network.
func machinesOf(cluster *lab.Cluster) func([]string) (string, ask.Dialer) {
	return func(nodes []string) (string, ask.Dialer) {
		node := ""
		if len(nodes) > 0 {
			node = nodes[0]
		}
		return node, func(ctx context.Context, to netip.AddrPort) error {
			return cluster.On(node, func() error { return ask.Dial(ctx, to) })
		}
	}
}

// tellRequests says what the visitors of the lab's HTTP balancer got, where there is one.
func tellRequests(cluster *lab.Cluster, engine *tracer.Engine, v *verdict) {
	t, err := cluster.Requests()
	if err != nil || t == nil {
		return
	}
	text := fmt.Sprintf("%d requests answered, %d of them with 502", t.OK+t.BadGateway+t.Other, t.BadGateway)
	if t.BadGateway > 0 {
		since := func(at time.Time) string { return engine.Even(at).Sub(v.faultTime()).Round(time.Millisecond).String() }
		text += fmt.Sprintf(", %s to %s after the fault", since(t.FirstBad), since(t.LastBad))
	}
	fmt.Fprintln(os.Stderr, "midhop lab:", text)
}

// keepLab leaves the cluster standing until the user interrupts, and says how to look around in it.
func keepLab(ctx context.Context, cluster *lab.Cluster) {
	fmt.Fprintln(os.Stderr, "midhop lab: the cluster stands until Ctrl-C; enter a machine with nsenter:")
	hosts := cluster.Hosts()
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		fmt.Fprintf(os.Stderr, "  %-12s nsenter -t %d -n -m -p -u\n", name, hosts[name])
	}
	<-ctx.Done()
}

// await ends the run when the verdict has stood long enough by the stream's time.
func (v *verdict) await(ctx context.Context, now func() time.Time, end func()) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if at, ok := v.stands(); ok {
			timer.Reset(at.Sub(now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-v.changed:
		case <-timer.C:
			end()
			return
		}
	}
}

// agentPipes reads every agent's pipe as agents appear. An agent that dies leaves a pipe on which nothing more comes.
type agentPipes struct {
	cluster *lab.Cluster
	log     *slog.Logger
}

// Run implements tracer.Source.
func (a agentPipes) Run(ctx context.Context, emit func([]event.Event)) error {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	one := func(batch []event.Event) {
		mu.Lock()
		defer mu.Unlock()
		emit(batch)
	}
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-a.cluster.Agents():
			wg.Go(func() {
				defer p.R.Close()
				defer context.AfterFunc(ctx, func() { p.R.Close() })()
				s := stream.New(p.R, stream.Options{Bad: func(bad *stream.LineError) {
					a.log.Warn("an agent's line cannot be used", "node", p.Node, "error", bad)
				}})
				if err := s.Run(ctx, one); err != nil && ctx.Err() == nil {
					a.log.Warn("an agent's pipe has ended", "node", p.Node, "error", err)
				}
			})
		}
	}
}

// labError says what a failure to build the lab means.
func labError(err error) error {
	var wrong *lab.UsageError
	switch {
	case errors.As(err, &wrong):
		return usageError{err}
	case errors.Is(err, lab.ErrNotRoot), errors.Is(err, lab.ErrConfined), errors.Is(err, lab.ErrNotLinux):
		cause, remedy, _ := strings.Cut(err.Error(), ": ")
		return blindError{cause: errors.New(cause), effect: "there is nothing to watch", remedy: remedy}
	}
	return err
}
