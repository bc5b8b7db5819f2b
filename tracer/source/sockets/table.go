package sockets

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/compact"
	"github.com/midhop/midhop/tracer/event"
)

// key finds a socket. Cookies are unique in a namespace, and since Linux 5.9 in the machine; without one it is the tuple, which one
// connection at a time has in a namespace.
type key struct {
	id    uint64
	netns uint32
}

// known is what is remembered of a socket between two looks: enough to see a change and to tell its end. It holds no
// pointer, and what many sockets share stands in a holder, so that a million of them take 63 MB with their index. A dropped
// row has no holder.
type known struct {
	id         identity
	receivedAt uint64      // probes' time of the newest receive, ns; 0: unknown
	local      compact.Ref // table.hosts
	peer       compact.Ref // table.hosts
	holder     uint32      // table.holders
	segsOut    uint32
	retrans    uint32
	localPort  uint16
	peerPort   uint16
	segsIn     uint16 // the low half: whether it has moved is all that is asked
	pass       uint16 // the newest look that saw it, the low half: rows of older looks do not last
	unacked    small
	rtoMS      small
	sign       sign
	accepted   bool
}

// small is a number for which three bytes do: the milliseconds of a timeout, the segments in flight. What is larger is told as the
// largest.
type small [3]byte

func smallOf(n uint32) small {
	n = min(n, 1<<24-1)
	return small{byte(n), byte(n >> 8), byte(n >> 16)}
}

func (s small) n() uint32 { return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 }

// holder is what many sockets share: who holds them and where, and when the kernel would give them up.
type holder struct {
	settings
	comm   [16]byte
	cgroup uint64 // of version 2, by inode number; 0: unknown, or the root
	netns  uint32
	pid    uint32
	family uint16
}

// received notes when the socket received something last.
func (k *known) received(r *bpf.SocketRow) {
	k.receivedAt = 0
	if r.Sock.ReceivedMS != bpf.Unknown {
		// within a tick of the machine's start the age may exceed the clock
		k.receivedAt = r.Header.KTime - min(r.Header.KTime-1, uint64(r.Sock.ReceivedMS)*uint64(time.Millisecond))
	}
}

// sign is what makes two looks at one socket differ enough to be told.
type sign struct {
	state       uint8
	retransmits uint8
	backoff     uint8
	probesOut   uint8
	window      bool // the peer's window is closed: its application does not read
}

func (s sign) trouble() bool {
	return s.retransmits != 0 || s.backoff != 0 || s.probesOut != 0 || s.window
}

func signOf(s *bpf.Sock) sign {
	return sign{
		state:       s.State,
		retransmits: s.Retransmits,
		backoff:     s.Backoff,
		probesOut:   s.ProbesOut,
		window:      s.Timer == bpf.TimerProbe0 && s.SndWnd == 0,
	}
}

// settings are the fields of a socket that LimitsOf reads, as the probes tell them: quicker to compare.
type settings struct {
	rtoMin, rtoMax, time, interval, userTimeout uint32
	flags, probes, retries2, syn, orphan        uint8
}

func settingsOf(s *bpf.Sock) settings {
	return settings{
		s.RTOMinMS, s.RTOMaxMS, s.KeepaliveTimeMS, s.KeepaliveIntvlMS, s.UserTimeoutMS,
		s.Flags & bpf.FlagKeepalive, s.KeepaliveProbes, s.Retries2, s.SynRetries, s.OrphanRetries,
	}
}

func (l settings) limits() event.Limits {
	return LimitsOf(&bpf.Sock{
		RTOMinMS: l.rtoMin, RTOMaxMS: l.rtoMax, KeepaliveTimeMS: l.time, KeepaliveIntvlMS: l.interval, UserTimeoutMS: l.userTimeout,
		Flags: l.flags, KeepaliveProbes: l.probes, Retries2: l.retries2, SynRetries: l.syn, OrphanRetries: l.orphan,
	})
}

