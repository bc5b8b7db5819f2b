package jsonl

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Head remembers what a stream's facts have said and is still true, so that the stream can be begun anew in the middle:
// who watches, the nodes, pods and services, the sockets, the translated connections, and the newest signs of life. Told
// to an empty model, [Head.Facts] give it all that its successors build upon.
//
// It keeps facts, not conclusions: an incident that is open is found again from them.
type Head struct {
	clock   int64
	sources map[string]*said
	order   []string // sources in the order in which they were met

	objects map[objectKey]*object
	sockets map[socketKey]*held
	nat     map[natKey]*translated
	limits  map[event.Limits]uint32
	shared  []event.Limits
	births  uint64
	missed  uint64 // facts beyond the caps
}

// said is what one source has said of itself and of its looks.
type said struct {
	started  *event.Event
	beat     *event.Event
	synced   []event.Event
	heard    int64 // newest fact
	traffic  map[component]*moved
	pass     uint64
	look     int64 // when that look began
	total    int
	omitted  int
	previous int64 // when the look before began
}

type objectKey struct {
	typ    event.Type
	source string
	name   string
}

// object is a node, a pod, a service, or a node's table, as it was told last.
type object struct {
	n    uint64
	last event.Event
	gone *event.Event // a node that was removed: its connections outlive it
}

type socketKey struct {
	source      string
	cookie      uint64
	netns       uint32 // as what follows, only where there is no cookie
	local, peer netip.AddrPort
}

type held struct {
	n      uint64
	at     int64
	limits uint32 // index into shared, 0: unknown
	row    event.SocketRow
}

type natKey struct {
	source   string
	node     string
	zone     uint16
	src, dst netip.AddrPort
}

type translated struct {
	n  uint64
	at time.Time
	b  event.NATFact
}

type component struct {
	netns       uint32
	local, peer netip.AddrPort
}

type moved struct {
	row      event.TrafficRow
	pass     uint64
	received int64 // newest receive, 0: unknown
}

// What is remembered at most; the model has the same bounds for sockets and connections.
const (
	headSockets = 2_000_000
	headNAT     = 2_000_000
	headGone    = 256 // removed nodes
	// trafficKept is how long a component that no look finds any more is remembered for its newest receive.
	trafficKept = int64(time.Minute)
)

// NewHead returns the memory of a stream that has said nothing.
func NewHead() *Head {
	return &Head{
		sources: make(map[string]*said), objects: make(map[objectKey]*object), sockets: make(map[socketKey]*held),
		nat: make(map[natKey]*translated), limits: make(map[event.Limits]uint32), shared: make([]event.Limits, 1),
	}
}

// Take remembers what a batch says. It keeps no reference to what the batch's events share with others and may change.
func (h *Head) Take(batch []event.Event) {
	for i := range batch {
		if e := &batch[i]; e.Type.IsFact() && e.Body != nil {
			h.take(e)
		}
	}
}

func (h *Head) take(e *event.Event) {
	t := e.Time.UnixNano()
	h.clock = max(h.clock, t)
	s := h.sources[e.Source]
	if s == nil {
		s = &said{traffic: make(map[component]*moved)}
		h.sources[e.Source] = s
		h.order = append(h.order, e.Source)
	}
	s.heard = max(s.heard, t)
	switch b := e.Body.(type) {
	case *event.Started:
		h.begin(s, e)
	case *event.Synced:
		s.synced = append(slices.DeleteFunc(s.synced, func(o event.Event) bool { return o.Body.(*event.Synced).Fact == b.Fact }), *e)
	case *event.Heartbeat:
		copied := *e
		s.beat = &copied
	case *event.NodeFact:
		h.takeNode(e, b)
	case *event.PodFact:
		h.takeObject(e, b.Pod.Namespace+"/"+b.Pod.Name, b.What == "removed")
	case *event.ServiceFact:
		h.takeObject(e, b.Service.Namespace+"/"+b.Service.Name, b.What == "removed")
	case *event.Table:
		h.takeObject(e, b.Node, false)
	case *event.NATFact:
		h.takeNAT(e, b)
	case *event.Sockets:
		h.takeSockets(e, b, t)
	case *event.TCPFact:
		h.takeTCP(e, b, t)
	case *event.Traffic:
		s.takeTraffic(b, t)
	}
}

// begin notes who watches. A source that has started anew tells its sockets anew.
func (h *Head) begin(s *said, e *event.Event) {
	if s.started != nil && s.started.ID.Origin != e.ID.Origin {
		maps.DeleteFunc(h.sockets, func(k socketKey, _ *held) bool { return k.source == e.Source })
		clear(s.traffic)
		s.synced, s.pass, s.look, s.previous = nil, 0, 0, 0
	}
	copied := *e
	s.started = &copied
}

func (h *Head) next() uint64 { h.births++; return h.births }

func (h *Head) takeObject(e *event.Event, name string, removed bool) {
	k := objectKey{e.Type, e.Source, name}
	o := h.objects[k]
	switch {
	case removed:
		delete(h.objects, k)
	case o == nil:
		h.objects[k] = &object{n: h.next(), last: *e}
	default:
		o.last = *e
	}
}

