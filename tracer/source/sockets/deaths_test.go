package sockets

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// mortal is a socket whose death is foretold and awaited.
type mortal struct {
	name  string
	clock event.Clock
	set   map[int]int // TCP options
	alive bool        // SO_KEEPALIVE
	say   int         // bytes written into the silence, -1: as many as fill the peer's window, before it
	dial  bool        // it is dialled into the silence
	close bool        // its application closes it

	fd     int
	cookie uint64
	local  netip.AddrPort
	told   []foretold
	died   time.Time
	errno  unix.Errno
}

// foretold is what the model said at one look.
type foretold struct {
	at time.Time
	model.Deadline
	tcp event.Progress
}

// TestDeaths compares what the model foretells with the deaths of real sockets, on every clock at once. A fresh namespace
// with short limits speaks to another one, which then falls silent: what arrives there is dropped before its stack.
func TestDeaths(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("it takes 15 s")
	}
	probes := load(t)
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatal(err)
	}
	here, there := newSpace(t), newSpace(t)
	here.run(fmt.Sprintf(`ip link set lo up
ip link add va type veth peer name vb netns %d
ip addr add 192.0.2.1/24 dev va
ip link set va up
ip route change 192.0.2.0/24 dev va src 192.0.2.1 rto_min 300ms
echo 3 > /proc/sys/net/ipv4/tcp_retries2
echo 2 > /proc/sys/net/ipv4/tcp_orphan_retries
echo 2 > /proc/sys/net/ipv4/tcp_syn_retries`, there.tid))
	there.run(`ip addr add 192.0.2.2/24 dev vb
ip link set vb up
ip neigh replace 192.0.2.1 lladdr $(cat /sys/class/net/vb/address) dev vb nud permanent || true
ip neigh flush dev vb`)

	// With rto_min of 0.3 s no firing comes so close to tcp_model_timeout, which counts with 0.2 s, that it may be either.
	// All figures are short enough for everything to be over in 15 s, and apart enough to tell one clock from another.
	idle := map[int]int{unix.TCP_KEEPIDLE: 2, unix.TCP_KEEPINTVL: 1, unix.TCP_KEEPCNT: 4}
	with := func(m map[int]int, option, value int) map[int]int {
		out := map[int]int{option: value}
		for k, v := range m {
			out[k] = v
		}
		return out
	}
	all := []*mortal{
		{name: "keepalive", clock: event.ClockKeepalive, set: idle, alive: true},
		{name: "keepalive, user timeout", clock: event.ClockUserTimeout, set: with(idle, unix.TCP_USER_TIMEOUT, 3500), alive: true},
		{name: "data", clock: event.ClockRTO, say: 100},
		{name: "data, keepalive on", clock: event.ClockRTO, set: idle, alive: true, say: 100},
		{name: "data, user timeout", clock: event.ClockUserTimeout, set: map[int]int{unix.TCP_USER_TIMEOUT: 4500}, say: 100},
		{name: "shut window", clock: event.ClockProbe0, say: -1},
		{name: "shut window, user timeout", clock: event.ClockUserTimeout, set: map[int]int{unix.TCP_USER_TIMEOUT: 2500}, say: -1},
		{name: "dialling", clock: event.ClockSYN, dial: true},
		{name: "dialling, one more attempt", clock: event.ClockSYN, set: map[int]int{unix.TCP_SYNCNT: 1}, dial: true},
		{name: "dialling, user timeout", clock: event.ClockUserTimeout, set: map[int]int{unix.TCP_USER_TIMEOUT: 2500}, dial: true},
		{name: "orphan", clock: event.ClockOrphan, say: 100, close: true},
		{name: "idle", clock: event.ClockNone},
	}
	var listener int
	there.in(func() { listener = listen(t, netip.MustParseAddrPort("192.0.2.2:7000")) })
	here.in(func() {
		for _, m := range all {
			m.open(t)
			if !m.dial {
				m.connect(t)
			}
		}
	})
	there.in(func() {
		for _, m := range all {
			if !m.dial {
				fd, _, err := unix.Accept(listener)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { unix.Close(fd) })
			}
		}
	})
	fillWindows(t, all)

	lag := watchLag()
	silent := time.Now()
	there.run(`nft 'table ip silence { chain c { type filter hook prerouting priority -500; policy drop; }; }'`)
	var dying sync.WaitGroup
	here.in(func() {
		for _, m := range all {
			m.act(t)
		}
	})
	var mu sync.Mutex
	for _, m := range all {
		if m.clock != event.ClockNone {
			dying.Go(func() {
				at, errno := m.await(here)
				mu.Lock()
				defer mu.Unlock()
				m.died, m.errno = at, errno
			})
		}
	}
	over := make(chan struct{})
	go func() { dying.Wait(); close(over) }()
	s := New(probes, Options{})
	for deadline := time.After(2 * time.Minute); ; {
		foretell(t, s, here.inum, all, &mu)
		select {
		case <-over:
		case <-deadline:
			t.Error("not all have died")
		case <-time.After(100 * time.Millisecond):
			continue
		}
		break
	}
	mu.Lock()
	defer mu.Unlock()
	late := lag()
	t.Logf("this machine let a thread oversleep by %v at most", late.Round(time.Millisecond))
	for _, m := range all {
		m.check(t, silent, late)
	}
}

