package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/sockets"
)

// The main goroutine keeps the main thread: one that takes the thread it runs on into a namespace would take the process there,
// for all that /proc says, and would leave that thread behind when it ends.
func init() { runtime.LockOSThread() }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loading probes and making network namespaces needs root")
	}
}

// mustLoad loads the probes, and skips where this kernel has a rung of nothing, and there only.
func mustLoad(t *testing.T, o bpf.Options) (*bpf.Probes, bpf.Report) {
	t.Helper()
	probes, report, err := bpf.Load(o)
	var kernel *bpf.KernelError
	if errors.As(err, &kernel) {
		t.Skipf("no probe serves on this kernel: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return probes, report
}

// unavailable skips a test of a rung that this kernel does not have, or does not permit. In guests expect.txt says where
// that may be.
func unavailable(t *testing.T, f bpf.FactReport, rung string) {
	t.Helper()
	for _, a := range f.Tried {
		if a.Rung == rung && (errors.Is(a.Err, unix.EPERM) || errors.Is(a.Err, bpf.ErrNoKprobes) || errors.Is(a.Err, bpf.ErrUntrusted) || os.Getenv("MIDHOP_VM") != "") {
			t.Skipf("%s: %v", rung, a.Err)
		}
	}
	t.Fatalf("%s stands on rung %q, want %s: %s", f.Fact, f.Rung, rung, f.Why())
}

// who says which socket is meant: by what it has whether or not anybody has asked for its cookie.
type who struct {
	netns       uint32
	local, peer event.Endpoint
}

// whoIs names one of the near end's sockets.
func (r *road) whoIs(c *net.TCPConn) who {
	return who{r.near.inum, endpoint(c.LocalAddr()), endpoint(c.RemoteAddr())}
}

func (is who) matches(s *event.Socket) bool { return is == who{s.Netns, s.Local, s.Peer} }

// space is a network namespace of its own, kept by one thread that works in it.
type space struct {
	work chan func()
	path string // /proc/.../ns/net
	inum uint32
}

func newSpace(t *testing.T) *space {
	t.Helper()
	s := &space{work: make(chan func())}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ready <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			s.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
			var st unix.Stat_t
			if err := unix.Stat(s.path, &st); err != nil {
				return err
			}
			s.inum = uint32(st.Ino)
			return nil
		}()
		for f := range s.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(s.work) })
	s.ip(t, "link set lo up")
	return s
}

