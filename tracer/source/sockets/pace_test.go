package sockets

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

func TestPause(t *testing.T) {
	peer := netip.MustParseAddr("10.146.0.3")
	for _, c := range []struct {
		cost        time.Duration
		calm, alert time.Duration
	}{
		{0, minPause, minPause},
		{time.Millisecond, minPause, minPause},
		{20 * time.Millisecond, 4 * time.Second, time.Second},
		{8 * time.Millisecond, 1600 * time.Millisecond, 400 * time.Millisecond},
		{150 * time.Millisecond, 30 * time.Second, time.Second},
	} {
		s := New(&fakeLister{}, Options{})
		if got := s.pause(c.cost); got != c.calm {
			t.Errorf("a look that costs %v is made every %v, want %v", c.cost, got, c.calm)
		}
		s.Suspect(peer)
		if got := s.pause(c.cost); got != c.alert {
			t.Errorf("on suspicion a look that costs %v is made every %v, want %v", c.cost, got, c.alert)
		}
	}
}

// Suspicion that never ends is not looked into every second for good: a look then comes as often as it may cost. Where nothing
// else tells how the troubled get on it does.
func TestHurryIsPaidFor(t *testing.T) {
	const cost = 150 * time.Millisecond // of 100,000 sockets
	now := time.Now()
	run := func(s *Source, span time.Duration) (looks int) {
		for end := now.Add(span); now.Before(end); looks++ {
			s.alert = time.Now().Add(alertFor)
			s.savings.spend(cost, now)
			now = now.Add(s.pause(cost))
		}
		return looks
	}
	s := New(&fakeLister{}, Options{})
	s.follower = noTrouble{}
	if n := run(s, alertFor); n < 28 {
		t.Errorf("%d looks in the first half minute, want one a second", n)
	}
	run(s, time.Minute)
	if used := time.Duration(run(s, time.Hour)) * cost; used > time.Hour*25/1000 {
		t.Errorf("an hour of suspicion costs %v", used)
	}
	now = now.Add(5 * time.Minute)
	if n := run(s, alertFor); n < 28 {
		t.Errorf("%d looks in half a minute after a calm while, want one a second", n)
	}
	if n := run(New(&fakeLister{}, Options{}), 10*time.Minute); n < 590 {
		t.Errorf("%d looks in ten minutes where they alone tell of trouble, want one a second", n)
	}
}

// noTrouble has no sockets in trouble.
type noTrouble struct{}

func (noTrouble) Troubled(context.Context, func(*bpf.SocketRow)) error { return nil }

// Suspicion ends the rest at once, but a peer that is suspected again and again does not keep the census hurrying.
func TestSuspect(t *testing.T) {
	s := New(&fakeLister{}, Options{})
	peer := netip.MustParseAddr("10.146.0.3")
	rested := make(chan struct{})
	started := time.Now()
	go func() {
		s.rest(t.Context(), started.Add(-alertPause), time.Minute, nil) // due in hours
		close(rested)
	}()
	s.Suspect(peer)
	select {
	case <-rested:
	case <-time.After(30 * time.Second):
		t.Fatal("suspicion did not end the rest")
	}
	until := s.alert
	s.Suspect(peer)
	if s.alert != until {
		t.Error("the same peer prolonged the alert")
	}
	s.Suspect(netip.MustParseAddr("10.146.0.4"))
	if !s.alert.After(until) {
		t.Error("another peer did not prolong the alert")
	}
	for i := range 2 * maxSuspects {
		s.Suspect(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	if len(s.suspects) > maxSuspects {
		t.Errorf("%d suspects are remembered", len(s.suspects))
	}
}

// Trouble that a look finds is suspicion enough.
func TestTroubleAlerts(t *testing.T) {
	f := newFixture(t)
	c := connection(2, "10.48.1.7:8080", "10.146.0.3:40001")
	f.look(t, c)
	if !f.alert.IsZero() {
		t.Fatal("a healthy socket alerts")
	}
	c.Sock.ProbesOut = 1
	f.look(t, c)
	if f.alert.IsZero() {
		t.Error("an unanswered probe does not alert")
	}
}

// No line may be longer than readers accept, however long the names that the fold fills in.
func TestLinesStayShort(t *testing.T) {
	f := newFixture(t)
	var rows []bpf.SocketRow
	for i := range 1000 {
		r := connection(uint64(1)<<62+uint64(i), "[2001:db8:ffff:ffff:ffff:ffff:ffff:fff1]:65535",
			netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, byte(i >> 8), byte(i)}), 65535).String())
		r.Sock.Family = bpf.FamilyIPv6
		r.Comm = [16]byte{'"', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
		r.Sock.Netns, r.Sock.KeepaliveTimeMS = uint32(podNetns+i), uint32(i) // no two share their limits
		r.Sock.SRTTUS, r.Sock.Unacked, r.Sock.Unsent, r.Sock.SndWnd = 123457, 1<<31, 1<<31, 1<<31
		r.Sock.Retransmits, r.Sock.Backoff, r.Sock.RTOMS, r.Sock.RetransMS = 15, 15, 120000, 1<<31
		r.Sock.ReceivedMS, r.Sock.SentMS, r.Sock.Timer, r.Sock.TimerMS = 1<<31, 1<<31, bpf.TimerTailLoss, -1<<30
		rows = append(rows, r)
	}
	long := func(n int) string { return string(slices.Repeat([]byte{'n'}, n)) }
	for _, e := range f.look(t, rows...) {
		e.ID, e.Source = event.ID{Origin: "agent/" + long(253) + "-" + long(16), N: 1 << 40}, "agent/"+long(253)
		if body, ok := e.Body.(*event.Sockets); ok {
			for i := range body.Rows {
				r := &body.Rows[i]
				r.Socket.K8s = &event.K8sRef{Node: long(253), Namespace: long(63), Pod: long(253), Workload: long(253), Service: long(127)}
				r.Via = &event.Via{Node: long(253), IP: netip.MustParseAddr("2001:db8:ffff:ffff:ffff:ffff:ffff:fff1"),
					Role: event.ViaEntry, Sure: event.Inferred, Because: long(100)}
			}
		}
		if line := event.AppendJSON(nil, &e); len(line) >= event.MaxLine {
			t.Errorf("a line of %s has %d bytes", e.Type, len(line))
		}
	}
}

