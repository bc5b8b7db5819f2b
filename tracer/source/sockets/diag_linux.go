package sockets

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
)

// Diag lists the TCP sockets of the network namespace that this process lives in, by sock_diag(7). It needs no right and
// no BTF, and sees less than [bpf.Probes]: no other namespace, no owner, and no limits (tcp_diag does not tell keepalive
// times and TCP_USER_TIMEOUT), so no deadlines.
type Diag struct{}

// Census implements [Lister]. Like the walk over open files it leaves out what no file holds: sockets that wait to be
// accepted, that their application has closed, and time-wait.
func (Diag) Census(ctx context.Context, socket func(*bpf.SocketRow), netns func(*bpf.NetnsRow)) error {
	own, err := netnsOf("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("census: %w", err)
	}
	netns(&bpf.NetnsRow{Netns: own, PID: uint32(os.Getpid())})
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := dumpFamily(ctx, family, own, socket); err != nil {
			return fmt.Errorf("census by sock_diag: %w", err)
		}
	}
	return nil
}

// netnsOf returns the inode number of a namespace file.
func netnsOf(path string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("which network namespace is this: %w", err)
	}
	return uint32(st.Ino), nil
}

// Of include/uapi/linux/inet_diag.h and sock_diag.h.
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	inetDiagInfo     = 2  // INET_DIAG_INFO: the attribute that holds a struct tcp_info
	diagMsgSize      = 72 // struct inet_diag_msg
	diagReqSize      = 56 // struct inet_diag_req_v2
	// diagStates are the states asked for, a bit each: all but time-wait, syn-recv and the states of requests.
	diagStates = 1<<bpf.StateEstablished | 1<<bpf.StateSynSent | 1<<bpf.StateFinWait1 | 1<<bpf.StateFinWait2 |
		1<<bpf.StateCloseWait | 1<<bpf.StateLastAck | 1<<bpf.StateListen | 1<<bpf.StateClosing
)

// Values of idiag_timer (inet_diag_msg_common_fill).
const (
	diagTimerOn        = 1 // retransmission, tail loss probe or reordering
	diagTimerKeepalive = 2
	diagTimerProbe0    = 4
)

func dumpFamily(ctx context.Context, family uint8, netns uint32, socket func(*bpf.SocketRow)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer unix.Close(fd)
	req := make([]byte, unix.NLMSG_HDRLEN+diagReqSize)
	ne := binary.NativeEndian
	ne.PutUint32(req[0:], uint32(len(req)))
	ne.PutUint16(req[4:], sockDiagByFamily)
	ne.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.NLMSG_HDRLEN:]
	body[0], body[1], body[2] = family, unix.IPPROTO_TCP, 1<<(inetDiagInfo-1)
	ne.PutUint32(body[4:], diagStates)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	buf := make([]byte, 64<<10) // a netlink dump fills at most 32 KiB (netlink_dump)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return fmt.Errorf("read CLOCK_MONOTONIC: %w", err)
		}
		done, err := walkDiag(buf[:n], func(msg []byte) {
			if r, ok := diagRow(msg, netns); ok {
				r.Header.KTime = uint64(now.Nano())
				socket(&r)
			}
		})
		if done || err != nil {
			return err
		}
	}
}

// walkDiag hands on the body of each inet_diag message of one datagram; done is true at the end of the dump.
func walkDiag(b []byte, each func([]byte)) (done bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(ne.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, fmt.Errorf("a message of %d bytes in %d", size, len(b))
		}
		body := b[unix.NLMSG_HDRLEN:size]
		switch ne.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errors.New("an error message without error")
			}
			return false, unix.Errno(-int32(ne.Uint32(body)))
		case sockDiagByFamily:
			each(body)
		}
		b = b[min(nlAlign(size), len(b)):]
	}
	return false, nil
}

func nlAlign(n int) int { return (n + 3) &^ 3 }

// diagRow reads one struct inet_diag_msg with its attributes; ok is false for what is no whole message, and for sockets
// that no file holds.
func diagRow(m []byte, netns uint32) (r bpf.SocketRow, ok bool) {
	if len(m) < diagMsgSize {
		return r, false
	}
	ne, be := binary.NativeEndian, binary.BigEndian
	s := &r.Sock
	s.Netns, s.Family, s.State = netns, uint16(m[0]), m[1]
	s.LocalPort, s.PeerPort = be.Uint16(m[4:]), be.Uint16(m[6:])
	s.Local, s.Peer = diagAddr(m[0], m[8:24]), diagAddr(m[0], m[24:40])
	s.Cookie = uint64(ne.Uint32(m[44:])) | uint64(ne.Uint32(m[48:]))<<32
	s.ReceivedMS, s.SentMS, s.RetransMS, s.RTOMinMS, s.RTOMaxMS = bpf.Unknown, bpf.Unknown, bpf.Unknown, bpf.Unknown, bpf.Unknown
	inode := ne.Uint32(m[68:])
	if inode == 0 {
		return r, false
	}
	if s.State == bpf.StateListen {
		return r, true
	}
	switch m[2] {
	case diagTimerOn:
		s.Timer = bpf.TimerRetransmit
	case diagTimerKeepalive:
		s.Timer = bpf.TimerKeepalive
	case diagTimerProbe0:
		s.Timer = bpf.TimerProbe0
	}
	s.TimerMS = int32(ne.Uint32(m[52:]))
	queued := ne.Uint32(m[60:]) // write_seq - snd_una (tcp_diag_get_info)
	for a := m[diagMsgSize:]; len(a) >= unix.SizeofRtAttr; {
		size := int(ne.Uint16(a))
		if size < unix.SizeofRtAttr || size > len(a) {
			return r, false
		}
		if ne.Uint16(a[2:]) == inetDiagInfo {
			progressOf(s, a[unix.SizeofRtAttr:size], queued)
		}
		a = a[min(nlAlign(size), len(a)):]
	}
	return r, true
}

// progressOf fills in what struct tcp_info tells; older kernels send a shorter one, whose missing fields stay zero.
func progressOf(s *bpf.Sock, b []byte, queued uint32) {
	var info unix.TCPInfo
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info)), b)
	s.Retransmits, s.Backoff, s.ProbesOut = info.Retransmits, info.Backoff, info.Probes
	s.RTOMS, s.SRTTUS = info.Rto/1000, info.Rtt
	s.ReceivedMS = min(info.Last_data_recv, info.Last_ack_recv)
	s.SentMS = info.Last_data_sent
	s.TotalRetrans, s.SegsOut, s.SegsIn = info.Total_retrans, info.Segs_out, info.Segs_in
	s.BytesAcked, s.BytesReceived = info.Bytes_acked, info.Bytes_received
	s.Unsent = min(info.Notsent_bytes, queued)
	s.Unacked = queued - s.Unsent
	s.SndWnd = info.Snd_wnd
}

// diagAddr returns an address as the probes tell it: IPv4 stands v4-mapped.
func diagAddr(family uint8, b []byte) (a [16]byte) {
	if family == unix.AF_INET {
		a[10], a[11] = 0xff, 0xff
		copy(a[12:], b[:4])
		return a
	}
	copy(a[:], b)
	return a
}
