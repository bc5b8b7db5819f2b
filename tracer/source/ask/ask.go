package ask

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// DefaultPort is the kubelet's: every node has it, and whoever may reach one may mostly reach all. Where nothing listens the
// node's kernel refuses, which is an answer as well.
const DefaultPort = 10250

const (
	// patience is how long an answer is waited for: long enough for the kernel to have sent the question twice (the first
	// timeout of a SYN is 1 s, TCP_TIMEOUT_INIT), so that one lost segment is no silence.
	patience = 1500 * time.Millisecond
	// silence is when a healthy node is asked as well: one that lives has mostly answered by then, and only one connection
	// was made.
	silence = 250 * time.Millisecond
	// again is how long a node is not asked once more.
	again = 5 * time.Second
	// most is how many nodes are asked at a time: where more are suspected at once, asking them all would say little.
	most = 8
	// maxRemembered is how many nodes' last questions are remembered.
	maxRemembered = 1024
)

// Address is a node and where to reach it.
type Address struct {
	Node string
	IP   netip.Addr
}

// Question asks whether a node lives.
type Question struct {
	Node    Address
	Healthy []Address // the first that is not the asking machine is asked the same where the node keeps silent
	From    []string  // machines of the cluster that might ask, for a Choose that can
}

// Options tune a Source. The zero value asks from this machine.
type Options struct {
	Node string // this machine's, empty if it is none of the cluster
	Port uint16 // [DefaultPort] if zero
	// Choose returns the machine that asks, of some that might, and how it makes a connection, as [Dial] does. nil: this one.
	Choose func(from []string) (node string, dial Dialer)
	Log    *slog.Logger // nil: silent
}

// Dialer makes a connection and closes it at once.
type Dialer func(ctx context.Context, to netip.AddrPort) error

// Source puts questions and tells node.asked.
type Source struct {
	opts      Options
	questions chan Question

	mu    sync.Mutex
	asked map[string]time.Time
	open  int
}

// New returns a Source that asks when it runs.
func New(o Options) *Source {
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{opts: o, questions: make(chan Question, most), asked: make(map[string]time.Time)}
	if o.Choose == nil {
		s.opts.Choose = func([]string) (string, Dialer) { return o.Node, Dial }
	}
	return s
}

// Ask has a node asked, unless that was done a moment ago or too many are being asked already. It may be called from any
// goroutine and never blocks.
func (s *Source) Ask(q Question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, ok := s.asked[q.Node.Node]; ok && now.Sub(last) < again {
		return
	}
	if s.open >= most {
		return
	}
	select {
	case s.questions <- q:
	default:
		return
	}
	if len(s.asked) >= maxRemembered {
		clear(s.asked)
	}
	s.asked[q.Node.Node] = now
	s.open++
}

// Run puts the questions until ctx ends, which is no error.
func (s *Source) Run(ctx context.Context, emit func([]event.Event)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-s.questions:
			wg.Go(func() {
				fact := s.put(ctx, q)
				s.mu.Lock()
				s.open--
				s.mu.Unlock()
				if ctx.Err() != nil {
					return // whoever was interrupted has not been kept waiting
				}
				mu.Lock()
				defer mu.Unlock()
				emit([]event.Event{{Type: event.NodeAsked, Time: time.Now().UTC(), Body: fact}})
			})
		}
	}
}

// put asks the node, and a healthy one where it keeps silent.
func (s *Source) put(ctx context.Context, q Question) *event.Asked {
	by, dial := s.opts.Choose(q.From)
	fact := &event.Asked{By: event.By{Node: by}}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answered := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-answered:
			return
		case <-time.After(silence):
		}
		for _, h := range q.Healthy {
			if h.Node != by && h.Node != q.Node.Node {
				r := s.one(ctx, dial, h)
				fact.Control = &r
				return
			}
		}
	})
	fact.Asked = s.one(ctx, dial, q.Node)
	close(answered)
	wg.Wait()
	s.opts.Log.Debug("asked a node", "node", q.Node.Node, "answer", fact.Asked.Answer, "took", fact.Asked.Took.Duration())
	return fact
}

// one makes one connection.
func (s *Source) one(ctx context.Context, dial Dialer, to Address) event.Reply {
	r := event.Reply{Node: to.Node, To: event.Endpoint{IP: to.IP, Port: s.opts.Port}}
	start := time.Now()
	err := dial(ctx, netip.AddrPortFrom(to.IP, s.opts.Port))
	r.Took = event.Seconds(time.Since(start))
	r.Answer = answerOf(err)
	if r.Answer == event.AnswerFailed {
		r.Error = err.Error()
	}
	return r
}

// answerOf says what an error of a connection means. What a router on the way or the own machine says is no answer.
func answerOf(err error) event.Answer {
	var timeout net.Error
	switch {
	case err == nil:
		return event.AnswerAccepted
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return event.AnswerRefused
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return event.AnswerNone
	}
	return event.AnswerFailed
}

// Dial connects to an address from the network namespace of the calling thread, and closes the connection at once.
func Dial(ctx context.Context, to netip.AddrPort) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}
