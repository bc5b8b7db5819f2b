package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// runner runs a Source and keeps what it tells.
type runner struct {
	t      *testing.T
	events chan []event.Event
	all    []event.Event
}

func start(t *testing.T, opts Options) *runner {
	t.Helper()
	opts.Node = "node-a"
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{t: t, events: make(chan []event.Event, 1000)}
	r.run(s)
	return r
}

func (r *runner) run(s *Source) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, func(b []event.Event) { r.events <- b }) }()
	r.t.Cleanup(func() {
		cancel()
		for {
			select {
			case <-r.events:
				continue
			case err := <-done:
				if !errors.Is(err, context.Canceled) {
					r.t.Errorf("Run ended with %v", err)
				}
			case <-time.After(30 * time.Second):
				r.t.Error("Run does not end")
			}
			return
		}
	})
}

// until reads events until one is the n-th of its type for which match holds (nil: any), and returns these n.
func (r *runner) until(n int, typ event.Type, match func(event.Event) bool) []event.Event {
	r.t.Helper()
	var found []event.Event
	deadline := time.After(time.Minute)
	for len(found) < n {
		select {
		case batch := <-r.events:
			for _, e := range batch {
				r.all = append(r.all, e)
				if e.Type == typ && (match == nil || match(e)) {
					found = append(found, e)
				}
			}
		case <-deadline:
			r.t.Fatalf("%d of %d %s after a minute; all: %s", len(found), n, typ, summary(r.all))
		}
	}
	if len(found) > n {
		r.t.Fatalf("%d %s, want %d; all: %s", len(found), typ, n, summary(r.all))
	}
	return found
}

func summary(events []event.Event) string {
	count := make(map[string]int)
	for _, e := range events {
		name := e.Type.String()
		if fact, ok := e.Body.(*event.NATFact); ok {
			name += " " + fact.Rung + " " + fact.Why + " " + fact.State
		}
		count[name]++
	}
	return fmt.Sprint(count)
}

func synced(e event.Event) bool { return e.Body.(*event.Synced).Fact == "nat" }

// matchSockets checks that facts hold the tuples of the world's sockets, as both ends see them.
func (w *world) matchSockets(t *testing.T, facts []event.Event) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	byReply := make(map[event.Tuple]event.NAT)
	for _, e := range facts {
		fact := e.Body.(*event.NATFact)
		byReply[fact.NAT.Reply] = fact.NAT
		if strings.Join(fact.NAT.Kinds, " ") != "snat dnat" || fact.By.Node != "node-a" || fact.NAT.Netns == 0 {
			t.Fatalf("got %+v", fact)
		}
	}
	clients := make(map[netip.AddrPort]bool)
	for _, c := range w.clients {
		clients[c.LocalAddr().(*net.TCPAddr).AddrPort()] = true
	}
	for _, c := range w.accepted {
		local, peer := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
		nat, ok := byReply[event.Tuple{Src: event.Endpoint{IP: local.Addr(), Port: local.Port()}, Dst: event.Endpoint{IP: peer.Addr(), Port: peer.Port()}}]
		if !ok {
			t.Fatalf("no entry for the pod's socket %s <- %s", local, peer)
		}
		if nat.Original.Dst.AddrPort() != netip.AddrPortFrom(w.vip, nodePort) || !clients[nat.Original.Src.AddrPort()] {
			t.Fatalf("the original direction is %+v", nat.Original)
		}
		delete(clients, nat.Original.Src.AddrPort())
	}
	if len(clients) != 0 {
		t.Fatalf("%d clients without an entry", len(clients))
	}
}

