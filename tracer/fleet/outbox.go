package fleet

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/event"
)

// publisher is the part of JetStream that an outbox needs.
type publisher interface {
	PublishMsgAsync(msg *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error)
}

// sealed is a batch that waits for its turn.
type sealed struct {
	data  []byte // compressed
	first uint64
	count uint64
	since time.Time // the first event's
	mark  string
	// offset is the header of the time when its events were dated. A batch is of one kind: dated by the hub's clock or not.
	offset string
}

// outbox carries the events of one subject to the stream, in order and without loss while there is room. Adding never
// waits for the network. One batch is on its way at a time, and the next goes when the stream has acknowledged it:
// numbers arrive in order even where a publish fails and is repeated, and what comes meanwhile travels together.
type outbox struct {
	js      publisher
	subject string
	origin  string
	stage   string // of the loss that it counts
	delay   time.Duration
	limit   int             // compressed bytes that may wait
	now     func() int64    // the publisher's clock
	offset  func() string   // the header, empty while unknown
	sign    func(*nats.Msg) // of a hub; nil: an agent is known by its account
	log     *slog.Logger

	mu      sync.Mutex
	lines   []byte // of the open batch
	open    sealed // its numbers
	opened  time.Time
	queue   []sealed
	flying  bool // queue[0] is on its way and stays
	bytes   int  // in the queue
	next    uint64
	dropped uint64 // all numbers that were given up
	lost    uint64 // of these, not told yet
	since   time.Time
	acked   uint64
	wake    chan struct{}
	onLoss  func()
}

// OutboxStats says what became of the events of one subject.
type OutboxStats struct {
	Acked   uint64 // the stream has them
	Waiting uint64 // numbered, and neither acknowledged nor dropped
	Dropped uint64 // given up because the buffer was full
	Bytes   int    // of the buffer
}

func (o *outbox) stats() OutboxStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return OutboxStats{Acked: o.acked, Waiting: o.next - o.acked - o.dropped, Dropped: o.dropped, Bytes: o.bytes}
}

// add appends an event to the open batch.
func (o *outbox) add(e *event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.append(e)
}

func (o *outbox) append(e *event.Event) {
	if o.open.count > 0 && o.open.offset == "" && o.offset() != "" {
		o.seal("")
	}
	start := len(o.lines)
	o.lines = event.AppendJSON(o.lines, e)
	if len(o.lines)-start >= event.MaxLine {
		lost := *e
		lost.Type, lost.Flow = event.StreamLost, ""
		lost.Body = &event.Lost{Stage: "line." + e.Type.String(), Count: 1, Since: e.Time}
		o.lines = event.AppendJSON(o.lines[:start], &lost)
	}
	o.lines = append(o.lines, '\n')
	o.next++
	if o.open.count == 0 {
		o.open.first, o.open.since, o.open.offset, o.opened = o.next, e.Time, o.offset(), time.Now()
		o.poke()
	}
	o.open.count++
	if e.Type == event.StreamHeartbeat { // its absence is evidence, so it does not wait for company; what is there goes with it
		o.opened = time.Time{}
		o.poke()
	}
	if len(o.lines) >= maxBatch {
		o.seal("")
	}
}

// seal closes the open batch and makes room for it.
func (o *outbox) seal(mark string) {
	if o.open.count == 0 && mark == "" {
		return
	}
	s := o.open
	if s.count == 0 { // a mark alone
		s.first = o.next + 1
	}
	s.data, s.mark = pack(o.lines), mark
	o.lines, o.open = o.lines[:0], sealed{}
	if cap(o.lines) > 2*maxBatch {
		o.lines = nil
	}
	o.queue = append(o.queue, s)
	o.bytes += len(s.data)
	for o.bytes > o.limit && len(o.queue) > 1 {
		o.drop()
	}
	o.poke()
}

// drop gives the oldest batch up that is not on its way.
func (o *outbox) drop() {
	i := 0
	if o.flying {
		i = 1
	}
	if i >= len(o.queue) {
		return
	}
	s := o.queue[i]
	o.queue = append(o.queue[:i:i], o.queue[i+1:]...)
	o.bytes -= len(s.data)
	if o.lost == 0 {
		o.since = s.since
	}
	o.lost += s.count
	o.dropped += s.count
}

func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns the batch that is to go next, or how long until there is one.
func (o *outbox) take() (s sealed, dropped uint64, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 && o.open.count > 0 {
		if wait = o.delay - time.Since(o.opened); wait > 0 {
			return sealed{}, 0, wait
		}
		o.seal("")
	}
	if len(o.queue) == 0 {
		return sealed{}, 0, time.Hour
	}
	o.flying = true
	return o.queue[0], o.dropped, 0
}

// landed notes that the stream has the batch that was on its way. What was lost meanwhile is told after it.
func (o *outbox) landed(lostEvent func(count uint64, since time.Time) *event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.queue[0]
	o.queue[0] = sealed{}
	o.queue = o.queue[1:]
	o.bytes -= len(s.data)
	o.flying = false
	o.acked += s.count
	if o.lost == 0 || len(o.queue) > 0 { // tell when the backlog is through, with one number
		return
	}
	count, since := o.lost, o.since
	o.lost = 0
	if e := lostEvent(count, since); e != nil {
		o.append(e)
	}
	if o.onLoss != nil {
		go o.onLoss()
	}
}

// retryEvery is the pause after a publish that failed: long enough for a cluster to choose a new leader in a few.
const retryEvery = 250 * time.Millisecond

// run publishes until ctx ends.
func (o *outbox) run(ctx context.Context, lostEvent func(count uint64, since time.Time) *event.Event) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s, dropped, wait := o.take()
		if wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-o.wake:
			case <-timer.C:
			}
			continue
		}
		for said := false; ; said = true {
			err := o.publish(ctx, &s, dropped)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			if !said {
				o.log.Debug("a batch was not acknowledged and is sent again", "subject", o.subject, "error", err)
			}
			timer.Reset(retryEvery)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		o.landed(lostEvent)
	}
}

var errNoAck = errors.New("no acknowledgement in time")

// ackWait is how long an acknowledgement may take before the batch is sent again with the same numbers.
const ackWait = 2 * time.Second

// publish sends one batch and waits for its acknowledgement. Whoever reads it knows a repetition by its numbers; with a message
// id the server would know too, and remember the ids of every batch of two minutes: 800 MB for 5,000 agents.
func (o *outbox) publish(ctx context.Context, s *sealed, dropped uint64) error {
	msg := nats.NewMsg(o.subject)
	msg.Data = s.data
	first := strconv.FormatUint(s.first, 10)
	h := msg.Header
	h.Set(headerOrigin, o.origin)
	h.Set(headerFirst, first)
	h.Set(headerCount, strconv.FormatUint(s.count, 10))
	h.Set(headerDropped, strconv.FormatUint(dropped, 10))
	h.Set(headerSent, strconv.FormatInt(o.now(), 10))
	if s.offset != "" {
		h.Set(headerOffset, s.offset)
	}
	if s.mark != "" {
		h.Set(headerMark, s.mark)
	}
	if o.sign != nil {
		o.sign(msg)
	}
	ack, err := o.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return err
	}
	late := time.NewTimer(ackWait)
	defer late.Stop()
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return err
	case <-late.C:
		return errNoAck
	case <-ctx.Done():
		return ctx.Err()
	}
}
