package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Netlink messages of the conntrack subsystem (nfnetlink.h, nfnetlink_conntrack.h).
const (
	subsystem   = 1 << 8    // NFNL_SUBSYS_CTNETLINK, the upper byte of a message's type
	msgNew      = subsystem // | IPCTNL_MSG_CT_NEW, 0
	msgGet      = subsystem | 1
	msgDelete   = subsystem | 2
	msgStatsCPU = subsystem | 4
	msgStats    = subsystem | 5

	groupNew     = 1 // NFNLGRP_CONNTRACK_NEW
	groupDestroy = 3 // NFNLGRP_CONNTRACK_DESTROY

	headerLen   = 16 // struct nlmsghdr
	nfgenmsgLen = 4  // struct nfgenmsg: family, version, resource id
)

// receiveBuffer holds about 20,000 events. With the default of 208 KiB one burst of 50,000 loses a fifth of them.
const receiveBuffer = 16 << 20

// socket is a netlink socket that is read without a copy per message.
type socket struct {
	conn *netlink.Conn
	raw  syscall.RawConn
	buf  []byte
}

func openSocket() (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening a netfilter netlink socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("opening a netfilter netlink socket: %w", err)
	}
	return &socket{conn: conn, raw: raw, buf: make([]byte, 64<<10)}, nil
}

// listen makes it a socket for events. The order matters: what is buffered before the filter stands passes it by.
func (s *socket) listen() error {
	if err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) }); err != nil {
		return fmt.Errorf("setting the receive buffer: %w", err)
	}
	if err := s.control(attachFilter); err != nil {
		return fmt.Errorf("attaching a socket filter: %w", err)
	}
	for _, group := range []uint32{groupNew, groupDestroy} {
		if err := s.conn.JoinGroup(group); err != nil {
			return fmt.Errorf("listening to conntrack events: %w", err)
		}
	}
	return nil
}

