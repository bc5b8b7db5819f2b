package fleet

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/event"
)

// PublishOptions say how an agent's facts leave its node. Only Node is needed.
type PublishOptions struct {
	Node string
	// Delay is how long a fact may wait for company, 100 ms if zero.
	Delay time.Duration
	// LedgerDelay is the same of what goes to the ledger, which nobody reads until a node has died: 180 ms if zero, so
	// that with the way to the hub it has left the node within 200 ms. Most batches of a fleet are of ledgers.
	LedgerDelay time.Duration
	// Buffer is how many compressed bytes may wait while the hub is away, 8 MiB for each of the two streams if zero.
	// Beyond it the oldest go, and are counted.
	Buffer int
	// Checkpoint is the time between two full repetitions of what the node knows, [CheckpointInterval] if zero.
	Checkpoint time.Duration
	// Restate asks the sources to tell again what they know; called at every checkpoint and after a loss. May be nil.
	Restate func()
	// Translations asks the source of NAT facts to repeat those entries that are wanted, as [conntrack.Source.Restate] does:
	// as nat.found of the rung "checkpoint". Called when sockets of this node are in trouble. May be nil: a reader of the
	// stream then does not know what connections with an end on this node have in common beyond it.
	Translations func(want func(original, reply event.Tuple, zone uint16) bool)
	Log          *slog.Logger // nil: silent
}

// CheckpointInterval is how often an agent repeats all it knows. A hub that starts has to read no further back than
// two of them.
const CheckpointInterval = 10 * time.Minute

// Publisher sends one node's facts to the streams. Write never waits for the network.
type Publisher struct {
	opts   PublishOptions
	clock  *offset
	facts  *outbox
	ledger *outbox

	mu    sync.Mutex
	steps *steps
	cross *crossings
	own   *ownNAT
	// Entries that went before their connections in the span that began at span.
	strangers int
	span      time.Time
	told      atomic.Uint64 // events of its own
	log       *slog.Logger
}

// NewPublisher returns a Publisher over a connection of [Dial].
func NewPublisher(c *Conn, o PublishOptions) (*Publisher, error) {
	if o.Delay <= 0 {
		o.Delay = 100 * time.Millisecond
	}
	if o.LedgerDelay <= 0 {
		o.LedgerDelay = 180 * time.Millisecond
	}
	if o.Buffer <= 0 {
		o.Buffer = 8 << 20
	}
	if o.Checkpoint <= 0 {
		o.Checkpoint = CheckpointInterval
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	js, err := jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(16))
	if err != nil {
		return nil, err
	}
	p := &Publisher{
		opts: o, clock: &offset{nc: c.nc, again: make(chan struct{}, 1)},
		steps: newSteps(wallTime, passed), cross: newCrossings(), own: newOwnNAT(), log: o.Log,
	}
	origin := "agent/" + o.Node + "-" + bootStamp(time.Now())
	box := func(subject, stage string, delay time.Duration) *outbox {
		return &outbox{
			js: js, subject: subject + token(o.Node), origin: origin, stage: stage, delay: delay, limit: o.Buffer,
			now: func() int64 { return time.Now().UnixNano() }, offset: p.clock.header, log: o.Log, wake: make(chan struct{}, 1),
		}
	}
	p.facts, p.ledger = box(subjectFacts, "publish.facts", o.Delay), box(subjectLedger, "publish.ledger", o.LedgerDelay)
	if o.Restate != nil {
		p.facts.onLoss = o.Restate
	}
	p.ledger.onLoss = p.checkpointLedger
	return p, nil
}

// Write takes a batch of the agent's facts. It changes the events' times to the hub's clock where that is known to differ. As
// heartbeats come twice a second, it is also who notices that this machine's clock was set.
func (p *Publisher) Write(batch []event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if step := p.steps.look(); step != 0 {
		p.log.Info("this machine's clock was set", "by", step)
		p.clock.set(step)
	}
	p.steps.redate(batch)
	shift := p.clock.correction()
	for i := range batch {
		e := &batch[i]
		e.Time = e.Time.Add(shift)
		switch b := e.Body.(type) {
		case *event.NATFact:
			if b.Rung == rungCheckpoint { // only what wantOwn chose
				e.Type = event.NATRecalled
				p.facts.add(e)
				continue
			}
			if p.cross.take(e.Type, b) {
				p.ledger.add(e)
			} else if b.Hop != nil && b.Hop.IP.IsValid() {
				p.facts.add(e) // nothing else tells which node the sockets behind it cross
				continue
			}
			if !p.strange(e, b) && e.Type == event.NATDestroyed && p.own.forget(keyOf(&b.NAT)) {
				p.facts.add(e)
			}
			continue
		case *event.NodeFact, *event.Sockets:
			p.cross.learn(e)
		}
		p.facts.add(e)
		if p.own.over > 0 {
			p.facts.add(p.lostEvent("publish.nat", uint64(p.own.over), p.own.since))
			p.own.over = 0
		}
		if p.opts.Translations != nil && p.own.watch(e) {
			p.opts.Translations(p.wantOwn)
		}
	}
}

