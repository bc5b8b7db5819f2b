package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// space is a network namespace that the lab holds open, with a netlink handle inside it.
type space struct {
	ns *os.File
	*netlink.Handle
}

// newSpace makes a network namespace that lives as long as something refers to it: no name, no process.
func newSpace() (*space, error) {
	var f *os.File
	err := away(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		f, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	if errors.Is(err, unix.EPERM) {
		return nil, ErrConfined
	} else if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return openSpace(f)
}

// away runs leave, which takes the thread to another network namespace, then f there, then brings the thread home.
func away(leave, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err = leave(); err == nil {
			err = f()
		}
		// A thread that cannot go home is not given back to the scheduler: it ends with this goroutine.
		if back := unix.Setns(int(home), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// openSpace takes over a namespace file and brings the namespace's loopback up.
func openSpace(f *os.File) (*space, error) {
	h, err := netlink.NewHandleAt(netns.NsHandle(f.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("netlink in a network namespace: %w", err)
	}
	s := &space{ns: f, Handle: h}
	if err := s.up("lo"); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *space) fd() int { return int(s.ns.Fd()) }

func (s *space) close() {
	if s != nil {
		s.Handle.Close()
		s.ns.Close()
	}
}

// do runs f on a thread inside the namespace.
func (s *space) do(f func() error) error {
	return away(func() error {
		if err := unix.Setns(s.fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return nil
	}, f)
}

// On runs f on a thread in the network namespace of a node, as a process of that machine would find it. It fails where the
// node has no power; f goes on where it loses it meanwhile.
func (c *Cluster) On(node string, f func() error) error {
	c.mu.Lock()
	i := slices.IndexFunc(c.nodes, func(h *host) bool { return h != nil && h.name == node })
	var h *host
	if i >= 0 {
		h = c.nodes[i]
	}
	c.mu.Unlock()
	if h == nil {
		return fmt.Errorf("%q has no power, or is no node", node)
	}
	h.mu.Lock()
	if h.net == nil {
		h.mu.Unlock()
		return fmt.Errorf("%s has no power", node)
	}
	fd, err := unix.FcntlInt(h.net.ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	h.mu.Unlock()
	if err != nil {
		return fmt.Errorf("open the namespace of %s: %w", node, err)
	}
	defer unix.Close(fd)
	return away(func() error { return unix.Setns(fd, unix.CLONE_NEWNET) }, f)
}

// sysctls sets net.* keys of the namespace, given as path under /proc/sys/net = value. /proc/sys/net shows the
// namespace of the thread that opens it (net_ctl_header_lookup).
func (s *space) sysctls(pairs ...string) error {
	return s.do(func() error {
		for _, pair := range pairs {
			key, value, _ := strings.Cut(pair, "=")
			if err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0o644); err != nil {
				return fmt.Errorf("set net/%s to %s: %w", key, value, err)
			}
		}
		return nil
	})
}

func (s *space) up(name string) error {
	l, err := s.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := s.LinkSetUp(l); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}

// cut takes a link down and returns the moment right before. Whoever changes links waits for the rtnl_lock, which
// namespaces on their way out may hold for seconds: finding the link has waited for it already.
func (s *space) cut(name string) (time.Time, error) {
	l, err := s.LinkByName(name)
	if err != nil {
		return time.Time{}, fmt.Errorf("find link %s: %w", name, err)
	}
	at := time.Now()
	if err := s.LinkSetDown(l); err != nil {
		return at, fmt.Errorf("set link %s down: %w", name, err)
	}
	return at, nil
}

// bridge makes a bridge that is up, with a fixed MAC address.
func (s *space) bridge(name string, mac net.HardwareAddr) error {
	b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: mac}}
	if err := s.LinkAdd(b); err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	return s.up(name)
}

// cable is one veth pair between two namespaces.
type cable struct {
	name    string // this side's end
	mac     net.HardwareAddr
	master  string // a bridge on this side, or empty
	mtu     int    // of both ends, 0 for the default
	peer    *space
	peerEnd string
	peerMAC net.HardwareAddr
}

// connect lays a cable; both ends are up afterwards.
func (s *space) connect(c cable) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = c.name, c.mac, c.mtu
	v := &netlink.Veth{
		LinkAttrs: attrs, PeerName: c.peerEnd, PeerMTU: uint32(c.mtu),
		PeerHardwareAddr: c.peerMAC, PeerNamespace: netlink.NsFd(c.peer.fd()),
	}
	if err := s.LinkAdd(v); err != nil {
		return fmt.Errorf("add veth %s to %s: %w", c.name, c.peerEnd, err)
	}
	if c.master != "" {
		m, err := s.LinkByName(c.master)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", c.master, err)
		}
		if err := s.LinkSetMaster(v, m); err != nil {
			return fmt.Errorf("put %s under %s: %w", c.name, c.master, err)
		}
	}
	if err := c.peer.up(c.peerEnd); err != nil {
		return err
	}
	return s.up(c.name)
}

// addr puts an address on a link. IPv6 addresses are usable at once: nobody else can have them.
func (s *space) addr(link string, a netip.Prefix) error {
	l, err := s.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", link, err)
	}
	na := &netlink.Addr{IPNet: ipNet(a)}
	if a.Addr().Is6() {
		na.Flags = unix.IFA_F_NODAD
	}
	if err := s.AddrAdd(l, na); err != nil {
		return fmt.Errorf("add address %s to %s: %w", a, link, err)
	}
	return nil
}

// route sends a destination to a next hop; the zero prefix is the default route. Table 0 is the main one.
func (s *space) route(dst netip.Prefix, via netip.Addr, table int) error {
	r := &netlink.Route{Gw: via.AsSlice(), Table: table}
	if dst.IsValid() {
		r.Dst = ipNet(dst)
	} else if via.Is6() {
		r.Dst = ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
	} else {
		r.Dst = ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	if err := s.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s via %s: %w", r.Dst, via, err)
	}
	return nil
}

// neighbour makes an address known for ever, so that its death is silence and not a failed resolution.
func (s *space) neighbour(link string, a netip.Addr, mac net.HardwareAddr) error {
	l, err := s.LinkByName(link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", link, err)
	}
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	n := &netlink.Neigh{LinkIndex: l.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
	if err := s.NeighSet(n); err != nil {
		return fmt.Errorf("add neighbour %s: %w", a, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// whole is the prefix that holds one address only.
func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