// do runs f in the namespace.
func (s *space) do(f func()) {
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

// ip runs ip(8) in the namespace.
func (s *space) ip(t *testing.T, format string, args ...any) {
	t.Helper()
	command := fmt.Sprintf(format, args...)
	s.do(func() {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Errorf("ip %s: %v: %s", command, err, out)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

const (
	nearIP, farIP   = "10.77.0.1", "10.77.0.2"
	nearIP6, farIP6 = "fd77::1", "fd77::2"
	nearMAC, farMAC = "02:00:00:00:77:01", "02:00:00:00:77:02"
	nobodysMAC      = "02:00:00:00:77:99"
)

// road is two namespaces with a cable between them and fixed neighbours.
type road struct {
	near, far *space
}

func newRoad(t *testing.T) *road {
	t.Helper()
	r := &road{near: newSpace(t), far: newSpace(t)}
	r.near.ip(t, "link add road address %s type veth peer name road address %s netns %s", nearMAC, farMAC, r.far.path)
	for _, end := range []struct {
		at      *space
		ip, ip6 string
	}{{r.near, nearIP, nearIP6}, {r.far, farIP, farIP6}} {
		end.at.ip(t, "addr add %s/24 dev road", end.ip)
		end.at.ip(t, "addr add %s/64 dev road nodad", end.ip6)
		end.at.ip(t, "link set road up")
	}
	r.mend(t)
	r.far.neighbours(t, nearIP, nearIP6, nearMAC)
	return r
}

func (s *space) neighbours(t *testing.T, ip, ip6, mac string) {
	t.Helper()
	s.ip(t, "neigh replace %s lladdr %s dev road nud permanent", ip, mac)
	s.ip(t, "neigh replace %s lladdr %s dev road nud permanent", ip6, mac)
}

// hole makes what the near end sends vanish without a word, as behind a node that lost its power.
func (r *road) hole(t *testing.T) { t.Helper(); r.near.neighbours(t, farIP, farIP6, nobodysMAC) }

// mend undoes hole.
func (r *road) mend(t *testing.T) { t.Helper(); r.near.neighbours(t, farIP, farIP6, farMAC) }

// connect opens a connection from the near end to the far end and returns both ends.
func (r *road) connect(t *testing.T, network, listen, dial string) (near, far *net.TCPConn) {
	t.Helper()
	var ln net.Listener
	r.far.do(func() {
		var err error
		if ln, err = net.Listen(network, net.JoinHostPort(listen, "0")); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	r.near.do(func() {
		d := net.Dialer{Timeout: soon, KeepAlive: -1}
		c, err := d.Dial(network, net.JoinHostPort(dial, port))
		if err != nil {
			t.Error(err)
			return
		}
		near = c.(*net.TCPConn)
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { near.Close() })
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return near, c.(*net.TCPConn)
}

func option(t *testing.T, c *net.TCPConn, level, name, value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), level, name, value) }); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
}

func cookieOf(t *testing.T, c syscall.Conn) uint64 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cookie uint64
	var serr error
	if err := raw.Control(func(fd uintptr) {
		cookie, serr = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
	}); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	return cookie
}

// watch runs sources for the rest of a test and keeps what they tell.
type watch struct {
	report bpf.Report
	census *sockets.Source
	kernel *Source
	stop   func()
	mu     sync.Mutex
	events []event.Event
	told   []time.Time // when each event was told
	more   chan struct{}
	read   int
}

// startWatch runs the kernel source and the census over fresh probes.
func startWatch(t *testing.T, o bpf.Options) *watch {
	t.Helper()
	o.VerifierText = len(o.Rungs) > 0 // unavailable wants to know why
	probes, report := mustLoad(t, o)
	t.Cleanup(func() {
		if err := probes.Close(); err != nil {
			t.Error(err)
		}
	})
	for fact, rung := range o.Rungs {
		if report.Fact(fact).Rung != rung {
			unavailable(t, report.Fact(fact), rung)
		}
	}
	for _, f := range []bpf.Fact{bpf.FactRetransmit, bpf.FactError, bpf.FactReset, bpf.FactState, bpf.FactSockets} {
		if r := report.Fact(f); r.Rung == "" {
			t.Fatalf("fact %s is not available: %s", f, r.Why())
		}
	}
	w := &watch{report: report, census: sockets.New(probes, sockets.Options{Budget: 0.2}), more: make(chan struct{}, 1)}
	w.kernel = New(probes, Options{Namespaces: w.census.Namespaces(), Suspect: w.census.Suspect})
	w.start(t, w.census.Run, w.kernel.Run)
	return w
}

// start runs sources until stop or the end of the test.
func (w *watch) start(t *testing.T, runs ...func(context.Context, func([]event.Event)) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range runs {
		wg.Go(func() {
			if err := run(ctx, w.emit); err != nil {
				t.Error(err)
			}
		})
	}
	w.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(w.stop)
}

// until lets a source end with its context's error.
func (w *watch) until(run func(context.Context, func([]event.Event)) error) func(context.Context, func([]event.Event)) error {
	return func(ctx context.Context, emit func([]event.Event)) error {
		if err := run(ctx, emit); ctx.Err() == nil {
			return err
		}
		return nil
	}
}

// waitNAT waits until as many facts of a type have come as there are connections.
func (w *watch) waitNAT(t *testing.T, typ event.Type, n int) {
	t.Helper()
	w.rewind()
	seen := 0
	w.wait(t, fmt.Sprintf("%d %s", n, typ), 4*soon, func(e event.Event) bool {
		if e.Type == typ {
			seen++
		}
		return seen == n
	})
}

func (w *watch) emit(batch []event.Event) {
	now := time.Now()
	w.mu.Lock()
	w.events = append(w.events, batch...)
	for range batch {
		w.told = append(w.told, now)
	}
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// lagOf is how long after it happened the event that wait returned last was told.
func (w *watch) lagOf(e event.Event) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[w.read-1].Sub(e.Time)
}

// wait returns the first event after the last one returned that match accepts.
func (w *watch) wait(t *testing.T, what string, within time.Duration, match func(event.Event) bool) event.Event {
	t.Helper()
	deadline := time.After(within)
	for {
		w.mu.Lock()
		for w.read < len(w.events) {
			e := w.events[w.read]
			w.read++
			if match(e) {
				w.mu.Unlock()
				return e
			}
		}
		w.mu.Unlock()
		select {
		case <-w.more:
		case <-deadline:
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, e := range w.events[max(0, len(w.events)-40):] {
				if e.Type != event.PathTraffic {
					t.Logf("%s", event.AppendJSON(nil, &e))
				}
			}
			t.Fatalf("%s: not told within %v", what, within)
		}
	}
}

// rewind lets wait look at all events again: two sources tell in no fixed order.
func (w *watch) rewind() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = 0
}

// fact matches a tcp.* fact of one socket.
func fact(typ event.Type, is who, and func(*event.TCPFact) bool) func(event.Event) bool {
	return func(e event.Event) bool {
		f, ok := e.Body.(*event.TCPFact)
		return ok && e.Type == typ && is.matches(&f.Socket) && (and == nil || and(f))
	}
}

// row matches a census line with a row of one socket.
func row(is who, and func(*event.SocketRow) bool) func(event.Event) bool {
	return func(e event.Event) bool {
		s, ok := e.Body.(*event.Sockets)
		if !ok {
			return false
		}
		for i := range s.Rows {
			if is.matches(&s.Rows[i].Socket) && and(&s.Rows[i]) {
				return true
			}
		}
		return false
	}
}

func endpoint(a net.Addr) event.Endpoint {
	p := netip.MustParseAddrPort(a.String())
	return event.Endpoint{IP: p.Addr().Unmap(), Port: p.Port()}
}
