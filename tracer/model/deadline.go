package model

import (
	"math/bits"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Constants of the kernel that no socket option and no sysctl moves.
const (
	tcpRTOMin = 200 * time.Millisecond // TCP_RTO_MIN (include/net/tcp.h): the base of tcp_model_timeout, whatever tcp_rto_min() says
	tcpRTOMax = 120 * time.Second      // TCP_RTO_MAX, where the socket's own tcp_rto_max() is not known
	orphans   = 8                      // tcp_orphan_retries(): what the sysctl's 0 means for a peer that still answers
	jiffy     = 10 * time.Millisecond  // of the slowest clock that kernels are built with, CONFIG_HZ=100
)

// The two words of deadline_is.
const (
	Exact      = "exact"
	LowerBound = "lower_bound"
)

// Deadline is when the kernel gives a socket up if nothing more is received, and what makes it do so.
type Deadline struct {
	Clock event.Clock
	At    time.Time // zero: never, or as long as nothing is outstanding
	Is    string    // Exact: to the timer's tick; LowerBound: not before At
}

// DeadlineOf computes the deadline of a socket whose progress was read at the time at and which received last at
// received, zero where that is unknown.
//
// The order is the kernel's: data in flight keeps the keepalive timer from judging (tcp_keepalive_timer reschedules
// while tp->packets_out or the write queue is not empty), so a socket that writes to a dead peer lives by the much longer
// retransmission clock; TCP_USER_TIMEOUT overrides both.
func DeadlineOf(p event.Progress, l event.Limits, at, received time.Time) Deadline {
	switch {
	case p.State == "syn_sent" || p.State == "syn_recv":
		return synDeadline(p, l, at)
	case p.Unacked > 0:
		return rtoDeadline(p, l, at)
	case p.Unsent > 0 || p.Timer == event.TimerProbe0:
		return probe0Deadline(p, l, at)
	case p.Orphan:
		return Deadline{Clock: event.ClockOrphan}
	case l.Keepalive:
		return keepaliveDeadline(p, l, at, received)
	}
	return Deadline{Clock: event.ClockNone}
}

// keepaliveDeadline follows tcp_keepalive_timer: the first probe goes out keepalive_time after the newest receive
// (keepalive_time_elapsed takes the smaller of the ages of rcv_tstamp and lrcvtime), one more every keepalive_intvl, and
// the socket is reset when the timer finds keepalive_probes of them unanswered. With TCP_USER_TIMEOUT it is reset when
// the timer finds at least one unanswered and that much time passed.
func keepaliveDeadline(p event.Progress, l event.Limits, at, received time.Time) Deadline {
	first, every := l.KeepaliveTime.Duration(), l.KeepaliveInterval.Duration()
	fires := int64(l.KeepaliveProbes) // intervals between the first probe and the verdict
	clock := event.ClockKeepalive
	if user := l.UserTimeout.Duration(); user > 0 {
		clock = event.ClockUserTimeout
		fires = 1
		if every > 0 && user > first {
			fires = max(1, int64((user-first+every-1)/every))
		}
	}
	out := int64(p.ProbesOut)
	if out > 0 && p.Timer == event.TimerKeepalive && p.TimerIn.OK {
		left := max(0, fires-out)
		return Deadline{clock, at.Add(p.TimerIn.V.Duration() + time.Duration(left)*every), Exact}
	}
	if received.IsZero() {
		return Deadline{Clock: clock}
	}
	return Deadline{clock, received.Add(first + time.Duration(fires)*every), Exact}
}

// rtoDeadline follows tcp_write_timeout and retransmits_timed_out: at each firing of the retransmission timer the socket
// is given up if tcp_model_timeout has passed since retrans_stamp, the first retransmission of the running series. The
// timer fires at its own pace (icsk_rto doubles up to tcp_rto_max), so the death is the first firing after that. With
// TCP_USER_TIMEOUT the timer is clamped to fire just then (tcp_clamp_rto_to_user_timeout).
func rtoDeadline(p event.Progress, l event.Limits, at time.Time) Deadline {
	rtoMax := positive(l.RTOMax, tcpRTOMax)
	clock, retries := event.ClockRTO, int(l.Retries2)
	if p.Orphan {
		clock, retries = event.ClockOrphan, int(l.OrphanRetries)
		if retries == 0 {
			retries = orphans
		}
	}
	limit := ModelTimeout(retries, tcpRTOMin, rtoMax)
	if user := l.UserTimeout.Duration(); user > 0 {
		clock, limit = event.ClockUserTimeout, user
	}
	rto := p.RTO.Duration()
	timer, fire := false, at
	switch {
	case p.Kind == "rto" && rto > 0:
		// Read while tcp_retransmit_timer runs: it doubles icsk_rto after the retransmission, and arms the timer with it.
		rto = min(2*rto, rtoMax)
		timer, fire = true, at.Add(rto)
	case p.Timer == event.TimerRetransmit && p.TimerIn.OK:
		timer, fire = rto > 0, at.Add(p.TimerIn.V.Duration())
	}
	if !p.StalledAge.OK || p.Retransmits == 0 {
		// No series runs yet: it would begin at the next firing at the earliest.
		return Deadline{clock, fire.Add(limit), LowerBound}
	}
	end := at.Add(limit - p.StalledAge.V.Duration())
	if clock == event.ClockUserTimeout {
		return Deadline{clock, end, Exact}
	}
	if !timer || p.Orphan { // an orphan also goes when memory runs short (tcp_out_of_resources)
		return Deadline{clock, end, LowerBound}
	}
	for fire.Before(end) {
		// The timer wheel is late by up to an eighth of what it is set for (LVL_GRAN, kernel/time/timer.c): a firing that
		// comes just before the end may come just after it.
		if late := max(fire.Sub(at), rto) / 8; !fire.Add(late).Before(end) {
			return Deadline{clock, fire, LowerBound}
		}
		rto = min(2*rto, rtoMax)
		fire = fire.Add(rto)
	}
	return Deadline{clock, fire, Exact}
}

// ModelTimeout is tcp_model_timeout: how long boundary retransmissions take that start at base and double up to rtoMax.
// With 0.2 s and 120 s: 15 (the default of tcp_retries2) gives 924.6 s, 8 gives 102.2 s.
func ModelTimeout(boundary int, base, rtoMax time.Duration) time.Duration {
	thresh := bits.Len64(uint64(rtoMax/base)) - 1 // ilog2
	if boundary <= thresh {
		return time.Duration(2<<boundary-1) * base
	}
	return time.Duration(2<<thresh-1)*base + time.Duration(boundary-thresh)*rtoMax
}

// probe0Deadline follows tcp_probe_timer: data waits that nothing in flight covers (a zero window, or no route), and the
// socket is given up at the firing that finds tcp_retries2 probes unanswered. Every answer sets icsk_probes_out back, so a
// peer that keeps its window shut but answers is never given up, but by TCP_USER_TIMEOUT: that counts from the first probe
// since the window was shut (icsk_probes_tstamp), answered or not. The pause is icsk_rto, at least TCP_RTO_MIN, doubled with
// every back-off (tcp_probe0_when), and each probe adds one to that, up to tcp_retries2 (tcp_send_probe0).
func probe0Deadline(p event.Progress, l event.Limits, at time.Time) Deadline {
	next, is := at, LowerBound
	if p.Timer == event.TimerProbe0 && p.TimerIn.OK {
		next, is = at.Add(p.TimerIn.V.Duration()), Exact
	}
	rtoMax := positive(l.RTOMax, tcpRTOMax)
	pause := func(backoff int) time.Duration {
		base := max(p.RTO.Duration(), tcpRTOMin)
		if backoff < 32 && base<<backoff < rtoMax {
			return base << backoff
		}
		return rtoMax
	}
	if p.Orphan { // by tcp_orphan_retries, or sooner where memory runs short (tcp_out_of_resources)
		return Deadline{event.ClockOrphan, next, LowerBound}
	}
	d := Deadline{Clock: event.ClockProbe0}
	if p.ProbesOut > 0 {
		fire, backoff := next, int(p.Backoff)
		for out := int(p.ProbesOut); out < int(l.Retries2); out++ {
			backoff = min(backoff+1, int(l.Retries2))
			fire = fire.Add(pause(backoff))
		}
		d.At, d.Is = fire, is
	}
	user := l.UserTimeout.Duration()
	switch {
	case user == 0 || is != Exact:
		return d
	case p.Backoff >= l.Retries2: // how many more probes there were is not told
		return Deadline{event.ClockUserTimeout, next, LowerBound}
	}
	// The first probe is as long ago as the pauses since. The newest one is cut where it would pass the end
	// (tcp_clamp_probe0_to_user_timeout), and then the next firing is the end.
	first := next
	for k := 1; k <= int(p.Backoff); k++ {
		first = first.Add(-pause(k))
	}
	if end := later(first.Add(user), next); d.At.IsZero() || !end.After(d.At) {
		return Deadline{event.ClockUserTimeout, end, Exact}
	}
	return d
}

// synDeadline follows tcp_write_timeout for connections being set up: given up at the firing that finds TCP_SYNCNT
// retransmissions, or TCP_USER_TIMEOUT gone by since the first attempt (tcp_connect sets retrans_stamp). From 6.5 on
// tcp_syn_linear_timeouts adds some before the doubling starts: a lower bound.
func synDeadline(p event.Progress, l event.Limits, at time.Time) Deadline {
	next, rto := at, max(p.RTO.Duration(), tcpRTOMin)
	if p.TimerIn.OK {
		next = at.Add(p.TimerIn.V.Duration())
	}
	fire := next
	for n := int(p.Retransmits); n < int(l.SynRetries); n++ {
		rto = min(2*rto, positive(l.RTOMax, tcpRTOMax))
		fire = fire.Add(rto)
	}
	d := Deadline{event.ClockSYN, fire, LowerBound}
	user := l.UserTimeout.Duration()
	if user == 0 || !p.TimerIn.OK {
		return d
	}
	first := next.Add(-p.RTO.Duration()) // the first attempt armed the timer that is running
	if p.StalledAge.OK {
		first = at.Add(-p.StalledAge.V.Duration())
	}
	// The last timer is cut to fire when the user timeout has gone by (tcp_clamp_rto_to_user_timeout), so both ends may be one
	// moment, read from clocks of different grain.
	if end := later(first.Add(user), next); !end.After(d.At.Add(jiffy)) {
		return Deadline{event.ClockUserTimeout, end, Exact}
	}
	return d
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func positive(o event.Opt[event.Seconds], other time.Duration) time.Duration {
	if o.OK && o.V > 0 {
		return o.V.Duration()
	}
	return other
}
