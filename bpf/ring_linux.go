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
// most one tick: awake must be longer than that.
const (
	drainTick = 10 * time.Millisecond
	awake     = 1100 * time.Millisecond
	idleTick  = 50 * time.Millisecond
)

// batchMax is how many records are handed over before a flush is asked for though more are waiting.
const batchMax = 256

// Ring is one ring buffer between the probes and this process. One goroutine reads it.
type Ring struct {
	name   string
	reader *ringbuf.Reader
	kept   [][]byte // read before Run, and to be handed over by it
}

func newRing(name string, m *ebpf.Map) (*Ring, error) {
	rd, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, fmt.Errorf("read ring %s: %w", name, err)
	}
	return &Ring{name: name, reader: rd}, nil
}

// Name returns "evidence" or "bulk".
func (r *Ring) Name() string { return r.name }

// Run drains the ring until ctx ends, which is no error. It calls record for each record, whose bytes are valid during
// the call only, and flush when the ring is empty or a batch is full.
func (r *Ring) Run(ctx context.Context, record func(raw []byte), flush func()) error {
	stop := context.AfterFunc(ctx, func() { _ = r.reader.Flush() })
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
	for ctx.Err() == nil {
		tick := idleTick
		now := time.Now()
		if now.Sub(newest) < awake {
			tick = drainTick
		}
		r.reader.SetDeadline(now.Add(tick))
		n, err := r.drain(&rec, record, flush)
		if n > 0 {
			newest = time.Now()
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("read ring %s: %w", r.name, err)
		}
	}
	return nil
}

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

// drain waits for records until the deadline or a wake-up and takes what is there.
func (r *Ring) drain(rec *ringbuf.Record, record func(raw []byte), flush func()) (n int, err error) {
	for {
		err = r.reader.ReadInto(rec)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrFlushed) {
				err = nil
			}
			break
		}
		record(rec.RawSample)
		n++
		if rec.Remaining == 0 {
			break
		}
		if n%batchMax == 0 {
			flush()
		}
	}
	if n > 0 {
		flush()
	}
	return n, err
}
