package model

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/midhop/midhop/tracer/event"
)

// Impact is what is lost, or will be, with one hop.
type Impact struct {
	Crossing int // sockets through it, those that ended since then included
	Idle     int // neither at risk nor stalled
	AtRisk   int
	Stalled  int
	TimedOut int
	Reset    int
	GaveUp   int
	Never    int // idle sockets without keepalive: they never notice
	Writing  int // of those at risk or stalled, with data in flight: tcp_retries2 rules, and no keepalive
	Pods     []event.Hit
	Services []event.Hit
	Clients  event.ClientCounts
	First    Deadline // zero At: none known
	Last     Deadline
}

// maxHits is the most pods or services that an impact names; more make no difference to anybody and lines have a limit.
const maxHits = 100

// ImpactOf counts what hangs on a hop through which nothing has been received since then.
func (m *Model) ImpactOf(h *Hop, since Instant) Impact { return m.impact(h, since, false) }

// ImpactOfMachine counts what hangs on a machine that has received nothing from elsewhere since then.
func (m *Model) ImpactOfMachine(source string, since Instant) (im Impact) {
	src, ok := m.watcherOf[source]
	if !ok {
		return im
	}
	pods, services := newHits(), newHits()
	for i := uint32(1); i < m.cells.End(); i++ {
		c := m.cells.At(i)
		if c.sockets == 0 || m.peers.At(c.peer).key.src != src || m.behind(c).key.Kind == KindLocal {
			continue
		}
		im.Crossing += int(c.sockets)
		im.AtRisk += int(c.atRisk)
		im.Stalled += int(c.stalled)
		im.Idle += int(c.sockets - c.trouble())
		e := m.ends.At(c.end)
		pods.add(e.pod, int(c.sockets))
		services.add(e.service, int(c.sockets))
		m.idleDeadlines(&im, c, since)
	}
	for _, l := range m.watchers[src].lanes {
		for _, p := range m.lanes.At(l).peers {
			pe := m.peers.At(p)
			im.Clients.Total += int(pe.clients.known)
			for _, id := range pe.troubled {
				im.troubled(m.deadline(m.socks.At(id)))
			}
		}
	}
	im.Pods, im.Services = pods.top(), services.top()
	return im
}

// StrandedBy counts what hangs on a hop's having forgotten its connections: stranded sockets, and those that ended since.
func (m *Model) StrandedBy(h *Hop, since Instant) Impact { return m.impact(h, since, true) }

func (m *Model) impact(h *Hop, since Instant, stranded bool) Impact {
	im := Impact{AtRisk: h.AtRisk, Stalled: h.Stalled, Idle: h.Sockets - h.AtRisk - h.Stalled, Crossing: h.Sockets}
	if stranded {
		im.Idle, im.Crossing = h.Unaware, h.Stranded
		im.Stalled = min(im.Stalled, h.Stranded-h.Unaware)
		im.AtRisk = h.Stranded - h.Unaware - im.Stalled
	}
	pods, services := newHits(), newHits()
	networks := make(map[netip.Prefix]int)
	for i := uint32(1); i < m.cells.End(); i++ {
		c := m.cells.At(i)
		n := c.sockets
		if stranded {
			n = c.stranded
		}
		if n == 0 || m.lanes.At(m.peers.At(c.peer).lane).hop != h.id {
			continue
		}
		e := m.ends.At(c.end)
		pods.add(e.pod, int(n))
		services.add(e.service, int(n))
		m.idleDeadlines(&im, c, since)
	}
	for _, l := range m.hops.At(h.id).lanes {
		for _, p := range m.lanes.At(l).peers {
			pe := m.peers.At(p)
			im.Clients.Total += int(pe.clients.known)
			for n, count := range pe.clients.networks {
				networks[n] += int(count)
			}
			for _, id := range pe.troubled {
				im.troubled(m.deadline(m.socks.At(id)))
			}
		}
	}
	for _, x := range m.hops.At(h.id).lost {
		if Instant(x.at) < since {
			continue
		}
		im.end(x.kind)
		pods.add(m.strs.text[x.pod], 1)
		services.add(m.strs.text[x.svc], 1)
		if ip := x.client.IP(); ip.IsValid() {
			im.Clients.Total++
			networks[around(ip)]++
		}
	}
	im.Pods, im.Services = pods.top(), services.top()
	im.Clients.Networks = len(networks)
	for n, count := range networks {
		switch m.networkKind(n) {
		case event.ClientLoadBalancer:
			im.Clients.LoadBalancer += count
		case event.ClientExternal:
			im.Clients.External += count
		}
	}
	return im
}

// end counts a socket that has ended.
func (im *Impact) end(kind EndKind) {
	im.Crossing++
	switch kind {
	case EndTimedOut:
		im.TimedOut++
	case EndReset:
		im.Reset++
	case EndGaveUp:
		im.GaveUp++
	}
}

// networkKind says what stands in a client's network.
func (m *Model) networkKind(n netip.Prefix) event.ClientKind {
	for _, b := range m.addrs.balancers {
		if b.Overlaps(n) {
			return event.ClientLoadBalancer
		}
	}
	if m.addrs.podRange(n.Addr()).known() {
		return event.ClientPod
	}
	if m.addrs.near[n] > 0 {
		return event.ClientNode
	}
	if !m.addrs.inventory {
		return event.ClientUnknown
	}
	return event.ClientExternal
}

