package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"
)

// HTTPTally counts answers as a visitor of the proxy gets them, and the proxy's own connections.
type HTTPTally struct {
	OK         int `json:"ok"`
	BadGateway int `json:"bad_gateway"` // 502: the proxy got no answer from the service
	Other      int `json:"other"`
	// Pool is the number of connections that the proxy has to the service now, by the node they enter by.
	Pool     map[int]int `json:"pool,omitempty"`
	FirstBad time.Time   `json:"first_bad,omitzero"`
	LastBad  time.Time   `json:"last_bad,omitzero"`
}

func (t *HTTPTally) add(o HTTPTally) {
	t.OK, t.BadGateway, t.Other = t.OK+o.OK, t.BadGateway+o.BadGateway, t.Other+o.Other
	if t.FirstBad.IsZero() || !o.FirstBad.IsZero() && o.FirstBad.Before(t.FirstBad) {
		t.FirstBad = o.FirstBad
	}
	if o.LastBad.After(t.LastBad) {
		t.LastBad = o.LastBad
	}
	for k, v := range o.Pool {
		if t.Pool == nil {
			t.Pool = map[int]int{}
		}
		t.Pool[k] += v
	}
}

// proxySpec is an HTTP balancer: it answers visitors with what the service says over connections that it keeps.
type proxySpec struct {
	Listen   netip.AddrPort `json:"listen"`
	Backend  group          `json:"backend"`
	Patience time.Duration  `json:"patience"` // for a connection, and for an answer
}

// What balancers do at least: they give an answer up, they ask every node whether it is there, and after a few times
// without an answer they leave it out until it is.
const (
	healthEvery = time.Second
	healthWait  = 500 * time.Millisecond
	unhealthy   = 2
)

// proxy starts the balancer.
func (w *workload) proxy(ctx context.Context, s proxySpec) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.Listen.String())
	if err != nil {
		return err
	}
	p := &proxy{w: w, group: s.Backend, patience: s.Patience, missed: make([]int, len(s.Backend.Ways))}
	front := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: s.Backend.Target.String()})
		},
		Transport:    &http.Transport{DialContext: p.dial, MaxIdleConnsPerHost: 1000, ResponseHeaderTimeout: s.Patience},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) },
	}
	for i := range s.Backend.Ways {
		go w.every(ctx, healthEvery, func() error { p.check(ctx, i); return nil })
	}
	srv := &http.Server{Handler: front, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { srv.Close() })
	go func() {
		if err := srv.Serve(ln); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "lab proxy:", err)
			os.Exit(1)
		}
	}()
	return nil
}

// proxy is the balancer's side towards the service.
type proxy struct {
	w        *workload
	group    group
	patience time.Duration

	mu     sync.Mutex
	next   int
	missed []int // health checks in a row, by way
}

// dial connects by the next node that is healthy.
func (p *proxy) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	g := p.group
	p.mu.Lock()
	for range g.Ways {
		p.next = (p.next + 1) % len(g.Ways)
		if p.missed[p.next] < unhealthy {
			break
		}
	}
	g.way = g.Ways[p.next]
	p.mu.Unlock()
	making, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	c, err := p.connect(making, g)
	if err != nil {
		return nil, err
	}
	p.w.pooled(g.Entry, 1)
	return &pooledConn{Conn: c, end: sync.OnceFunc(func() { p.w.pooled(g.Entry, -1) })}, nil
}

func (p *proxy) connect(ctx context.Context, g group) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: cubic, LocalAddr: net.TCPAddrFromAddrPort(p.w.takeLocal(g))}
	return d.DialContext(ctx, "tcp", g.Target.String())
}

// check asks whether the service answers by one node.
func (p *proxy) check(ctx context.Context, i int) {
	g := p.group
	g.way = g.Ways[i]
	making, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	c, err := p.connect(making, g)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.missed[i]++
		return
	}
	c.Close()
	p.missed[i] = 0
}

type pooledConn struct {
	net.Conn
	end func()
}

func (c *pooledConn) Close() error {
	c.end()
	return c.Conn.Close()
}

func (w *workload) pooled(entry, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.http.Pool == nil {
		w.http.Pool = map[int]int{}
	}
	w.http.Pool[entry] += n
}

// visitSpec is a number of visitors that ask the proxy again and again, all at once.
type visitSpec struct {
	Proxy    netip.AddrPort `json:"proxy"`
	Visitors int            `json:"visitors"`
	Every    time.Duration  `json:"every"`
}

// visit starts the visitors.
func (w *workload) visit(ctx context.Context, s visitSpec) {
	web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.Visitors}}
	u := url.URL{Scheme: "http", Host: s.Proxy.String(), Path: newsPath}
	go w.every(ctx, s.Every, func() error {
		for range s.Visitors {
			go func() {
				status, err := get(ctx, web, u.String())
				if ctx.Err() == nil {
					w.answered(status, err)
				}
			}()
		}
		return nil
	})
}

func get(ctx context.Context, web *http.Client, u string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return 0, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

func (w *workload) answered(status int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && status == http.StatusOK:
		w.http.OK++
	case err == nil && status == http.StatusBadGateway:
		w.http.BadGateway++
		w.http.LastBad = time.Now()
		if w.http.FirstBad.IsZero() {
			w.http.FirstBad = w.http.LastBad
		}
	default:
		w.http.Other++
	}
}
