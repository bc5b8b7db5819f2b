package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// parallelDials bounds the connections that are being made at once: fewer than a listener's backlog.
const parallelDials = 32

// dial opens every connection of the spec and returns when all stand, silent as yet, or with the first error. The
// connections live until ctx ends.
func (w *workload) dial(ctx context.Context, s dialSpec) error {
	first := make(chan error, 1)
	slots := make(chan struct{}, parallelDials)
	var wg sync.WaitGroup
	for _, g := range s.Groups {
		for range g.Count {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				making, cancel := context.WithTimeout(ctx, dialTimeout)
				defer cancel()
				c, err := w.call(making, g)
				if err != nil {
					select {
					case first <- err:
					default:
					}
					return
				}
				if g.Talk > 0 {
					w.begun.Add(1)
				}
				w.opened(c) // here, so that whoever was told that all stand finds all of them counted
				go w.converse(ctx, c, s.Faithful)
			})
		}
	}
	wg.Wait()
	select {
	case err := <-first:
		return err
	default:
		return nil
	}
}

// dialTimeout bounds a connection's making: a few SYN retries.
const dialTimeout = 15 * time.Second

// takeLocal returns the local address of the next connection of a group, never the same twice before all were used.
func (w *workload) takeLocal(g group) netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.ports[g.Low]
	w.ports[g.Low]++
	return g.local(i)
}

// call makes one connection and greets the service on it.
func (w *workload) call(ctx context.Context, g group) (*conversation, error) {
	out := &conversation{group: g}
	web := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		// The clients send no keepalives: the service's are the ones under test.
		d := net.Dialer{KeepAlive: -1, Control: cubic}
		if local := w.takeLocal(g); local.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			out.local = c.LocalAddr().(*net.TCPAddr).AddrPort()
		}
		return c, err
	}}}
	u := url.URL{Scheme: "ws", Host: g.Target.String(), Path: chatPath, RawQuery: fmt.Sprintf("talk=%s&size=%d", g.Talk, g.push())}
	c, _, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{HTTPClient: web})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", g.Target, err)
	}
	out.c = c
	if err = c.Write(ctx, websocket.MessageText, []byte(greeting)); err == nil {
		_, _, err = c.Read(ctx)
	}
	if err != nil {
		c.CloseNow()
		return nil, fmt.Errorf("greet %s from %s: %w", g.Target, out.local, err)
	}
	return out, nil
}

// converse is a client's end of a connection that stands, until that or ctx ends. A faithful client makes another
// connection when one ends, as applications do.
func (w *workload) converse(ctx context.Context, c *conversation, faithful bool) {
	w.converseOnce(ctx, c)
	for faithful && ctx.Err() == nil {
		if c = w.callAgain(ctx, c.group); c == nil {
			return
		}
		if c.group.Talk > 0 {
			w.begun.Add(1)
		}
		w.converseOnce(ctx, c)
	}
}

func (w *workload) converseOnce(ctx context.Context, c *conversation) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	talks := c.group.Talk > 0
	c.talks.Store(talks)
	var begun sync.Once
	begin := func() { begun.Do(w.begun.Done) }
	var clock sync.WaitGroup
	clock.Go(func() {
		select {
		case <-w.talking:
			// A connection that fails here is heard of below.
			if talks && c.c.Write(ctx, websocket.MessageText, []byte(goAhead)) == nil {
				w.talk(ctx, c, speech{every: c.group.Talk, size: c.group.Size})
			}
		case <-ctx.Done():
		}
	})
	_ = w.hear(ctx, c, func(websocket.MessageType, []byte) error { // counted there
		if talks {
			begin() // the service says nothing before it was told to go ahead
		}
		return nil
	})
	if talks {
		begin()
	}
	cancel()
	clock.Wait()
}

// talkAll lets the clients' talking connections begin and returns when the service has begun on all of them too.
func (w *workload) talkAll() {
	close(w.talking)
	w.begun.Wait()
}

// How long a client waits before it connects again, and how often it tries.
const (
	againAfter = 500 * time.Millisecond
	againTries = 20
)

// callAgain makes a connection like one that has ended, by a node that takes new ones.
func (w *workload) callAgain(ctx context.Context, g group) *conversation {
	for range againTries {
		if !sleep(ctx, againAfter/2+rand.N(againAfter)) || w.isLeaving() {
			return nil
		}
		making, cancel := context.WithTimeout(ctx, dialTimeout)
		c, err := w.call(making, w.detour(g))
		cancel()
		if err == nil {
			return c
		}
	}
	w.mu.Lock()
	w.missing++
	w.mu.Unlock()
	return nil
}

