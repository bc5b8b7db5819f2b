package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/report"
)

// sightOptions say what a command that answers once looks at: this machine for a while, or a recording to its end.
type sightOptions struct {
	local localOptions
	file  string
	span  time.Duration
}

func (o *sightOptions) register(cmd *cobra.Command, span time.Duration, purpose string) {
	o.local.register(cmd)
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "look at a recording, as of its end, instead of this machine; - for stdin")
	if span > 0 {
		f.DurationVar(&o.span, "for", span, purpose)
	}
}

// check refuses what contradicts itself.
func (o *sightOptions) check(cmd *cobra.Command) error {
	forFlag := cmd.Flags().Lookup("for")
	switch {
	case o.file == "":
		if forFlag != nil && o.span <= 0 {
			return usagef("--for %s: a time above 0", o.span)
		}
		return nil
	case forFlag != nil && forFlag.Changed:
		return usagef("--for and --file contradict each other: a recording is looked at as of its end")
	case o.file == "-" && o.local.nodes == "-":
		return usagef("standard input cannot be both the recording and the nodes file")
	}
	return nil
}

// sight is what was seen.
type sight struct {
	snap      *model.Snapshot
	census    []event.CensusRow
	nodes     map[string]event.Node // the inventory, as it was told last
	pods      map[string]event.Pod
	services  map[string]event.Service
	tables    map[string]event.Table // by node
	incidents []model.IncidentView   // all that were seen, those that were closed long ago included, in the order of opening
	waiting   []string               // facts whose first look is not complete
	watched   time.Duration
	recorded  bool
	damaged   []string // what a recording lacks
}

// nodeNames returns the names of all nodes that the inventory knows, sorted.
func (s *sight) nodeNames() []string { return slices.Sorted(maps.Keys(s.nodes)) }

