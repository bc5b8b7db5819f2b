package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
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

func load(t *testing.T) *bpf.Probes {
	t.Helper()
	probes, report, err := bpf.Load(bpf.Options{NoNAT: true})
	var kernel *bpf.KernelError
	if errors.As(err, &kernel) {
		t.Skipf("no probe serves on this kernel: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { probes.Close() })
	if f := report.Fact(bpf.FactSockets); f.Rung == "" {
		t.Fatalf("no census: %s", f.Why())
	}
	return probes
}

// nameOf is what a socket is known by whether or not the census makes cookies.
func nameOf(netns uint32, local, peer any) string { return fmt.Sprint(netns, " ", local, " ", peer) }

// inNetns runs f in a new network namespace with loopback up, and returns the namespace's inode number. What f opens
// stays in the namespace; the namespace goes with the last of it.
func inNetns(t *testing.T, f func()) (inum uint32) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(done)      // also where f gives up
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
				return fmt.Errorf("lo up: %w: %s", err, out)
			}
			var st unix.Stat_t
			if err := unix.Stat(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), &st); err != nil {
				return err
			}
			inum = uint32(st.Ino)
			f()
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return inum
}

// pairs opens n connections to a fresh listener on loopback and returns both ends.
func pairs(t *testing.T, network, address, dial string, n int) (ln net.Listener, dialled, accepted []net.Conn) {
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { ln.Close() })
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for range n {
		c, err := net.Dial(network, net.JoinHostPort(dial, port))
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		a, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { a.Close() })
		dialled, accepted = append(dialled, c), append(accepted, a)
	}
	return ln, dialled, accepted
}

// lookOnce makes one census and returns the rows of the given namespaces.
func lookOnce(t *testing.T, s *Source, netns ...uint32) []event.SocketRow {
	t.Helper()
	var events []event.Event
	if _, err := s.look(t.Context(), func(e []event.Event) { events = append(events, e...) }); err != nil {
		t.Fatal(err)
	}
	rows, _ := socketRows(t, events)
	var ours []event.SocketRow
	for _, r := range rows {
		for _, n := range netns {
			if r.Socket.Netns == n {
				ours = append(ours, r)
			}
		}
	}
	return ours
}