// listener is a port of a namespace on which somebody listens.
type listener struct {
	netns uint32
	port  uint16
}

// table remembers the sockets of the last look. It belongs to one goroutine.
type table struct {
	pass      uint32
	met       int  // sockets that this look has met
	restate   bool // this look tells all of them
	index     compact.Index[key]
	rows      compact.Slab[known]
	hosts     compact.Addrs
	holders   compact.Shared[holder]
	follows   uint64              // looks at the sockets in trouble so far
	orphans   map[key]uint64      // sockets that no process holds, which looks do not meet and do not forget: the newest look at the troubled that saw each
	listeners map[listener]uint32 // newest look that saw it
	seed      maphash.Seed
	comms     map[[16]byte]string // of holders
}

func newTable() *table {
	t := &table{
		rows:      compact.NewSlab[known](),
		hosts:     compact.NewAddrs(),
		holders:   compact.NewShared[holder](),
		listeners: make(map[listener]uint32),
		orphans:   make(map[key]uint64),
		seed:      maphash.MakeSeed(),
		comms:     make(map[[16]byte]string),
	}
	t.index = compact.NewIndex(func(i uint32) key { return t.keyAt(t.rows.At(i)) })
	return t
}

// keyOf returns the key of a socket as it is met now: its cookie, or a hash of its tuple where the kernel never made one; the top bit
// tells the two apart.
func (t *table) keyOf(r *bpf.SocketRow) key {
	if r.Sock.Cookie != 0 {
		return key{r.Sock.Cookie, r.Sock.Netns}
	}
	return t.tupleKey(&r.Sock, identityOf(r))
}

// keyAt is keyOf of a socket that was met before.
func (t *table) keyAt(k *known) key {
	netns := t.holders.At(k.holder).netns
	if cookie := k.id.cookie(); cookie != 0 {
		return key{cookie, netns}
	}
	return t.hash(tuple{t.hosts.Addr(k.local), t.hosts.Addr(k.peer), k.localPort, k.peerPort, 0}, k.id, netns)
}

// tupleKey is the key of a socket that has no cookie, or had none when it was met first.
func (t *table) tupleKey(s *bpf.Sock, id identity) key {
	return t.hash(tuple{s.Local, s.Peer, s.LocalPort, s.PeerPort, 0}, id, s.Netns)
}

type tuple struct {
	local, peer         compact.Addr
	localPort, peerPort uint16
	inode               uint32 // of a listener: several may share an address (SO_REUSEPORT)
}

func (t *table) hash(of tuple, id identity, netns uint32) key {
	if of.peerPort == 0 {
		of.inode = id.inode()
	}
	return key{maphash.Comparable(t.seed, of) | noCookie, netns}
}

// begin starts a look.
func (t *table) begin() {
	t.pass++
	t.met = 0
}

// listen notes the port of a listener.
func (t *table) listen(s *bpf.Sock) {
	t.listeners[listener{s.Netns, s.LocalPort}] = t.pass
}

// seen is what a look found of one socket.
type seen struct {
	*known              // valid until the next see
	change event.Change // empty: nothing worth telling
	again  bool         // another file holds the socket that this look has met already
	sent   uint32       // segments sent since the last look
	resent uint32       // of these again
}

