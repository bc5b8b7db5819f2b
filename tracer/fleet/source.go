package fleet

import (
	"context"
	"crypto/ed25519"
	"sync/atomic"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// FollowOptions say from where the stream of facts is read.
type FollowOptions struct {
	// Back is how much of the stream is read before what is new: what is needed to know the state, and what the reader
	// wants to see. At least two checkpoints are read in any case.
	Back  time.Duration
	End   bool // end where the stream ends, instead of waiting for more
	Build event.Build
}

// Follower is a Source that emits the facts of the stream in its order. A fold of it needs no timer: the stream holds the
// clock too.
type Follower struct {
	conn   *Conn
	opts   FollowOptions
	intake *intake
	live   chan struct{}
	cut    atomic.Pointer[CutOffError]
	onCut  func(*CutOffError) // beside cut; nil: nobody
}

// NewFollower returns a Source over a connection of [Dial] or [Server.Dial].
func NewFollower(c *Conn, o FollowOptions) (*Follower, error) { return newFollower(c, o, askKey(c)) }

func newFollower(c *Conn, o FollowOptions, key ed25519.PublicKey) (*Follower, error) {
	in, err := newIntake(o.Build)
	if err != nil {
		return nil, err
	}
	if key != nil {
		in.proof = newProof(key)
	}
	return &Follower{conn: c, opts: o, intake: in, live: make(chan struct{})}, nil
}

// Live is closed when everything that the stream held at the start was emitted.
func (f *Follower) Live() <-chan struct{} { return f.live }

// Cut says since when nothing comes from the stream any more, and why; nil where all is well. It may be called at any time.
func (f *Follower) Cut() *CutOffError { return f.cut.Load() }

// Stats may be called at any time.
func (f *Follower) Stats() IntakeStats { return f.intake.Stats() }

// Skews returns the newest measured clock offset of each node, the hub's clock minus the node's.
func (f *Follower) Skews() map[string]event.Seconds {
	f.intake.mu.Lock()
	defer f.intake.mu.Unlock()
	out := make(map[string]event.Seconds, len(f.intake.skews))
	for node, s := range f.intake.skews {
		out[node] = s
	}
	return out
}

// Refusals says what was not believed of what agents tell, by node.
type Refusals struct {
	Claims uint64 // of addresses that the inventory gives to another node
	Over   uint64 // events above the agent's quota
}

// Refusals returns those nodes of whose agents something was refused.
func (f *Follower) Refusals() map[string]Refusals {
	f.intake.mu.Lock()
	defer f.intake.mu.Unlock()
	out := make(map[string]Refusals)
	for node, n := range f.intake.claims.refused {
		out[node] = Refusals{Claims: n}
	}
	for node, s := range f.intake.agents {
		if s.over > 0 {
			r := out[node]
			r.Over = s.over
			out[node] = r
		}
	}
	return out
}

// warmUp is what has to be read so that everything that is repeated at checkpoints was met once.
const warmUp = 2*CheckpointInterval + time.Minute

// Run emits until ctx ends, or until the reader is let in no more.
func (f *Follower) Run(ctx context.Context, emit func([]event.Event)) error {
	from := time.Now().Add(-max(f.opts.Back, warmUp))
	follow, err := follow(f.conn, StreamFacts, allFacts, 0, from)
	if err != nil {
		return err
	}
	defer follow.close()
	follow.hasty, follow.onCut = true, func(e *CutOffError) {
		f.cut.Store(e)
		if f.onCut != nil {
			f.onCut(e)
		}
	}
	live := false
	for {
		batch, err := follow.retry(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range batch {
			if events := f.intake.take(&batch[i]); len(events) > 0 {
				emit(events)
			}
		}
		if len(batch) > 0 {
			continue
		}
		if !live {
			live, follow.hasty = true, f.opts.End
			close(f.live)
		}
		if f.opts.End {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPoll):
		}
	}
}
