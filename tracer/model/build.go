package model

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Named is what an open incident says of a hop.
type Named struct {
	ID    string
	Gone  bool // proven gone: what crosses it and has not noticed is presumed lost
	Since Instant
}

// Cases is what readers need of the judge.
type Cases interface {
	Incidents() []IncidentView // open and lately closed ones
	Named() map[HopKey]Named   // by open incidents
	Version() uint64           // raised with every finding
}

// maxTrouble is the most sockets in trouble that a snapshot holds.
const maxTrouble = 1000

// silentAfter is when an agent counts as silent: 2.5 heartbeats.
const silentAfter = HeartbeatInterval * 5 / 2

// Snapshot returns the state as of now for readers. It returns the last one where nothing has changed since.
func (m *Model) Snapshot(now time.Time, cases Cases) *Snapshot {
	rev := m.rev + m.urgent + m.shares + m.addrs.gen + cases.Version()
	if m.snap != nil && m.snapRev == rev && now.Sub(m.snap.Clock) < time.Second {
		return m.snap
	}
	m.settle()
	m.snapRev = rev
	version := uint64(1)
	if m.snap != nil {
		version = m.snap.Version + 1
	}
	s := &Snapshot{
		Version: version, Clock: now, Since: m.Since().Time(), Node: m.opts.Node,
		Incidents: cases.Incidents(), Lost: maps.Clone(m.lost), Events: make(map[string]uint64),
	}
	for stage, n := range m.evicted {
		s.Lost[stage] += n
	}
	for t, n := range m.counts {
		if n > 0 {
			s.Events[event.Type(t).String()] = n
		}
	}
	named := cases.Named()
	s.Agents, s.Complete = m.buildAgents(Instant(now.UnixNano()))
	var silent []string
	for _, a := range s.Agents {
		if a.Silent {
			silent = append(silent, a.Node)
		}
	}
	s.Coverage = m.Coverage(Instant(now.UnixNano()), silent)
	m.buildVias(s, named)
	m.buildGroups(s, named)
	m.buildTrouble(s, named)
	ends, recovered := m.history.sum(now.UnixNano())
	s.Totals.TimedOut, s.Totals.Reset, s.Totals.Recovered = ends[EndTimedOut], ends[EndReset], recovered
	m.snap = s
	return s
}

func (m *Model) buildAgents(now Instant) (list []AgentView, complete bool) {
	complete = true
	for i := range m.watchers {
		w := &m.watchers[i]
		if !w.watches() {
			continue
		}
		a := AgentView{
			Source: w.source, Node: m.strs.text[w.node], Heard: Instant(w.heard).Time(),
			Silent: w.beats && int64(now)-w.heard >= silentAfter,
			Probes: w.probes, Sockets: w.sockets, CensusAt: Instant(w.passAt).Time(), Settings: w.settings,
		}
		complete = complete && (w.synced || a.Silent)
		list = append(list, a)
	}
	return list, complete && len(list) > 0
}

