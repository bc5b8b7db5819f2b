package sockets

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// Pace of the census.
const (
	// DefaultBudget is the share of one core that the census may use.
	DefaultBudget = 0.005
	// minPause is the shortest rest between two looks: faster ones show nothing that a person or a rule waits for.
	minPause = 250 * time.Millisecond
	// On suspicion a look is made at least every alertPause for alertFor, more often where that costs less than
	// alertBudget of a core. Looks that cost more are paid from savings, which grow by that share of the time up to
	// alertSavings: half a minute at 100,000 sockets. Where there is always some client that does not answer, suspicion never
	// ends, and would take a tenth of a core for good; how the troubled get on is followed anyway.
	alertPause   = time.Second
	alertFor     = 30 * time.Second
	alertBudget  = 0.02
	alertSavings = 6 * time.Second
	// alertAgain is how long a peer that was suspected does not hasten the census again, maxSuspects how many such peers
	// are remembered.
	alertAgain  = 5 * time.Minute
	maxSuspects = 4096
	// maxFailures in a row end the source: the iterator is broken for good.
	maxFailures = 5
)

// Lister walks the open TCP sockets of the machine; [bpf.Probes] is one.
type Lister interface {
	Census(ctx context.Context, socket func(*bpf.SocketRow), netns func(*bpf.NetnsRow)) error
}

// Options tune a Source. The zero value is good.
type Options struct {
	Budget float64      // share of one core, [DefaultBudget] if zero
	Log    *slog.Logger // nil: nothing is logged
}

// Source tells path.sockets and path.traffic.
type Source struct {
	lister Lister
	budget float64
	log    *slog.Logger
	spaces Namespaces
	wake   chan struct{}
	again  atomic.Bool // the next look tells every socket

	mu       sync.Mutex
	alert    time.Time // suspicion lasts until then
	suspects map[netip.Addr]time.Time
	last     look // the newest complete one
	followed int  // sockets in trouble at the newest look at them

	// The rest belongs to Run.
	table      *table
	cgroups    *cgroups
	traffic    *traffic
	clock      bpf.WallClock
	synced     bool
	repairer   repairer      // nil: nobody counts what was sent again without a timeout
	follower   follower      // nil: only looks at all sockets
	followRest time.Duration // between two looks at those in trouble
	savings    savings
}

// look is what the newest complete census came to.
type look struct {
	ended   time.Time
	sockets int
	ok      bool
}

// New returns a census of what the lister lists.
func New(lister Lister, o Options) *Source {
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cgroups := newCgroups()
	if l, ok := lister.(grouper); ok {
		l.TellCgroups(cgroups.groups.tell)
	}
	follower, _ := lister.(follower)
	repairer, _ := lister.(repairer)
	return &Source{
		repairer:   repairer,
		follower:   follower,
		followRest: followPause,
		savings:    savings{left: alertSavings},

		lister:   lister,
		budget:   o.Budget,
		log:      o.Log,
		wake:     make(chan struct{}, 1),
		suspects: make(map[netip.Addr]time.Time),
		table:    newTable(),
		cgroups:  cgroups,
		traffic:  newTraffic(),
	}
}

// Suspect asks for a look at once and for frequent ones for half a minute, because of a first sign of trouble with a
// peer; a peer that was suspected in the last minutes changes nothing. It may be called from any goroutine and costs next
// to nothing.
func (s *Source) Suspect(peer netip.Addr) {
	now := time.Now()
	s.mu.Lock()
	last, ok := s.suspects[peer]
	if ok && now.Sub(last) < alertAgain {
		s.mu.Unlock()
		return
	}
	if len(s.suspects) >= maxSuspects {
		clear(s.suspects)
	}
	s.suspects[peer] = now
	s.alert = now.Add(alertFor)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Restate asks for a look that tells every socket as if it were the first, for readers that came later. It may be called
// from any goroutine.
func (s *Source) Restate() { s.again.Store(true) }

// Newest returns how many sockets the newest complete look saw and how long ago it ended; ok is false before the first.
func (s *Source) Newest() (sockets int, age time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.sockets, time.Since(s.last.ended), s.last.ok
}

// Namespaces returns the network namespaces in which the census sees sockets.
func (s *Source) Namespaces() *Namespaces { return &s.spaces }

// Run looks until ctx ends, which is no error.
func (s *Source) Run(ctx context.Context, emit func([]event.Event)) error {
	for failures := 0; ctx.Err() == nil; {
		started := time.Now()
		first := !s.synced
		cost, err := s.look(ctx, emit)
		if first {
			cost = 0 // it walked twice and told everything: no measure of the looks to come
		}
		s.savings.spend(cost, time.Now())
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failures = 0
		default:
			if failures++; failures == maxFailures {
				return fmt.Errorf("census of sockets: %w", err)
			}
			s.log.Warn("a census failed", "error", err, "failures", failures)
		}
		s.rest(ctx, started, cost, emit)
	}
	return nil
}

