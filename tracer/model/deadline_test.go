package model

import (
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

func sec(s float64) event.Seconds { return event.Seconds(s * 1e9) }

// TestModelTimeout compares with tcp_model_timeout as the kernel computes it (net/ipv4/tcp_timer.c), by hand.
func TestModelTimeout(t *testing.T) {
	for _, test := range []struct {
		boundary  int
		base, max time.Duration
		want      time.Duration
	}{
		{15, 200 * time.Millisecond, 120 * time.Second, 924600 * time.Millisecond}, // the default of tcp_retries2
		{8, 200 * time.Millisecond, 120 * time.Second, 102200 * time.Millisecond},
		{3, 200 * time.Millisecond, 120 * time.Second, 3 * time.Second}, // tcp_retries1
		{9, 200 * time.Millisecond, 120 * time.Second, 204600 * time.Millisecond},
		{10, 200 * time.Millisecond, 120 * time.Second, 324600 * time.Millisecond},
		{0, 200 * time.Millisecond, 120 * time.Second, 200 * time.Millisecond},
		{15, 200 * time.Millisecond, 10 * time.Second, 112600 * time.Millisecond}, // tcp_rto_max_ms
	} {
		if got := ModelTimeout(test.boundary, test.base, test.max); got != test.want {
			t.Errorf("ModelTimeout(%d, %v, %v) = %v, want %v", test.boundary, test.base, test.max, got, test.want)
		}
	}
}

// TestDeadlineOf has a row for every clock. Times are seconds after the reading; received is before it.
func TestDeadlineOf(t *testing.T) {
	at := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	ka := event.Limits{Keepalive: true, KeepaliveTime: sec(15), KeepaliveInterval: sec(15), KeepaliveProbes: 9, Retries2: 15, SynRetries: 6}
	no := event.Limits{Retries2: 15, SynRetries: 6}
	with := func(l event.Limits, f func(*event.Limits)) event.Limits { f(&l); return l }
	known := func(s float64) event.Opt[event.Seconds] { return event.Known(sec(s)) }
	for _, test := range []struct {
		name     string
		p        event.Progress
		l        event.Limits
		received float64 // seconds before; 0 unknown
		clock    event.Clock
		want     float64 // seconds after; 0 none
		is       string
	}{
		{"idle, just spoke: 150 s", event.Progress{State: "established"}, ka, 0.001, event.ClockKeepalive, 149.999, Exact},
		{"idle for 100 s, five probes out, next in 5 s", event.Progress{State: "established", ProbesOut: 6, Timer: event.TimerKeepalive, TimerIn: known(5)},
			ka, 100, event.ClockKeepalive, 50, Exact},
		{"the last probe is out", event.Progress{State: "established", ProbesOut: 9, Timer: event.TimerKeepalive, TimerIn: known(3)},
			ka, 147, event.ClockKeepalive, 3, Exact},
		{"nothing was ever received", event.Progress{State: "established"}, ka, 0, event.ClockKeepalive, 0, ""},
		{"idle without keepalive never notices", event.Progress{State: "established"}, no, 100, event.ClockNone, 0, ""},
		{"user timeout 40 s counts for keepalive: the probe at 45 s", event.Progress{State: "established"},
			with(ka, func(l *event.Limits) { l.UserTimeout = sec(40) }), 5, event.ClockUserTimeout, 40, Exact},
		{"user timeout below keepalive_time: one unanswered probe", event.Progress{State: "established"},
			with(ka, func(l *event.Limits) { l.UserTimeout = sec(5) }), 5, event.ClockUserTimeout, 25, Exact},

		{"data in flight, no series yet", event.Progress{State: "established", Unacked: 1, RTO: sec(0.2), Timer: event.TimerRetransmit, TimerIn: known(0.1)},
			ka, 1, event.ClockRTO, 924.7, LowerBound},
		{"data in flight keeps keepalive from judging: first firing after 924.6 s", event.Progress{
			State: "established", Unacked: 1, Retransmits: 1, RTO: sec(0.408), Timer: event.TimerRetransmit, TimerIn: known(0.408), StalledAge: known(0)},
			// firings at 0.408 * (2^k - 1) up to 208.488, then every 120 s: 328.488, ... 808.488, 928.488
			ka, 1, event.ClockRTO, 928.488, Exact},
		// limit 102.2 s, firings ... 51.816, 104.04
		{"tcp_retries2 of 8", event.Progress{
			State: "established", Unacked: 1, Retransmits: 1, RTO: sec(0.408), Timer: event.TimerRetransmit, TimerIn: known(0.408), StalledAge: known(0)},
			with(ka, func(l *event.Limits) { l.Retries2 = 8 }), 1, event.ClockRTO, 104.04, Exact},
		{"read while the timer's function runs: it doubles afterwards", event.Progress{
			State: "established", Kind: "rto", Unacked: 1, Retransmits: 1, RTO: sec(0.204), Timer: event.TimerKeepalive, TimerIn: known(9), StalledAge: known(0)},
			with(ka, func(l *event.Limits) { l.Retries2 = 8 }), 1, event.ClockRTO, 104.04, Exact},
		{"the timer is not told", event.Progress{State: "established", Unacked: 1, Retransmits: 3, RTO: sec(1.6), StalledAge: known(10)},
			ka, 20, event.ClockRTO, 914.6, LowerBound},
		{"user timeout of data", event.Progress{
			State: "established", Unacked: 1, Retransmits: 2, RTO: sec(0.8), Timer: event.TimerRetransmit, TimerIn: known(0.3), StalledAge: known(4)},
			with(no, func(l *event.Limits) { l.UserTimeout = sec(30) }), 5, event.ClockUserTimeout, 26, Exact},
		{"an orphan has 8 retries where the sysctl says 0", event.Progress{
			State: "fin_wait1", Orphan: true, Unacked: 1, Retransmits: 2, RTO: sec(0.8), Timer: event.TimerRetransmit, TimerIn: known(0.3), StalledAge: known(2.2)},
			no, 5, event.ClockOrphan, 100, LowerBound},
		{"an orphan without data", event.Progress{State: "fin_wait2", Orphan: true}, no, 5, event.ClockOrphan, 0, ""},

		{"a window that stays shut but is answered", event.Progress{State: "established", Unsent: 100, Timer: event.TimerProbe0, TimerIn: known(3), Backoff: 4},
			ka, 1, event.ClockProbe0, 0, ""},
		{"window probes unanswered: firings until 15 are out", event.Progress{
			State: "established", Unsent: 100, ProbesOut: 14, RTO: sec(0.2), Backoff: 14, Timer: event.TimerProbe0, TimerIn: known(10)},
			ka, 60, event.ClockProbe0, 130, Exact},

		{"each window probe doubles the pause, up to tcp_retries2", event.Progress{
			State: "established", Unsent: 100, ProbesOut: 1, RTO: sec(0.2), Backoff: 2, Timer: event.TimerProbe0, TimerIn: known(0.7)},
			// firings at 0.7, then 1.6 and, the back-off being at its end, 1.6 later
			with(no, func(l *event.Limits) { l.Retries2 = 3 }), 1, event.ClockProbe0, 3.9, Exact},
		{"a window that stays shut ends by user timeout, answered or not", event.Progress{
			State: "established", Unsent: 100, RTO: sec(0.2), Backoff: 3, Timer: event.TimerProbe0, TimerIn: known(0.5)},
			// the first probe was 0.4 + 0.8 + 1.6 s before the next one
			with(no, func(l *event.Limits) { l.UserTimeout = sec(5) }), 1, event.ClockUserTimeout, 2.7, Exact},
		{"the pause that the user timeout cuts", event.Progress{
			State: "established", Unsent: 100, ProbesOut: 3, RTO: sec(0.2), Backoff: 3, Timer: event.TimerProbe0, TimerIn: known(0.1)},
			with(no, func(l *event.Limits) { l.UserTimeout = sec(2) }), 3, event.ClockUserTimeout, 0.1, Exact},
		{"user timeout of a first attempt", event.Progress{State: "syn_sent", RTO: sec(1), TimerIn: known(0.4)},
			with(no, func(l *event.Limits) { l.UserTimeout = sec(5) }), 0, event.ClockUserTimeout, 4.4, Exact},
		{"the last attempt, which the user timeout cuts", event.Progress{State: "syn_sent", RTO: sec(1), Retransmits: 2, TimerIn: known(0.28), StalledAge: known(2.216)},
			with(no, func(l *event.Limits) { l.UserTimeout, l.SynRetries = sec(2.5), 2 }), 0, event.ClockUserTimeout, 0.284, Exact},
		{"a connection that is being set up", event.Progress{State: "syn_sent", RTO: sec(1), TimerIn: known(1)}, no, 0, event.ClockSYN, 127, LowerBound},
	} {
		t.Run(test.name, func(t *testing.T) {
			var received time.Time
			if test.received != 0 {
				received = at.Add(-time.Duration(test.received * 1e9))
			}
			d := DeadlineOf(test.p, test.l, at, received)
			if d.Clock != test.clock || d.Is != test.is {
				t.Errorf("clock %s, %q; want %s, %q", d.Clock, d.Is, test.clock, test.is)
			}
			if test.want == 0 {
				if !d.At.IsZero() {
					t.Errorf("gives up %v later, want never", d.At.Sub(at))
				}
				return
			}
			if diff := d.At.Sub(at) - time.Duration(test.want*1e9); diff.Abs() > time.Millisecond {
				t.Errorf("gives up after %v, want %v s", d.At.Sub(at), test.want)
			}
		})
	}
}
