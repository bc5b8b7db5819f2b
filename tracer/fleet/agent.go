package fleet

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/tick"
)

// HeartbeatInterval is how often an agent says that it is alive: a node's death is proved by the first heartbeat that is
// missing, so that this bounds how soon. Readers count on one a second at least.
const HeartbeatInterval = time.Second / 2

// Source is anything that reports facts until its context ends. Run may call emit from one goroutine only; emit takes
// the batch over.
type Source interface {
	Run(ctx context.Context, emit func([]event.Event)) error
}

// Agent gathers the facts of one machine. It is a Source itself: it opens with stream.started and the machine's own
// addresses, numbers every fact, and sends heartbeats, whatever becomes of the sources under it.
type Agent struct {
	Node     string        // the node's name; its events come from "agent/<Node>"
	Started  event.Started // the opening line
	Sources  []Source
	Census   func() (sockets int, age time.Duration, ok bool) // what the heartbeat says of the newest census; may be nil
	Failed   func(error)                                      // told when a source ends early; the others go on; may be nil
	Interval time.Duration                                    // between heartbeats, [HeartbeatInterval] if zero
	Restate  func()                                           // asks the sources to tell again what they know; may be nil

	// Translations asks for NAT entries, see [PublishOptions.Translations]; may be nil.
	Translations func(want func(original, reply event.Tuple, zone uint16) bool)

	again atomic.Bool
}

// Run reports facts until ctx ends, and then returns nil. It returns an error only when every source has failed.
func (a *Agent) Run(ctx context.Context, emit func([]event.Event)) error {
	n := numberer{source: "agent/" + a.Node, emit: emit}
	n.origin = n.source + "-" + bootStamp(time.Now())
	a.introduce(&n)

	g, ctx := errgroup.WithContext(ctx)
	alive := make(chan struct{}, len(a.Sources))
	for _, s := range a.Sources {
		g.Go(func() error {
			err := s.Run(ctx, n.take)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil && a.Failed != nil {
				a.Failed(err)
			}
			alive <- struct{}{}
			return nil
		})
	}
	g.Go(func() error { return a.beat(ctx, &n, alive) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Again has everything told anew, for readers that came later. It may be called from any goroutine.
func (a *Agent) Again() {
	a.again.Store(true)
	if a.Restate != nil {
		a.Restate()
	}
}

// introduce says who speaks, and from which addresses.
func (a *Agent) introduce(n *numberer) {
	started := a.Started
	n.take([]event.Event{{Type: event.StreamStarted, Time: time.Now().UTC(), Body: &started}})
	if node, ok := ownAddresses(a.Node, a.Started.Host.BootID); ok {
		n.take([]event.Event{{Type: event.NodeChanged, Time: time.Now().UTC(), Body: &node}})
	}
}

var errNoSource = errors.New("every source of facts has ended")

// beat sends heartbeats until ctx ends or every source has ended.
func (a *Agent) beat(ctx context.Context, n *numberer, ended <-chan struct{}) error {
	interval := a.Interval
	if interval == 0 {
		interval = HeartbeatInterval
	}
	timer := time.NewTimer(tick.Next(interval))
	defer timer.Stop()
	for left := len(a.Sources); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			if left--; left == 0 {
				return errNoSource
			}
		case now := <-timer.C:
			timer.Reset(tick.Next(interval))
			if a.again.Swap(false) {
				a.introduce(n)
			}
			beat := &event.Heartbeat{Every: event.Known(event.Seconds(interval))}
			if a.Census != nil {
				if sockets, age, ok := a.Census(); ok {
					beat.Sockets, beat.CensusAge = event.Known(sockets), event.Known(event.Seconds(age))
				}
			}
			n.take([]event.Event{{Type: event.StreamHeartbeat, Time: now.UTC(), Body: beat}})
		}
	}
}

// numberer gives facts their source and number in the order in which they are handed on.
type numberer struct {
	mu     sync.Mutex
	source string
	origin string
	n      uint64
	emit   func([]event.Event)
}

// take numbers a batch and hands it on under the lock, so that numbers and order agree.
func (n *numberer) take(batch []event.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range batch {
		n.n++
		batch[i].ID = event.ID{Origin: n.origin, N: n.n}
		batch[i].Source = n.source
	}
	n.emit(batch)
}