func cookieOf(t *testing.T, c net.Conn) uint64 {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cookie uint64
	if cerr := raw.Control(func(fd uintptr) {
		cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE)
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return cookie
}

// One look sees all sockets of all namespaces without entering any, with who they are and who holds them.
func TestCensusOfNamespaces(t *testing.T) {
	needRoot(t)
	probes := load(t)
	const each = 167 // two ends each, in three namespaces: a thousand sockets
	var spaces []uint32
	type end struct {
		role   event.Role
		cookie uint64
	}
	want := make(map[string]end)
	for range 3 {
		var ln net.Listener
		var dialled, accepted []net.Conn
		spaces = append(spaces, inNetns(t, func() {
			ln, dialled, accepted = pairs(t, "tcp", "127.0.0.1:0", "127.0.0.1", each)
		}))
		if t.Failed() {
			t.FailNow()
		}
		for i := range dialled {
			d, a, netns := dialled[i], accepted[i], spaces[len(spaces)-1]
			want[nameOf(netns, d.LocalAddr(), d.RemoteAddr())] = end{event.RoleDialled, cookieOf(t, d)}
			want[nameOf(netns, a.LocalAddr(), a.RemoteAddr())] = end{event.RoleAccepted, cookieOf(t, a)}
		}
		_ = ln
	}
	s := New(probes, Options{})
	started := time.Now()
	rows := lookOnce(t, s, spaces...)
	t.Logf("%d sockets of ours in %v", len(rows), time.Since(started))
	listeners := 0
	comm := filepath.Base(os.Args[0])
	comm = comm[:min(15, len(comm))]
	for _, r := range rows {
		if r.Socket.Owner.PID != int32(os.Getpid()) || r.Socket.Owner.Comm != comm {
			t.Fatalf("%+v is owned by %+v, not by %d %s", r.Socket, r.Socket.Owner, os.Getpid(), comm)
		}
		if r.Role == event.RoleListening {
			listeners++
			continue
		}
		is := nameOf(r.Socket.Netns, r.Socket.Local, r.Socket.Peer)
		w, ok := want[is]
		if !ok || r.Role != w.role || r.Socket.Cookie != w.cookie {
			t.Fatalf("socket %s is %s with cookie %d, want %+v", is, r.Role, r.Socket.Cookie, w)
		}
		delete(want, is)
		if !r.TCP.ReceivedAge.OK || r.TCP.ReceivedAge.V.Duration() > time.Minute || r.TCP.State != "established" {
			t.Fatalf("%+v", r.TCP)
		}
	}
	if len(want) != 0 || listeners != 3 {
		t.Errorf("%d sockets were not seen, %d listeners", len(want), listeners)
	}
	for _, n := range spaces {
		if !s.Namespaces().Known(n) {
			t.Errorf("namespace %d is not known", n)
		}
	}
	if rows := lookOnce(t, s, spaces...); len(rows) != 0 {
		t.Errorf("the second look told %d rows, such as %+v", len(rows), rows[0])
	}
}

func unmapped(a net.Addr) event.Endpoint {
	p := netip.MustParseAddrPort(a.String())
	return event.Endpoint{IP: p.Addr().Unmap(), Port: p.Port()}
}

// Both families, and IPv4 through an IPv6 socket.
func TestCensusFamilies(t *testing.T) {
	needRoot(t)
	probes := load(t)
	for _, c := range []struct {
		name, network, address, dial string
		dialled, accepted            event.Family
	}{
		{"IPv4", "tcp4", "127.0.0.1:0", "127.0.0.1", event.IPv4, event.IPv4},
		{"IPv6", "tcp6", "[::1]:0", "::1", event.IPv6, event.IPv6},
		{"mapped", "tcp", "[::]:0", "127.0.0.1", event.IPv4, event.IPv6},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ends [2]net.Conn
			netns := inNetns(t, func() {
				_, d, a := pairs(t, c.network, c.address, c.dial, 1)
				if t.Failed() {
					return
				}
				ends = [2]net.Conn{d[0], a[0]}
			})
			if t.Failed() {
				t.FailNow()
			}
			want := map[string]event.Family{
				nameOf(netns, unmapped(ends[0].LocalAddr()), unmapped(ends[0].RemoteAddr())): c.dialled,
				nameOf(netns, unmapped(ends[1].LocalAddr()), unmapped(ends[1].RemoteAddr())): c.accepted,
			}
			for _, r := range lookOnce(t, New(probes, Options{}), netns) {
				if r.Role == event.RoleListening {
					continue
				}
				is := nameOf(r.Socket.Netns, r.Socket.Local, r.Socket.Peer)
				if r.Socket.Family != want[is] {
					t.Errorf("%+v, want %s", r.Socket, want[is])
				}
				if r.Socket.Local.IP.Is4In6() || r.Socket.Peer.IP.Is4In6() {
					t.Errorf("%+v is mapped", r.Socket)
				}
				delete(want, is)
			}
			if len(want) != 0 {
				t.Errorf("%d sockets were not seen", len(want))
			}
		})
	}
}