func (m *mortal) open(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.fd = fd
	if !m.close {
		t.Cleanup(func() { unix.Close(fd) })
	}
	for option, value := range m.set {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value); err != nil {
			t.Fatalf("%s: option %d: %v", m.name, option, err)
		}
	}
	if m.alive {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	}
	m.cookie, _ = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil || m.cookie == 0 {
		t.Fatal(m.name, err)
	}
}

func (m *mortal) connect(t *testing.T) {
	if err := unix.Connect(m.fd, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 2}, Port: 7000}); err != nil {
		t.Fatal(m.name, err)
	}
	if err := unix.SetNonblock(m.fd, true); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(m.fd)
	if err != nil {
		t.Fatal(err)
	}
	in := sa.(*unix.SockaddrInet4)
	m.local = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
}

// fillWindows writes until the peers' windows are shut and everything that is in flight is acknowledged.
func fillWindows(t *testing.T, all []*mortal) {
	chunk := make([]byte, 1<<16)
	for _, m := range all {
		if m.say >= 0 {
			continue
		}
		for full, until := 0, time.Now().Add(time.Minute); full < 20; {
			if time.Now().After(until) {
				t.Fatalf("%s: the window does not shut", m.name)
			}
			if _, err := unix.Write(m.fd, chunk); err == unix.EAGAIN {
				if info, err := unix.GetsockoptTCPInfo(m.fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.Unacked == 0 {
					full++ // stays full: the window is shut
				}
				time.Sleep(5 * time.Millisecond)
				continue
			}
			full = 0
		}
	}
}

// act does what the socket's application does into the silence.
func (m *mortal) act(t *testing.T) {
	switch {
	case m.dial:
		unix.SetNonblock(m.fd, true)
		if err := unix.Connect(m.fd, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 2}, Port: 7000}); err != unix.EINPROGRESS {
			t.Errorf("%s: %v", m.name, err)
		}
	case m.say > 0:
		if _, err := unix.Write(m.fd, make([]byte, m.say)); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// await returns when the socket dies, and of what.
func (m *mortal) await(s *space) (time.Time, unix.Errno) {
	if m.close {
		return m.awaitOrphan(s), 0
	}
	for {
		fds := []unix.PollFd{{Fd: int32(m.fd)}}
		if n, err := unix.Poll(fds, 30_000); err == unix.EINTR || n == 1 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) == 0 {
			continue
		}
		at := time.Now()
		errno, _ := unix.GetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return at, unix.Errno(errno)
	}
}

