package sockets

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// fakeLister lists the rows of one look after another.
type fakeLister struct {
	looks [][]bpf.SocketRow
	fail  error
}

func (f *fakeLister) Census(_ context.Context, socket func(*bpf.SocketRow), netns func(*bpf.NetnsRow)) error {
	rows := f.looks[0]
	for i := range rows {
		socket(&rows[i])
		netns(&bpf.NetnsRow{Netns: rows[i].Sock.Netns})
	}
	return f.fail
}

// fixture is a Source whose looks see what the test says.
type fixture struct {
	*Source
	lister *fakeLister
	events []event.Event
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{lister: &fakeLister{}}
	f.Source = New(f.lister, Options{})
	return f
}

// look makes one census of the given rows and returns what it told.
func (f *fixture) look(t *testing.T, rows ...bpf.SocketRow) []event.Event {
	t.Helper()
	now, err := f.clock.Now()
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		rows[i].Header.KTime = now
	}
	f.lister.looks = [][]bpf.SocketRow{rows}
	f.events = nil
	if _, err := f.Source.look(t.Context(), func(e []event.Event) { f.events = append(f.events, e...) }); err != nil {
		t.Fatal(err)
	}
	return f.events
}

// rows returns the socket rows of a look with the limits that they point to.
func socketRows(t *testing.T, events []event.Event) (rows []event.SocketRow, limits []event.Limits) {
	t.Helper()
	for _, e := range events {
		if body, ok := e.Body.(*event.Sockets); ok {
			for _, r := range body.Rows {
				rows = append(rows, r)
				limits = append(limits, body.Limits[r.Limits])
			}
		}
	}
	return rows, limits
}

func trafficRows(events []event.Event) (rows []event.TrafficRow) {
	for _, e := range events {
		if body, ok := e.Body.(*event.Traffic); ok {
			rows = append(rows, body.Rows...)
		}
	}
	return rows
}

const podNetns = 4026532000

func connection(cookie uint64, local, peer string) bpf.SocketRow {
	l, p := netip.MustParseAddrPort(local), netip.MustParseAddrPort(peer)
	return bpf.SocketRow{
		Sock: bpf.Sock{
			Cookie: cookie, Netns: podNetns, Family: bpf.FamilyIPv4, State: bpf.StateEstablished,
			Local: l.Addr().As16(), LocalPort: l.Port(), Peer: p.Addr().As16(), PeerPort: p.Port(),
			RTOMS: 204, RTOMinMS: 200, RTOMaxMS: bpf.Unknown, RetransMS: bpf.Unknown, Retries2: 15,
		},
		PID: 7, Comm: [16]byte{'c', 'h', 'a', 't'},
	}
}

func listening(cookie uint64, local string) bpf.SocketRow {
	r := connection(cookie, local, "0.0.0.0:0")
	r.Sock.State = bpf.StateListen
	return r
}

func TestSeenChangedGone(t *testing.T) {
	f := newFixture(t)
	server := listening(1, "0.0.0.0:8080")
	in := connection(2, "10.48.1.7:8080", "10.146.0.3:40001")
	out := connection(3, "10.48.1.7:51000", "10.48.9.9:5432")

	rows, _ := socketRows(t, f.look(t, in, out, server)) // the listener last: the first look must find it all the same
	if len(rows) != 3 {
		t.Fatalf("first look told %d rows, want 3", len(rows))
	}
	roles := map[uint64]event.Role{}
	for _, r := range rows {
		if r.Change != event.SocketSeen {
			t.Errorf("socket %d is %s, want seen", r.Socket.Cookie, r.Change)
		}
		if r.Socket.Owner != (event.Owner{PID: 7, Comm: "chat"}) {
			t.Errorf("owner %+v", r.Socket.Owner)
		}
		roles[r.Socket.Cookie] = r.Role
	}
	want := map[uint64]event.Role{1: event.RoleListening, 2: event.RoleAccepted, 3: event.RoleDialled}
	for cookie, role := range want {
		if roles[cookie] != role {
			t.Errorf("socket %d is %q, want %q", cookie, roles[cookie], role)
		}
	}

	in.Sock.ReceivedMS, in.Sock.SegsIn = 10, 5 // it lives and speaks: nothing to tell
	if rows, _ := socketRows(t, f.look(t, server, in, out)); len(rows) != 0 {
		t.Errorf("a healthy socket was told again: %+v", rows)
	}

	in.Sock.ProbesOut = 1
	rows, _ = socketRows(t, f.look(t, server, in, out))
	if len(rows) != 1 || rows[0].Change != event.SocketChanged || rows[0].TCP.ProbesOut != 1 {
		t.Errorf("trouble was told as %+v", rows)
	}
	if rows, _ = socketRows(t, f.look(t, server, in, out)); len(rows) != 0 {
		t.Errorf("unchanged trouble was told again: %+v", rows)
	}
	in.Sock.ProbesOut = 0
	rows, _ = socketRows(t, f.look(t, server, in, out))
	if len(rows) != 1 || rows[0].Change != event.SocketChanged || rows[0].TCP.ProbesOut != 0 {
		t.Errorf("the end of trouble was told as %+v", rows)
	}

	rows, _ = socketRows(t, f.look(t, out))
	gone := map[uint64]event.Role{}
	for _, r := range rows {
		if r.Change == event.SocketGone {
			gone[r.Socket.Cookie] = r.Role
		}
	}
	if len(rows) != 2 || gone[1] != event.RoleListening || gone[2] != event.RoleAccepted {
		t.Errorf("gone: %+v", rows)
	}
	if n, _, ok := f.Newest(); n != 1 || !ok {
		t.Errorf("newest look saw %d sockets (%v), want 1", n, ok)
	}
}