// rungCheckpoint is the rung of an entry that is repeated from what is known.
const rungCheckpoint = "checkpoint"

// wantOwn says whether an entry has an end on this node and is to be told now.
func (p *Publisher) wantOwn(original, reply event.Tuple, zone uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := event.NAT{Original: original, Reply: reply, Zone: zone}
	return !p.cross.elsewhere(&n) && p.own.wants(keyOf(&n))
}

// strange tells what is no healthy connection's coming and going among the facts, where it is judged: an entry that was picked
// up in mid-stream, since its node had lost it or another had it before, and one that went before its connection did. It says
// whether e was such.
func (p *Publisher) strange(e *event.Event, b *event.NATFact) bool {
	switch {
	case e.Type == event.NATCreated && b.State == "established":
		p.facts.add(e)
		return true
	case e.Type == event.NATDestroyed && (b.Why == "flushed" || b.Why == "timeout"):
		if now := e.Time.Truncate(strangeSpan); !now.Equal(p.span) {
			if over := p.strangers - min(p.strangers, maxStrange); over > 0 {
				p.facts.add(p.lostEvent("publish.nat", uint64(over), p.span))
			}
			p.span, p.strangers = now, 0
		}
		p.own.forget(keyOf(&b.NAT))
		if p.strangers++; p.strangers > maxStrange {
			return true
		}
		// What is folded does not know the entry: it comes first, so that the loss finds the socket that it strands.
		entry := *e
		entry.Type, entry.ID = event.NATRecalled, event.ID{Origin: e.ID.Origin + ".entry", N: e.ID.N}
		body := *b
		body.Why, body.Age, body.State = "", event.Opt[event.Seconds]{}, ""
		entry.Body = &body
		p.facts.add(&entry)
		p.facts.add(e)
		return true
	}
	return false
}

// Of entries that a table lost at one stroke this many are told in a span; they are alike, and the rest is counted.
const (
	maxStrange  = 10_000
	strangeSpan = 10 * time.Second
)

// Run publishes until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	lost := func(box *outbox) func(uint64, time.Time) *event.Event {
		return func(count uint64, since time.Time) *event.Event { return p.lostEvent(box.stage, count, since) }
	}
	wg.Go(func() { p.facts.run(ctx, lost(p.facts)) })
	// What the ledger lost is told among the facts, where somebody reads it.
	wg.Go(func() {
		p.ledger.run(ctx, func(count uint64, since time.Time) *event.Event {
			p.facts.add(p.lostEvent(p.ledger.stage, count, since))
			return nil
		})
	})
	wg.Go(func() { p.clock.run(ctx) })
	tick := time.NewTicker(p.opts.Checkpoint)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			p.checkpointLedger()
			if p.opts.Restate != nil {
				p.opts.Restate()
			}
		}
	}
	wg.Wait()
}

// lostEvent tells what did not fit into the buffer.
func (p *Publisher) lostEvent(stage string, count uint64, since time.Time) *event.Event {
	p.log.Warn("the hub was away for too long: the oldest facts were given up", "stage", stage, "count", count)
	n := p.told.Add(1)
	return &event.Event{
		Type: event.StreamLost, Time: time.Now().Add(p.clock.correction()).UTC(), Source: "agent/" + p.opts.Node,
		ID:   event.ID{Origin: p.facts.origin + ".publisher", N: n},
		Body: &event.Lost{Stage: stage, Count: count, Since: since},
	}
}

// Marks of a checkpoint. Between them stands every entry that is known, as nat.found.
const (
	markBegin = "begin"
	markEnd   = "end"
)

// checkpointLedger repeats the ledger. Entries come and go only with the lock, so the checkpoint is of one moment.
func (p *Publisher) checkpointLedger() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own.checkpoint()
	o := p.ledger
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seal("")
	o.seal(markBegin)
	n := uint64(0)
	p.cross.checkpoint(p.opts.Node, time.Now().Add(p.clock.correction()).UTC(), func(e *event.Event) {
		n++
		e.ID = event.ID{Origin: o.origin + ".checkpoint", N: n}
		o.append(e)
	})
	o.seal("")
	o.seal(markEnd)
}

// PublishStats says what became of an agent's facts.
type PublishStats struct {
	Facts, Ledger OutboxStats
	Offset        event.Opt[event.Seconds] // the hub's clock minus this machine's
	Crossing      int                      // translated connections with both ends elsewhere
}

// Stats may be called at any time.
func (p *Publisher) Stats() PublishStats {
	p.mu.Lock()
	n := len(p.cross.known)
	p.mu.Unlock()
	s := PublishStats{Facts: p.facts.stats(), Ledger: p.ledger.stats(), Crossing: n}
	if text := p.clock.header(); text != "" {
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			s.Offset = event.Known(event.Seconds(v))
		}
	}
	return s
}