// Keepalive and timeouts as the application set them, and the namespace's where it did not.
func TestCensusLimits(t *testing.T) {
	needRoot(t)
	probes := load(t)
	var d []net.Conn
	netns := inNetns(t, func() {
		for name, value := range map[string]string{"tcp_keepalive_time": "77", "tcp_keepalive_intvl": "8", "tcp_keepalive_probes": "3", "tcp_retries2": "6"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644); err != nil {
				t.Error(err)
				return
			}
		}
		_, d, _ = pairs(t, "tcp4", "127.0.0.1:0", "127.0.0.1", 1)
	})
	if t.Failed() {
		t.FailNow()
	}
	set := time.Now()
	if err := d[0].(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 21 * time.Second, Interval: 4 * time.Second, Count: 5}); err != nil {
		t.Fatal(err)
	}
	raw, _ := d[0].(syscall.Conn).SyscallConn()
	raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30500); err != nil {
			t.Error(err)
		}
	})
	var events []event.Event
	if _, err := New(probes, Options{}).look(t.Context(), func(e []event.Event) { events = append(events, e...) }); err != nil {
		t.Fatal(err)
	}
	rows, limits := socketRows(t, events)
	found := 0
	for i, r := range rows {
		if r.Socket.Netns != netns {
			continue
		}
		l := limits[i]
		if l.Retries2 != 6 {
			t.Errorf("%s: tcp_retries2 %d, want the namespace's 6", r.Role, l.Retries2)
		}
		switch r.Role {
		case event.RoleDialled:
			found++
			want := event.Limits{Keepalive: true, KeepaliveTime: event.Seconds(21 * time.Second), KeepaliveInterval: event.Seconds(4 * time.Second),
				KeepaliveProbes: 5, UserTimeout: event.Seconds(30500 * time.Millisecond), Retries2: 6,
				SynRetries: l.SynRetries, OrphanRetries: l.OrphanRetries, RTOMin: l.RTOMin, RTOMax: l.RTOMax}
			if l != want {
				t.Errorf("limits %+v\nwant   %+v", l, want)
			}
			in, gone := r.TCP.TimerIn.V.Duration(), time.Since(set)
			if r.TCP.Timer != event.TimerKeepalive || in > 26*time.Second || in < 16*time.Second-gone {
				t.Errorf("timer %s in %v, %v after it was set", r.TCP.Timer, in, gone)
			}
		case event.RoleListening: // nothing was set: the namespace's own
			found++
			if l.KeepaliveTime.Duration() != 77*time.Second || l.KeepaliveInterval.Duration() != 8*time.Second || l.KeepaliveProbes != 3 {
				t.Errorf("limits %+v, want the namespace's 77 s, 8 s, 3", l)
			}
		}
	}
	if found != 2 {
		t.Errorf("found %d sockets, want 2", found)
	}
}

// An MPTCP connection shows as the TCP connections that it is made of, and its listener as a listener.
func TestCensusMPTCP(t *testing.T) {
	needRoot(t)
	probes := load(t)
	var client, server *net.TCPConn
	netns := inNetns(t, func() {
		if on, err := os.ReadFile("/proc/sys/net/mptcp/enabled"); err != nil || strings.TrimSpace(string(on)) != "1" {
			return
		}
		var lc net.ListenConfig
		lc.SetMultipathTCP(true)
		ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { ln.Close() })
		var d net.Dialer
		d.SetMultipathTCP(true)
		c, err := d.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		a, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { a.Close() })
		client, server = c.(*net.TCPConn), a.(*net.TCPConn)
	})
	if t.Failed() {
		t.FailNow()
	}
	if client == nil {
		t.Skip("this kernel has no MPTCP")
	}
	if ok, err := server.MultipathTCP(); err != nil || !ok {
		t.Skipf("the connection fell back to TCP (%v)", err)
	}
	got := map[event.Role]string{}
	for _, r := range lookOnce(t, New(probes, Options{}), netns) {
		got[r.Role] = fmt.Sprint(r.Socket.Local, " ", r.Socket.Peer)
	}
	want := map[event.Role]string{
		event.RoleListening: fmt.Sprint(server.LocalAddr(), " 0.0.0.0:0"),
		event.RoleDialled:   fmt.Sprint(client.LocalAddr(), " ", client.RemoteAddr()),
		event.RoleAccepted:  fmt.Sprint(server.LocalAddr(), " ", server.RemoteAddr()),
	}
	for role, is := range want {
		if got[role] != is {
			t.Errorf("%s: %q, want %q", role, got[role], is)
		}
	}
}