// What a socket's limits are may change after it was seen: keepalive is set on an accepted socket.
func TestLimitsChange(t *testing.T) {
	f := newFixture(t)
	c := connection(2, "10.48.1.7:8080", "10.146.0.3:40001")
	f.look(t, c)
	c.Sock.Flags, c.Sock.KeepaliveTimeMS, c.Sock.KeepaliveIntvlMS, c.Sock.KeepaliveProbes = bpf.FlagKeepalive, 15000, 15000, 9
	rows, limits := socketRows(t, f.look(t, c))
	if len(rows) != 1 || rows[0].Change != event.SocketChanged {
		t.Fatalf("told %+v", rows)
	}
	l := limits[0]
	if !l.Keepalive || l.KeepaliveTime.Duration() != 15*time.Second || l.KeepaliveProbes != 9 || l.RTOMax.OK {
		t.Errorf("limits %+v", l)
	}
}

// A socket that a process shares with its children, or holds twice, is one socket.
func TestSharedSocket(t *testing.T) {
	f := newFixture(t)
	a := connection(2, "10.48.1.7:8080", "10.146.0.3:40001")
	b := a
	b.PID = 8
	events := f.look(t, a, b, a)
	if rows, _ := socketRows(t, events); len(rows) != 1 || rows[0].Socket.Owner.PID != 7 {
		t.Errorf("told %+v", rows)
	}
	if rows := trafficRows(events); len(rows) != 1 || rows[0].Sockets != 1 {
		t.Errorf("counted %+v", rows)
	}
}

func TestTraffic(t *testing.T) {
	f := newFixture(t)
	server := listening(1, "0.0.0.0:8080")
	a := connection(2, "10.48.1.7:8080", "10.146.0.3:40001")
	b := connection(3, "10.48.1.7:8080", "10.146.0.3:40002")
	c := connection(4, "10.48.1.7:51000", "10.48.9.9:5432")
	a.Sock.SegsOut, a.Sock.ReceivedMS, a.Sock.SentMS = 1000, 3000, 20000
	b.Sock.ReceivedMS, b.Sock.SentMS = 60000, 60000
	c.Sock.ReceivedMS, c.Sock.SentMS = bpf.Unknown, 1000

	events := f.look(t, server, a, b, c)
	got := map[event.Endpoint]event.TrafficRow{}
	for _, r := range trafficRows(events) {
		got[r.Peer] = r
	}
	node := event.Endpoint{IP: netip.MustParseAddr("10.146.0.3")}
	r := got[node]
	if r.Sockets != 2 || r.Active != 1 || r.Local.Port != 8080 {
		t.Errorf("towards the node: %+v", r)
	}
	if r.Sent != 0 {
		t.Errorf("segments sent before the first look were counted: %+v", r)
	}
	if !r.ReceivedAge.OK || r.ReceivedAge.V.Duration() < 3*time.Second || r.ReceivedAge.V.Duration() > 8*time.Second {
		t.Errorf("newest receive was 3 s ago, told %v", r.ReceivedAge)
	}
	db := got[event.Endpoint{IP: netip.MustParseAddr("10.48.9.9"), Port: 5432}]
	if db.Sockets != 1 || db.Active != 1 || db.Local.Port != 0 || db.ReceivedAge.OK {
		t.Errorf("towards the database: %+v", db)
	}

	a.Sock.SegsOut, a.Sock.TotalRetrans = 1010, 4
	d := connection(5, "10.48.1.7:8080", "10.146.0.3:40003") // new: all that it sent is new
	d.Sock.SegsOut = 5
	for _, r := range trafficRows(f.look(t, server, a, b, d)) {
		switch r.Peer {
		case node:
			if r.Sockets != 3 || r.Sent != 15 || r.Retransmitted != 4 {
				t.Errorf("towards the node: %+v", r)
			}
		default:
			if r.Sockets != 0 {
				t.Errorf("nobody is left, told %+v", r)
			}
		}
	}
	if rows := trafficRows(f.look(t, server, a, b, d)); len(rows) != 1 || rows[0].Sent != 0 {
		t.Errorf("third look: %+v", rows)
	}
}

