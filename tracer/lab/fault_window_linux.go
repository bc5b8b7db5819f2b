package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// strayFor is how long segments go astray, and strayAhead how far before the others they are: beyond any window of the lab.
const (
	strayFor   = 4 * time.Second
	strayAhead = 64 << 20
)

// windowInvalid: on every other talking connection a segment of the service is far beyond the window. The conntrack of the calling
// pod's own node calls it INVALID, so it is not translated back, and the calling pod resets what comes from an address that it
// never spoke to: the reset carries the number that the service waits for, and ends the connection. Every entry stands.
func windowInvalid(c *Cluster) (time.Time, error) {
	at := time.Now()
	for _, w := range c.backends() {
		s, err := strayIn(w.net, c.plan.Service.TargetPort)
		if err != nil {
			return at, err
		}
		c.story("the segments that go astray", func() error {
			defer s.close()
			return s.run(at.Add(strayFor), c.coin)
		})
	}
	return at, nil
}

// coin is one of two, each as likely.
func (c *Cluster) coin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spare.rng.IntN(2) == 0
}

// stray sends segments once more that leave a pod's service, with another number.
type stray struct {
	fd   int
	port uint16
}

func strayIn(ns *space, port uint16) (*stray, error) {
	s := &stray{fd: -1, port: port}
	l, err := ns.LinkByName(uplink)
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", uplink, err)
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	err = ns.do(func() (err error) {
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index})
	})
	if err == nil {
		err = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("listen on a pod's link: %w", err)
	}
	return s, nil
}

func (s *stray) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
}

// run looks at what leaves until the given moment and lets one segment of each connection that pick picks go astray.
func (s *stray) run(until time.Time, pick func() bool) error {
	seen := map[netip.AddrPort]bool{}
	frame := make([]byte, 64<<10)
	for time.Now().Before(until) {
		n, from, err := unix.Recvfrom(s.fd, frame, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return fmt.Errorf("read a pod's link: %w", err)
		}
		if l, ok := from.(*unix.SockaddrLinklayer); !ok || l.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		to, segment, sum := dissect(frame[:n])
		if segment == nil || binary.BigEndian.Uint16(segment) != s.port || len(segment) <= 4*int(segment[12]>>4) || seen[to] {
			continue // no data
		}
		if seen[to] = true; !pick() {
			continue
		}
		binary.BigEndian.PutUint32(segment[4:], binary.BigEndian.Uint32(segment[4:])+strayAhead)
		binary.BigEndian.PutUint16(segment[16:], 0)
		binary.BigEndian.PutUint16(segment[16:], ^fold(sum+add(segment)))
		if _, err := unix.Write(s.fd, frame[:n]); err != nil {
			return fmt.Errorf("write to a pod's link: %w", err)
		}
	}
	return nil
}

// dissect finds the TCP segment in an Ethernet frame, whom it is for, and the sum of its pseudo header (RFC 9293, RFC 8200). What
// is not TCP has none.
func dissect(frame []byte) (to netip.AddrPort, segment []byte, sum uint32) {
	const ethernet, tcp = 14, 20
	if len(frame) < ethernet+20+tcp {
		return to, nil, 0
	}
	ip := frame[ethernet:]
	var protocol byte
	var addrs []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		head := 4 * int(ip[0]&0xf)
		total := int(binary.BigEndian.Uint16(ip[2:]))
		if total > len(ip) || total < head+tcp {
			return to, nil, 0
		}
		protocol, addrs, segment = ip[9], ip[12:20], ip[head:total]
	case unix.ETH_P_IPV6:
		total := 40 + int(binary.BigEndian.Uint16(ip[4:]))
		if total > len(ip) || total < 40+tcp {
			return to, nil, 0
		}
		protocol, addrs, segment = ip[6], ip[8:40], ip[40:total]
	}
	if protocol != unix.IPPROTO_TCP {
		return to, nil, 0
	}
	peer, _ := netip.AddrFromSlice(addrs[len(addrs)/2:])
	return netip.AddrPortFrom(peer, binary.BigEndian.Uint16(segment[2:])), segment, add(addrs) + uint32(len(segment)) + uint32(protocol)
}

// add sums 16-bit words, and fold makes a sum one of them (RFC 1071).
func add(b []byte) (sum uint32) {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
