package fleet

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/midhop/midhop/tracer/event"
)

// Fold is what a hub asks of its own fold, once an incident names a node.
type Fold interface {
	// Nameless returns the sockets that cross a node and whose client is not known, as far as the fold has come.
	Nameless(ctx context.Context, node string) ([]event.Socket, error)
	// Handed returns nodes whose ledgers may tell who had connections that another node has met in mid-stream.
	Handed(ctx context.Context) ([]string, error)
	// Unnamed returns nodes whose ledgers may tell what sockets in trouble have in common behind them.
	Unnamed(ctx context.Context) ([]string, error)
}

// HubOptions say how a hub runs. Build and Fold are needed.
type HubOptions struct {
	Build     event.Build
	Fold      Fold
	Balancers []netip.Prefix // ranges that load balancers speak from, beside the built-in ones
	Sources   []Source       // the hub's own facts: a nodes file, the API
	Limits    Limits
	Beat      time.Duration // between two clock lines, 200 ms if zero
	Log       *slog.Logger  // nil: silent
}

// Hub keeps the streams and feeds one fold from them. It is that fold's only Source and one of its Sinks: what it knows
// itself goes into the stream first and comes back in its turn, so that two hubs fold the same.
type Hub struct {
	opts     HubOptions
	conn     *Conn
	js       jetstream.JetStream
	follower *Follower
	own      *outbox
	boot     string
	key      ed25519.PrivateKey
	log      *slog.Logger

	numbers atomic.Uint64 // of the hub's own facts

	mu        sync.Mutex
	inventory map[string]event.Event // what the hub's sources told last, by object

	passed  skips           // over, in the stream of incidents
	told    map[string]bool // ids of findings that the stream of incidents has
	wanted  chan event.IncidentFinding
	findway chan event.Event
	recalls recalls
	guard   guard
	reaches reaches
}

// HubStats says what a hub has done.
type HubStats struct {
	Intake   IntakeStats
	Own      OutboxStats
	Passed   uint64 // messages in the streams of incidents and ledgers that cannot be read, or are somebody else's
	Recalled uint64 // entries of ledgers that were read back
	// Reach is how far back the streams go: "facts" and "ledger", without entries until that was looked at.
	Reach map[string]Reach
}

// NewHub makes the streams where they are missing.
func NewHub(ctx context.Context, c *Conn, o HubOptions) (*Hub, error) {
	if o.Beat <= 0 {
		o.Beat = 200 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	js, err := jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(64))
	if err != nil {
		return nil, err
	}
	if err := ensureStreams(ctx, js, o.Limits); err != nil {
		return nil, err
	}
	key, err := hubKey(ctx, js, o.Limits.orDefaults().Replicas)
	if err != nil {
		return nil, err
	}
	h := &Hub{
		key: key, opts: o, conn: c, js: js, boot: bootStamp(time.Now()), log: o.Log, passed: skips{log: o.Log}, inventory: make(map[string]event.Event),
		recalls: recalls{passed: skips{log: o.Log}}, told: make(map[string]bool), wanted: make(chan event.IncidentFinding, 256), findway: make(chan event.Event, 1024),
	}
	back, err := h.readIncidents(ctx)
	if err != nil {
		return nil, err
	}
	if h.follower, err = newFollower(c, FollowOptions{Build: o.Build, Back: back}, h.public()); err != nil {
		return nil, err
	}
	h.follower.intake.passed.log, h.follower.onCut = o.Log, h.guard.cutOff
	h.own = &outbox{
		js: js, subject: subjectHub, origin: "hub-" + h.boot, stage: "publish.hub", delay: 20 * time.Millisecond, limit: 64 << 20,
		now: func() int64 { return time.Now().UnixNano() }, offset: func() string { return "0" }, sign: h.sign,
		log: o.Log, wake: make(chan struct{}, 1),
	}
	return h, nil
}

func (h *Hub) sign(m *nats.Msg) { sign(h.key, m) }

func (h *Hub) public() ed25519.PublicKey { return h.key.Public().(ed25519.PublicKey) }

// Live is closed when the fold's source has caught up with the stream.
func (h *Hub) Live() <-chan struct{} { return h.follower.Live() }

// Stats may be called at any time.
func (h *Hub) Stats() HubStats {
	return HubStats{Intake: h.follower.Stats(), Own: h.own.stats(), Passed: h.passed.count.Load() + h.recalls.passed.count.Load(), Recalled: h.recalls.entries.Load(), Reach: h.reaches.get()}
}

// Refusals returns what was not believed of what agents tell, see [Follower.Refusals].
func (h *Hub) Refusals() map[string]Refusals { return h.follower.Refusals() }

// Skews returns how far the nodes' clocks are from the hub's, see [Follower.Skews].
func (h *Hub) Skews() map[string]event.Seconds { return h.follower.Skews() }