// see looks, and asks what it has seen while the Engine still answers; ask may be nil.
func see(ctx context.Context, o sightOptions, ask func(context.Context, *tracer.Engine, *sight) error) (*sight, error) {
	if o.file != "" {
		return seeRecording(ctx, o, ask)
	}
	w, err := watchLocal(ctx, o.local, o.local.log())
	if err != nil {
		return nil, err
	}
	defer w.close()
	g := newGathering(w.expects)
	start := time.Now()
	ready := func(ctx context.Context) error {
		// At least as long as asked, at most until the first look has had its time.
		late := time.NewTimer(max(o.span, lookTimeout))
		defer late.Stop()
		if w.live != nil { // a hub's history is as long as it is
			select {
			case <-w.live:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case <-g.whole:
		case <-late.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		rest := time.NewTimer(o.span - time.Since(start))
		defer rest.Stop()
		select {
		case <-rest.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g.see(ctx, w.engine, ready, ask)
}

// seeRecording folds a recording to its end.
func seeRecording(ctx context.Context, o sightOptions, ask func(context.Context, *tracer.Engine, *sight) error) (*sight, error) {
	p := replayPlan{replayOptions: replayOptions{file: o.file, nodes: o.local.nodes, lb: o.local.lb, output: outTable}}
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	rec, err := openRecording(ctx, o.file)
	if err != nil {
		return nil, err
	}
	defer rec.close()
	if !rec.complete() {
		return nil, fmt.Errorf("%s: holds only a part of the facts (complete:false), so nothing can be judged; record it with `midhop record`", rec.name)
	}
	p.rec = rec
	engine, flow := rec.engine(p.ranges, o.local.verbose), newFlow()
	bad := &badLines{name: rec.name}
	last := &lasting{from: p.source(bad, flow), ended: make(chan error, 1)}
	engine.AddSource("recording", last)
	g := newGathering(nil)
	g.recorded = true
	ready := func(ctx context.Context) error {
		select {
		case err := <-last.ended:
			bad.end()
			g.damaged(bad)
			if err != nil {
				return fmt.Errorf("%s: %w", rec.name, err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		return flow.settle(ctx)
	}
	g.wrap = flow.sink
	return g.see(ctx, engine, ready, ask)
}

// lasting keeps an Engine alive after its source has ended, so that it can be asked.
type lasting struct {
	from  tracer.Source
	ended chan error
}

// Run implements tracer.Source.
func (l *lasting) Run(ctx context.Context, emit func([]event.Event)) error {
	l.ended <- l.from.Run(ctx, emit)
	<-ctx.Done()
	return nil
}

// gathering is the sink that keeps what a snapshot does not.
type gathering struct {
	mu       sync.Mutex
	sight    sight
	synced   map[string]bool
	expects  []string
	whole    chan struct{} // closed when the first looks are complete
	byID     map[string]int
	recorded bool
	wrap     func(tracer.Sink) tracer.Sink
}

// damaged notes what could not be read of a recording: who does not know it all cannot say that all is well.
func (g *gathering) damaged(bad *badLines) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case bad.cut:
		g.sight.damaged = append(g.sight.damaged, "the recording is cut off: it ends inside a line")
	case bad.count() > 0:
		g.sight.damaged = append(g.sight.damaged, plural(bad.count(), "line")+" of the recording could not be read")
	}
}

func newGathering(expects []string) *gathering {
	return &gathering{
		sight: sight{
			nodes: make(map[string]event.Node), pods: make(map[string]event.Pod),
			services: make(map[string]event.Service), tables: make(map[string]event.Table),
		},
		synced: make(map[string]bool), expects: expects, whole: make(chan struct{}), byID: make(map[string]int),
		wrap: func(s tracer.Sink) tracer.Sink { return s },
	}
}

// see runs the Engine until it is ready, asks, and stops it.
func (g *gathering) see(
	ctx context.Context, engine *tracer.Engine, ready func(context.Context) error, ask func(context.Context, *tracer.Engine, *sight) error,
) (*sight, error) {
	engine.AddSink("look", g.wrap(g), tracer.Policy{Wait: recordWait})
	run, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- engine.Run(run) }()
	waited := make(chan error, 1)
	go func() { waited <- ready(run) }()
	select {
	case err := <-waited:
		if err != nil {
			stop()
			<-ran
			return nil, err
		}
	case err := <-ran:
		if err == nil {
			err = cmp.Or(ctx.Err(), errors.New("nothing was reported"))
		}
		return nil, err
	}
	g.mu.Lock()
	s := g.sight // a live look goes on while this one is asked
	s.nodes, s.pods, s.services, s.tables = maps.Clone(s.nodes), maps.Clone(s.pods), maps.Clone(s.services), maps.Clone(s.tables)
	s.incidents = slices.Clone(s.incidents)
	s.recorded = g.recorded
	for _, fact := range g.expects {
		if !g.synced[fact] {
			s.waiting = append(s.waiting, fact)
		}
	}
	g.mu.Unlock()
	s.snap = engine.Snapshot()
	err := engine.Do(run, func(m *model.Model) {
		s.census = m.CensusRows(nil)
		for name := range s.nodes {
			if n, ok := m.Node(name); ok {
				s.nodes[name] = n
			}
		}
	})
	if err == nil && ask != nil {
		err = ask(run, engine, &s)
	}
	for i := range s.incidents {
		for _, v := range s.snap.Incidents {
			if v.ID == s.incidents[i].ID {
				s.incidents[i] = v // with its time line
			}
		}
	}
	s.watched = s.snap.Clock.Sub(s.snap.Since)
	stop()
	if ranErr := <-ran; err == nil {
		err = ranErr
	}
	return &s, err
}

// Write implements tracer.Sink.
func (g *gathering) Write(batch []event.Event) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := &g.sight
	for _, e := range batch {
		switch b := e.Body.(type) {
		case *event.Synced:
			g.sync(b.Fact)
		case *event.NodeFact:
			if b.What == "removed" {
				delete(s.nodes, b.Node.Name)
			} else if b.What != "agent" {
				s.nodes[b.Node.Name] = b.Node
			}
		case *event.PodFact:
			keep(s.pods, b.Pod.Namespace+"/"+b.Pod.Name, b.Pod, b.What)
		case *event.ServiceFact:
			keep(s.services, b.Service.Namespace+"/"+b.Service.Name, b.Service, b.What)
		case *event.Table:
			s.tables[b.Node] = *b
		case *event.IncidentFinding:
			g.incident(e.Type, b.Incident)
		}
	}
	return nil
}

func keep[V any](m map[string]V, name string, v V, what string) {
	if what == "removed" {
		delete(m, name)
		return
	}
	m[name] = v
}

func (g *gathering) sync(fact string) {
	if g.synced[fact] {
		return
	}
	g.synced[fact] = true
	for _, want := range g.expects {
		if !g.synced[want] {
			return
		}
	}
	if slices.Contains(g.expects, fact) {
		close(g.whole)
	}
}

func (g *gathering) incident(t event.Type, in event.Incident) {
	i, ok := g.byID[in.ID]
	if !ok {
		i = len(g.sight.incidents)
		g.byID[in.ID] = i
		g.sight.incidents = append(g.sight.incidents, model.IncidentView{})
	}
	v := &g.sight.incidents[i]
	v.Incident = in
	if t == event.IncidentUpdated {
		v.Updates++
	}
}

// settle waits until the outputs have taken everything.
func (f *flow) settle(ctx context.Context) error {
	for range flowAhead {
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tooLittle says, each in words for people, why a gate cannot answer for the whole: what was not looked at, or not from
// where it would have to be. Empty where it can.
func (s *sight) tooLittle() []string {
	why := slices.Clone(s.damaged)
	c := &s.snap.Coverage
	if len(s.waiting) > 0 {
		why = append(why, fmt.Sprintf("the first look at %s did not end in time", listed(s.waiting)))
	}
	if slices.Contains(c.Missing, "sockets") {
		why = append(why, "the sockets of this machine cannot be listed")
	}
	if c.NodesSeen == 0 {
		why = append(why, "no machine was looked at")
	}
	if c.NodesKnown > c.NodesSeen+len(c.Silent) {
		why = append(why, fmt.Sprintf("%d of %s were looked from", c.NodesSeen, plural(c.NodesKnown, "node")))
	}
	for _, what := range slices.Sorted(maps.Keys(c.Unwatched)) {
		why = append(why, fmt.Sprintf("%s cannot be watched (%s)", plural(int(c.Unwatched[what]), "node"), report.Clean(what)))
	}
	if len(c.Silent) > 0 {
		why = append(why, "nothing is heard any more from "+listed(c.Silent))
	}
	return why
}

// listed joins words, and cuts long lists.
func listed(words []string) string {
	const most = 5
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), len(words)-most)
}

// blindGate is how a gate ends that saw too little: exit 3, unless a part is enough.
func (s *sight) blindGate(why []string) error {
	remedy := "let every node be watched, or answer for what is seen with --partial"
	if len(s.damaged) > 0 {
		remedy = "a recording that is whole: what is missing of this one may be what counts"
	}
	return blindError{
		cause:  errors.New("too little was seen to say that all is well: " + strings.Join(why, "; ")),
		effect: "the gate stays shut",
		remedy: remedy,
	}
}

// writeGate writes a gate's answer. A reader that has gone does not change it.
func writeGate(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
