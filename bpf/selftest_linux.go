package bpf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a self-test may take. Within quickTest everything is tried that a lost segment and a reset on the loopback device
// can show; the kernel's first window probe comes 200 ms (TCP_RTO_MIN) after a window has closed.
const (
	QuickSelfTest    = 60 * time.Millisecond
	ThoroughSelfTest = 2 * time.Second

	// resetPatience is for what a reset causes, which on the loopback device is over before the call that sends it returns.
	resetPatience    = 50 * time.Millisecond
	windowProbeTakes = 300 * time.Millisecond
	selfTestTick     = 4 * time.Millisecond
)

// SelfTest makes connections between two sockets of this process on the loopback device, loses a segment of one, resets
// it, and says in the report which rungs were seen to fire, and why the others could not be seen to. Attaching is no
// proof: a compiler may have inlined a function's calls, a namespace may not be tracked. It changes nothing outside of
// its own sockets, and what the probes tell of these is swallowed. It must be called before a ring is run.
func (p *Probes) SelfTest(ctx context.Context, patience time.Duration, report Report) Report {
	return p.newSelfTest(report).verdicts(ctx, patience)
}

func (p *Probes) newSelfTest(report Report) *selfTest {
	return &selfTest{probes: p, report: report, told: make(map[Kind]bool), ports: make(map[uint16]bool)}
}

// verdicts runs the test and returns the report with what it has shown.
func (t *selfTest) verdicts(ctx context.Context, patience time.Duration) Report {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	report := t.report
	t.windows = patience >= windowProbeTakes && len(report.Fact(FactProbe).hooks) > 0
	err := t.run(ctx)
	t.swallow()
	out := make(Report, len(report))
	for i, f := range report {
		out[i] = f
		out[i].Fired, out[i].Unproven = t.verdict(f, patience, err)
	}
	return out
}

// selfTest is the state of one run.
type selfTest struct {
	probes  *Probes
	report  Report
	windows bool            // there is time for a window probe, and somebody to see it
	told    map[Kind]bool   // records that came of the test's own sockets
	ports   map[uint16]bool // by which these are known
	resent  bool            // the kernel says that it has sent a segment again
	reset   bool            // the reset has been sent
	marked  bool            // the walk over marked sockets met it
	met     bool            // the census met the test's socket
	census  error
}

func (t *selfTest) run(ctx context.Context) error {
	near, far, err := t.pair(ctx, 0)
	if err != nil {
		return fmt.Errorf("no connection on the loopback device: %w", err)
	}
	defer near.Close()
	defer far.Close()
	if t.windows {
		stop, err := t.closeWindow(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	// The far end is made deaf. Of two small segments the second is sent again after two round trips and two jiffies
	// (tcp_schedule_loss_probe), of one alone only after 200 ms.
	if err := control(far, deafen); err != nil {
		return fmt.Errorf("attach a filter: %w", err)
	}
	for range 2 {
		if _, err := near.Write([]byte{0}); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	t.census = t.look(ctx, near)
	t.await(ctx, func() bool {
		var info *unix.TCPInfo
		_ = control(near, func(fd int) (err error) {
			info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			return err
		})
		t.resent = info != nil && info.Total_retrans > 0
		return t.resent && (t.report.Fact(FactRetransmit).Rung == "" || t.ran(hookRetransmit))
	})
	_ = t.probes.Troubled(ctx, func(r *SocketRow) { t.marked = t.marked || t.ports[r.Sock.LocalPort] })
	// The reset is ahead of what the far end has received, so it asks back (tcp_send_challenge_ack), finds nobody, and is
	// answered by a reset that no socket sends.
	if err := control(far, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) }); err != nil {
		return fmt.Errorf("detach the filter: %w", err)
	}
	if err := near.SetLinger(0); err != nil {
		return err
	}
	near.Close()
	t.reset = true
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetPatience)
	defer cancel()
	t.await(after, func() bool { return t.all(KindResetReceived, KindError, KindClosed) })
	if t.windows {
		t.await(ctx, func() bool { return t.ran(hookProbe) })
	}
	return nil
}

// pair connects two sockets. The far end's buffer has room for some bytes, for as many as usual if that is 0.
func (t *selfTest) pair(ctx context.Context, room int) (near, far *net.TCPConn, err error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if room == 0 {
			return nil
		}
		// a buffer that shrinks later makes the kernel drop what it had allowed, and the other end send it again
		if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, room) }); cerr != nil {
			return cerr
		}
		return err
	}}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp4", selfTestFar+":0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := ln.(*net.TCPListener).SetDeadline(deadline); err != nil {
			return nil, nil, err
		}
	}
	d := net.Dialer{KeepAlive: -1, LocalAddr: &net.TCPAddr{IP: net.ParseIP(selfTestNear)}}
	c, err := d.DialContext(ctx, "tcp4", ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	a, err := ln.Accept()
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	t.ports[uint16(c.LocalAddr().(*net.TCPAddr).Port)] = true
	return c.(*net.TCPConn), a.(*net.TCPConn), nil
}