// takeNode keeps a removed node for a while. Whoever removes it speaks for all sources, and whoever tells it again begins
// with a clean sheet.
func (h *Head) takeNode(e *event.Event, b *event.NodeFact) {
	same := func(k objectKey) bool { return k.typ == e.Type && k.name == b.Node.Name }
	if b.What != "removed" {
		maps.DeleteFunc(h.objects, func(k objectKey, o *object) bool { return o.gone != nil && same(k) })
		h.takeObject(e, b.Node.Name, false)
		return
	}
	gone := 0
	for k, o := range h.objects {
		if same(k) {
			copied := *e
			o.gone = &copied
		}
		if o.gone != nil {
			gone++
		}
	}
	for ; gone > headGone; gone-- {
		var oldest objectKey
		for k, o := range h.objects {
			if first := h.objects[oldest]; o.gone != nil && (first == nil || o.gone.Time.Before(first.gone.Time)) {
				oldest = k
			}
		}
		delete(h.objects, oldest)
	}
}

func (h *Head) takeNAT(e *event.Event, b *event.NATFact) {
	k := natKey{e.Source, b.By.Node, b.NAT.Zone, b.NAT.Original.Src.AddrPort(), b.NAT.Original.Dst.AddrPort()}
	if e.Type == event.NATDestroyed {
		delete(h.nat, k)
		return
	}
	if old := h.nat[k]; old != nil {
		old.b = *b
		return
	}
	if len(h.nat) >= headNAT {
		h.missed++
		return
	}
	h.nat[k] = &translated{n: h.next(), at: e.Time, b: *b}
}

func keyOf(source string, s *event.Socket) socketKey {
	if s.Cookie != 0 {
		return socketKey{source: source, cookie: s.Cookie}
	}
	return socketKey{source: source, netns: s.Netns, local: s.Local.AddrPort(), peer: s.Peer.AddrPort()}
}

func (h *Head) takeSockets(e *event.Event, b *event.Sockets, t int64) {
	for i := range b.Rows {
		r := &b.Rows[i]
		k := keyOf(e.Source, &r.Socket)
		if r.Change == event.SocketGone {
			delete(h.sockets, k)
			continue
		}
		x := h.socket(k)
		if x == nil {
			continue
		}
		if t < x.at {
			continue
		}
		owner := x.row.Socket.Owner
		x.row, x.at = *r, t
		if x.row.Socket.Owner.PID == 0 {
			x.row.Socket.Owner = owner
		}
		if r.Limits >= 0 && r.Limits < len(b.Limits) {
			x.limits = h.share(b.Limits[r.Limits])
		}
	}
}

func (h *Head) socket(k socketKey) *held {
	x := h.sockets[k]
	if x == nil {
		if len(h.sockets) >= headSockets {
			h.missed++
			return nil
		}
		x = &held{n: h.next()}
		h.sockets[k] = x
	}
	return x
}

func (h *Head) share(l event.Limits) uint32 {
	n, ok := h.limits[l]
	if !ok {
		n = uint32(len(h.shared))
		h.shared = append(h.shared, l)
		h.limits[l] = n
	}
	return n
}

// takeTCP follows a socket by what hooks saw of it. What has ended is not told again.
func (h *Head) takeTCP(e *event.Event, b *event.TCPFact, t int64) {
	k := keyOf(e.Source, &b.Socket)
	x := h.sockets[k]
	switch e.Type {
	case event.TCPClosed, event.TCPError:
		delete(h.sockets, k)
		return
	case event.TCPReset:
		if b.Reset != nil && b.Reset.By == "peer" {
			delete(h.sockets, k)
			return
		}
		if x == nil {
			return
		}
	}
	if x == nil {
		if x = h.socket(k); x == nil {
			return
		}
		x.row = event.SocketRow{Change: event.SocketSeen, Socket: b.Socket}
	}
	if t < x.at {
		return
	}
	x.row.TCP, x.at = b.TCP, t
	if b.Limits != nil {
		x.limits = h.share(*b.Limits)
	}
}

func (s *said) takeTraffic(b *event.Traffic, t int64) {
	if b.Pass != s.pass {
		s.pass, s.previous, s.omitted = b.Pass, s.look, 0
		maps.DeleteFunc(s.traffic, func(_ component, m *moved) bool { return m.pass+1 < b.Pass && m.received+trafficKept < t })
	}
	s.look = t - int64(b.Took)
	s.total = b.Total
	s.omitted += b.Omitted
	for i := range b.Rows {
		r := &b.Rows[i]
		c := component{r.Netns, r.Local.AddrPort(), r.Peer.AddrPort()}
		m := s.traffic[c]
		if m == nil {
			m = new(moved)
			s.traffic[c] = m
		}
		m.row, m.pass = *r, b.Pass
		if r.ReceivedAge.OK {
			m.received = max(m.received, t-int64(r.ReceivedAge.V))
		}
	}
}

// byBirth sorts what was met by when it was met.
func byBirth[K comparable, V any](m map[K]V, n func(V) uint64) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp.Compare(n(m[a]), n(m[b])) })
}
