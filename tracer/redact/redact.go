package redact

import (
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Options say what is kept, and how long facts are held back until it is known.
type Options struct {
	// Keep are ranges of the cluster's own, beside those that facts tell: load balancers speak from them.
	Keep []netip.Prefix
	// Hold is how many events are held back at the beginning, and Wait how long at most: which addresses are the cluster's
	// is told by facts that need not come first. An address that was taken for a client's keeps its pseudonym everywhere,
	// also where a node or pod turns out to hold it: what is told stays true of it, but its name.
	Hold int
	Wait time.Duration
}

// Redactor renames addresses. Addresses of nodes, pods, services, load balancers and of this machine stay as they are: who
// is given a recording to help needs them. All others become 240.x.y.z, which nobody has, or 2001:db8:...; addresses of
// one /24 or /64 stay in one, and nothing else is left of them. Pseudonyms are numbered as they are met.
type Redactor struct {
	opts Options

	mu     sync.Mutex
	ours   map[netip.Addr]bool
	ranges []netip.Prefix
	names  map[netip.Addr]netip.Addr // pseudonyms
	nets   map[netip.Prefix]*network
	given  map[netip.Addr]bool // pseudonyms that are in use
	next4  uint32              // number of the next network
	next6  uint32

	held  []event.Event
	since time.Time
	open  bool // nothing is held any more
}

// network is the pseudonym of a /24 or a /64.
type network struct {
	base netip.Addr
	next uint32 // host
}

// New returns a Redactor that has met no address.
func New(o Options) *Redactor {
	return &Redactor{
		opts: o, ours: make(map[netip.Addr]bool), ranges: slices.Clone(o.Keep), names: make(map[netip.Addr]netip.Addr),
		nets: make(map[netip.Prefix]*network), given: make(map[netip.Addr]bool), open: o.Hold <= 0,
	}
}

// Take returns the facts that may go on, in their order, as copies. It may be called from any goroutine.
func (r *Redactor) Take(batch []event.Event) []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range batch {
		r.learn(&batch[i])
	}
	if r.open {
		return r.rename(batch)
	}
	if r.since.IsZero() {
		r.since = time.Now()
	}
	r.held = append(r.held, batch...)
	if len(r.held) < r.opts.Hold && (r.opts.Wait <= 0 || time.Since(r.since) < r.opts.Wait) {
		return nil
	}
	return r.release()
}

// Flush returns what is still held back, at the end of the facts.
func (r *Redactor) Flush() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.release()
}

func (r *Redactor) release() []event.Event {
	r.open = true
	out := r.rename(r.held)
	r.held = nil
	return out
}

// learn takes what an event says of the cluster's own addresses.
func (r *Redactor) learn(e *event.Event) {
	own := func(ips ...netip.Addr) {
		for _, ip := range ips {
			if ip.IsValid() {
				r.ours[ip] = true
			}
		}
	}
	switch b := e.Body.(type) {
	case *event.Started:
		r.keep(b.Balancers)
	case *event.NodeFact:
		for _, a := range b.Node.Addresses {
			own(a.IP)
		}
		r.keep(b.Node.PodCIDRs)
		r.keep(b.Node.PodNets)
	case *event.PodFact:
		own(b.Pod.IPs...)
	case *event.ServiceFact:
		own(b.Service.VIPs...)
		own(b.Service.Backends...)
	case *event.Sockets:
		for i := range b.Rows {
			own(b.Rows[i].Socket.Local.IP)
		}
	case *event.TCPFact:
		own(b.Socket.Local.IP)
	}
}

func (r *Redactor) keep(ranges []netip.Prefix) {
	for _, p := range ranges {
		if p.IsValid() && p.Bits() > 0 && !slices.Contains(r.ranges, p) {
			r.ranges = append(r.ranges, p)
		}
	}
}

func (r *Redactor) rename(batch []event.Event) []event.Event {
	out := make([]event.Event, 0, len(batch))
	for i := range batch {
		e := batch[i]
		if e.Body == nil || !e.Type.IsFact() { // findings are made anew by the fold
			continue
		}
		e.Flow = r.text(e.Flow)
		e.Body = r.copyOf(reflect.ValueOf(e.Body), hasText(e.Body)).Interface().(event.Body)
		out = append(out, e)
	}
	return out
}

// Networks that pseudonyms are taken from: class E, which no host on the Internet has (RFC 1112), and the one for
// documentation (RFC 3849).
var (
	class4 = netip.AddrFrom4([4]byte{240, 0, 0, 0})
	class6 = netip.MustParseAddr("2001:db8::")
)

// addr returns what an address is called.
func (r *Redactor) addr(ip netip.Addr) netip.Addr {
	if name, ok := r.names[ip]; ok {
		return name
	}
	if r.isOurs(ip) {
		return ip
	}
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return ip // no address
	}
	n := r.nets[p]
	if n == nil || n.next > 254 && ip.Is4() {
		n = r.network(ip)
		r.nets[p] = n
	}
	name := host(n.base, n.next)
	n.next++
	r.names[ip], r.given[name] = name, true
	return name
}

// isOurs says whether an address is to stay. One that is somebody's pseudonym by now cannot stay itself.
func (r *Redactor) isOurs(ip netip.Addr) bool {
	if !ip.IsValid() || ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return true
	}
	if r.given[ip] {
		return false
	}
	return r.ours[ip] || slices.ContainsFunc(r.ranges, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// network returns a network that holds no address of the cluster's, as far as they are known.
func (r *Redactor) network(ip netip.Addr) *network {
	for {
		var base netip.Addr
		if ip.Is4() {
			b := class4.As4()
			b[0] |= byte(r.next4 >> 16)
			b[1], b[2] = byte(r.next4>>8), byte(r.next4)
			base = netip.AddrFrom4(b)
			r.next4 = (r.next4 + 1) & (1<<20 - 1)
		} else {
			b := class6.As16()
			b[4], b[5], b[6], b[7] = byte(r.next6>>24), byte(r.next6>>16), byte(r.next6>>8), byte(r.next6)
			base = netip.AddrFrom16(b)
			r.next6++
		}
		bits := 24
		if base.Is6() {
			bits = 64
		}
		p := netip.PrefixFrom(base, bits)
		taken := slices.ContainsFunc(r.ranges, p.Overlaps)
		for own := range r.ours {
			taken = taken || p.Contains(own)
		}
		if !taken {
			return &network{base: base, next: 1}
		}
	}
}

func host(base netip.Addr, n uint32) netip.Addr {
	if base.Is4() {
		b := base.As4()
		b[3] = byte(n)
		return netip.AddrFrom4(b)
	}
	b := base.As16()
	b[12], b[13], b[14], b[15] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	return netip.AddrFrom16(b)
}
