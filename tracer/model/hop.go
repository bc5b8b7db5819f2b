package model

import (
	"net/netip"

	"github.com/midhop/midhop/tracer/event"
)

// The counting tables. A socket belongs to a cell (its own end and its peer), a cell to a peer, a peer to a lane (one
// machine's sockets through one hop), a lane to a hop. A fact changes one row of each, so no reader ever counts sockets.
// What a peer address stands for may change; then only the peer moves to another lane, and no socket is touched.

// end is the own side of sockets: a pod's address with its port where it accepts, without where it dials.
type end struct {
	src     uint32
	ip      netip.Addr
	port    uint16
	owner   uint32 // names: UID of the pod in the host's network whose process listens there
	pod     string
	service string
	ref     *event.K8sRef // shared by all facts about sockets of this end; replaced, never changed
	cells   int32
}

type endKey struct {
	src  uint32
	ip   addr
	port uint16
}

type cell struct {
	peer, end uint32
	tally
	rows    int32  // sockets that refer to it, those that do not count included
	bad     int32  // sockets that retransmitted in half window badHalf
	repeats uint32 // what stalled sockets sent again since the last look
	badHalf uint32
	pass    uint64 // the census that active is of
	active  int
	limits  uint32 // of the newest socket; sockets of one listener share them
}

type cellKey struct{ peer, end uint32 }

// peer is one far address as one machine's sockets see it. It is the unit of resolution.
type peer struct {
	key      peerKey
	lane     uint32
	gen      uint64 // of the addresses that its resolution is from
	res      Resolution
	via      *event.Via // inferred; shared by all facts, replaced, never changed
	proved   *event.Via // the same once the ledger has shown it
	born     uint64     // order of creation; gives everything above a stable order
	received int64
	cadence  cadence
	look     int64 // up to here its receives are known, where its machine's look left rows out
	retrans  uint64
	lostAt   int64 // the newest look that saw anything sent again
	cells    int32
	tally
	troubled []uint32 // sockets at risk or stalled
	factID   event.ID // newest fact about its sockets
	factAt   int64
	clients  clientCount
	siblings []uint32 // of a plain key: the peers of the same address that the ledger tells apart
	past     bool     // its tenure of the address is over
	stranger bool     // counted in Model.strangers: neither a node nor a pod when it was met
}

type peerKey struct {
	src     uint32
	ip      addr
	dialled bool
	self    bool
	tenure  uint32 // which holder of the address, where it had several one after the other
	ledger  uint32 // names: the node that the ledger proved where the address does not tell it
	egress  bool   // with ledger: it let the connection out, and changed only where it seems to come from
	inc     uint32 // with ledger: which machine of that name
	hop     addr   // the address of the node in the middle, where a table told it and the peer's address does not
	hopHeld uint32 // with hop: which of its holders
}

// plain is the key of all sockets of the same address, whatever ledgers say of them.
func (k peerKey) plain() peerKey {
	k.ledger, k.inc, k.egress, k.hop, k.hopHeld = 0, 0, false, addr{}, 0
	return k
}

// byLedger reports whether an entry of a ledger tells what these sockets cross.
func (k *peerKey) byLedger() bool { return k.ledger != 0 || k.hop != addr{} }

// names is the address by which the peer's resolution goes, and which of its holders is meant.
func (k *peerKey) names() (ip addr, tenure uint32) {
	if k.hop != (addr{}) {
		return k.hop, k.hopHeld
	}
	return k.ip, k.tenure
}

// clientCount counts far ends that the ledger knows, by network: what stands in a network may be learned later.
type clientCount struct {
	known    int32
	networks map[netip.Prefix]int32
}

// lane is one machine's sockets through one hop.
type lane struct {
	src, hop uint32
	peers    []uint32
	received int64
	tally
}

// LargeBytes is how much has to be in flight for a full-size segment to be among it: the smallest MTU that IPv6 allows is
// 1280, and nobody's tunnel leaves much less; a chat message or an acknowledgement is far smaller.
const LargeBytes = 1000

type laneKey struct{ src, hop uint32 }

// hop is one thing that connections cross, or end at: a node, this node itself, a pod, an address, or the balancers.
type hop struct {
	key      HopKey
	lanes    []uint32
	received int64
	revived  int64   // newest moment at which what a socket in trouble had sent was acknowledged
	wentOn   []int64 // when stalled sockets went on, newest last, capped as lost is
	large    int64   // when a stalled socket with LargeBytes in flight was last seen to have got on
	tally
	lost     []ending  // sockets that ended in trouble or by a reset, newest last, capped
	attempts []attempt // unanswered connection attempts, newest last, capped
}

// HopKey identifies a hop for as long as the inventory calls it the same.
type HopKey struct {
	Kind ViaKind
	Name string     // of the node; "(balancer)" or "(clients)" where the peers are these
	Inc  uint32     // of a node: which of the machines that had the name, one after the other
	IP   netip.Addr // of pods, addresses and unknown ones
}