func (s *socket) control(f func(fd int) error) error {
	var inner error
	if err := s.raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// attachFilter lets only messages of translated TCP connections into the socket's buffer. Everything else, DNS above
// all, costs the kernel a few instructions and midhop nothing. SKF_AD_NLATTR finds an attribute from the offset in A on,
// SKF_AD_NLATTR_NEST inside the attribute at A, with the type in X; both give its offset or 0 (__skb_get_nlattr).
func attachFilter(fd int) error {
	const (
		load32     = unix.BPF_LD | unix.BPF_W | unix.BPF_IND
		load8      = unix.BPF_LD | unix.BPF_B | unix.BPF_IND
		extension  = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		setA       = unix.BPF_LD | unix.BPF_IMM
		setX       = unix.BPF_LDX | unix.BPF_IMM
		copyAToX   = unix.BPF_MISC | unix.BPF_TAX
		ifEqual    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ifBits     = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		finish     = unix.BPF_RET | unix.BPF_K
		find       = 0xfffff000 + 12 // SKF_AD_OFF + SKF_AD_NLATTR
		findNested = 0xfffff000 + 16 // SKF_AD_OFF + SKF_AD_NLATTR_NEST
		attrHeader = 4
	)
	program := []unix.SockFilter{
		{Code: setX, K: ctaStatus},
		{Code: setA, K: headerLen + nfgenmsgLen},
		{Code: extension, K: find},
		{Code: ifEqual, K: 0, Jt: 14}, // no status: let the parser judge
		{Code: copyAToX},
		{Code: load32, K: attrHeader},
		{Code: ifBits, K: statusNAT, Jf: 12},
		{Code: setX, K: ctaTupleOrig},
		{Code: setA, K: headerLen + nfgenmsgLen},
		{Code: extension, K: find},
		{Code: ifEqual, K: 0, Jt: 7},
		{Code: setX, K: ctaTupleProto},
		{Code: extension, K: findNested},
		{Code: setX, K: ctaProtoNum},
		{Code: extension, K: findNested},
		{Code: copyAToX},
		{Code: load8, K: attrHeader},
		{Code: ifEqual, K: protoTCP, Jf: 1},
		{Code: finish, K: 0xffffffff},
		{Code: finish, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// errOverrun says that the kernel had to throw events away.
var errOverrun = errors.New("the netlink socket's buffer overran")

// receive reads one datagram. With wait it waits until the deadline; without, the deadline does not matter. An empty
// result is none.
func (s *socket) receive(wait bool) ([]byte, error) {
	var n int
	var inner, err error
	read := func(fd uintptr) bool {
		n, _, inner = unix.Recvfrom(int(fd), s.buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		return inner != unix.EAGAIN
	}
	if wait {
		err = s.raw.Read(read)
	} else {
		err = s.raw.Control(func(fd uintptr) { read(fd) })
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || err == nil && (inner == unix.EAGAIN || inner == unix.EINTR):
		return nil, nil
	case err != nil:
		return nil, err
	case inner == unix.ENOBUFS:
		return nil, errOverrun
	case inner != nil:
		return nil, fmt.Errorf("reading from the netlink socket: %w", inner)
	case n > len(s.buf):
		return nil, fmt.Errorf("a netlink message of %d bytes", n)
	}
	return s.buf[:n], nil
}

// stall is how long the kernel may take for the next part of an answer.
const stall = 10 * time.Second

// query sends a request of the conntrack subsystem, whose family is unix.AF_UNSPEC for all, and calls each for every message of the answer, and between, which may
// be nil, after every datagram. A request without netlink.Dump is acknowledged. The error wraps the kernel's errno.
func (s *socket) query(kind uint16, flags netlink.HeaderFlags, family byte, body []byte, each func(message), between func() error) error {
	if flags&netlink.Dump == 0 {
		flags |= netlink.Acknowledge
	}
	sent, err := s.conn.Send(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, 0, 0, 0}, body...), // struct nfgenmsg first
	})
	if err != nil {
		return fmt.Errorf("asking the kernel: %w", err)
	}
	for done := false; !done; {
		if err := s.deadline(time.Now().Add(stall)); err != nil {
			return err
		}
		datagram, err := s.receive(true)
		if err != nil {
			return err
		}
		if datagram == nil {
			return fmt.Errorf("the kernel does not answer within %s", stall)
		}
		err = messages(datagram, func(m message) error {
			switch {
			case m.sequence != sent.Header.Sequence: // of a request before
			case m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE:
				done = true
				return m.failure()
			default:
				each(m)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if between == nil {
			continue
		}
		if err := between(); err != nil {
			return err
		}
	}
	return nil
}

// message is one netlink message of a datagram.
type message struct {
	kind     uint16
	sequence uint32
	data     []byte
}

// messages calls f for each message of a datagram until it returns an error.
func messages(datagram []byte, f func(message) error) error {
	for len(datagram) >= headerLen {
		length := int(binary.NativeEndian.Uint32(datagram))
		if length < headerLen || length > len(datagram) {
			return fmt.Errorf("a netlink message of %d bytes in %d", length, len(datagram))
		}
		m := message{
			kind:     binary.NativeEndian.Uint16(datagram[4:]),
			sequence: binary.NativeEndian.Uint32(datagram[8:]),
			data:     datagram[headerLen:length],
		}
		if err := f(m); err != nil {
			return err
		}
		datagram = datagram[min((length+3)&^3, len(datagram)):]
	}
	return nil
}

// failure is the errno that NLMSG_ERROR or NLMSG_DONE carries, nil for 0 and for other messages.
func (m message) failure() error {
	if m.kind != unix.NLMSG_ERROR && m.kind != unix.NLMSG_DONE || len(m.data) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(m.data)); code < 0 {
		return unix.Errno(-code)
	}
	return nil
}

// attributes returns what follows the struct nfgenmsg.
func (m message) attributes() []byte { return m.data[min(nfgenmsgLen, len(m.data)):] }

func (s *socket) deadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

func (s *socket) close() { s.conn.Close() }