// detour returns the group, or its like by another node where the group's takes no new connection.
func (w *workload) detour(g group) group {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pickWay(g)
}

// pickWay is detour; the workload is locked.
func (w *workload) pickWay(g group) group {
	if len(g.Ways) == 0 || !slices.Contains(w.avoid, g.Entry) {
		return g
	}
	for _, i := range rand.Perm(len(g.Ways)) {
		if way := g.Ways[i]; !slices.Contains(w.avoid, way.Entry) {
			g.way = way
			return g
		}
	}
	return g
}

// admit picks the way of somebody who comes and goes, whose end is to be told to gone; ok is false where nobody comes any more.
func (w *workload) admit(g group) (way group, gone func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leaving {
		return g, nil, false
	}
	g = w.pickWay(g)
	there := w.guests[g.Entry]
	if there == nil {
		there = new(sync.WaitGroup)
		w.guests[g.Entry] = there
	}
	there.Add(1)
	return g, there.Done, true
}

// seeOff waits until all have gone that come and go by a node by which no more come, or by any where nobody comes any more.
func (w *workload) seeOff(of func(entry int) bool) {
	w.mu.Lock()
	var there []*sync.WaitGroup
	for entry, g := range w.guests {
		if of(entry) {
			there = append(there, g)
		}
	}
	w.mu.Unlock()
	for _, g := range there {
		g.Wait()
	}
}

// leave ends connections, each at a moment of its own within the given time, as both sides agree. It returns when none
// of the kind is left.
func (w *workload) leave(ctx context.Context, which func(*conversation) bool, within time.Duration) {
	for ctx.Err() == nil {
		over := w.conversations(func(c *conversation) bool { return which(c) && !c.parted.Load() })
		if len(over) == 0 {
			return
		}
		w.scatter(ctx, over, within, func(c *conversation) {
			_ = c.c.Close(websocket.StatusGoingAway, "") // whatever comes of it, it has ended
			c.c.CloseNow()
		})
		within = 0 // for those that were being made meanwhile
	}
}

// quit ends all connections and makes no other.
func (w *workload) quit(ctx context.Context, within time.Duration) {
	w.mu.Lock()
	w.leaving = true
	w.mu.Unlock()
	w.leave(ctx, func(*conversation) bool { return true }, within)
	w.seeOff(func(int) bool { return true })
}

func (w *workload) isLeaving() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leaving
}

// vanish picks connections whose clients are to fall silent for ever and returns their local addresses.
func (w *workload) vanish(n int) []netip.AddrPort {
	there := w.conversations(func(c *conversation) bool { return !c.parted.Load() })
	rand.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
	var out []netip.AddrPort
	for _, c := range there[:min(n, len(there))] {
		c.parted.Store(true)
		out = append(out, c.local)
	}
	return out
}

// forget closes the connections of clients that have vanished: nothing of it gets through to the service. Faithful ones
// come back under another address.
func (w *workload) forget() {
	for _, c := range w.conversations(func(c *conversation) bool { return c.parted.Load() }) {
		c.c.CloseNow()
	}
}

// Clients that come and go: how long they stay, and how long they wait for their connection: longer than the SYN's second
// repetition, after 3 s.
const (
	stay      = 300 * time.Millisecond
	newcomers = 10 * time.Second
)

// comeAndGo makes a connection every so often, by each way in turn, and ends it soon. A later order takes the place of an
// earlier one.
func (w *workload) comeAndGo(ctx context.Context, s churnSpec) {
	w.churns.Do(func() { go w.churning(ctx) })
	select {
	case <-w.churn:
	default:
	}
	w.churn <- s
}

func (w *workload) churning(ctx context.Context) {
	s := <-w.churn
	t := time.NewTicker(s.Every)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case s = <-w.churn:
			t.Reset(s.Every)
			continue
		case <-t.C:
		}
		g, gone, ok := w.admit(s.Groups[i%len(s.Groups)])
		if !ok {
			return
		}
		go func() {
			defer gone()
			making, cancel := context.WithTimeout(ctx, newcomers)
			defer cancel()
			c, err := w.call(making, g)
			if ctx.Err() != nil {
				return
			}
			w.mu.Lock()
			sum := w.new[g.Entry]
			if err == nil {
				sum.Made++
			} else {
				sum.Failed++
			}
			w.new[g.Entry] = sum
			w.mu.Unlock()
			if err == nil && sleep(ctx, stay) {
				_ = c.c.Close(websocket.StatusNormalClosure, "") // of no interest any more
			}
		}()
	}
}