// idleDeadlines bounds when a cell's idle sockets notice: one with keepalive has received something in the keepalive time
// before the silence, or it would have noticed already.
func (m *Model) idleDeadlines(im *Impact, c *cell, since Instant) {
	idle := c.sockets - c.trouble()
	if idle <= 0 || c.limits == 0 {
		return
	}
	l := &m.limits[c.limits]
	if !l.Keepalive {
		im.Never += int(idle)
		return
	}
	if since == 0 {
		return
	}
	p := event.Progress{State: "established"}
	latest := keepaliveDeadline(p, *l, since.Time(), since.Time())
	earliest := keepaliveDeadline(p, *l, since.Time(), since.Time().Add(-l.KeepaliveTime.Duration()))
	earliest.Is, latest.Is = LowerBound, LowerBound
	im.deadline(earliest)
	im.deadline(latest)
}

// troubled counts what is foretold of a socket at risk or stalled.
func (im *Impact) troubled(d Deadline) {
	if d.Clock == event.ClockRTO {
		im.Writing++
	}
	im.deadline(d)
}

func (im *Impact) deadline(d Deadline) {
	if d.At.IsZero() {
		return
	}
	if im.First.At.IsZero() || d.At.Before(im.First.At) {
		im.First = d
	}
	if d.At.After(im.Last.At) {
		im.Last = d
	}
}

// hits counts by name, in the order in which names were first met.
type hits struct {
	at   map[string]int
	list []event.Hit
}

func newHits() *hits { return &hits{at: make(map[string]int)} }

func (h *hits) add(name string, n int) {
	if name == "" {
		return
	}
	i, ok := h.at[name]
	if !ok {
		i = len(h.list)
		h.at[name] = i
		h.list = append(h.list, event.Hit{Name: name})
	}
	h.list[i].Sockets += n
}

// top returns the heaviest first.
func (h *hits) top() []event.Hit {
	slices.SortStableFunc(h.list, func(a, b event.Hit) int { return cmp.Compare(b.Sockets, a.Sockets) })
	return h.list[:min(len(h.list), maxHits)]
}

// Coverage says from how much the model speaks. silent names the nodes whose agent is not heard any more.
func (m *Model) Coverage(at Instant, silent []string) event.Coverage {
	known, unwatched := m.inv.told()
	c := event.Coverage{NodesKnown: known, Unwatched: unwatched, Since: m.Since().Time(), Silent: silent, Behind: m.inv.behindList()}
	if !m.addrs.inventory {
		c.NodesKnown, c.Unwatched = 0, nil
	}
	oldest := int64(0)
	missing := make(map[string]bool)
	for i := range m.watchers {
		w := &m.watchers[i]
		if !w.watches() || slices.Contains(silent, m.strs.text[w.node]) {
			continue
		}
		c.NodesSeen++
		if w.passAt != 0 && (oldest == 0 || w.passAt < oldest) {
			oldest = w.passAt
		}
		for _, p := range w.probes {
			if p.Rung == "" && !missing[p.Fact] {
				missing[p.Fact] = true
				c.Missing = append(c.Missing, p.Fact)
			}
		}
	}
	if oldest != 0 {
		c.LookAge = event.Known(event.Seconds(max(0, int64(at)-oldest)))
	}
	return c
}

// maxCensusRows keeps a path.census line below the limit of the stream.
const maxCensusRows = 200

// CensusRows counts sockets by pod, service and hop, the heaviest first.
func (m *Model) CensusRows(named map[HopKey]Named) []event.CensusRow {
	m.settle()
	type key struct {
		pod, service string
		hop          uint32
	}
	at := make(map[key]int)
	var rows []event.CensusRow
	for i := uint32(1); i < m.cells.End(); i++ {
		c := m.cells.At(i)
		if c.sockets == 0 {
			continue
		}
		p, e := m.peers.At(c.peer), m.ends.At(c.end)
		k := key{e.pod, e.service, m.lanes.At(p.lane).hop}
		j, ok := at[k]
		if !ok {
			j = len(rows)
			at[k] = j
			rows = append(rows, event.CensusRow{Pod: e.pod, Service: e.service, Via: *p.via})
			if h := m.hops.At(k.hop).key; h.Kind == KindDirect || h.Kind == KindPod {
				rows[j].Via.IP = netip.Addr{}
			}
		}
		r := &rows[j]
		r.Established += int(c.sockets)
		r.Active += min(c.active, int(c.sockets-c.stalled)) // what is only sent again is no activity
		r.Stalled += int(c.stalled)
		atRisk, presumed := c.split(named[m.hops.At(k.hop).key].Gone)
		r.AtRisk += atRisk
		r.Presumed += presumed
	}
	slices.SortStableFunc(rows, func(a, b event.CensusRow) int { return cmp.Compare(b.Established, a.Established) })
	return rows[:min(len(rows), maxCensusRows)]
}

// Merge adds what hangs on another hop.
func (im *Impact) Merge(o *Impact) {
	im.Crossing += o.Crossing
	im.Idle += o.Idle
	im.AtRisk += o.AtRisk
	im.Stalled += o.Stalled
	im.TimedOut += o.TimedOut
	im.Reset += o.Reset
	im.GaveUp += o.GaveUp
	im.Never += o.Never
	im.Writing += o.Writing
	im.Pods, im.Services = mergeHits(im.Pods, o.Pods), mergeHits(im.Services, o.Services)
	im.Clients.Total += o.Clients.Total
	im.Clients.LoadBalancer += o.Clients.LoadBalancer
	im.Clients.External += o.Clients.External
	im.Clients.Networks = max(im.Clients.Networks, o.Clients.Networks)
	im.deadline(o.First)
	im.deadline(o.Last)
}

func mergeHits(a, b []event.Hit) []event.Hit {
	h := newHits()
	for _, x := range append(slices.Clone(a), b...) {
		h.add(x.Name, x.Sockets)
	}
	return h.top()
}