// closeWindow makes a connection whose far end does not read, and fills it, so that the kernel probes its window.
func (t *selfTest) closeWindow(ctx context.Context) (stop func(), err error) {
	near, far, err := t.pair(ctx, 4096)
	if err != nil {
		return nil, err
	}
	stop = func() {
		for _, c := range []*net.TCPConn{near, far} {
			_ = c.SetLinger(0)
			c.Close()
		}
	}
	err = control(near, func(fd int) (err error) {
		for err == nil { // until both buffers are full
			_, err = unix.Write(fd, make([]byte, 4096))
		}
		return err
	})
	if !errors.Is(err, unix.EAGAIN) {
		stop()
		return nil, fmt.Errorf("fill a connection: %w", err)
	}
	return stop, nil
}

// deafen drops all that a socket would receive.
func deafen(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
}

func control(c *net.TCPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// look takes a census until it meets the test's own socket.
func (t *selfTest) look(ctx context.Context, c *net.TCPConn) error {
	if t.probes.census == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	port := uint16(c.LocalAddr().(*net.TCPAddr).Port)
	err := t.probes.Census(ctx, func(r *SocketRow) {
		if r.Sock.LocalPort == port && int(r.PID) == os.Getpid() {
			t.met = true
			cancel()
		}
	}, func(*NetnsRow) {})
	if t.met {
		return nil
	}
	return err
}

// await reads what the probes tell until a condition holds or the time is over.
func (t *selfTest) await(ctx context.Context, done func() bool) {
	for ctx.Err() == nil && !done() {
		t.probes.evidence.sift(time.Now().Add(selfTestTick), t.own)
	}
}

// swallow takes the test's records out of the rings, and its counts with those of others that came during the test.
func (t *selfTest) swallow() {
	_ = t.probes.Repairs(func(uint32, netip.Addr, uint64, uint64) {})
	for _, r := range []*Ring{t.probes.evidence, t.probes.bulk} {
		r.sift(time.Time{}.Add(1), t.own)
	}
}

// own says whether a record tells of the test's own sockets, and notes its kind.
func (t *selfTest) own(raw []byte) bool {
	var r TCPRecord
	if kind, err := KindOf(raw); err != nil || kind >= KindSocket || Decode(raw, &r) != nil {
		return false
	}
	if !r.Sock.LocalAddr().Addr().IsLoopback() || !t.ports[r.Sock.LocalPort] && !t.ports[r.Sock.PeerPort] {
		return false
	}
	t.told[r.Header.Kind] = true
	return true
}

// recordOf is what each rung of a fact writes. A tail loss probe is counted and not told: that the hook ran has to do.
var recordOf = map[Fact]Kind{
	FactError: KindError, FactReset: KindResetReceived, FactState: KindClosed,
}

// all says whether all of some records have come whose facts are served.
func (t *selfTest) all(kinds ...Kind) bool {
	for fact, kind := range recordOf {
		if slices.Contains(kinds, kind) && t.report.Fact(fact).Rung != "" && !t.told[kind] {
			return false
		}
	}
	return true
}

// ran says whether a hook has run since it was attached, for whatever reason.
func (t *selfTest) ran(hook uint32) bool {
	var n uint64
	return t.probes.ran.Lookup(hook, &n) == nil && n != 0
}

// verdict says whether a fact's rung was seen to fire, and if not, why.
func (t *selfTest) verdict(f FactReport, patience time.Duration, err error) (fired bool, unproven string) {
	switch {
	case f.Rung == "" || f.Rung == RungCensus:
		return false, ""
	case f.Fact == FactSockets:
		fired = t.met
		if t.census != nil {
			err = t.census
		}
	case f.Fact == FactRecovery:
		fired = t.marked
	case f.Fact == FactNAT:
		created, destroyed := t.ran(hookNATCreated), t.ran(hookNATDestroyed)
		switch {
		case created && destroyed:
			return true, ""
		case created:
			return false, "the beginning of entries was seen, an end not yet"
		}
		return false, "no connection of this machine has been tracked since the start"
	default:
		fired = t.told[recordOf[f.Fact]]
		for _, hook := range f.hooks {
			fired = fired || t.ran(hook)
		}
	}
	switch {
	case fired:
		return true, ""
	case errors.Is(err, context.DeadlineExceeded):
		return false, fmt.Sprintf("not tried to the end: %v were over", patience)
	case err != nil:
		return false, "not tried: " + err.Error()
	case f.Fact == FactProbe && !t.windows:
		return false, "not tried: the kernel's first window probe takes 200 ms"
	case (f.Fact == FactRetransmit || f.Fact == FactRecovery) && !t.resent:
		return false, fmt.Sprintf("not tried: no segment was sent again within %v", patience)
	}
	if t.reset && f.Fact != FactProbe && f.Fact != FactSockets {
		return false, fmt.Sprintf("not within %v of its reason", resetPatience)
	}
	return false, fmt.Sprintf("not within %v", patience)
}
