package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
)

// relay runs sources once and hands their facts to one Engine after another. Between two Engines the sources wait, and
// nothing is lost.
type relay struct {
	batches chan []event.Event // unbuffered: what an Engine did not take is still with its source
	ended   chan struct{}      // all sources have
	mu      sync.Mutex
	errs    []error
}

// startRelay runs the sources until ctx ends.
func startRelay(ctx context.Context, sources []namedSource) *relay {
	r := &relay{batches: make(chan []event.Event), ended: make(chan struct{})}
	var wg sync.WaitGroup
	for _, s := range sources {
		wg.Go(func() {
			err := s.source.Run(ctx, func(batch []event.Event) {
				select {
				case r.batches <- batch:
				case <-ctx.Done():
				}
			})
			if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				r.mu.Lock()
				r.errs = append(r.errs, fmt.Errorf("source %s: %w", s.name, err))
				r.mu.Unlock()
			}
		})
	}
	go func() { wg.Wait(); close(r.ended) }()
	return r
}

// after is the source of one Engine: first what it must know, then the facts as they come.
func (r *relay) after(first []event.Event) tracer.Source { return relayed{r, first} }

type relayed struct {
	relay *relay
	first []event.Event
}

// relayBatch is how many facts are handed on at once where many wait.
const relayBatch = 256

// Run implements tracer.Source.
func (s relayed) Run(ctx context.Context, emit func([]event.Event)) error {
	for first := s.first; len(first) > 0; {
		n := min(len(first), relayBatch)
		emit(first[:n:n])
		first = first[n:]
	}
	for {
		select {
		case batch := <-s.relay.batches:
			emit(batch)
		case <-s.relay.ended:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// wait returns why sources have failed, once all have ended.
func (r *relay) wait() error {
	<-r.ended
	return errors.Join(r.errs...)
}
