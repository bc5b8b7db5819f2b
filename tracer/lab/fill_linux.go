package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// filler writes entries into a namespace's conntrack table, many at once.
type filler struct {
	fd  int
	seq uint32
}

// filled is an entry of an established connection: where it comes from, where it goes to, and what the node makes of both;
// the zero values where it is not translated.
type filled struct {
	from, to   netip.AddrPort
	snat, dnat netip.AddrPort
}

// fillLife is how long entries stay that nobody speaks for, in seconds: longer than any lab.
const fillLife = 24 * 3600

// fillBatch is how many entries are written at once: their acknowledgements fit into a socket's usual receive buffer.
const fillBatch = 64

func (s *space) filler() (*filler, error) {
	f := &filler{fd: -1}
	err := s.do(func() (err error) {
		f.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err == nil {
		// A kernel that stops answering must not hang the lab.
		err = unix.SetsockoptTimeval(f.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	}
	if err == nil {
		err = unix.SetsockoptInt(f.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	return f, nil
}

func (f *filler) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
	}
}

// write makes the entries and returns what the kernel said to each: nil, EEXIST where a tuple is taken, ENOMEM where the
// table is full (nf_conntrack_alloc).
func (f *filler) write(entries []filled) ([]error, error) {
	said := make([]error, 0, len(entries))
	for len(entries) > 0 {
		n := min(fillBatch, len(entries))
		var b []byte
		for _, e := range entries[:n] {
			f.seq++
			b = e.append(b, f.seq)
		}
		if err := unix.Sendto(f.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return said, fmt.Errorf("write to conntrack: %w", err)
		}
		for range n {
			err, failed := f.acknowledged()
			if failed != nil {
				return said, failed
			}
			said = append(said, err)
		}
		entries = entries[n:]
	}
	return said, nil
}

// acknowledged reads one acknowledgement (netlink_ack): a header, then an errno, negated.
func (f *filler) acknowledged() (said, failed error) {
	var b [256]byte
	n, _, err := unix.Recvfrom(f.fd, b[:], 0)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read from conntrack: %w", err)
	case n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR:
		return nil, errors.New("conntrack said something else than yes or no")
	}
	if errno := -int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:])); errno != 0 {
		return unix.Errno(errno), nil
	}
	return nil, nil
}

// Of nfnetlink_conntrack.h and nf_conntrack_common.h, what an entry is made of.
const (
	ctaTupleOrig, ctaTupleReply, ctaStatus, ctaProtoInfo, ctaNATSrc, ctaTimeout, ctaNATDst = 1, 2, 3, 4, 6, 7, 13

	ctaTupleIP, ctaTupleProto                      = 1, 2
	ctaIPv4Src, ctaIPv4Dst, ctaIPv6Src, ctaIPv6Dst = 1, 2, 3, 4
	ctaProtoNum, ctaProtoSrcPort, ctaProtoDstPort  = 1, 2, 3
	ctaProtoInfoTCP, ctaProtoInfoTCPState          = 1, 1

	ctaNATv4Min, ctaNATv4Max, ctaNATProto, ctaNATv6Min, ctaNATv6Max = 1, 2, 3, 4, 5
	ctaProtoNATPortMin, ctaProtoNATPortMax                          = 1, 2

	tcpEstablished = 3 // TCP_CONNTRACK_ESTABLISHED
	// Both sides have spoken, so that early_drop and the garbage collector leave it alone.
	statusLasting = 1<<1 | 1<<2 | 1<<3 // IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
)

// append adds the netlink message that makes the entry (ctnetlink_new_conntrack).
func (e filled) append(b []byte, seq uint32) []byte {
	start := len(b)
	b = binary.NativeEndian.AppendUint32(b, 0) // the length, below
	b = binary.NativeEndian.AppendUint16(b, unix.NFNL_SUBSYS_CTNETLINK<<8)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, byte(family(e.from.Addr().Is6())), unix.NFNETLINK_V0, 0, 0) // struct nfgenmsg
	b = appendTuple(b, ctaTupleOrig, e.from, e.to)
	b = appendTuple(b, ctaTupleReply, e.to, e.from) // what translation makes of it is the kernel's work
	b = attr(b, ctaStatus, binary.BigEndian.AppendUint32(nil, statusLasting))
	b = attr(b, ctaTimeout, binary.BigEndian.AppendUint32(nil, fillLife))
	b = nest(b, ctaProtoInfo, func(b []byte) []byte {
		return nest(b, ctaProtoInfoTCP, func(b []byte) []byte { return attr(b, ctaProtoInfoTCPState, []byte{tcpEstablished}) })
	})
	if e.dnat.IsValid() {
		b = appendNAT(b, ctaNATDst, e.dnat)
	}
	if e.snat.IsValid() {
		b = appendNAT(b, ctaNATSrc, e.snat)
	}
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

