package bpfnat

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// table is a map of a dataplane as a pass reads it. Keys and values are valid until f returns.
type table interface {
	// Each calls f for all entries.
	Each(f func(key, value []byte)) error
	// Has reports whether there is an entry with this key now.
	Has(key []byte) (bool, error)
}

// ciliumMaps are the maps of one family. services and backends may be nil: then what was dialled, or the backend of a
// connection that keeps its source, is not known.
type ciliumMaps struct {
	family             *family
	ct, snat           table
	services, backends table // reverse NAT by number; backends by number
}

// ciliumPass reads the maps of one family and hands on what is alive. The maps change while they are read: what is half there
// is left to the next pass.
type ciliumPass struct {
	node  string // whose maps they are
	maps  ciliumMaps
	known func(original, reply event.Tuple) bool // whether a translation was told already; nil: none was
	clock ciliumClock
	timed bool // the clock is known

	services map[[2]byte]event.Endpoint
	backends map[uint32]event.Endpoint
	forward  map[event.Tuple]event.Endpoint // packets of the original direction -> the source that they get
	reverse  map[event.Tuple]reverseEntry   // the same packets -> the newest reverse entry
	newest   uint32                         // time of the newest packet of all connections, by the map's clock
	bad      uint64                         // entries that could not be understood
	snats    int                            // entries read, by map
	cts      int
}

type reverseEntry struct {
	peer    event.Endpoint // what the backend sees
	created uint64
}

// run calls see for every live translation.
func (p *ciliumPass) run(m moment, see func(*translation)) error {
	p.forward, p.reverse = make(map[event.Tuple]event.Endpoint), make(map[event.Tuple]reverseEntry)
	if p.known == nil {
		p.known = func(event.Tuple, event.Tuple) bool { return false }
	}
	p.services, p.backends = make(map[[2]byte]event.Endpoint), make(map[uint32]event.Endpoint)
	if err := p.numbers(); err != nil {
		return err
	}
	if err := p.maps.snat.Each(p.snatEntry); err != nil {
		return err
	}
	if err := p.maps.ct.Each(func(_, value []byte) {
		if c, err := decodeCT(value); err == nil {
			p.newest = later(p.newest, later(c.txSeen, c.rxSeen))
		}
	}); err != nil {
		return err
	}
	p.clock, p.timed = ciliumClockOf(p.newest, m)
	return p.maps.ct.Each(func(key, value []byte) { p.connection(key, value, see) })
}

// numbers reads what stands behind the numbers of services and backends: there are few of these.
func (p *ciliumPass) numbers() error {
	f := p.maps.family
	if p.maps.services != nil {
		if err := p.maps.services.Each(func(key, value []byte) {
			if e, err := f.addressPort(value, "service", f.revNAT); err == nil && len(key) == revNATKey {
				p.services[[2]byte(key)] = e
			} else {
				p.bad++
			}
		}); err != nil {
			return err
		}
	}
	if p.maps.backends == nil {
		return nil
	}
	return p.maps.backends.Each(func(key, value []byte) {
		if e, err := f.addressPort(value, "backend", f.backend); err == nil && len(key) == f.backends {
			p.backends[host.Uint32(key)] = e
		} else {
			p.bad++
		}
	})
}

// later is the later of two values of a clock of 32 bits.
func later(a, b uint32) uint32 {
	if a == 0 || b != 0 && int32(b-a) > 0 {
		return b
	}
	return a
}

func (p *ciliumPass) snatEntry(key, value []byte) {
	p.snats++
	f := p.maps.family
	t, err := f.tuple(key)
	if err != nil {
		p.bad++
		return
	}
	n, err := f.natEntry(value)
	switch {
	case err != nil:
		p.bad++
	case t.proto != protoTCP:
	case t.flags == tupleOut:
		p.forward[t.snatPacket()] = n.to
	case t.flags == tupleIn:
		// Of several reverse entries of one connection the newest is believed: older ones stay when their forward entry is
		// lost and made anew.
		reply := t.snatPacket()
		k := event.Tuple{Src: n.to, Dst: reply.Src}
		if old, ok := p.reverse[k]; !ok || n.created >= old.created {
			p.reverse[k] = reverseEntry{peer: reply.Dst, created: n.created}
		}
	}
}

// connection joins an entry of the CT map to its translation of the source, if it has one.
func (p *ciliumPass) connection(key, value []byte, see func(*translation)) {
	p.cts++
	t, err := p.maps.family.tuple(key)
	if err != nil {
		p.bad++
		return
	}
	c, err := decodeCT(value)
	switch {
	case err != nil:
		p.bad++
	case t.proto != protoTCP || p.expired(&c):
	case t.flags == tupleOut:
		p.translated(&t, &c, value, see)
	case t.flags == tupleService:
		p.handedOn(&t, &c, see)
	}
}

func (p *ciliumPass) expired(c *ciliumCT) bool {
	return p.timed && int32(c.expires-uint32(p.clock.now)) < 0
}