// Names and settings of sockets that are gone are forgotten, and those of living ones stay right.
func TestInternForgets(t *testing.T) {
	f := newFixture(t)
	keep := connection(1, "10.48.1.7:8080", "10.146.0.3:1")
	keep.Comm = [16]byte{'k', 'e', 'p', 't'}
	keep.Sock.UserTimeoutMS = 4711
	for i := range 3 * internSlack {
		c := connection(uint64(10+i), "10.48.1.7:8080", "10.146.0.3:2")
		c.Comm = [16]byte{'x', byte(i), byte(i >> 8)}
		c.Sock.KeepaliveTimeMS = uint32(i)
		f.look(t, keep, c)
	}
	if n := len(f.table.comms) + f.table.holders.Len(); n > internSlack+8 {
		t.Errorf("%d names and settings are remembered for 2 sockets", n)
	}
	if n := f.table.rows.Len(); n > 4 {
		t.Errorf("%d rows for 2 sockets", n)
	}
	rows, limits := socketRows(t, f.look(t)) // all gone
	for i, r := range rows {
		if r.Socket.Cookie == 1 && (r.Socket.Owner.Comm != "kept" || limits[i].UserTimeout.Duration() != 4711*time.Millisecond) {
			t.Errorf("the kept socket became %+v with %+v", r.Socket.Owner, limits[i])
		}
	}
}

func TestNamespaces(t *testing.T) {
	var n Namespaces
	if n.Known(1) || n.Passes() != 0 {
		t.Error("something is known before the first look")
	}
	n.begin()
	n.see(1)
	if !n.Known(1) {
		t.Error("a namespace is not known as soon as it is seen")
	}
	n.see(2)
	n.end()
	n.begin()
	n.see(2)
	if !n.Known(1) || !n.Known(2) {
		t.Error("a look that has not ended forgets")
	}
	n.end()
	if !n.Known(1) || !n.Known(2) || n.Passes() != 2 {
		t.Error("a namespace is forgotten while what happened in it last may be on its way")
	}
	for range rememberFor {
		n.begin()
		n.see(2)
		n.end()
	}
	if n.Known(1) || !n.Known(2) {
		t.Error("a namespace that is gone stays known")
	}
	news := func(want bool) {
		t.Helper()
		select {
		case <-n.Changed():
			if !want {
				t.Error("a sign that says nothing new")
			}
		default:
			if want {
				t.Error("no sign of a change")
			}
		}
	}
	news(true) // whoever asks first does not know what was before
	news(false)
	n.begin()
	n.see(3)
	news(true)
	n.see(3)
	n.see(2)
	news(false)
	n.abandon()
	news(false)
	if n.Passes() != 2+rememberFor || !n.Known(2) {
		t.Error("a look that failed counts")
	}
}

var _ Lister = (*bpf.Probes)(nil)