func testCreatedAndDestroyed(t *testing.T, f family) {
	if !inNetns(t, unix.CLONE_NEWNET) {
		return
	}
	w := newWorld(t, f)
	r := start(t, Options{})
	r.until(1, event.StreamSynced, synced)
	r.until(1, event.NATTable, nil)

	// What is not translated, or not TCP, is nobody's business.
	plain, err := net.Dial("tcp", netip.AddrPortFrom(w.pod, podPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	<-w.arrived
	w.mu.Lock()
	w.accepted = nil
	w.mu.Unlock()
	dns, err := net.Dial("udp", netip.AddrPortFrom(w.vip, nodePort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	if _, err := dns.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	w.connect(t, 100)
	created := r.until(100, event.NATCreated, nil)
	w.matchSockets(t, created)
	for _, e := range created {
		if fact := e.Body.(*event.NATFact); fact.State != "syn_sent" || fact.Rung != "ctnetlink" {
			t.Fatalf("got state %q, rung %q", fact.State, fact.Rung)
		}
	}
	flush(t)
	for _, e := range r.until(100, event.NATDestroyed, nil) {
		fact := e.Body.(*event.NATFact)
		why, state := "flushed", "established"
		if !endsTellState(t) {
			why, state = "unknown", ""
		}
		if fact.Why != why || fact.State != state || !fact.Age.OK || fact.Age.V <= 0 || fact.Age.V.Duration() > time.Since(began)+time.Second {
			t.Fatalf("got why %q, state %q, age %v", fact.Why, fact.State, fact.Age)
		}
	}
	for _, e := range r.all {
		if e.Type == event.NATFound {
			t.Errorf("found %+v in an empty table", e.Body)
		}
	}
}

func TestCreatedAndDestroyed(t *testing.T)     { testCreatedAndDestroyed(t, ipv4) }
func TestCreatedAndDestroyedIPv6(t *testing.T) { testCreatedAndDestroyed(t, ipv6) }

// TestFoundThenFlushed has entries that are older than the listener: no event tells their end, a dump does, and it is
// asked for as soon as the table is seen to shrink.
func TestFoundThenFlushed(t *testing.T) {
	if !inNetns(t, unix.CLONE_NEWNET) {
		return
	}
	w := newWorld(t, ipv4)
	w.connect(t, 50)
	r := start(t, Options{Poll: 50 * time.Millisecond})
	found := r.until(50, event.NATFound, nil)
	w.matchSockets(t, found)
	for _, e := range found {
		if fact := e.Body.(*event.NATFact); fact.Rung != "dump" || fact.Age.OK || fact.State != "established" {
			t.Fatalf("got %+v", fact)
		}
	}
	r.until(1, event.StreamSynced, synced)
	r.until(1, event.NATTable, func(e event.Event) bool {
		table := e.Body.(*event.Table)
		return table.Node == "node-a" && table.Entries >= 50 && table.Max >= 1024 && table.Events.OK
	})
	flush(t)
	for _, e := range r.until(50, event.NATDestroyed, nil) {
		fact := e.Body.(*event.NATFact)
		if fact.Why != "unknown" && fact.Why != "flushed" || fact.Age.OK {
			t.Fatalf("got %+v", fact)
		}
	}
}

// TestRedumpTellsWhatEndsQuietly closes connections that are older than the listener, one by one.
func TestRedumpTellsWhatEndsQuietly(t *testing.T) {
	if !inNetns(t, unix.CLONE_NEWNET) {
		return
	}
	sysctl(t, "nf_conntrack_tcp_timeout_time_wait", "1")
	sysctl(t, "nf_conntrack_tcp_timeout_close", "1")
	w := newWorld(t, ipv4)
	w.connect(t, 5)
	r := start(t, Options{Redump: 100 * time.Millisecond, Budget: 1})
	r.until(5, event.NATFound, nil)
	w.connect(t, 5)
	r.until(5, event.NATCreated, nil)
	w.closeAll()
	why := make(map[string]int)
	for _, e := range r.until(10, event.NATDestroyed, nil) {
		why[e.Body.(*event.NATFact).Why]++
	}
	closed := 5
	if !endsTellState(t) {
		closed = 0
	}
	if why["closed"] < closed || why["closed"]+why["unknown"] != 10 {
		t.Errorf("got %v, want the five new ones at least to be closed: %s", why, summary(r.all))
	}
}

// TestOverrun lets the kernel throw events away: every connection is told all the same, once, and the loss too.
func TestOverrun(t *testing.T) {
	if !inNetns(t, unix.CLONE_NEWNET) {
		return
	}
	w := newWorld(t, ipv4)
	s, err := Open(Options{Node: "node-a"})
	if err != nil {
		t.Fatal(err)
	}
	err = s.events.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4096) })
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{t: t, events: make(chan []event.Event)} // nobody reads: the source waits, and the kernel does not
	r.run(s)
	w.connect(t, 200)
	r.until(1, event.StreamLost, func(e event.Event) bool {
		lost := e.Body.(*event.Lost)
		return lost.Stage == "netlink" && lost.Count > 0
	})
	var known []event.Event
	for _, e := range r.all {
		if e.Type == event.NATFound || e.Type == event.NATCreated {
			known = append(known, e)
		}
	}
	for len(known) < 200 {
		batch := <-r.events
		for _, e := range batch {
			r.all = append(r.all, e)
			if e.Type == event.NATFound || e.Type == event.NATCreated {
				known = append(known, e)
			}
		}
	}
	if len(known) != 200 {
		t.Fatalf("%d connections were told, want 200: %s", len(known), summary(r.all))
	}
	w.matchSockets(t, known)
}

func TestWithoutRights(t *testing.T) {
	if !inNetns(t, unix.CLONE_NEWUSER) { // a user namespace of its own has no rights over the network it is in
		return
	}
	_, err := Open(Options{})
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || !errors.Is(err, unix.EPERM) || !strings.Contains(unavailable.Remedy, "CAP_NET_ADMIN") {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
}

// TestEmptyTable is a namespace where nothing tracks connections: that is no error, and nothing is told but that.
func TestEmptyTable(t *testing.T) {
	if !inNetns(t, unix.CLONE_NEWNET) {
		return
	}
	r := start(t, Options{Poll: 20 * time.Millisecond, Table: 50 * time.Millisecond})
	r.until(1, event.StreamSynced, synced)
	for _, e := range r.until(3, event.NATTable, nil) {
		if table := e.Body.(*event.Table); table.Entries != 0 || table.Max == 0 {
			t.Errorf("got %+v", table)
		}
	}
	if len(r.all) != 4 {
		t.Errorf("got %s", summary(r.all))
	}
}

// endsTellState says whether the kernel announces the TCP state of an entry that ends: since 5.11 (ctnetlink_conntrack_event).
func endsTellState(t *testing.T) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 5 || major == 5 && minor >= 11
}