// translated tells of a connection whose source this node translates (a hop, or the way out), or that came to a backend of
// this node by a service's address.
func (p *ciliumPass) translated(t *ciliumTuple, c *ciliumCT, value []byte, see func(*translation)) {
	packet := t.ctPacket()
	peer, ok := p.forward[packet]
	r, back := p.reverse[packet]
	switch {
	case !ok && !back:
		p.arrived(packet, c, value, see)
		return
	case !ok:
		peer = r.peer
	}
	if peer.IP == packet.Src.IP {
		return // a connection of the host's own, which keeps its address
	}
	is := translation{original: packet, reply: event.Tuple{Src: packet.Dst, Dst: peer}, state: c.state()}
	if c.flags&ctNodePort != 0 {
		if vip := p.services[c.service]; vip.IP.IsValid() {
			is.original.Dst = vip
		}
	}
	p.times(&is, c)
	if back && r.peer == peer && p.timed {
		is.created = p.clock.at(uint32(r.created))
	}
	see(&is)
}

// arrived tells of a connection to a backend on this node that keeps its source, and by which address it was dialled.
func (p *ciliumPass) arrived(packet event.Tuple, c *ciliumCT, value []byte, see func(*translation)) {
	var dialled event.Endpoint
	switch {
	case c.flags&ctNodePort != 0:
		dialled = p.services[c.service]
	case c.flags&ctDSR != 0:
		// Until 1.18 the replies' source is an entry of the SNAT map, and since then it stands in the connection's own.
		reply := event.Tuple{Src: packet.Dst, Dst: packet.Src}
		var ok bool
		if dialled, ok = p.forward[reply]; !ok {
			dialled = p.maps.family.dsrAddress(value)
		}
	}
	if !dialled.IP.IsValid() || dialled == packet.Dst {
		return
	}
	is := translation{original: event.Tuple{Src: packet.Src, Dst: dialled}, reply: event.Tuple{Src: packet.Dst, Dst: packet.Src}, state: c.state()}
	if c.flags&ctNodePort != 0 && !p.known(is.original, is.reply) && !p.delivered(packet) {
		return
	}
	p.times(&is, c)
	see(&is)
}

// delivered reports whether a connection ends at a pod of this node: then its packets have an entry as they enter the pod, too.
// Without one its source was translated, and that entry was lost or is younger than the look at the SNAT map.
func (p *ciliumPass) delivered(packet event.Tuple) bool {
	has, err := p.maps.ct.Has(p.maps.family.put(ctKey(packet, tupleIn)))
	return has && err == nil
}

// handedOn tells of a connection that this node translates to a backend elsewhere without touching its source: the backend
// answers the client itself (DSR), so that this entry alone names the node in the middle.
func (p *ciliumPass) handedOn(t *ciliumTuple, c *ciliumCT, see func(*translation)) {
	packet := t.servicePacket()
	backend := p.backends[c.backend]
	if !backend.IP.IsValid() {
		return
	}
	after := event.Tuple{Src: packet.Src, Dst: backend}
	if _, ok := p.forward[after]; ok {
		return // translated tells of it
	}
	if _, ok := p.reverse[after]; ok {
		return
	}
	is := translation{
		original: packet, reply: event.Tuple{Src: backend, Dst: packet.Src}, state: c.state(),
		hop: event.Hop{Node: p.node, From: "Cilium's entry of the service"},
	}
	p.times(&is, c)
	see(&is)
}

func (p *ciliumPass) times(t *translation, c *ciliumCT) {
	if p.timed {
		t.expires = p.clock.at(c.expires)
	}
}

// calicoPass reads one conntrack map of Calico.
type calicoPass struct {
	node   string // whose map it is
	layout *calicoLayout
	table  table
	bad    uint64
	read   int
}

// calicoTimeout is how long Calico keeps an established connection in which nothing moves (conntrack/timeouts, the
// default of TCPEstablished).
const calicoTimeout = time.Hour

// run calls see for every live connection that was translated.
func (p *calicoPass) run(m moment, see func(*translation)) error {
	return p.table.Each(func(key, value []byte) {
		p.read++
		k, err := p.layout.decodeKey(key)
		if err != nil {
			p.bad++
			return
		}
		e, err := p.layout.decodeValue(value)
		switch {
		case err != nil:
			p.bad++
		case m.mono > time.Duration(e.seen)+calicoTimeout: // also all of a map that an upgrade has left behind
		case k.proto == protoTCP && e.kind == calicoReverse && !e.dialled.IP.IsUnspecified():
			see(p.translated(&k, &e, m))
		}
	})
}

func (p *calicoPass) translated(k *calicoKey, e *calicoEntry, m moment) *translation {
	packet := e.packet(k)
	t := &translation{
		original: event.Tuple{Src: packet.Src, Dst: e.dialled},
		reply:    event.Tuple{Src: packet.Dst, Dst: packet.Src},
		state:    e.state(),
		expires:  m.at(time.Duration(e.seen) + calicoTimeout),
	}
	switch {
	case !e.tun.IsValid():
	case e.flags&calicoNPForward != 0:
		t.hop = event.Hop{Node: p.node, From: "Calico's entry, which hands it on to " + e.tun.String()}
	default:
		t.hop = event.Hop{IP: e.tun, From: "tun_ip of the backend's own entry"}
	}
	return t
}
