package model

import (
	"math"
	"time"

	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

// status is what a socket's exchange with its peer looks like. The order is that of severity.
type status uint8

const (
	healthy status = iota
	atRisk         // one retransmission or probe is unanswered
	stalled        // the second in a row
)

// flags of a row.
const (
	fCounted  uint16 = 1 << iota // stands in its cell's tally
	fMirror                      // an end of a connection whose other end is seen too, and counts
	fOrphan                      // closed by its application, the kernel still tries
	fFailed                      // the kernel has reported an error that ends it
	fReset                       // a reset has ended it
	fIPv6                        // family; addresses may be IPv4 all the same
	fTimerIn                     // timerAt is known
	fSRTT                        // srtt is known
	fWindow                      // window is known
	fSent                        // sentAt is known
	fStalled                     // stalledAt is known
	fClosed                      // the kernel has closed it; it lingers for the error that did
	fStranded                    // its node has forgotten how to translate it
	fShut                        // its peer answers, and keeps its window shut
	fRefused                     // its node itself sent the reset that ends it
	fSecond                      // its connection's other end has ended in trouble: its own end is no second one
)

// row is what is known of every socket. It holds no pointers, so that a million of them cost the garbage collector nothing,
// and it is small: what sockets have in common stands in an owner, what only some have in a pending. Times are nanoseconds
// since 1970, 0 unknown.
type row struct {
	cookie   uint64
	factN    uint64 // with owner.origin: the newest fact about it
	received int64  // newest receive
	seen     int64  // when its progress was read
	timerAt  int64
	sentAt   int64
	local    compact.Ref // hosts
	peer     compact.Ref // hosts
	owner    uint32      // owners
	cell     uint32
	entry    uint32 // of the ledger
	pending  uint32 // pendings; 0: nothing is outstanding
	rto      uint32 // microseconds
	srtt     uint32 // microseconds
	window   uint32
	lport    uint16
	pport    uint16
	flags    uint16
	state    uint8 // words
	timer    uint8 // words
	role     uint8 // words
	status   status
}

// owner is what many sockets share.
type owner struct {
	src    uint32 // watchers
	netns  uint32
	pid    int32
	comm   uint32 // names
	origin uint32 // names: of the ids of facts about it
	limits uint32
	pod    uint32 // names: UID of the pod of the process, in the host's network
}

// pending is what is known of a socket with something outstanding.
type pending struct {
	since     int64 // first sign of the running trouble
	first     int64 // when that trouble was first seen
	sign      int64 // newest moment at which something was known to be unanswered
	stalledAt int64
	spot      uint32 // its place in the peer's list of troubled sockets
	unacked   uint32
	unsent    uint32
	kind      uint8 // words
	retrans   uint8
	backoff   uint8
	probes    uint8
}

// tupleKey finds a socket by its addresses. Loopback addresses mean something within one namespace only.
type tupleKey struct {
	local, peer  addr
	lport, pport uint16
	netns        uint32
}

type cookieKey struct {
	src    uint32
	cookie uint64
}

func tupleOf(local, peer addr, lport, pport uint16, netns uint32) tupleKey {
	k := tupleKey{local: local, peer: peer, lport: lport, pport: pport}
	if loopback(local) || loopback(peer) {
		k.netns = netns
	}
	return k
}

func (m *Model) tuple(r *row) tupleKey {
	return tupleOf(m.local(r), m.peer(r), r.lport, r.pport, m.own(r).netns)
}

// mirror is the same connection as its other end sees it.
func (k tupleKey) mirror() tupleKey {
	k.local, k.peer, k.lport, k.pport = k.peer, k.local, k.pport, k.lport
	return k
}

func (m *Model) local(r *row) addr { return m.hosts.Addr(r.local) }

func (m *Model) peer(r *row) addr { return m.hosts.Addr(r.peer) }

// own returns what a socket shares with others, to read only: see disown.
func (m *Model) own(r *row) *owner { return m.owners.At(r.owner) }

// disown changes what a socket shared with others, for itself.
func (m *Model) disown(r *row, o owner) { r.owner = m.owners.Swap(r.owner, o) }

// pend returns what is outstanding at a socket, to read only; all zero where nothing is.
func (m *Model) pend(r *row) *pending { return m.pendings.At(r.pending) }

// owe returns the same to be written to. Pointers from pend and owe before it are no longer valid.
func (m *Model) owe(r *row) *pending {
	if r.pending == 0 {
		r.pending = m.pendings.Add(pending{})
	}
	return m.pendings.At(r.pending)
}

// unpend gives the place of what was outstanding back where nothing is any more.
func (m *Model) unpend(r *row) {
	if p := m.pend(r); r.pending != 0 && r.status == healthy && *p == (pending{spot: p.spot}) {
		m.pendings.Drop(r.pending)
		r.pending = 0
	}
}

// micros is a duration as rows keep it.
func micros(d event.Seconds) uint32 {
	return uint32(min(max(0, int64(d)/int64(time.Microsecond)), math.MaxUint32))
}

// find returns the row of a socket that a fact names, 0 where it is not known.
func (m *Model) find(src uint32, s *event.Socket) uint32 {
	if s.Cookie != 0 {
		if id := m.byCookie.Get(cookieKey{src, s.Cookie}); id != 0 {
			return id
		}
	}
	id := m.byTuple.Get(tupleOf(pack(s.Local.IP), pack(s.Peer.IP), s.Local.Port, s.Peer.Port, s.Netns))
	if id == 0 {
		return 0
	}
	if r := m.socks.At(id); m.own(r).src != src || m.own(r).netns != s.Netns || (r.cookie != 0 && s.Cookie != 0) {
		return 0
	}
	return id
}

// findOrAdd returns the row of a socket and makes one where there is none; such a socket is taken to have begun then, at the
// latest. It returns 0 for what is no connection.
func (m *Model) findOrAdd(src uint32, s *event.Socket, role event.Role, began int64) uint32 {
	id := m.find(src, s)
	if id != 0 {
		r := m.socks.At(id)
		if r.cookie == 0 && s.Cookie != 0 {
			r.cookie = s.Cookie
			m.byCookie.Put(cookieKey{src, s.Cookie}, id)
		}
		m.setOwner(r, s)
		if role != event.RoleUnknown && m.words.text[r.role] != string(role) {
			m.setRole(id, role)
		}
		m.hostPod(id)
		return id
	}
	if !s.Local.IP.IsValid() || !s.Peer.IP.IsValid() || s.Local.Port == 0 || s.Peer.Port == 0 {
		return 0
	}
	if m.crowdedOut(src, s, role) {
		m.evicted["model.strangers"]++
		return 0
	}
	m.makeRoom()
	r := row{
		cookie: s.Cookie, owner: m.owners.Hold(owner{src: src, netns: s.Netns}),
		local: m.hosts.Hold(pack(s.Local.IP)), peer: m.hosts.Hold(pack(s.Peer.IP)), lport: s.Local.Port, pport: s.Peer.Port,
		role: m.words.small(string(role)),
	}
	if s.Family == event.IPv6 {
		r.flags |= fIPv6
	}
	m.setOwner(&r, s)
	id = m.socks.Add(r)
	if s.Cookie != 0 {
		m.byCookie.Put(cookieKey{src, s.Cookie}, id)
	}
	m.byTuple.Put(m.tuple(&r), id)
	m.joinLedger(id)
	m.placeIn(id, m.addrs.tenureAt(s.Peer.IP, began))
	m.hostPod(id)
	m.pairUp(id)
	return id
}

func (m *Model) setOwner(r *row, s *event.Socket) {
	if s.Owner.PID != 0 {
		o := *m.own(r)
		o.pid, o.comm, o.pod = s.Owner.PID, m.strs.of(s.Owner.Comm), m.strs.of(s.Owner.PodUID)
		m.disown(r, o)
	}
}

// place puts a socket into the cell that counts it anew, after its role has changed or what the ledger proves of it.
func (m *Model) place(id uint32) {
	m.placeIn(id, m.peers.At(m.cells.At(m.socks.At(id).cell).peer).key.tenure)
}

// placeIn puts a socket into the cell that counts it, according to its role, to who held the far address when it began, and
// to what the ledger proves of it.
func (m *Model) placeIn(id, tenure uint32) {
	r := m.socks.At(id)
	dialled := m.words.text[r.role] == string(event.RoleDialled)
	key := peerKey{
		src: m.own(r).src, ip: m.peer(r), dialled: dialled, self: m.peer(r) == m.local(r) || loopback(m.local(r)), tenure: tenure,
	}
	p := m.peerOf(key)
	if by := m.provedKey(key, r, &m.peers.At(p).res); by != key {
		key = by
		p = m.peerOf(key)
	}
	port := r.lport
	if dialled {
		port = 0
	}
	c := m.cellOf(p, m.endOf(m.own(r).src, m.local(r).IP(), port))
	if c == r.cell {
		return
	}
	m.uncount(id)
	old := r.cell
	r.cell = c
	m.cells.At(c).rows++
	delete(m.spare, c)
	m.leaveCell(old)
	if m.own(r).limits != 0 {
		m.cells.At(c).limits = m.own(r).limits
	}
	if r.received != 0 {
		m.heardThrough(p, r.received)
	}
	m.count(id)
}

// setStatus changes a socket's status, and the tallies with it.
func (m *Model) setStatus(id uint32, s status) {
	r := m.socks.At(id)
	if r.status == s {
		return
	}
	counted := r.flags&fCounted != 0
	m.uncount(id)
	r.status = s
	if counted {
		m.count(id)
	}
	m.urgent++
}

func (m *Model) setRole(id uint32, role event.Role) {
	m.socks.At(id).role = m.words.small(string(role))
	m.place(id)
	m.pairUp(id)
}

func (m *Model) socketOf(r *row) event.Socket {
	s := event.Socket{
		Cookie: r.cookie, Netns: m.own(r).netns,
		Local:  event.Endpoint{IP: m.local(r).IP(), Port: r.lport},
		Peer:   event.Endpoint{IP: m.peer(r).IP(), Port: r.pport},
		Family: event.IPv4,
		Owner:  event.Owner{PID: m.own(r).pid, Comm: m.strs.text[m.own(r).comm], PodUID: m.strs.text[m.own(r).pod]},
	}
	if r.flags&fIPv6 != 0 {
		s.Family = event.IPv6
	}
	if r.cell != 0 {
		s.K8s = m.refOf(r)
	}
	return s
}

// viaOf returns the via of a socket: proved where the ledger has its entry at the node that the address names.
func (m *Model) viaOf(r *row) *event.Via {
	p := m.peers.At(m.cells.At(r.cell).peer)
	if node, _ := m.provedNode(r); node != 0 && m.strs.text[node] == p.res.Node {
		return p.proved
	}
	return p.via
}
