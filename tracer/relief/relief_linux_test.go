package relief

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// The main goroutine keeps the main thread: one that takes the thread it runs on into a namespace would take the process there,
// for all that /proc says, and would leave that thread behind when it ends.
func init() { runtime.LockOSThread() }

// The child that enters a namespace is this test binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "enter-namespace" {
		if err := ChildMain(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var child = []string{os.Args[0], "enter-namespace"}

// world is a network namespace with connections in it, and a process that keeps its door open.
type world struct {
	netns             uint32
	door              int32
	dialled, accepted []*net.TCPConn
}

func newWorld(t *testing.T, pairs int) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	w := new(world)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- w.build(t, pairs)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) build(t *testing.T, pairs int) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("lo up: %w: %s", err, out)
	}
	door := exec.Command("cat") // waits for its input to end
	in, err := door.StdinPipe()
	if err != nil {
		return err
	}
	if err := door.Start(); err != nil {
		return err
	}
	t.Cleanup(func() { in.Close(); _ = door.Wait() })
	w.door = int32(door.Process.Pid)
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", w.door), &st); err != nil {
		return err
	}
	w.netns = uint32(st.Ino)
	ln, err := net.Listen("tcp", ":0") // dual-stack: its IPv4 connections are v4-mapped
	if err != nil {
		return err
	}
	defer ln.Close()
	for i := range pairs {
		host := []string{"127.0.0.1", "::1"}[i%2]
		c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)))
		if err != nil {
			return err
		}
		a, err := ln.Accept()
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close(); a.Close() })
		w.dialled, w.accepted = append(w.dialled, c.(*net.TCPConn)), append(w.accepted, a.(*net.TCPConn))
	}
	return nil
}