func appendTuple(b []byte, kind uint16, src, dst netip.AddrPort) []byte {
	from, to := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
	if src.Addr().Is6() {
		from, to = ctaIPv6Src, ctaIPv6Dst
	}
	return nest(b, kind, func(b []byte) []byte {
		b = nest(b, ctaTupleIP, func(b []byte) []byte {
			return attr(attr(b, from, src.Addr().AsSlice()), to, dst.Addr().AsSlice())
		})
		return nest(b, ctaTupleProto, func(b []byte) []byte {
			b = attr(b, ctaProtoNum, []byte{unix.IPPROTO_TCP})
			return attr(attr(b, ctaProtoSrcPort, portKey(src.Port())), ctaProtoDstPort, portKey(dst.Port()))
		})
	})
}

// appendNAT asks for one address and port, no choice left.
func appendNAT(b []byte, kind uint16, to netip.AddrPort) []byte {
	low, high := uint16(ctaNATv4Min), uint16(ctaNATv4Max)
	if to.Addr().Is6() {
		low, high = ctaNATv6Min, ctaNATv6Max
	}
	return nest(b, kind, func(b []byte) []byte {
		b = attr(attr(b, low, to.Addr().AsSlice()), high, to.Addr().AsSlice())
		return nest(b, ctaNATProto, func(b []byte) []byte {
			return attr(attr(b, ctaProtoNATPortMin, portKey(to.Port())), ctaProtoNATPortMax, portKey(to.Port()))
		})
	})
}

// attr adds an attribute (struct nlattr), padded to four bytes.
func attr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(value)%4 != 0 {
		b, value = append(b, 0), append(value, 0)
	}
	return b
}

// nest adds an attribute that holds others.
func nest(b []byte, kind uint16, inside func([]byte) []byte) []byte {
	start := len(b)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint16(b, kind|unix.NLA_F_NESTED)
	b = inside(b)
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	return b
}

// refillEvery is how often the lab takes what has become free: whoever filled a table or the ports in real life also
// does.
const refillEvery = 50 * time.Millisecond

// tableFull: the victim's conntrack table is filled up, and kept full. The limit is the machine's, the count the
// namespace's.
func tableFull(c *Cluster) (time.Time, error) {
	h := c.node(c.plan.Victim)
	f, err := h.net.filler()
	if err != nil {
		return time.Time{}, err
	}
	from, to := netip.MustParseAddr("198.18.0.0").As4(), netip.MustParseAddrPort("198.19.255.254:443")
	base, made := binary.BigEndian.Uint32(from[:]), uint32(0)
	const strangers = 1 << 16
	fill := func() (at time.Time, err error) {
		for {
			batch := make([]filled, fillBatch)
			for i := range batch {
				var a [4]byte
				n := made + uint32(i)
				binary.BigEndian.PutUint32(a[:], base+n%strangers)
				batch[i] = filled{from: netip.AddrPortFrom(netip.AddrFrom4(a), uint16(1024+n/strangers)), to: to}
			}
			at = time.Now()
			said, err := f.write(batch)
			if err != nil {
				return at, err
			}
			for _, err := range said {
				switch {
				case errors.Is(err, unix.ENOMEM):
					return at, nil
				case err != nil:
					return at, fmt.Errorf("fill the conntrack table of %s: %w", h.name, err)
				}
				made++
			}
			if made >= strangers*60000 {
				return at, errors.New("the conntrack table has no end")
			}
		}
	}
	at, err := fill()
	if err != nil {
		f.close()
		return at, err
	}
	c.again(refillEvery, "the full table", f.close, func() error { _, err := fill(); return err })
	return at, nil
}

// Where a masquerade that is fully random looks for a port for connections from ports above 1023
// (nf_nat_l4proto_unique_tuple).
const firstMasqueradePort = 1024

// portsExhausted: strangers hold every masquerade port of the victim towards the first pod of the service.
func portsExhausted(c *Cluster) (time.Time, error) {
	p := c.plan
	h := c.node(p.Victim)
	f, err := h.net.filler()
	if err != nil {
		return time.Time{}, err
	}
	pod := netip.AddrPortFrom(p.Pods[0].Addr, p.Service.TargetPort)
	vip := netip.AddrPortFrom(p.Service.VIP, p.Service.Port)
	stranger := netip.MustParseAddr("198.18.0.0")
	if p.V6 {
		stranger = netip.MustParseAddr("2001:2::198.18.0.0") // the same in IPv6 (RFC 5180)
	}
	var free []filled
	for port := firstMasqueradePort; port <= 0xffff; port++ {
		stranger = stranger.Next()
		free = append(free, filled{
			from: netip.AddrPortFrom(stranger, 40000), to: vip,
			dnat: pod, snat: netip.AddrPortFrom(c.masqueradeAddr(p.Victim), uint16(port)),
		})
	}
	take := func() error {
		said, err := f.write(free)
		if err != nil {
			return err
		}
		var taken []filled
		for i, err := range said {
			switch {
			case errors.Is(err, unix.EEXIST):
				taken = append(taken, free[i])
			case err != nil:
				return fmt.Errorf("take a masquerade port of %s: %w", h.name, err)
			}
		}
		free = taken // for now
		return nil
	}
	at := time.Now()
	if err := take(); err != nil {
		f.close()
		return at, err
	}
	c.again(refillEvery, "the masquerade ports", f.close, take)
	return at, nil
}