// Run implements Source: it emits the stream's facts until ctx ends, and does everything else that a hub does meanwhile.
func (h *Hub) Run(ctx context.Context, emit func([]event.Event)) error {
	clock, err := answerClock(h.conn.nc, h.public())
	if err != nil {
		return fmt.Errorf("answer for the clock: %w", err)
	}
	defer func() { _ = clock.Unsubscribe() }()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.follower.Run(ctx, emit) })
	g.Go(func() error { h.own.run(ctx, h.lostEvent); return nil })
	h.announce(time.Now())
	g.Go(func() error { h.beat(ctx); return nil })
	g.Go(func() error { h.repeat(ctx); return nil })
	g.Go(func() error { h.publishFindings(ctx); return nil })
	g.Go(func() error { h.recall(ctx); return nil })
	g.Go(func() error { h.watchReach(ctx); return nil })
	g.Go(func() error { h.watchStreams(ctx); return nil })
	for _, s := range h.opts.Sources {
		g.Go(func() error {
			err := s.Run(ctx, h.tell)
			if err != nil && ctx.Err() == nil {
				h.log.Warn("a source of the hub has ended", "error", err)
			}
			return nil
		})
	}
	return g.Wait()
}

// tell takes facts of the hub's own sources and puts them into the stream. Where a fact has an id of its own, as one
// version of an object of the API has, the stream takes it once, whichever hub was faster.
func (h *Hub) tell(batch []event.Event) {
	for i := range batch {
		e := &batch[i]
		h.remember(e)
		if e.ID.IsZero() {
			h.put(e)
			continue
		}
		h.putOnce(e)
	}
}

// put numbers a fact of the hub's own and publishes it.
func (h *Hub) put(e *event.Event) {
	if e.Source == "" {
		e.Source = hubSource
	}
	e.ID = event.ID{Origin: e.Source + "-" + h.boot, N: h.numbers.Add(1)}
	h.own.add(e)
}

// putOnce publishes a fact as a message of its own under its id.
func (h *Hub) putOnce(e *event.Event) {
	msg := nats.NewMsg(subjectHub)
	msg.Data = pack(append(event.AppendJSON(nil, e), '\n'))
	msg.Header.Set(jetstream.MsgIDHeader, e.ID.Origin+" "+strconv.FormatUint(e.ID.N, 10))
	h.sign(msg)
	if _, err := h.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(20), jetstream.WithRetryWait(retryEvery)); err != nil {
		h.put(e) // the ordered way waits until there is a stream again
	}
}

// remember keeps the newest word on every object, to repeat it.
func (h *Hub) remember(e *event.Event) {
	var key string
	removed := false
	switch b := e.Body.(type) {
	case *event.NodeFact:
		key, removed = "node "+e.Source+" "+b.Node.Name, b.What == "removed"
	case *event.PodFact:
		key, removed = "pod "+b.Pod.Namespace+"/"+b.Pod.Name, b.What == "removed"
	case *event.ServiceFact:
		key, removed = "service "+b.Service.Namespace+"/"+b.Service.Name, b.What == "removed"
	default:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if removed {
		delete(h.inventory, key)
	} else {
		h.inventory[key] = *e
	}
}

// repeat puts the inventory into the stream again at every checkpoint, so that a hub that starts finds it there.
func (h *Hub) repeat(ctx context.Context) {
	tick := time.NewTicker(CheckpointInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			h.announce(now)
			h.mu.Lock()
			all := make([]event.Event, 0, len(h.inventory))
			for _, e := range h.inventory {
				all = append(all, e)
			}
			h.mu.Unlock()
			for i := range all {
				all[i].Time = now.UTC()
				h.put(&all[i])
			}
		}
	}
}

// announce tells what the hub was told on its command line and every reader of the stream has to know.
func (h *Hub) announce(now time.Time) {
	h.put(&event.Event{
		Type: event.StreamStarted, Time: now.UTC(), Source: "hub-config",
		Body: &event.Started{Midhop: h.opts.Build, Balancers: h.opts.Balancers, Complete: true},
	})
}

// clockSource is the source of clock lines: the fold reads their time and nothing else.
const clockSource = "engine"

// beat puts the time into the stream: it goes on where no agent is heard, and the fold has no other clock.
func (h *Hub) beat(ctx context.Context) {
	tick := time.NewTicker(h.opts.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if h.own.stats().Waiting > 1000 {
				continue // the stream is away: old readings of the clock are worth nothing
			}
			h.put(&event.Event{Type: event.StreamHeartbeat, Time: now.UTC(), Source: clockSource, Body: &event.Heartbeat{}})
		}
	}
}

func (h *Hub) lostEvent(count uint64, since time.Time) *event.Event {
	return &event.Event{
		Type: event.StreamLost, Time: time.Now().UTC(), Source: hubSource,
		ID:   event.ID{Origin: "hub-" + h.boot, N: h.numbers.Add(1)},
		Body: &event.Lost{Stage: h.own.stage, Count: count, Since: since},
	}
}
