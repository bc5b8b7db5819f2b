package conntrack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// Options says how the table is read. The zero value serves but for Node.
type Options struct {
	// Node is the name of the node whose table it is.
	Node string
	// Redump is the least time between two dumps that nothing asked for, 1 minute if zero.
	Redump time.Duration
	// Budget is the share of one core that these dumps may cost, 0.005 if zero: a large table is dumped less often.
	Budget float64
	// Poll is how often fill and losses of the table are looked at, 1 s if zero.
	Poll time.Duration
	// Table is the least time between two nat.table facts while nothing jumps, 5 s if zero.
	Table time.Duration
	// Probed says that probes tell what comes and goes, by [Source.Take], so that the kernel's announcements are not
	// listened to: nothing is told twice. The table is dumped all the same, to know what was there and to make losses good.
	Probed bool
	Log    *slog.Logger // nil: silent
}

// Rung names this way of learning of translated connections, as stream.started lists it.
const Rung = "ctnetlink"

// Source reads the table of one namespace.
type Source struct {
	opts   Options
	log    *slog.Logger
	ledger *ledger
	events *socket // nil where probes tell
	inbox  inbox
	dumps  *socket // and other questions
	table  *watch

	again atomic.Pointer[func(original, reply event.Tuple, zone uint16) bool] // see Restate

	emit       func([]event.Event)
	dumped     time.Time     // when the newest dump ended
	cost       time.Duration // of it
	timeoutsAt time.Time     // when the ledger's timeouts were read
	wanted     bool          // a dump is due as soon as the budget allows
	translated bool          // the table has held a translated connection
	overruns   uint64        // of the events' socket, since the last dump
	lostFrom   time.Time     // the first of these

	// Where probes tell: when the newest dump's doubts are decided, and what it should have seen and did not.
	settle  time.Time
	missing []missing
}

// Open opens the table of the namespace of the calling thread; Run may be called from any thread. Events are kept from
// now on. The error is an [*UnavailableError].
func Open(opts Options) (*Source, error) {
	if opts.Redump <= 0 {
		opts.Redump = time.Minute
	}
	if opts.Budget <= 0 {
		opts.Budget = 0.005
	}
	if opts.Poll <= 0 {
		opts.Poll = time.Second
	}
	if opts.Table <= 0 {
		opts.Table = 5 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s := &Source{opts: opts, log: opts.Log, inbox: inbox{more: make(chan struct{}, 1)}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, unavailable(err)
	}
	return s, nil
}

func (s *Source) open() (err error) {
	netns, err := ownNetns()
	if err != nil {
		return err
	}
	s.ledger = newLedger(s.opts.Node, netns)
	if s.dumps, err = openSocket(); err != nil {
		return err
	}
	if s.table, err = newWatch(s.dumps, s.opts); err != nil {
		return err
	}
	if s.opts.Probed {
		return nil
	}
	if s.events, err = openSocket(); err != nil {
		return err
	}
	return s.events.listen()
}

// Restate has those entries told again that are wanted, as nat.found of the rung "checkpoint", within a second. It may be
// called from any goroutine, before Run too; want is called by Run's, once for each entry that is known.
func (s *Source) Restate(want func(original, reply event.Tuple, zone uint16) bool) {
	s.again.Store(&want)
	select {
	case s.inbox.more <- struct{}{}: // where probes tell, somebody waits for it
	default:
	}
}

// ownNetns is the inode number of the namespace of the calling thread.
func ownNetns() (uint32, error) {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: "/proc/thread-self/ns/net", Err: err}
	}
	return uint32(st.Ino), nil
}

func unavailable(err error) *UnavailableError {
	u := &UnavailableError{
		Cause:  fmt.Sprintf("cannot read the connection tracking table: %v", err),
		Effect: "which node a connection crosses is inferred from addresses only, and clients behind a node stay unknown",
		Remedy: "start midhop where /proc is mounted and the kernel has nf_conntrack",
		Err:    err,
	}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		u.Remedy = "run as root, or grant CAP_NET_ADMIN"
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		u.Remedy = "modprobe nf_conntrack_netlink"
	}
	return u
}

// Close releases what Open took. Run does so by itself.
func (s *Source) Close() {
	if s.events != nil {
		s.events.close()
	}
	if s.dumps != nil {
		s.dumps.close()
	}
}

// Run tells what stands in the table, then what changes, until ctx ends. It may be called once.
func (s *Source) Run(ctx context.Context, emit func([]event.Event)) error {
	defer s.Close()
	stop := context.AfterFunc(ctx, func() {
		if s.events != nil {
			s.events.close() // wakes a receive
		}
		s.dumps.close()
	})
	defer stop()
	s.emit = emit
	err := s.run(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
