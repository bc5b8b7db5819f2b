package sockets

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
)

// diagRows lists the sockets of this thread's namespace by their cookies.
func diagRows(t *testing.T) map[uint64]bpf.SocketRow {
	t.Helper()
	rows := map[uint64]bpf.SocketRow{}
	err := Diag{}.Census(t.Context(), func(r *bpf.SocketRow) { rows[r.Sock.Cookie] = *r }, func(*bpf.NetnsRow) {})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// Everybody may list their own namespace: who the sockets are, and how they stand.
func TestDiag(t *testing.T) {
	for _, c := range []struct{ name, network, listen, dial string }{
		{"IPv4", "tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "tcp6", "[::1]:0", "::1"},
		{"IPv4 in an IPv6 socket", "tcp", "[::]:0", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, dialled, accepted := pairs(t, c.network, c.listen, c.dial, 3)
			if t.Failed() {
				t.FailNow()
			}
			const said = "something that nobody reads"
			if _, err := fmt.Fprint(dialled[0], said); err != nil {
				t.Fatal(err)
			}
			rows := diagRows(t)
			for _, conn := range append(dialled, accepted...) {
				r, ok := rows[cookieOf(t, conn)]
				if !ok {
					t.Fatalf("%s to %s is not listed", conn.LocalAddr(), conn.RemoteAddr())
				}
				if got, want := fmt.Sprint(r.Sock.LocalAddr(), r.Sock.PeerAddr()), fmt.Sprint(conn.LocalAddr(), conn.RemoteAddr()); got != want {
					t.Errorf("tuple %s, want %s", got, want)
				}
				if s := r.Sock; s.State != bpf.StateEstablished || s.ReceivedMS > 60_000 || s.SegsIn == 0 || s.SndWnd == 0 || s.RTOMS < 1 {
					t.Errorf("%+v", s)
				}
			}
			r := rows[cookieOf(t, accepted[0])]
			if r.Sock.BytesReceived != uint64(len(said)) {
				t.Errorf("%d bytes received, want %d", r.Sock.BytesReceived, len(said))
			}
			listener := 0
			for _, r := range rows {
				if r.Sock.State == bpf.StateListen && int(r.Sock.LocalPort) == ln.Addr().(*net.TCPAddr).Port {
					listener++
				}
			}
			if listener != 1 {
				t.Errorf("the listener is listed %d times", listener)
			}
		})
	}
}

// What both ways tell of a namespace's sockets is the same, as far as sock_diag tells it at all.
func TestDiagAgreesWithCensus(t *testing.T) {
	needRoot(t)
	probes := load(t)
	inNetns(t, func() {
		// An idle pair, and one whose reader sleeps until the window is closed and the rest waits unsent.
		_, dialled, _ := pairs(t, "tcp", "127.0.0.1:0", "127.0.0.1", 2)
		if t.Failed() {
			return
		}
		if err := fillUp(dialled[1]); err != nil {
			t.Error(err)
			return
		}
		// What was on its way is acknowledged, or sent again, before nothing moves any more; and between two looks a closed
		// window may have been asked after.
		var differ []string
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			byDiag := diagRows(t)
			if full := byDiag[cookieOf(t, dialled[1])].Sock; full.Unacked > 0 || full.SndWnd > 0 || full.Unsent == 0 {
				differ = []string{fmt.Sprintf("something still moves: %+v", full)}
				continue
			}
			if differ = differences(t, probes, byDiag); len(differ) == 0 {
				return
			}
		}
		t.Error(strings.Join(differ, "\n"))
	})
}

// differences compares what sock_diag says of the calling thread's namespace with a census.
func differences(t *testing.T, probes *bpf.Probes, byDiag map[uint64]bpf.SocketRow) (out []string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Error(err)
	}
	n := 0
	err := probes.Census(t.Context(), func(r *bpf.SocketRow) {
		if r.Sock.Netns != uint32(st.Ino) {
			return
		}
		n++
		d, ok := byDiag[r.Sock.Cookie]
		if !ok {
			out = append(out, fmt.Sprintf("sock_diag lacks %+v", r.Sock))
			return
		}
		want, got := r.Sock, d.Sock
		if got.LocalAddr() != want.LocalAddr() || got.PeerAddr() != want.PeerAddr() || got.Netns != want.Netns ||
			got.State != want.State || got.Family != want.Family || got.Unacked != want.Unacked || got.Unsent != want.Unsent ||
			got.BytesAcked != want.BytesAcked || got.BytesReceived != want.BytesReceived || got.TotalRetrans != want.TotalRetrans {
			out = append(out, fmt.Sprintf("sock_diag  %+v\nthe census %+v", got, want))
		}
	}, func(*bpf.NetnsRow) {})
	if err != nil {
		t.Error(err)
	}
	if n != 5 || n != len(byDiag) {
		out = append(out, fmt.Sprintf("the census has %d sockets, sock_diag %d, want 5", n, len(byDiag)))
	}
	return out
}

// fillUp writes until nothing more is taken.
func fillUp(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = raw.Control(func(fd uintptr) {
		for b := make([]byte, 64<<10); werr == nil; {
			_, werr = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_DONTWAIT)
		}
	})
	if err == nil && werr != unix.EAGAIN {
		err = werr
	}
	return err
}

// FuzzDiag feeds the reader of netlink answers what no kernel sends.
func FuzzDiag(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, unix.NLMSG_HDRLEN+diagMsgSize+8))
	f.Add(slices.Concat( // one message without attributes, and the end
		binary.NativeEndian.AppendUint32(nil, unix.NLMSG_HDRLEN+diagMsgSize), []byte{sockDiagByFamily, 0, 2, 0}, make([]byte, 8), make([]byte, diagMsgSize-4), []byte{1, 0, 0, 0},
		[]byte{20, 0, 0, 0, unix.NLMSG_DONE, 0, 2, 0}, make([]byte, 12),
	))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = walkDiag(b, func(m []byte) { diagRow(m, 1) })
	})
}
