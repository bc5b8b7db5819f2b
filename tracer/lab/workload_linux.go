package lab

import (
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Tally counts what one worker saw since it started.
type Tally struct {
	Open     int               `json:"open"`             // connections that stand
	Sent     uint64            `json:"sent"`             // messages
	Received uint64            `json:"received"`         // messages
	Ended    map[string]int    `json:"ended"`            // connections that ended, by cause
	New      map[int]DialTally `json:"new,omitempty"`    // connections of those who come and go, by the node they enter by
	HTTP     HTTPTally         `json:"http,omitzero"`    // answers to requests
	Missing  int               `json:"missing,omitzero"` // connections that ended and could not be made again
}

// DialTally counts short connections.
type DialTally struct {
	Made   int `json:"made"`
	Failed int `json:"failed"`
}

func (t *Tally) add(o Tally) {
	t.Open += o.Open
	t.Sent += o.Sent
	t.Received += o.Received
	t.Missing += o.Missing
	for k, v := range o.Ended {
		t.Ended[k] += v
	}
	for k, v := range o.New {
		sum := t.New[k]
		sum.Made += v.Made
		sum.Failed += v.Failed
		t.New[k] = sum
	}
	t.HTTP.add(o.HTTP)
}

func newTally() Tally { return Tally{Ended: map[string]int{}, New: map[int]DialTally{}} }

// workload is the state of one worker: what is open and what became of the rest.
type workload struct {
	sent, received atomic.Uint64
	talking        chan struct{}  // closed when clients shall begin to talk
	begun          sync.WaitGroup // talking connections whose service has not begun yet

	mu      sync.Mutex
	open    map[*conversation]bool
	ended   map[string]int
	new     map[int]DialTally
	http    HTTPTally
	missing int
	ports   map[uint16]int          // how many local ports were given out, by the low end of their range
	avoid   []int                   // nodes by which no new connection enters
	leaving bool                    // makes no connection any more
	guests  map[int]*sync.WaitGroup // those who come and go, by the node they enter by

	churns sync.Once
	churn  chan churnSpec // the newest order
}

// conversation is one end of a WebSocket connection.
type conversation struct {
	c      *websocket.Conn
	group  group          // a client's: what it is made after
	local  netip.AddrPort // a client's
	talks  atomic.Bool    // says something by its own clock
	parted atomic.Bool    // its client has vanished
}

func newWorkload() *workload {
	return &workload{
		talking: make(chan struct{}), open: map[*conversation]bool{}, ended: map[string]int{}, new: map[int]DialTally{},
		ports: map[uint16]int{}, churn: make(chan churnSpec, 1), guests: map[int]*sync.WaitGroup{},
	}
}

func (w *workload) opened(c *conversation) {
	w.mu.Lock()
	w.open[c] = true
	w.mu.Unlock()
}

func (w *workload) closed(c *conversation, err error) {
	w.mu.Lock()
	delete(w.open, c)
	w.ended[causeOf(err)]++
	w.mu.Unlock()
}

// goodbye is the cause of an end that both sides agreed on, or that this side chose.
const goodbye = "closed"

func causeOf(err error) string {
	switch status := websocket.CloseStatus(err); {
	case status == websocket.StatusNormalClosure, status == websocket.StatusGoingAway:
		return goodbye
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return goodbye
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// conversations returns the open ones of which is holds.
func (w *workload) conversations(is func(*conversation) bool) []*conversation {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*conversation
	for c := range w.open {
		if is(c) {
			out = append(out, c)
		}
	}
	return out
}

func (w *workload) tally() Tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := Tally{
		Open: len(w.open), Sent: w.sent.Load(), Received: w.received.Load(), Missing: w.missing,
		Ended: maps.Clone(w.ended), New: maps.Clone(w.new), HTTP: w.http,
	}
	t.HTTP.Pool = maps.Clone(w.http.Pool)
	return t
}

// speech is what one end of a connection says by its own clock.
type speech struct {
	every time.Duration // between two messages; 0: none
	size  int           // bytes of a message
	ping  time.Duration // between two pings; 0: none
}

// A connection's first two messages are the client's, and the service echoes them. The first says that the connection
// stands, the second, from a client that talks, starts the service's own clock: so nothing is said while connections are
// being made, and each end knows where the other is.
const (
	greeting = "hello"
	goAhead  = "let us talk"
)

// hear reads a connection until it ends, counts it and its messages, and hands them to f, whose error ends it too. It
// returns why it ended.
func (w *workload) hear(ctx context.Context, c *conversation, f func(websocket.MessageType, []byte) error) error {
	defer c.c.CloseNow()
	w.opened(c)
	for {
		kind, text, err := c.c.Read(ctx)
		if err == nil {
			w.received.Add(1)
			err = f(kind, text)
		}
		if err != nil {
			w.closed(c, err)
			return err
		}
	}
}

// talk sends messages on this end's own clock.
func (w *workload) talk(ctx context.Context, c *conversation, s speech) {
	text := make([]byte, s.size)
	for i := range text {
		text[i] = '.'
	}
	c.talks.Store(s.every > 0)
	w.every(ctx, s.every, func() error { return w.say(ctx, c, text) })
}

func (w *workload) say(ctx context.Context, c *conversation, text []byte) error {
	err := c.c.Write(ctx, websocket.MessageText, text)
	if err == nil {
		w.sent.Add(1)
	}
	return err
}

// every calls f once a period, from a random moment within the first on, until it fails or ctx ends. Period 0 is never.
// A ping that is not answered blocks f, as it blocks a real server's pinger.
func (w *workload) every(ctx context.Context, period time.Duration, f func() error) {
	if period <= 0 || !sleep(ctx, rand.N(period)) {
		return
	}
	t := time.NewTicker(period)
	defer t.Stop()
	for f() == nil {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// sleep waits, and says whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// scatter calls f for each conversation at a random moment within a time, and returns when all calls have returned.
func (w *workload) scatter(ctx context.Context, list []*conversation, within time.Duration, f func(*conversation)) {
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() {
			if within == 0 || sleep(ctx, rand.N(within)) {
				f(c)
			}
		})
	}
	wg.Wait()
}
