package tracer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Source is anything that reports facts. Run reports until ctx ends or nothing more will come; emit takes the batch over
// and blocks while the Engine is behind. Emit may be called from one goroutine at a time.
type Source interface {
	Run(ctx context.Context, emit func([]event.Event)) error
}

// Options says how an [Engine] runs. The zero value replays: no timer, and time comes from the facts alone.
type Options struct {
	// Live lets a timer advance the clock when no fact does. Leave it unset for recordings.
	Live bool
	// Source is the source of events that carry none, "local" if empty.
	Source string
	// Boot tells this run's numbers from those of other runs; the time of the call in base 36 if empty.
	Boot string
	// Tick is the grid of judgement in event time, [DefaultTick] if zero.
	Tick time.Duration
	// Started, where given, becomes the first event of a live run, with Source and the time of the start.
	Started *event.Started
	Model   model.Options
	// Ask, where given, is called with what the judge would like to know of a suspected node, from the goroutine that owns
	// the state: it must not block. The answer has to come as a fact of some source.
	Ask func(diagnose.Question)
	Log *slog.Logger     // nil: silent
	Now func() time.Time // the machine's clock, time.Now if nil; read in live runs only
}

// DefaultTick is the grid of judgement: fine enough to name a culprit within a second, coarse enough to cost nothing.
const DefaultTick = 50 * time.Millisecond

const (
	sourceQueue  = 64              // batches that wait for the owner; a full queue makes sources wait
	stopGrace    = 2 * time.Second // for sources to return after the context ended
	lostInterval = time.Second     // between two stream.lost lines of one sink
)

// Engine folds the facts of its sources into one model, judges them and hands everything to its sinks. One goroutine, the
// owner, has the state; see [Engine.Run].
type Engine struct {
	opts    Options
	log     *slog.Logger
	river   *river
	sinks   []*sink
	steady  *steady // nil where time is not this machine's
	batches chan []event.Event
	calls   chan func()
	ended   chan struct{} // the last source has ended
	broken  chan error    // a sink that must not fail has failed
	done    chan struct{} // Run has returned

	mu      sync.Mutex
	ctx     context.Context // of the sources; nil before Run
	waiting []named
	active  int
	wg      sync.WaitGroup
	failed  []error
	last    *model.Snapshot // after Run
}

type named struct {
	name   string
	source Source
}

// New returns an Engine without sources and sinks.
func New(opts Options) *Engine {
	if opts.Source == "" {
		opts.Source = "local"
	}
	var even *steady
	if opts.Now == nil {
		opts.Now = time.Now
		if opts.Live {
			even = newSteady()
			opts.Now = even.now
		}
	}
	if opts.Boot == "" {
		opts.Boot = strconv.FormatInt(opts.Now().UnixMilli(), 36)
	}
	if opts.Tick <= 0 {
		opts.Tick = DefaultTick
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	m := model.New(opts.Model)
	judge := diagnose.New(m)
	if opts.Ask != nil {
		judge.OnQuestion(opts.Ask)
	}
	return &Engine{
		opts:    opts,
		steady:  even,
		log:     opts.Log,
		river:   newRiver(m, judge, opts.Tick, newNumbers(opts.Source, opts.Boot)),
		batches: make(chan []event.Event, sourceQueue),
		calls:   make(chan func()),
		ended:   make(chan struct{}, 1),
		broken:  make(chan error, 1),
		done:    make(chan struct{}),
	}
}

// AddSource adds a source under a name that logs and errors use. It may be called at any time; during [Engine.Run] the
// source starts at once.
func (e *Engine) AddSource(name string, s Source) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil {
		e.waiting = append(e.waiting, named{name, s})
		return
	}
	e.start(named{name, s})
}

// AddSink adds a reader of the stream. It must be called before [Engine.Run].
func (e *Engine) AddSink(name string, s Sink, p Policy) {
	e.sinks = append(e.sinks, newSink(name, s, p))
}

