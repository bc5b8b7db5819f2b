package tracer

import (
	"fmt"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Sink reads the stream after the fold: facts with their names filled in, and findings, in the order of the fold.
//
// Write is called from one goroutine of the sink's own. The batch is shared with other sinks: a sink may keep events
// but must not change them nor what they point to, and copies an event before it sets Seq. An error ends the sink.
type Sink interface {
	Write(batch []event.Event) error
}

// Policy says what happens when a sink is slower than the stream.
type Policy struct {
	// Queue is how many batches wait for the sink, 1024 if zero.
	Queue int
	// Wait is how long the Engine waits for room in the queue before it drops a batch. Zero, for screens, drops at once;
	// a recording sets a deadline. Everything waits with it, so it must be short.
	Wait time.Duration
	// Optional lets the run go on without this sink after an error.
	Optional bool
}

// closeGrace is how long a sink may take to write what it has at the end.
const closeGrace = 5 * time.Second

type sink struct {
	name    string
	to      Sink
	policy  Policy
	queue   chan []event.Event
	gone    chan struct{} // the goroutine has ended
	err     error         // set before gone is closed
	dropped uint64        // since the last stream.lost
	since   int64         // when the first of these was dropped
	told    int64         // when the last stream.lost was written
}

func newSink(name string, to Sink, p Policy) *sink {
	if p.Queue <= 0 {
		p.Queue = 1024
	}
	return &sink{name: name, to: to, policy: p, queue: make(chan []event.Event, p.Queue), gone: make(chan struct{})}
}

// run starts the goroutine that writes. An error of a sink that is not optional goes to broken.
func (s *sink) run(broken chan<- error) {
	go func() {
		defer close(s.gone)
		for batch := range s.queue {
			err := s.to.Write(batch)
			if err == nil {
				continue
			}
			s.err = fmt.Errorf("sink %s: %w", s.name, err)
			if !s.policy.Optional {
				select {
				case broken <- s.err:
				default:
				}
			}
			return
		}
	}()
}

// put hands a batch over, or drops and counts it.
func (s *sink) put(batch []event.Event) {
	select {
	case s.queue <- batch:
		return
	case <-s.gone:
		return
	default:
	}
	if s.policy.Wait > 0 {
		t := time.NewTimer(s.policy.Wait)
		defer t.Stop()
		select {
		case s.queue <- batch:
			return
		case <-s.gone:
			return
		case <-t.C:
		}
	}
	if s.dropped == 0 {
		s.since = batch[0].Time.UnixNano()
	}
	s.dropped += uint64(len(batch))
}

// close lets the sink write what it has.
func (s *sink) close() error {
	close(s.queue)
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-s.gone:
		return s.err
	case <-t.C:
		return fmt.Errorf("sink %s: does not end, %d batches are lost", s.name, len(s.queue))
	}
}