// Names of rows that stand for several hops.
const (
	viaLocal    = "(this node)"
	viaPods     = "(pods)"
	viaBalancer = "(balancer)"
	viaClients  = "(clients)"
)

// Via is the name of the hop in tables; several pods or clients share one.
func (k HopKey) Via() string {
	switch k.Kind {
	case KindNode:
		return k.Name
	case KindLocal:
		return viaLocal
	case KindPod:
		return viaPods
	case KindDirect:
		return k.Name
	}
	return k.IP.String()
}

func hopKeyOf(r *Resolution, ip netip.Addr) HopKey {
	switch r.Kind {
	case KindNode:
		return HopKey{Kind: r.Kind, Name: r.Node, Inc: r.Inc}
	case KindLocal:
		return HopKey{Kind: r.Kind, Name: r.Node}
	case KindDirect:
		if r.Balancer {
			return HopKey{Kind: KindDirect, Name: viaBalancer}
		}
		return HopKey{Kind: KindDirect, Name: viaClients}
	}
	return HopKey{Kind: r.Kind, IP: ip}
}

// behind returns the hop that a cell's sockets cross.
func (m *Model) behind(c *cell) *hop { return m.hops.At(m.lanes.At(m.peers.At(c.peer).lane).hop) }

// peerOf returns the peer row of a key, resolved as of now.
func (m *Model) peerOf(k peerKey) uint32 {
	id, ok := m.peerByKey[k]
	if !ok {
		m.births++
		id = m.peers.Add(peer{key: k, born: m.births})
		m.peerByKey[k] = id
		ip, _ := k.names()
		m.peersByIP[ip] = append(m.peersByIP[ip], id)
		if k.byLedger() {
			p := m.peers.At(m.peerOf(k.plain()))
			p.siblings = append(p.siblings, id)
		}
	}
	m.resolvePeer(id)
	if p := m.peers.At(id); !ok && p.res.Node == "" && p.res.Kind != KindPod {
		p.stranger = true
		m.strangers++
	}
	return id
}

// crowdedOut says whether there is no room for one more far end that nobody knows. What is a node's or a pod's always finds
// room: there are only so many of these, and they are what connections are told apart by.
func (m *Model) crowdedOut(src uint32, s *event.Socket, role event.Role) bool {
	if m.strangers < m.opts.Strangers {
		return false
	}
	k := peerKey{src: src, ip: pack(s.Peer.IP), dialled: role == event.RoleDialled, self: s.Peer.IP == s.Local.IP || s.Local.IP.IsLoopback()}
	if _, ok := m.peerByKey[k]; ok || k.self {
		return false
	}
	if _, nodes := m.addrs.current(s.Peer.IP); len(nodes) > 0 || m.inv.podByIP[s.Peer.IP] != "" {
		return false
	}
	return !m.addrs.podRange(s.Peer.IP).known()
}

// resolvePeer brings a peer's resolution up to date, and moves it to another lane where the answer is another hop.
func (m *Model) resolvePeer(id uint32) {
	p := m.peers.At(id)
	if p.gen == m.addrs.gen {
		return
	}
	p.gen = m.addrs.gen
	at, tenure := p.key.names()
	ip := at.IP()
	own := m.strs.text[m.watchers[p.key.src].node]
	res, over := m.addrs.held(ip, tenure)
	if p.past = over; over && p.lane != 0 {
		return // whoever it was: what the address stands for since is another matter
	}
	if res = res.ofTenure(own); !over || p.key.self {
		res = m.addrs.resolve(question{ip: ip, own: own, dialled: p.key.dialled, self: p.key.self}, m.inv)
	}
	if p.key.ledger != 0 && (res.Kind != KindNode && res.Kind != KindLocal || res.Node != m.strs.text[p.key.ledger]) {
		res = ledgerResolution(m.strs.text[p.key.ledger], own, p.key.egress)
		res.Inc = p.key.inc
	}
	if p.lane != 0 && res.Kind == p.res.Kind && res.Node == p.res.Node && res.Inc == p.res.Inc && res.Because == p.res.Because {
		return
	}
	p.res = res
	via := event.Via{Role: res.Role, Sure: event.Inferred, Because: res.Because, IP: ip}
	switch res.Kind {
	case KindNode, KindLocal:
		via.Node = res.Node
	case KindUnknown, KindAddress:
		via.Sure = ""
	}
	p.via = &via
	proved := via
	proved.Sure = event.Proved
	p.proved = &proved
	if p.key.byLedger() {
		p.via = &proved
	}
	m.movePeer(id, m.hopOf(hopKeyOf(&res, ip)))
}

func ledgerResolution(node, own string, egress bool) Resolution {
	r := Resolution{Kind: KindNode, Role: event.ViaEntry, Node: node, Because: "its conntrack entry stands at " + node}
	switch {
	case node == own:
		r.Kind, r.Role = KindLocal, event.ViaLocal
	case egress:
		r.Role, r.Because = event.ViaEgress, "it leaves by "+node+": its conntrack entry stands there"
	}
	return r
}

