package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/tick"
)

// lossPause is how often the probes' counters of lost records are read, and so the most often that a loss is told.
const lossPause = time.Second

// Namespaces are the network namespaces whose events are kept.
type Namespaces interface {
	Known(netns uint32) bool
	// Passes grows with every complete look at what is known.
	Passes() uint64
	// Changed has room for one sign that a namespace has become known or a look complete since the last sign was taken. One
	// reader may take them.
	Changed() <-chan struct{}
}

// Options tune a Source. The zero value keeps the events of the whole machine.
type Options struct {
	// Namespaces limits events to those of known namespaces; nil keeps all. Events of unknown ones are held until the
	// next complete look has had a chance to meet them.
	Namespaces Namespaces
	// Suspect is told the peer of every retransmission after a timeout, unanswered probe, reset and timeout, so that the
	// census may look at once. It must be cheap. Nil: nobody is told.
	Suspect func(peer netip.Addr)
	// Node is the name of the node whose conntrack table this is.
	Node string
	// NATRung is the rung that serves translations, as [bpf.Report] names it.
	NATRung string
	// Ledger is given nat.* facts, and the loss of some, in place of the stream: it knows what has been told already. Nil:
	// they are told as they come.
	Ledger func([]event.Event)
	// Log gets what cannot be an event. Nil: nothing is logged.
	Log *slog.Logger
}

// Source tells tcp.* and nat.* facts.
type Source struct {
	probes  *bpf.Probes
	o       Options
	clock   bpf.WallClock
	used    chan []told // batches that may be filled again
	foreign atomic.Uint64
}

// Ring is where records come from: it calls record for each, whose bytes are valid during the call only, and flush when
// no more is there at the moment, until ctx ends.
type Ring interface {
	Name() string
	Run(ctx context.Context, record func(raw []byte), flush func()) error
}

// New returns a source of what the probes see. The probes must stay open while it runs; nil will do for [Source.Follow].
func New(probes *bpf.Probes, o Options) *Source {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Suspect == nil {
		o.Suspect = func(netip.Addr) {}
	}
	return &Source{probes: probes, o: o, used: make(chan []told, 8)}
}

// Foreign is how many events were dropped because they belong to namespaces outside [Options.Namespaces].
func (s *Source) Foreign() uint64 { return s.foreign.Load() }

// Run tells what happens until ctx ends, which is no error. A record that these probes cannot have written is one.
func (s *Source) Run(ctx context.Context, emit func([]event.Event)) error {
	var rings []Ring
	var losses []*loss
	for _, ring := range []*bpf.Ring{s.probes.Evidence(), s.probes.Bulk()} {
		if ring != nil {
			rings = append(rings, ring)
			losses = append(losses, &loss{ring: ring, since: time.Now().UTC()})
		}
	}
	return s.follow(ctx, rings, losses, emit)
}

// Follow is [Source.Run] for records that do not come from this process's probes, such as a benchmark's. What their rings
// have lost is not told.
func (s *Source) Follow(ctx context.Context, rings []Ring, emit func([]event.Event)) error {
	return s.follow(ctx, rings, nil, emit)
}

func (s *Source) follow(ctx context.Context, rings []Ring, losses []*loss, emit func([]event.Event)) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan []told, 4)
	for _, ring := range rings {
		g.Go(func() error { return s.read(ctx, ring, batches) })
	}
	g.Go(func() error { return s.write(ctx, batches, losses, emit) })
	return g.Wait()
}

// divide takes out what the ledger is to have, and gives it to it.
func (s *Source) divide(out []event.Event) []event.Event {
	if s.o.Ledger == nil {
		return out
	}
	var ledger []event.Event
	rest := out[:0]
	for _, e := range out {
		lost, isLost := e.Body.(*event.Lost)
		if _, isNAT := e.Body.(*event.NATFact); isNAT || isLost && lost.Stage == bulkStage {
			ledger = append(ledger, e)
			continue
		}
		rest = append(rest, e)
	}
	if len(ledger) > 0 {
		s.o.Ledger(ledger)
	}
	return rest
}

// told is an event, the namespace that it belongs to, and the peer that it makes suspicious, if any.
type told struct {
	event    event.Event
	netns    uint32
	anywhere bool // kept whatever the namespace
	selfTest bool // a self-test made it, this process's or another's: it is no fact
	suspect  netip.Addr
}

// read drains one ring into batches.
func (s *Source) read(ctx context.Context, ring Ring, batches chan<- []told) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		batch []told
		bad   error
		c     = converter{source: s}
	)
	record := func(raw []byte) {
		if len(batch) == 0 {
			batch = s.empty()
			if err := c.set(); err != nil {
				bad = err
				cancel()
				return
			}
		}
		t, err := c.convert(raw)
		if err != nil {
			bad = fmt.Errorf("ring %s: %w", ring.Name(), err)
			cancel()
			return
		}
		if t.selfTest {
			return
		}
		batch = append(batch, t)
	}
	flush := func() {
		if len(batch) == 0 {
			return
		}
		select {
		case batches <- batch:
		case <-ctx.Done():
		}
		batch = nil
	}
	if err := ring.Run(ctx, record, flush); err != nil {
		return err
	}
	return bad
}

// empty returns an empty batch with room in it: storms are not the time for garbage.
func (s *Source) empty() []told {
	select {
	case b := <-s.used:
		return b[:0]
	default:
		return make([]told, 0, 64)
	}
}

// again lets a batch be filled anew once everything in it has been handed on.
func (s *Source) again(b []told) {
	clear(b)
	select {
	case s.used <- b:
	default:
	}
}

// write hands batches on, holds what belongs to namespaces that are not known yet, and tells losses.
func (s *Source) write(ctx context.Context, batches <-chan []told, losses []*loss, emit func([]event.Event)) error {
	timer := time.NewTimer(tick.Next(lossPause))
	defer timer.Stop()
	held := held{spaces: s.o.Namespaces}
	for {
		var out []event.Event
		var recheck <-chan struct{}
		if len(held.queue) > 0 {
			recheck = held.spaces.Changed()
		}
		select {
		case <-ctx.Done():
			return nil
		case batch := <-batches:
			out = make([]event.Event, 0, len(batch)+1)
			for i := range batch {
				if t := &batch[i]; !held.keeps(t) {
					out = append(out, t.event)
					s.suspect(t)
				}
			}
			s.again(batch)
		case <-recheck:
		case now := <-timer.C:
			timer.Reset(tick.Next(lossPause))
			for _, l := range losses {
				if e, ok := l.tell(s.probes, now, s.o.Log); ok {
					out = append(out, e)
				}
			}
		}
		kept, dropped := held.release()
		s.foreign.Add(uint64(dropped))
		if len(kept) > 0 { // they are older
			late := make([]event.Event, len(kept), len(kept)+len(out))
			for i := range kept {
				late[i] = kept[i].event
				s.suspect(&kept[i])
			}
			out = append(late, out...)
		}
		if out = s.divide(out); len(out) > 0 {
			emit(out)
		}
	}
}

// suspect spreads the suspicion that an event casts.
func (s *Source) suspect(t *told) {
	if t.suspect.IsValid() {
		s.o.Suspect(t.suspect)
	}
}