// buildVias makes one row of every hop, or of several where they share a name.
func (m *Model) buildVias(s *Snapshot, named map[HopKey]Named) {
	type name struct {
		kind ViaKind
		via  string
	}
	at := make(map[name]int)
	rowOf := make(map[uint32]int)
	for id := uint32(1); id < m.hops.End(); id++ {
		h := m.hops.At(id)
		if h.key.Kind == "" || len(h.lanes) == 0 {
			continue
		}
		view := m.hop(id)
		n := named[h.key]
		if h.sockets == 0 && n.ID == "" && h.key.Kind != KindNode {
			continue
		}
		k := name{h.key.Kind, h.key.Via()}
		if m.former(h.key) {
			k.via += " (former)" // another machine has the name since, and starts at none
		}
		i, ok := at[k]
		if !ok {
			i = len(s.Vias)
			at[k] = i
			s.Vias = append(s.Vias, ViaRow{Via: k.via, Kind: k.kind, IP: view.IP, Because: view.Because})
		}
		rowOf[uint32(id)] = i
		r := &s.Vias[i]
		if ok {
			r.IP, r.Because = unspecifiedIP, ""
		}
		if view.Guess != "" {
			r.Guess = view.Guess
		}
		m.addHop(r, uint32(id), n)
		if h.key.Kind == KindNode || h.key.Kind == KindLocal {
			m.describeNode(r, view.Node, s)
		}
	}
	podsOf := make([]map[string]bool, len(s.Vias))
	servicesOf := make([]map[string]bool, len(s.Vias))
	fromOf := make([]map[netip.Prefix]int, len(s.Vias))
	for i := uint32(1); i < m.cells.End(); i++ {
		c := m.cells.At(i)
		if c.sockets == 0 {
			continue
		}
		v, ok := rowOf[m.lanes.At(m.peers.At(c.peer).lane).hop]
		if !ok {
			continue
		}
		e := m.ends.At(c.end)
		r := &s.Vias[v]
		r.Active += min(c.active, int(c.sockets-c.stalled)) // what is only sent again is no activity
		if r.Kind == KindDirect {
			if fromOf[v] == nil {
				fromOf[v] = make(map[netip.Prefix]int)
			}
			fromOf[v][m.network(m.peers.At(c.peer).key.ip.IP())] += int(c.sockets)
		}
		addOnce(&r.Pods, &podsOf[v], e.pod)
		addOnce(&r.Services, &servicesOf[v], e.service)
		if named[m.behind(c).key].Gone && c.limits != 0 && !m.limits[c.limits].Keepalive {
			r.Never += int(c.sockets - c.trouble())
		}
	}
	for i := range s.Vias {
		r := &s.Vias[i]
		slices.Sort(r.Pods)
		slices.Sort(r.Services)
		r.From = mostOf(fromOf[i])
		r.Status = viaStatus(r)
		s.Totals.Sockets += r.Sockets
		s.Totals.Active += r.Active
		s.Totals.AtRisk += r.AtRisk
		s.Totals.Stalled += r.Stalled
		s.Totals.Presumed += r.Presumed
		if r.Kind == KindNode {
			s.Totals.Crossing += r.Sockets
		}
	}
	slices.SortStableFunc(s.Vias, func(a, b ViaRow) int {
		return cmp.Or(
			cmp.Compare(boolInt(b.Incident != ""), boolInt(a.Incident != "")),
			cmp.Compare(b.Doomed(), a.Doomed()),
			cmp.Compare(b.Sockets, a.Sockets),
			cmp.Compare(a.Via, b.Via),
		)
	})
}

// addHop adds what a hop counts to its row.
func (m *Model) addHop(r *ViaRow, id uint32, n Named) {
	h := m.hops.At(id)
	r.Sockets += int(h.sockets)
	r.Stalled += int(h.stalled)
	atRisk, presumed := h.split(n.Gone)
	r.AtRisk += atRisk
	r.Presumed += presumed
	if n.ID != "" {
		r.Incident = n.ID
		if n.Gone {
			r.Status = StatusDead
		}
	}
	for i := range h.lost {
		if h.lost[i].kind == EndTimedOut {
			r.TimedOut++
		}
	}
	if at := Instant(h.received).Time(); at.After(r.LastHeard) {
		r.LastHeard = at
	}
	for _, l := range h.lanes {
		for _, p := range m.lanes.At(l).peers {
			pe := m.peers.At(p)
			r.Retrans += pe.retrans
			r.Clients += int(pe.clients.known)
			for _, sock := range pe.troubled {
				d := m.deadline(m.socks.At(sock))
				if d.At.IsZero() {
					r.Never++
				} else if r.First.IsZero() || d.At.Before(r.First) {
					r.First, r.FirstIs = d.At, d.Is
				}
			}
		}
	}
}

