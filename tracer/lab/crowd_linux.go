package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// connect opens every connection, and lets them talk and returns when all stand.
func (c *Cluster) connect(ctx context.Context) error {
	if err := c.startOutside(); err != nil {
		return err
	}
	var dial, talk []func() error
	for _, s := range c.plan.shares(c.opts, c.scenario.direct) {
		w, err := c.client(s.from)
		if err != nil {
			return err
		}
		dial = append(dial, func() error { return c.dial(w, s) })
		talk = append(talk, func() error { return c.talk(w, s) })
	}
	done := make(chan error, 1)
	go func() {
		err := together(dial...)
		if err == nil {
			err = together(talk...)
		}
		if err == nil && c.scenario.proxy {
			err = c.startProxy()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		// Closing the cluster kills the workers, which ends the orders.
		return context.Cause(ctx)
	}
}

// begin lets a worker do its share from scratch.
func (c *Cluster) begin(w *worker, s share) error {
	if err := c.dial(w, s); err != nil {
		return err
	}
	return c.talk(w, s)
}

func (c *Cluster) dial(w *worker, s share) error {
	s.spec.Faithful = c.scenario.faithful || c.opts.Reconnect
	_, err := w.do(order{Dial: &s.spec}, connectWait(c.opts.Connections))
	return err
}

func (c *Cluster) talk(w *worker, s share) error {
	o := order{Talk: true}
	if c.scenario.churn {
		o.Churn = &churnSpec{Groups: c.plan.everyWay(s.from), Every: churnEvery}
	}
	_, err := w.do(o, orderWait)
	return err
}

// churnEvery is how often somebody new comes to each kind of client: often enough that what goes wrong for new
// connections only is met through every node within a second.
const churnEvery = 200 * time.Millisecond

// client returns the worker that connections of an origin start from, a new one for those outside.
func (c *Cluster) client(from origin) (*worker, error) {
	if from == fromCaller {
		return c.caller, nil
	}
	h := c.external
	switch from {
	case fromBalancer:
		h = c.balancer
	case fromPeers:
		h = c.peers
	}
	w, err := c.employ(h, fmt.Sprintf("%s-%d", h.name, len(c.callers)+1), false)
	if err == nil {
		c.mu.Lock()
		c.callers = append(c.callers, w)
		c.mu.Unlock()
	}
	return w, err
}

// The proxy's place, and its visitors. Its own ports are the upper halves of the nodes' slices: the balancer's other
// connections count from the low ends.
const (
	proxyPort    = 8000
	visitors     = 24
	visitorEvery = 250 * time.Millisecond
)

// startProxy puts an HTTP balancer before the service and lets outside clients ask it.
func (c *Cluster) startProxy() error {
	proxy, err := c.client(fromBalancer)
	if err != nil {
		return err
	}
	crowd, err := c.client(fromExternal)
	if err != nil {
		return err
	}
	backend := c.plan.group(cell{from: fromBalancer}, false)
	for i := range backend.Ways {
		w := &backend.Ways[i]
		w.Low += (w.High - w.Low) / 2
	}
	at := netip.AddrPortFrom(c.plan.Balancer.Addrs[0], proxyPort)
	if _, err := proxy.do(order{Proxy: &proxySpec{Listen: at, Backend: backend, Patience: c.opts.patience}}, orderWait); err != nil {
		return err
	}
	_, err = crowd.do(order{Visit: &visitSpec{Proxy: at, Visitors: visitors, Every: visitorEvery}}, orderWait)
	return err
}

// connectWait is how long the making of n connections may take at worst.
func connectWait(n int) time.Duration { return 30*time.Second + time.Duration(n)*5*time.Millisecond }

// crowd returns all workers that make connections.
func (c *Cluster) crowd() []*worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(append([]*worker{c.caller}, c.callers...), (*worker).dead)
}

// tell gives all clients the same order and waits for their reports.
func (c *Cluster) tell(o order, within time.Duration) error {
	var steps []func() error
	for _, w := range c.crowd() {
		steps = append(steps, func() error {
			_, err := w.do(o, within)
			return err
		})
	}
	return together(steps...)
}

// workers returns all workers there are.
func (c *Cluster) workers() []*worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*worker
	for _, w := range slices.Concat([]*worker{c.caller, c.outside}, c.servers, c.callers) {
		if w != nil {
			out = append(out, w)
		}
	}
	return out
}

// ServiceTally asks the pods of the service, and ClientTally the clients, what they have seen so far.
func (c *Cluster) ServiceTally() (Tally, error) {
	c.mu.Lock()
	servers := slices.DeleteFunc(slices.Clone(c.servers), (*worker).dead)
	c.mu.Unlock()
	return tally(servers)
}

// ClientTally asks all clients, the calling pod included, what they have seen so far.
func (c *Cluster) ClientTally() (Tally, error) { return tally(c.crowd()) }

// Requests is what visitors of the HTTP balancer got so far, nil where the scenario has none.
func (c *Cluster) Requests() (*HTTPTally, error) {
	if !c.scenario.proxy {
		return nil, nil
	}
	t, err := c.ClientTally()
	return &t.HTTP, err
}

func tally(workers []*worker) (Tally, error) {
	sum := newTally()
	for _, w := range workers {
		r, err := w.do(order{Tally: true}, orderWait)
		if err != nil {
			return sum, err
		}
		if r.Tally == nil {
			return sum, fmt.Errorf("%s sent no tally", w.name)
		}
		sum.add(*r.Tally)
	}
	return sum, nil
}