func (m *Model) hopOf(k HopKey) uint32 {
	id, ok := m.hopByKey[k]
	if !ok {
		id = m.hops.Add(hop{key: k})
		m.hopByKey[k] = id
	}
	return id
}

// movePeer hangs a peer, with all that it counts, under a hop.
func (m *Model) movePeer(id, to uint32) {
	p := m.peers.At(id)
	if p.lane != 0 {
		if m.lanes.At(p.lane).hop == to {
			return
		}
		m.unhangPeer(id)
	}
	k := laneKey{p.key.src, to}
	l, ok := m.laneByKey[k]
	if !ok {
		l = m.lanes.Add(lane{src: k.src, hop: to})
		m.laneByKey[k] = l
		h := m.hops.At(to)
		h.lanes = append(h.lanes, l)
		w := &m.watchers[k.src]
		w.lanes = append(w.lanes, l)
	}
	p.lane = l
	la, h := m.lanes.At(l), m.hops.At(to)
	la.peers = append(la.peers, id)
	la.add(p.tally, 1)
	h.add(p.tally, 1)
	la.received = max(la.received, p.received)
	h.received = max(h.received, p.received)
	m.noteSick(to)
	m.urgent++
}

// unhangPeer takes a peer from its lane, and drops the lane and the hop that this leaves empty.
func (m *Model) unhangPeer(id uint32) {
	p := m.peers.At(id)
	l := p.lane
	la := m.lanes.At(l)
	from := la.hop
	h := m.hops.At(from)
	la.add(p.tally, -1)
	h.add(p.tally, -1)
	la.peers = without(la.peers, id)
	p.lane = 0
	la.received = 0
	for _, other := range la.peers {
		la.received = max(la.received, m.peers.At(other).received)
	}
	if len(la.peers) == 0 {
		h.lanes = without(h.lanes, l)
		w := &m.watchers[la.src]
		w.lanes = without(w.lanes, l)
		delete(m.laneByKey, laneKey{la.src, from})
		m.lanes.Drop(l)
	}
	h.received = 0
	for _, other := range h.lanes {
		h.received = max(h.received, m.lanes.At(other).received)
	}
	m.noteSick(from)
	m.urgent++
}

func without(list []uint32, id uint32) []uint32 {
	for i, v := range list {
		if v == id {
			return append(list[:i], list[i+1:]...)
		}
	}
	return list
}

// heardThrough notes that something was received from a peer.
func (m *Model) heardThrough(id uint32, at int64) {
	p := m.peers.At(id)
	if at <= p.received {
		return
	}
	p.received = at
	la := m.lanes.At(p.lane)
	la.received = max(la.received, at)
	h := m.hops.At(la.hop)
	h.received = max(h.received, at)
	// A sum over an address cannot tell apart what the ledger can: it is a sign of life of all that share it.
	for _, s := range p.siblings {
		m.heardThrough(s, at)
	}
}

// noteSick keeps the set of hops that have sockets in trouble.
func (m *Model) noteSick(id uint32) {
	if m.hops.At(id).trouble() > 0 {
		m.sick[id] = struct{}{}
	} else {
		delete(m.sick, id)
	}
}

// endOf returns the end row of a socket's own side, with its names.
func (m *Model) endOf(src uint32, ip netip.Addr, port uint16) uint32 {
	k := endKey{src, pack(ip), port}
	if id, ok := m.endByKey[k]; ok {
		return id
	}
	id := m.ends.Add(end{ip: ip, port: port})
	m.endByKey[k] = id
	m.endsByIP[k.ip] = append(m.endsByIP[k.ip], id)
	m.nameEnd(src, id)
	return id
}

// nameEnds names the ends of an address anew, after a pod or a service that holds it has changed.
func (m *Model) nameEnds(ip netip.Addr) {
	for _, id := range m.endsByIP[pack(ip)] {
		m.nameEnd(m.ends.At(id).src, id)
	}
}

func (m *Model) nameEnd(src, id uint32) {
	e := m.ends.At(id)
	e.src = src
	if e.pod = m.inv.podByIP[e.ip]; e.pod == "" && e.owner != 0 {
		e.pod = m.inv.hostPods[m.strs.text[e.owner]]
	}
	e.service = m.inv.serviceOf(e.ip, e.port)
	ref := event.K8sRef{Node: m.strs.text[m.watchers[src].node], Service: e.service}
	if pod := m.inv.pods[e.pod]; pod != nil {
		ref.Namespace, ref.Pod, ref.Workload = pod.Namespace, pod.Name, pod.Workload
	}
	e.ref = nil
	if ref != (event.K8sRef{}) {
		e.ref = &ref
	}
}

func (m *Model) cellOf(peerID, endID uint32) uint32 {
	k := cellKey{peerID, endID}
	id, ok := m.cellByKey[k]
	if !ok {
		id = m.cells.Add(cell{peer: peerID, end: endID})
		m.cellByKey[k] = id
		m.peers.At(peerID).cells++
		m.ends.At(endID).cells++
	}
	return id
}