func (m *Model) describeNode(r *ViaRow, name string, s *Snapshot) {
	if n, ok := m.inv.nodes[name]; ok {
		r.Node, r.Table = n.merged(), n.fullest()
	}
	r.Agent = "none"
	for _, a := range s.Agents {
		if a.Node == name {
			r.Agent = "heard"
			if a.Silent {
				r.Agent = "silent"
			}
		}
	}
	r.NoLedger = r.Kind == KindNode && r.Sockets > 0 && r.Agent == "heard" && m.translatesNothing(name)
}

// translatesNothing reports whether a node's tables of connections are read and have never held one that it translates for
// others. Its agent says so; of one that does not, as in older recordings, it shows by what it tells of entries, where it tells
// all of them: one that was emptied has told some.
func (m *Model) translatesNothing(name string) bool {
	if n := m.inv.nodes[name]; n != nil {
		if yes, told := n.translates(); told {
			return !yes
		}
	}
	id := m.strs.of(name)
	read := false
	for i := range m.watchers {
		read = read || m.watchers[i].node == id && m.watchers[i].nat
	}
	return read && !m.ledger.masks[id]
}

// network is the balancer's range that an address lies in, or its neighbourhood.
func (m *Model) network(ip netip.Addr) netip.Prefix {
	for _, b := range m.addrs.balancers {
		if b.Contains(ip) {
			return b
		}
	}
	return around(ip)
}

// mostOf lists the networks with the most sockets.
func mostOf(count map[netip.Prefix]int) []FromNetwork {
	if len(count) == 0 {
		return nil
	}
	out := make([]FromNetwork, 0, len(count))
	for p, n := range count {
		out = append(out, FromNetwork{p, n})
	}
	slices.SortFunc(out, func(a, b FromNetwork) int {
		return cmp.Or(cmp.Compare(b.Sockets, a.Sockets), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return slices.Clip(out[:min(len(out), maxNetworks)])
}

func viaStatus(r *ViaRow) string {
	switch {
	case r.Status != "":
		return r.Status
	case r.Stalled > 0:
		return StatusStalled
	case r.AtRisk > 0:
		return StatusAtRisk
	case r.Kind == KindUnknown:
		return StatusUnknown
	}
	return StatusOK
}

func addOnce(list *[]string, seen *map[string]bool, name string) {
	if name == "" || (*seen)[name] {
		return
	}
	if *seen == nil {
		*seen = make(map[string]bool)
	}
	(*seen)[name] = true
	*list = append(*list, name)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// buildGroups counts sockets by pod and by service.
func (m *Model) buildGroups(s *Snapshot, named map[HopKey]Named) {
	pods, services := make(map[string]*GroupRow), make(map[string]*GroupRow)
	for i := uint32(1); i < m.cells.End(); i++ {
		c := m.cells.At(i)
		if c.sockets == 0 {
			continue
		}
		e := m.ends.At(c.end)
		key := m.behind(c).key
		for _, g := range []struct {
			in   map[string]*GroupRow
			name string
		}{{pods, e.pod}, {services, e.service}} {
			if g.name == "" {
				continue
			}
			r := g.in[g.name]
			if r == nil {
				r = &GroupRow{Name: g.name}
				if pod := m.inv.pods[g.name]; pod != nil && g.name == e.pod {
					r.Node = pod.Node
				}
				g.in[g.name] = r
			}
			r.Sockets += int(c.sockets)
			atRisk, presumed := c.split(named[key].Gone)
			r.AtRisk += atRisk
			r.Presumed += presumed
			r.Stalled += int(c.stalled)
			if key.Kind == KindNode {
				r.Crossing += int(c.sockets)
			}
		}
	}
	for name, r := range services {
		if svc := m.inv.services[name]; svc != nil {
			r.Policy, r.Direct = svc.Policy, svc.Direct
		}
	}
	s.Pods, s.Services = sorted(pods), sorted(services)
}

func sorted(groups map[string]*GroupRow) []GroupRow {
	var out []GroupRow
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		out = append(out, *groups[name])
	}
	return out
}