// awaitOrphan waits for the socket to leave its namespace's table: nobody is told of the death of one that was closed.
func (m *mortal) awaitOrphan(s *space) time.Time {
	port := fmt.Sprintf(":%04X ", m.local.Port())
	for {
		var table []byte
		s.in(func() { table, _ = os.ReadFile("/proc/thread-self/net/tcp") })
		if !strings.Contains(string(table), port) {
			return time.Now()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// foretell makes a look at all sockets and asks the model when each will die. An orphan is in no census: what its socket was
// at the look before it was closed holds.
func foretell(t *testing.T, s *Source, netns uint32, all []*mortal, mu *sync.Mutex) {
	var events []event.Event
	err := s.lister.Census(t.Context(), func(r *bpf.SocketRow) {
		if r.Sock.Netns != netns || r.Sock.State == bpf.StateListen {
			return
		}
		at, err := s.clock.Time(r.Header.KTime)
		if err != nil {
			t.Error(err)
		}
		events = append(events, event.Event{Time: at, Body: &event.TCPFact{Socket: Identity(&r.Sock), TCP: Progress(&r.Sock), Limits: limitsOf(&r.Sock)}})
	}, func(*bpf.NetnsRow) {})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range events {
		b := events[i].Body.(*event.TCPFact)
		for _, m := range all {
			if m.cookie != b.Socket.Cookie {
				continue
			}
			var received time.Time
			if b.TCP.ReceivedAge.OK {
				received = events[i].Time.Add(-b.TCP.ReceivedAge.V.Duration())
			}
			if m.close && b.TCP.Retransmits > 0 && m.fd >= 0 {
				unix.Close(m.fd)
				m.fd = -1
				b.TCP.State, b.TCP.Orphan = "fin_wait1", true
			}
			m.told = append(m.told, foretold{events[i].Time, model.DeadlineOf(b.TCP, *b.Limits, events[i].Time, received), b.TCP})
		}
	}
}

func limitsOf(s *bpf.Sock) *event.Limits { l := LimitsOf(s); return &l }

// check compares every exact prediction with the death, to within 2 % or a tick of each timer that is still to fire, and
// bounds with it as bounds.
func (m *mortal) check(t *testing.T, silent time.Time, lag time.Duration) {
	if m.clock == event.ClockNone {
		if last := m.told[len(m.told)-1]; last.Clock != event.ClockNone || !last.At.IsZero() {
			t.Errorf("%s: %s at %v, want never", m.name, last.Clock, last.At)
		}
		return
	}
	if m.died.IsZero() {
		t.Errorf("%s: did not die", m.name)
		return
	}
	lived := m.died.Sub(silent)
	exact, bounds := 0, 0
	var worst, early, late time.Duration
	for _, f := range m.told {
		if f.At.IsZero() || f.at.Before(silent) || f.at.After(m.died) || m.close && !f.tcp.Orphan {
			continue
		}
		off := m.died.Sub(f.At)
		right := f.Clock == m.clock
		if os.Getenv("MIDHOP_DEATHS") != "" {
			t.Logf("%s: at %v: %s %s %v, off %v: %+v", m.name, f.at.Sub(silent), f.Clock, f.Is, f.At.Sub(silent), off, f.tcp)
		}
		switch {
		case !right:
			t.Errorf("%s: at %v the clock is %s, want %s", m.name, f.at.Sub(silent), f.Clock, m.clock)
		case f.Is == model.Exact:
			exact++
			if off.Abs() > worst.Abs() {
				worst = off
			}
			if most := max(lived/50, f.slack(m.died)) + lag; off.Abs() > most {
				t.Errorf("%s: what was foretold at %v is off by %v, more than %v", m.name, f.at.Sub(silent), off, most)
			}
		default:
			bounds++
			early, late = min(early, off), max(late, off)
		}
	}
	t.Logf("%-28s died after %v (%v): %d exact predictions off by %v at most, %d bounds from %v before to %v after the death",
		m.name, lived.Round(time.Millisecond), m.errno, exact, worst.Round(time.Millisecond), bounds, late.Round(time.Millisecond), -early.Round(time.Millisecond))
	if -early > max(lived/50, ticks(lived))+lag {
		t.Errorf("%s: died %v before a lower bound", m.name, -early)
	}
	if exact+bounds == 0 {
		t.Errorf("%s: nothing was foretold", m.name)
	}
}

// armedFor is how long the timer that runs at the look was set for: that, and not what is left of it, decides its tick. A
// window probe's doubles by icsk_backoff (tcp_probe0_when), a retransmission's has doubled in icsk_rto already.
func (f *foretold) armedFor() time.Duration {
	if f.tcp.Timer == event.TimerProbe0 {
		return f.tcp.RTO.Duration() << f.tcp.Backoff
	}
	return f.tcp.RTO.Duration()
}

// slack is how late a death may come after the look: by a tick of the timer that runs, and of each that follows it.
func (f *foretold) slack(died time.Time) time.Duration {
	return max(ticks(max(died.Sub(f.at), f.armedFor())), tick(f.armedFor())+ticks(died.Sub(f.at)-f.tcp.TimerIn.V.Duration()))
}

// ticks is how late timers may be that double and come to this time together: each by a tick of its own.
func ticks(d time.Duration) (sum time.Duration) {
	for ; d > 100*time.Millisecond; d /= 2 {
		sum += tick(d)
	}
	return sum + tick(d)
}

// tick is the granularity of the kernel's timer wheel for a timer of this length (LVL_GRAN, kernel/time/timer.c): timers
// fire up to so much later than they are set for.
func tick(d time.Duration) time.Duration {
	jiffy := 4 * time.Millisecond // HZ 250; where it is 1000 the wheel is finer
	gran := jiffy
	for end := 63 * jiffy; d > end; end *= 8 {
		gran *= 8
	}
	return gran
}
