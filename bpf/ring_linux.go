package bpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// How often a ring is drained while records come, and how long after the newest one that pace is kept. The probes wake
// the reader by themselves for the first record after READER_ASLEEP_NS (ring.h, 1 s) of silence, so a record waits for at
// most one tick: awake must be longer than that. The reader looks again in silence only so that it never sleeps for ever.
const (
	evidenceTick = 10 * time.Millisecond
	bulkTick     = 20 * time.Millisecond
	awake        = 1100 * time.Millisecond
	idleTick     = 2 * time.Second
)

// batchMax is how many records are handed over before a flush is asked for though more are waiting.
const batchMax = 256

// Ring is one ring buffer between the probes and this process. One goroutine reads it.
type Ring struct {
	name   string
	tick   time.Duration // between two looks while records come
	idle   time.Duration // between two looks in silence
	reader *ringbuf.Reader
	waker  *waker
	kept   [][]byte // read before Run, and to be handed over by it
}

func newRing(name string, tick time.Duration, m *ebpf.Map) (*Ring, error) {
	rd, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, fmt.Errorf("read ring %s: %w", name, err)
	}
	w, err := newWaker(m)
	if err != nil {
		rd.Close()
		return nil, fmt.Errorf("read ring %s: %w", name, err)
	}
	return &Ring{name: name, tick: tick, idle: idleTick, reader: rd, waker: w}, nil
}

func (r *Ring) close() error { return errors.Join(r.waker.close(), r.reader.Close()) }

// Name returns "evidence" or "bulk".
func (r *Ring) Name() string { return r.name }

// Run drains the ring until ctx ends, which is no error. It calls record for each record, whose bytes are valid during
// the call only, and flush when the ring is empty or a batch is full.
func (r *Ring) Run(ctx context.Context, record func(raw []byte), flush func()) error {
	stop := context.AfterFunc(ctx, func() { _ = r.waker.until(past) })
	defer stop()
	var (
		rec    ringbuf.Record
		newest = time.Now()
	)
	for _, raw := range r.kept {
		record(raw)
	}
	if r.kept != nil {
		r.kept = nil
		flush()
	}
	some := func() bool { return r.reader.AvailableBytes() > 0 }
	none := func() bool { return false } // what comes within a tick is read together
	r.reader.SetDeadline(past)           // it never waits: the waker does
	for {
		tick, there, now := r.idle, some, time.Now()
		if now.Sub(newest) < awake {
			tick, there = r.tick, none
		}
		err := r.waker.until(now.Add(tick))
		if ctx.Err() != nil { // asked after the deadline was set, which would undo an earlier end
			return nil
		}
		if err == nil {
			err = r.waker.wait(there)
		}
		if err == nil && some() {
			err = r.drain(&rec, record, flush)
			newest = time.Now()
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("read ring %s: %w", r.name, err)
		}
	}
}

// past is a deadline that nothing waits for.
var past = time.Unix(1, 0)

// sift waits for records until a deadline, drops those that own claims, and keeps the others for Run.
func (r *Ring) sift(deadline time.Time, own func(raw []byte) bool) {
	var rec ringbuf.Record
	r.reader.SetDeadline(deadline)
	for r.reader.ReadInto(&rec) == nil {
		if !own(rec.RawSample) {
			r.kept = append(r.kept, bytes.Clone(rec.RawSample))
		}
		if rec.Remaining == 0 {
			return
		}
	}
}

// drain takes what is there.
func (r *Ring) drain(rec *ringbuf.Record, record func(raw []byte), flush func()) error {
	defer flush()
	for n := 1; ; n++ {
		if err := r.reader.ReadInto(rec); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
		record(rec.RawSample)
		if rec.Remaining == 0 {
			return nil
		}
		if n%batchMax == 0 {
			flush()
		}
	}
}