// see takes a row of the census in. gone is called for a socket whose place the row's has taken.
func (t *table) see(r *bpf.SocketRow, gone func(*known)) seen {
	s := &r.Sock
	i, named := t.find(r, gone)
	ok := i != 0
	if !ok {
		i = t.place(t.keyOf(r), r)
	}
	k := t.rows.At(i)
	if ok && k.pass == uint16(t.pass) {
		again := seen{known: k, again: true}
		if named {
			again.change = event.SocketChanged
		}
		return again
	}
	out := seen{known: k}
	now := signOf(s)
	accepted := t.accepts(s)
	if !ok {
		out.change = event.SocketSeen
		if t.pass > 1 { // what the first look finds was sent before anybody looked
			out.sent, out.resent = s.SegsOut, s.TotalRetrans
		}
	} else {
		out.sent, out.resent = s.SegsOut-k.segsOut, s.TotalRetrans-k.retrans
		spoke := now.trouble() && uint16(s.SegsIn) != k.segsIn
		if now != k.sign || spoke || t.settle(k, s) || t.move(k, r) || accepted && !k.accepted || named {
			out.change = event.SocketChanged
		}
		if t.restate {
			out.change = event.SocketSeen
		}
	}
	k.pass = uint16(t.pass)
	t.met++
	k.sign = now
	k.accepted = k.accepted || accepted // its listener may be gone by now
	k.segsOut, k.segsIn, k.retrans = s.SegsOut, uint16(s.SegsIn), s.TotalRetrans
	k.unacked, k.rtoMS = smallOf(s.Unacked), smallOf(s.RTOMS)
	k.received(r)
	return out
}

// settle notes a socket's settings, and says whether they have changed.
func (t *table) settle(k *known, s *bpf.Sock) bool {
	h := t.holders.At(k.holder)
	is := settingsOf(s)
	if h.settings == is {
		return false
	}
	next := *h
	next.settings = is
	k.holder = t.holders.Swap(k.holder, next)
	return true
}

// move notes the cgroup of the process that holds a socket, and says whether it has changed: a runtime may start a process
// first and put it into its container's then.
func (t *table) move(k *known, r *bpf.SocketRow) bool {
	h := t.holders.At(k.holder)
	if h.cgroup == r.Cgroup || h.pid != r.PID {
		return false
	}
	next := *h
	next.cgroup = r.Cgroup
	k.holder = t.holders.Swap(k.holder, next)
	return true
}

func (t *table) accepts(s *bpf.Sock) bool {
	if s.State == bpf.StateListen {
		return false
	}
	_, ok := t.listeners[listener{s.Netns, s.LocalPort}]
	return ok
}

// place gives a socket that was not known a row.
func (t *table) place(id key, r *bpf.SocketRow) uint32 {
	s := &r.Sock
	i := t.rows.Add(known{
		id: identityOf(r), local: t.hosts.Hold(s.Local), peer: t.hosts.Hold(s.Peer), localPort: s.LocalPort, peerPort: s.PeerPort,
		holder: t.holders.Hold(holder{settings: settingsOf(s), comm: r.Comm, cgroup: r.Cgroup, netns: s.Netns, pid: r.PID, family: s.Family}),
	})
	t.index.Put(id, i)
	return i
}

// len is how many sockets the newest look saw.
func (t *table) len() int { return t.index.Len() }

// sweep forgets the sockets and listeners that the look which just ended did not see, and calls gone for each socket.
func (t *table) sweep(gone func(*known)) {
	if t.met != t.index.Len() { // else it met them all
		for i := uint32(1); i < t.rows.End(); i++ {
			k := t.rows.At(i)
			if k.holder == 0 || k.pass == uint16(t.pass) {
				continue
			}
			if id := t.keyAt(k); t.orphans[id] == 0 {
				gone(k)
				t.forget(id, i)
			}
		}
	}
	for l, pass := range t.listeners {
		if pass != t.pass {
			delete(t.listeners, l)
		}
	}
	if len(t.comms) > 2*t.holders.Len()+internSlack {
		clear(t.comms)
	}
}

// internSlack is how many names may be remembered though no socket's holder has them.
const internSlack = 1024

func (t *table) comm(c [16]byte) string {
	text, ok := t.comms[c]
	if !ok {
		text = commString(c)
		t.comms[c] = text
	}
	return text
}

func (k *known) role() event.Role {
	switch {
	case k.sign.state == bpf.StateListen:
		return event.RoleListening
	case k.accepted:
		return event.RoleAccepted
	}
	return event.RoleDialled
}

func (t *table) localAddr(k *known) netip.Addr { return t.hosts.Addr(k.local).IP() }
func (t *table) peerAddr(k *known) netip.Addr  { return t.hosts.Addr(k.peer).IP() }
