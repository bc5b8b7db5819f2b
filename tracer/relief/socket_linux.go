package relief

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/inet_diag.h.
const (
	inetDiagInfo = 2  // INET_DIAG_INFO: struct tcp_info
	diagReqSize  = 56 // struct inet_diag_req_v2
	diagMsgSize  = 72 // struct inet_diag_msg
)

// tolerance is how much later than the verdict's newest receive a socket's own may seem to be and still be the same: ages
// are rounded to the kernel's tick twice, and counted from moments some time apart.
const tolerance = 100 * time.Millisecond

// ErrNoDestroy is wrapped where the kernel was built without CONFIG_INET_DIAG_DESTROY.
var ErrNoDestroy = errors.New("this kernel cannot close sockets for others (CONFIG_INET_DIAG_DESTROY)")

// closeOne closes one socket of the calling thread's network namespace, if it is still the same one and has made no
// progress. The kernel compares the cookie both when it is looked at and when it is closed (sock_diag_check_cookie), so
// a connection that has taken the tuple over in between is not met.
func closeOne(t *Target) (Outcome, error) {
	s, err := look(t)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
		return Gone, nil
	case err != nil:
		return Failed, fmt.Errorf("look at the socket: %w", err)
	case s.progressed(t, time.Now()):
		return Progress, nil
	}
	_, err = ask(nl.SOCK_DESTROY, unix.NLM_F_ACK, t, 0)
	switch {
	case err == nil:
		return Closed, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
		return Gone, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return Failed, ErrNoDestroy
	}
	return Failed, fmt.Errorf("destroy the socket: %w", err)
}

// state is what decides whether a socket is still dead.
type state struct {
	unanswered bool          // two transmissions or probes in a row, as for a stall
	quiet      time.Duration // since anything was received
}

func (s state) progressed(t *Target, now time.Time) bool {
	if t.Heard.IsZero() {
		return !s.unanswered
	}
	return now.Add(-s.quiet).After(t.Heard.Add(tolerance))
}

// look asks for the socket with the target's tuple and cookie.
func look(t *Target) (state, error) {
	msgs, err := ask(nl.SOCK_DIAG_BY_FAMILY, 0, t, 1<<(inetDiagInfo-1))
	if err != nil {
		return state{}, err
	}
	if len(msgs) != 1 || len(msgs[0]) < diagMsgSize {
		return state{}, fmt.Errorf("the kernel answered with %d messages", len(msgs))
	}
	attrs, err := nl.ParseRouteAttr(msgs[0][diagMsgSize:])
	if err != nil {
		return state{}, err
	}
	for _, a := range attrs {
		if a.Attr.Type == inetDiagInfo {
			return stateOf(a.Value)
		}
	}
	return state{}, errors.New("the kernel tells nothing of the socket's progress")
}

// stateOf reads struct tcp_info (include/uapi/linux/tcp.h).
func stateOf(b []byte) (state, error) {
	const lastDataRecv, lastAckRecv, size = 52, 56, 60
	if len(b) < size {
		return state{}, fmt.Errorf("struct tcp_info of %d bytes", len(b))
	}
	ms := min(binary.NativeEndian.Uint32(b[lastDataRecv:]), binary.NativeEndian.Uint32(b[lastAckRecv:]))
	const retransmits, probes = 2, 3
	return state{unanswered: b[retransmits] >= 2 || b[probes] >= 2, quiet: time.Duration(ms) * time.Millisecond}, nil
}

// ask sends one request about exactly one socket.
func ask(what, flags int, t *Target, ext uint8) ([][]byte, error) {
	req := nl.NewNetlinkRequest(what, flags)
	req.AddRawData(t.request(ext))
	msgs, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return nil, errno
	}
	return msgs, err
}

// request is a struct inet_diag_req_v2 that names the socket by tuple and cookie. A v4-mapped socket is found as IPv4
// (inet_diag_find_one_icsk looks both kinds up in one table).
func (t *Target) request(ext uint8) []byte {
	b := make([]byte, diagReqSize)
	local, peer := t.Local.IP.Unmap(), t.Peer.IP.Unmap()
	b[0] = unix.AF_INET6
	if local.Is4() {
		b[0] = unix.AF_INET
	}
	b[1], b[2] = unix.IPPROTO_TCP, ext
	ne, be := binary.NativeEndian, binary.BigEndian
	ne.PutUint32(b[4:], ^uint32(0)) // every state
	be.PutUint16(b[8:], t.Local.Port)
	be.PutUint16(b[10:], t.Peer.Port)
	copy(b[12:28], local.AsSlice())
	copy(b[28:44], peer.AsSlice())
	ne.PutUint32(b[48:], uint32(t.Cookie))
	ne.PutUint32(b[52:], uint32(t.Cookie>>32))
	return b
}