// rest waits until the next look is due, and meanwhile follows the sockets in trouble.
func (s *Source) rest(ctx context.Context, started time.Time, cost time.Duration, emit func([]event.Event)) {
	// The iterator runs in this thread, so the thread's own clock tells what it costs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	timer := time.NewTimer(time.Until(started.Add(s.pause(cost))))
	defer timer.Stop()
	for {
		var follow <-chan time.Time
		if s.synced && s.following() {
			follow = time.After(s.followRest)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-follow:
			w := writer{source: s, emit: emit}
			if err := s.follow(ctx, &w); err != nil && ctx.Err() == nil {
				s.log.Warn("a look at the sockets in trouble failed", "error", err)
			}
			w.flush()
		case <-s.wake:
			timer.Reset(time.Until(started.Add(s.pause(cost))))
		}
	}
}

// pause is the time from the start of one look to the start of the next.
func (s *Source) pause(cost time.Duration) time.Duration {
	s.mu.Lock()
	alert := time.Now().Before(s.alert)
	s.mu.Unlock()
	calm := max(minPause, time.Duration(float64(cost)/s.budget))
	if !alert {
		return calm
	}
	pause := time.Duration(float64(cost) / alertBudget)
	if s.follower == nil || s.savings.left >= cost {
		pause = min(alertPause, pause)
	}
	return min(calm, max(minPause, pause))
}

// savings is the processor time that hurried looks may take.
type savings struct {
	left time.Duration
	at   time.Time // when left was right
}

// spend pays for a look that has ended now.
func (s *savings) spend(cost time.Duration, now time.Time) {
	if !s.at.IsZero() {
		s.left += time.Duration(float64(now.Sub(s.at)) * alertBudget)
	}
	s.at = now
	s.left = max(0, min(alertSavings, s.left)-cost)
}

// look makes one census and tells what it found. It returns the processor time that it took.
func (s *Source) look(ctx context.Context, emit func([]event.Event)) (time.Duration, error) {
	// The iterator runs in this thread, so the thread's own clock tells what the look costs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	s.table.begin()
	s.table.restate = s.synced && s.again.Swap(false)
	s.traffic.begin()
	s.spaces.begin()
	s.cgroups.groups.pass = s.table.pass
	w := writer{source: s, emit: emit}
	if !s.synced {
		// A listener may be listed after the sockets that it accepted: later looks remember it, the first has to ask.
		n := 0
		err := s.lister.Census(ctx, func(r *bpf.SocketRow) {
			n++
			if r.Sock.State == bpf.StateListen && !r.Sock.OfSelfTest() {
				s.table.listen(&r.Sock)
			}
		}, func(*bpf.NetnsRow) {})
		if err != nil {
			return threadTime() - before, err
		}
		s.table.index.Reserve(n) // more than there are sockets, where processes share some
	}
	err := s.lister.Census(ctx, func(r *bpf.SocketRow) {
		if r.Sock.OfSelfTest() {
			return
		}
		listens := r.Sock.State == bpf.StateListen
		if listens {
			s.table.listen(&r.Sock)
		}
		found := s.table.see(r, w.gone)
		if !found.again && !listens {
			s.traffic.count(&r.Sock, found)
		}
		if found.change != "" {
			w.row(r, found)
		}
	}, func(r *bpf.NetnsRow) { s.spaces.see(r.Netns) })
	if err == nil {
		err = s.follow(ctx, &w) // before what was not met is called gone: a process may have closed it
	}
	if err == nil {
		s.table.sweep(w.gone)
		w.flush()
		s.spaces.end()
		w.traffic(threadTime() - before)
		if !s.synced || s.table.restate {
			w.tell(event.StreamSynced, &event.Synced{Fact: "sockets"})
		}
		err = w.err
	} else {
		w.flush()
		s.spaces.abandon()
		if s.table.restate {
			s.again.Store(true)
		}
	}
	cost := threadTime() - before
	if err != nil {
		return cost, err
	}
	s.synced = true
	s.mu.Lock()
	s.last = look{ended: time.Now(), sockets: s.table.len(), ok: true}
	s.mu.Unlock()
	return cost, nil
}

// threadTime is the processor time of the calling thread, 0 where the kernel does not tell.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