// Ages count from the line's time, wherever in a slow look the row was read.
func TestAges(t *testing.T) {
	f := newFixture(t)
	now, err := f.clock.Now()
	if err != nil {
		t.Fatal(err)
	}
	c := connection(2, "10.48.1.7:8080", "10.146.0.3:40001")
	c.Sock.ReceivedMS, c.Sock.SentMS, c.Sock.Timer, c.Sock.TimerMS = 5000, bpf.Unknown, bpf.TimerKeepalive, 9000
	c.Header.KTime = now - uint64(2*time.Second)
	f.lister.looks = [][]bpf.SocketRow{{c}}
	var events []event.Event
	if _, err := f.Source.look(t.Context(), func(e []event.Event) { events = append(events, e...) }); err != nil {
		t.Fatal(err)
	}
	rows, _ := socketRows(t, events)
	p := rows[0].TCP
	near := func(got event.Opt[event.Seconds], want time.Duration) bool {
		return got.OK && (got.V.Duration()-want).Abs() < time.Second
	}
	if !near(p.ReceivedAge, 7*time.Second) || !near(p.TimerIn, 7*time.Second) || p.SentAge.OK {
		t.Errorf("received %v ago, timer in %v, sent %v", p.ReceivedAge, p.TimerIn, p.SentAge)
	}
}

// stream.synced is told once, by the first look that ended.
func TestSynced(t *testing.T) {
	f := newFixture(t)
	count := func(events []event.Event) (n int) {
		for _, e := range events {
			if e.Type == event.StreamSynced {
				n++
			}
		}
		return n
	}
	f.lister.looks = [][]bpf.SocketRow{nil}
	f.lister.fail = errors.New("iterator broke")
	var events []event.Event
	if _, err := f.Source.look(t.Context(), func(e []event.Event) { events = append(events, e...) }); err == nil {
		t.Fatal("a failed look is no error")
	}
	if _, _, ok := f.Newest(); ok || count(events) != 0 {
		t.Error("a failed look passes for a complete one")
	}
	f.lister.fail = nil
	if n := count(f.look(t)); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	if n := count(f.look(t)); n != 0 {
		t.Errorf("told again")
	}
}

// A look that breaks off has not seen the sockets that it did not reach.
func TestFailedLookBuriesNobody(t *testing.T) {
	f := newFixture(t)
	c := connection(2, "10.48.1.7:8080", "10.146.0.3:40001")
	f.look(t, c)
	f.lister.looks, f.lister.fail = [][]bpf.SocketRow{nil}, errors.New("iterator broke")
	var events []event.Event
	if _, err := f.Source.look(t.Context(), func(e []event.Event) { events = append(events, e...) }); err == nil {
		t.Fatal("a failed look is no error")
	}
	if rows, _ := socketRows(t, events); len(rows) != 0 {
		t.Errorf("told %+v", rows)
	}
	f.lister.fail = nil
	if rows, _ := socketRows(t, f.look(t, c)); len(rows) != 0 {
		t.Errorf("the next look told %+v", rows)
	}
}

// A source that cannot look any more ends with the reason.
func TestRunGivesUp(t *testing.T) {
	broken := errors.New("iterator broke")
	s := New(&fakeLister{looks: [][]bpf.SocketRow{nil}, fail: broken}, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Run(ctx, func([]event.Event) {}); !errors.Is(err, broken) {
		t.Errorf("ended with %v", err)
	}
}