// target names a connection as a verdict of this moment would.
func target(t *testing.T, c *net.TCPConn) Target {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	out := Target{Local: endpoint(c.LocalAddr()), Peer: endpoint(c.RemoteAddr()), Heard: time.Now()}
	if cerr := raw.Control(func(fd uintptr) {
		out.Cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return out
}

func endpoint(a net.Addr) event.Endpoint {
	p := a.(*net.TCPAddr).AddrPort()
	return event.Endpoint{IP: p.Addr().Unmap(), Port: p.Port()}
}

// ending is what a blocked read ends with, and when.
type ending struct {
	err error
	at  time.Time
}

// reads blocks in a read and returns how that ends.
func reads(c *net.TCPConn) chan ending {
	ended := make(chan ending, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- ending{err, time.Now()}
	}()
	return ended
}

func outcomes(t *testing.T, w *world, rate float64, targets ...Target) (map[uint64]Outcome, error) {
	t.Helper()
	got := make(map[uint64]Outcome)
	all, err := results(t, w, rate, targets...)
	for _, r := range all {
		got[r.Cookie] = r.Outcome
	}
	return got, err
}

func results(t *testing.T, w *world, rate float64, targets ...Target) (got []Result, err error) {
	t.Helper()
	err = Close(t.Context(), child, &Space{Netns: w.netns, PIDs: []int32{w.door}, Targets: targets}, rate, func(r Result) {
		got = append(got, r)
		if r.Err != "" {
			t.Errorf("socket %d: %s", r.Cookie, r.Err)
		}
	})
	return got, err
}

// A blocked read ends at once with an error, on IPv4, v4-mapped and IPv6 sockets; others in the namespace go on. At once is
// within a second, which a busy machine may miss once or twice.
func TestCloseEndsBlockedReads(t *testing.T) {
	var took time.Duration
	for range 3 {
		if took = closeBlockedReads(t); took <= time.Second {
			return
		}
	}
	t.Errorf("it took %s", took)
}

func closeBlockedReads(t *testing.T) time.Duration {
	t.Helper()
	w := newWorld(t, 4)
	doomed, spared := w.accepted[:2], w.accepted[2:]
	var ends []chan ending
	var targets []Target
	for _, c := range slices.Concat(doomed, w.dialled[3:]) {
		ends = append(ends, reads(c))
		targets = append(targets, target(t, c))
	}
	began, last := time.Now(), time.Time{}
	got, err := outcomes(t, w, 1000, targets...)
	if err != nil {
		t.Fatal(err)
	}
	for i, ended := range ends {
		if got[targets[i].Cookie] != Closed {
			t.Errorf("socket %d: %q", i, got[targets[i].Cookie])
		}
		select {
		case read := <-ended:
			if !errors.Is(read.err, syscall.ECONNABORTED) {
				t.Errorf("the read of %d ended with %v", i, read.err)
			}
			if read.at.After(last) {
				last = read.at
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("the read of %d goes on", i)
		}
	}
	if _, err := io.WriteString(w.dialled[2], "x"); err != nil {
		t.Fatal(err)
	}
	if read := <-reads(spared[0]); read.err != nil {
		t.Errorf("a socket that was not named: %v", read.err)
	}
	return last.Sub(began)
}

// A socket that has received anything since it was judged is left alone, and so is whoever has a judged one's tuple.
func TestCloseSparesTheLiving(t *testing.T) {
	w := newWorld(t, 2)
	revived, other := target(t, w.accepted[0]), target(t, w.accepted[1])
	revived.Heard = time.Now().Add(-time.Second) // the verdict's look was a second ago
	if _, err := io.WriteString(w.dialled[0], "alive"); err != nil {
		t.Fatal(err)
	}
	other.Cookie += 1 << 40 // another socket than the one that was judged
	unknown := target(t, w.dialled[1])
	unknown.Heard = time.Time{} // nothing is known of it, and nothing is unanswered
	got, err := outcomes(t, w, 1000, revived, other, unknown)
	if err != nil {
		t.Fatal(err)
	}
	if got[revived.Cookie] != Progress || got[other.Cookie] != Gone || got[unknown.Cookie] != Progress {
		t.Errorf("outcomes %v", got)
	}
	for i, c := range w.accepted {
		if _, err := io.WriteString(w.dialled[i], "still here"); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		if read := <-reads(c); read.err != nil {
			t.Errorf("connection %d: %v", i, read.err)
		}
	}
}

// Reconnects come no faster than asked for, not even two after each other.
func TestClosePaces(t *testing.T) {
	w := newWorld(t, 6)
	var targets []Target
	for _, c := range w.accepted {
		targets = append(targets, target(t, c))
	}
	began := time.Now()
	got, err := results(t, w, 20, targets...)
	if err != nil {
		t.Fatal(err)
	}
	const pause = time.Second / 20
	if d, least := time.Since(began), 5*pause; d < least {
		t.Errorf("6 sockets at 20 a second took %s, want at least %s", d, least)
	}
	for i := range got[1:] {
		if d := got[i+1].Time.Sub(got[i].Time); d < pause-time.Millisecond { // the time of day may be slewed meanwhile
			t.Errorf("socket %d was closed %s after the one before", i+1, d)
		}
	}
}

// A process number that leads elsewhere is no door.
func TestEnterChecksTheNamespace(t *testing.T) {
	w := newWorld(t, 1)
	w.door = int32(os.Getpid())
	got, err := outcomes(t, w, 1000, target(t, w.accepted[0]))
	if err == nil || !strings.Contains(err.Error(), "enter network namespace") {
		t.Errorf("error %v", err)
	}
	if len(got) > 0 {
		t.Errorf("outcomes %v", got)
	}
}

func TestRequestNamesOneSocket(t *testing.T) {
	v4 := Target{Cookie: 0x1_0000_0002, Local: event.Endpoint{IP: netip.MustParseAddr("::ffff:10.48.2.5"), Port: 8080},
		Peer: event.Endpoint{IP: netip.MustParseAddr("10.146.0.60"), Port: 31999}}
	b := v4.request(2)
	if len(b) != diagReqSize || b[0] != unix.AF_INET || b[8] != 0x1f || b[9] != 0x90 || b[12] != 10 || b[15] != 5 || b[28] != 10 || b[31] != 60 {
		t.Errorf("% x", b)
	}
}