// start runs one source; e.mu is held.
func (e *Engine) start(n named) {
	ctx := e.ctx
	e.active++
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		err := n.source.Run(ctx, func(batch []event.Event) {
			if len(batch) == 0 {
				return
			}
			select {
			case e.batches <- batch:
			case <-ctx.Done():
				// The owner still reads for a while after the context ended: last words are worth having.
				select {
				case e.batches <- batch:
				case <-e.done:
				}
			}
		})
		if err != nil && ctx.Err() == nil {
			e.log.Error("source failed", "source", n.name, "error", err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if err != nil && !errors.Is(err, context.Canceled) {
			e.failed = append(e.failed, fmt.Errorf("source %s: %w", n.name, err))
		}
		if e.active--; e.active == 0 {
			select {
			case e.ended <- struct{}{}:
			default:
			}
		}
	}()
}

// Run folds until every source has ended or ctx is done, lets the sinks write what they have, and returns. The error
// joins those of sources and of sinks that are not optional; the end of ctx is none. Run may be called once.
func (e *Engine) Run(ctx context.Context) error {
	sourceCtx, stop := context.WithCancel(ctx)
	defer stop()
	for _, s := range e.sinks {
		s.run(e.broken)
	}
	if e.opts.Started != nil && e.opts.Live {
		e.fold([]event.Event{{Type: event.StreamStarted, Time: e.opts.Now().UTC(), Body: e.opts.Started}})
	}
	e.mu.Lock()
	e.ctx = sourceCtx
	none := len(e.waiting) == 0
	for _, n := range e.waiting {
		e.start(n)
	}
	e.waiting = nil
	e.mu.Unlock()

	var broken error
	if !none || e.opts.Live {
		broken = e.own(ctx)
	}
	stop()
	e.drain()
	e.mu.Lock()
	e.last = e.snapshot()
	errs := e.failed
	e.mu.Unlock()
	close(e.done)
	for _, s := range e.sinks {
		if err := s.close(); err != nil && broken == nil && !s.policy.Optional {
			broken = err
		}
	}
	if broken != nil {
		errs = append(errs, broken)
	}
	return errors.Join(errs...)
}

// own is the loop of the goroutine that has the state.
func (e *Engine) own(ctx context.Context) error {
	due := newAlarm()
	defer due.stop()
	for {
		if e.opts.Live {
			due.set(e.due())
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-e.broken:
			return err
		case batch := <-e.batches:
			e.take(batch)
		case call := <-e.calls:
			call()
		case <-due.C:
			due.rang()
			e.timer()
		case <-e.ended:
			if e.drained() {
				return nil
			}
		}
	}
}

// drained folds what ended sources have left behind. It returns false where a source has started meanwhile.
func (e *Engine) drained() bool {
	for {
		select {
		case batch := <-e.batches:
			e.take(batch)
			continue
		default:
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.active == 0
	}
}

// drain folds the last words of sources that were told to stop.
func (e *Engine) drain() {
	gone := make(chan struct{})
	go func() {
		e.wg.Wait()
		close(gone)
	}()
	deadline := time.NewTimer(stopGrace)
	defer deadline.Stop()
	for {
		select {
		case batch := <-e.batches:
			e.take(batch)
		case <-gone:
			for {
				select {
				case batch := <-e.batches:
					e.take(batch)
				default:
					return
				}
			}
		case <-deadline.C:
			e.log.Warn("a source does not stop")
			return
		}
	}
}

// take folds what a source has handed over.
func (e *Engine) take(batch []event.Event) {
	if e.steady != nil {
		e.steady.correct(batch)
	}
	e.fold(batch)
}

func (e *Engine) fold(batch []event.Event) {
	e.deliver(e.river.fold(batch))
	e.tellLost()
}

func (e *Engine) timer() {
	e.tellLost()
	if e.steady != nil {
		if step, ok := e.steady.news(); ok {
			e.fold([]event.Event{{
				Type: event.StreamHeartbeat, Time: e.opts.Now().UTC(), Source: engineSource,
				Body: &event.Heartbeat{ClockSet: event.Known(event.Seconds(step.Round(time.Millisecond)))},
			}})
		}
	}
	e.deliver(e.river.timer(e.opts.Now().UnixNano()))
}

// deliver hands events to every sink.
func (e *Engine) deliver(out []event.Event) {
	if len(out) == 0 {
		return
	}
	for _, s := range e.sinks {
		s.put(out)
	}
}

// tellLost turns what sinks had to drop into facts, at most once a second and sink.
func (e *Engine) tellLost() {
	for _, s := range e.sinks {
		if s.dropped == 0 {
			continue
		}
		now := e.river.clock
		if e.opts.Live {
			now = e.opts.Now().UnixNano()
		}
		if now-s.told < int64(lostInterval) {
			continue
		}
		at := time.Unix(0, now).UTC()
		lost := event.Event{Type: event.StreamLost, Time: at, Source: engineSource, Body: &event.Lost{
			Stage: "sink." + s.name, Count: s.dropped, Since: time.Unix(0, s.since).UTC(),
		}}
		s.dropped, s.told = 0, now
		e.deliver(e.river.fold([]event.Event{lost}))
	}
}
