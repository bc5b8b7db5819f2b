package tracer

import (
	"context"
	"errors"
	"time"

	"github.com/midhop/midhop/tracer/model"
)

// ErrNotRunning is returned by [Engine.Do] before [Engine.Run] and after it.
var ErrNotRunning = errors.New("the engine is not running")

// Do runs f on the goroutine that owns the state, between two batches, and waits for it. What f learns of the model must
// not outlive the call, and f must be quick: nothing is folded meanwhile.
func (e *Engine) Do(ctx context.Context, f func(*model.Model)) error {
	e.mu.Lock()
	running := e.ctx != nil
	e.mu.Unlock()
	if !running {
		return ErrNotRunning
	}
	ran := make(chan struct{})
	call := func() {
		defer close(ran)
		f(e.river.model)
	}
	select {
	case e.calls <- call:
		<-ran
		return nil
	case <-e.done:
		return ErrNotRunning
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Snapshot returns the state for readers. It may be called from any goroutine; the owner builds a new one only if
// something changed since the last. Before [Engine.Run] it is empty, after it the last state.
func (e *Engine) Snapshot() *model.Snapshot {
	var s *model.Snapshot
	err := e.Do(context.Background(), func(*model.Model) { s = e.snapshot() })
	if err == nil {
		return s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last != nil {
		return e.last
	}
	return &model.Snapshot{Node: e.opts.Model.Node}
}

// snapshot builds the state for readers; the owner calls it.
func (e *Engine) snapshot() *model.Snapshot {
	now := e.river.clock
	if e.opts.Live {
		now = max(now, e.opts.Now().UnixNano())
	}
	return e.river.model.Snapshot(time.Unix(0, now).UTC(), e.river.judge)
}

// pageStep is how many sockets are asked at a time: some ten milliseconds, after which waiting facts are folded.
const pageStep = 4000

// Page returns a page of sockets, healthy ones included; see [model.Model.Page]. Where every socket has to be asked, that
// is done in parts, and the page is of a moment no more exact than these take.
func (e *Engine) Page(ctx context.Context, q model.PageQuery) (model.Page, error) {
	var p model.Page
	if q.Match == nil && q.Order == nil {
		err := e.read(ctx, func(m *model.Model) { p = m.Page(q, e.river.judge) })
		return p, err
	}
	scan := model.Scan{Query: q}
	for done := false; !done; {
		if err := e.read(ctx, func(m *model.Model) { done = m.Step(&scan, e.river.judge, pageStep) }); err != nil {
			return p, err
		}
	}
	err := e.read(ctx, func(m *model.Model) { p = m.Finish(&scan, e.river.judge) })
	return p, err
}

// read is [Engine.Do], and works after [Engine.Run] too: nobody owns the state any more, and the last words stay readable.
func (e *Engine) read(ctx context.Context, f func(*model.Model)) error {
	err := e.Do(ctx, f)
	if errors.Is(err, ErrNotRunning) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.last != nil {
			f(e.river.model)
			return nil
		}
	}
	return err
}

// Share compares one connection with all others; see [model.Model.Share]. False where there is no such socket.
func (e *Engine) Share(ctx context.Context, key uint64) (s model.Share, ok bool, err error) {
	err = e.read(ctx, func(m *model.Model) { s, ok = m.Share(key, e.river.judge) })
	return s, ok, err
}
