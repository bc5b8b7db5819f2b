package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui"
)

// refusal is how long the screen waits for a refusal, such as missing rights: it is better read without having seen a
// screen. Longer waits show the screen, on which probes are ticked off.
const refusal = 50 * time.Millisecond

// runScreen shows this machine, or a hub, live. The screen is there before the probes are: loading them takes a second on
// a busy machine.
func runScreen(ctx context.Context, o localOptions, ascii bool) error {
	title := "this machine"
	view := &openingView{node: o.node}
	if o.hub.url != "" {
		title = hubTitle(o)
		view.hub = title
	}
	o.served, o.screen = view.tick, true
	type opened struct {
		watch *watch
		err   error
	}
	ready := make(chan opened, 1)
	go func() {
		var w opened
		w.err = guard(func() (err error) { w.watch, err = watchLocal(ctx, o, logTo(os.Stderr, false)); return err })()
		ready <- w
	}()
	var w opened
	select {
	case w = <-ready:
		if w.err != nil {
			return w.err
		}
		ready <- w
	case <-time.After(refusal):
	}

	s := &screenOutput{log: ui.NewLog(logLines), opts: screenOptions(outputOptions{title: title, ascii: ascii})}
	s.opts.View, s.opts.Log = view, s.log
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { defer cancel(); return s.run(ctx) })
	g.Go(guard(func() error {
		w := <-ready // loading cannot be called off, and what was loaded has to be taken down
		if w.err != nil {
			return w.err
		}
		defer w.watch.close()
		sink := logSink{log: s.log}
		if o.since > 0 { // else what had to be read is shown, too
			sink.keep = sinceFrom(w.watch.from, nil)
		}
		w.watch.engine.AddSink("screen", sink, tracer.Policy{Optional: true})
		view.become(w.watch)
		defer cancel()
		return w.watch.engine.Run(ctx)
	}))
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return quiet(err)
}

// guard turns a panic into an error, so that whoever has the terminal gives it back before the words are printed.
func guard(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if cause := recover(); cause != nil {
				err = fmt.Errorf("midhop broke: %v\n  effect: it has ended; nothing is left behind\n"+
					"  remedy: this is a bug in midhop, please report it with these lines\n%s", cause, debug.Stack())
			}
		}()
		return f()
	}
}

// openingView is what there is to see before there is an Engine: the probes that are attached by now. Then it is the Engine.
type openingView struct {
	node string
	hub  string // title of the hub that is looked at, empty for this machine

	mu     sync.Mutex
	engine *tracer.Engine
	cut    func() *fleet.CutOffError // nil: nothing can come between
	probes []event.Probe
}

// tick notes a fact that is served now, or is not.
func (v *openingView) tick(p event.Probe) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.probes = append(v.probes, p)
}

func (v *openingView) become(w *watch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.engine, v.cut = w.engine, w.cut
}

// Cut implements ui.Cutter.
func (v *openingView) Cut() (since time.Time, why string) {
	v.mu.Lock()
	cut := v.cut
	v.mu.Unlock()
	if cut == nil {
		return time.Time{}, ""
	}
	e := cut()
	if e == nil {
		return time.Time{}, ""
	}
	return e.Heard, e.Error()
}

// Snapshot implements ui.View.
func (v *openingView) Snapshot() *model.Snapshot {
	v.mu.Lock()
	engine, probes := v.engine, slices.Clone(v.probes)
	v.mu.Unlock()
	if engine != nil {
		if s := engine.Snapshot(); len(s.Agents) > 0 {
			return s
		}
	}
	if v.hub != "" {
		return &model.Snapshot{Agents: []model.AgentView{{Source: v.hub}}}
	}
	return &model.Snapshot{Version: uint64(len(probes)), Node: v.node, Agents: []model.AgentView{{Source: "this machine", Node: v.node, Probes: probes}}}
}

// Page implements ui.Pager.
func (v *openingView) Page(ctx context.Context, q model.PageQuery) (model.Page, error) {
	v.mu.Lock()
	engine := v.engine
	v.mu.Unlock()
	if engine == nil {
		return model.Page{}, tracer.ErrNotRunning
	}
	return engine.Page(ctx, q)
}

// Share implements ui.Sharer.
func (v *openingView) Share(ctx context.Context, key uint64) (model.Share, bool, error) {
	v.mu.Lock()
	engine := v.engine
	v.mu.Unlock()
	if engine == nil {
		return model.Share{}, false, tracer.ErrNotRunning
	}
	return engine.Share(ctx, key)
}
