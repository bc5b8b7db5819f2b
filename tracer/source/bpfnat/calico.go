package bpfnat

import (
	"fmt"
	"net/netip"

	"github.com/midhop/midhop/tracer/event"
)

// calicoLayout is where the fields of one version of Calico's conntrack map stand (felix/bpf-gpl/conntrack_types.h).
type calicoLayout struct {
	name           string // of the pin
	addr           int    // bytes of an address
	key, value     int    // bytes
	legs           int    // where the two legs begin
	leg, legBits   int    // bytes of a leg, and where its bits stand
	tun, dst, port int    // of a reverse entry: the other node, and what was dialled
	wide           bool   // flags have more than one byte
}

// calicoLayouts are all versions, the newest first: an upgrade leaves the old map's pin behind for a while.
var calicoLayouts = []calicoLayout{
	{name: "cali_v4_ct4", addr: 4, key: 16, value: 88, legs: 24, leg: 24, legBits: 16, tun: 72, dst: 76, port: 80, wide: true},
	{name: "cali_v6_ct4", addr: 16, key: 40, value: 128, legs: 24, leg: 24, legBits: 16, tun: 72, dst: 88, port: 104, wide: true},
	{name: "cali_v4_ct3", addr: 4, key: 16, value: 88, legs: 24, leg: 24, legBits: 16, tun: 72, dst: 76, port: 80, wide: true},
	{name: "cali_v6_ct3", addr: 16, key: 40, value: 128, legs: 24, leg: 24, legBits: 16, tun: 72, dst: 88, port: 104, wide: true},
	{name: "cali_v4_ct2", addr: 4, key: 16, value: 64, legs: 24, leg: 12, legBits: 4, tun: 56, dst: 48, port: 52},
}

// Types of an entry (CALI_CT_TYPE_*).
const (
	calicoNormal  = 0
	calicoForward = 1
	calicoReverse = 2
)

// Flags of an entry (CALI_CT_FLAG_*).
const (
	calicoNPForward = 0x4   // this node hands the connection on to the backend's node, which tun_ip names
	calicoBA        = 0x100 // the connection began at B
)

// Bits of a leg.
const (
	legSYN    = 0x01
	legACK    = 0x02
	legFIN    = 0x04
	legRST    = 0x08
	legOpener = 0x20
)

// calicoKey is a connection without a direction: A is the end that sorts lower.
type calicoKey struct {
	proto uint32
	a, b  event.Endpoint
}

func (l *calicoLayout) decodeKey(b []byte) (calicoKey, error) {
	if len(b) != l.key {
		return calicoKey{}, sizeError("key of "+l.name, len(b), l.key)
	}
	ports := 4 + 2*l.addr
	return calicoKey{
		proto: host.Uint32(b),
		a:     endpoint(address(b[4:4+l.addr]), host.Uint16(b[ports:])),
		b:     endpoint(address(b[4+l.addr:ports]), host.Uint16(b[ports+2:])),
	}, nil
}

// calicoEntry is what is read of a connection.
type calicoEntry struct {
	seen    uint64 // ns since boot (CLOCK_MONOTONIC): the last packet of either direction
	kind    uint8
	flags   uint32
	back    calicoKey  // of a forward entry: the key of its reverse one
	tun     netip.Addr // of a reverse entry: the node at the other end of the tunnel
	dialled event.Endpoint
	ab, ba  uint32 // bits of the legs
}

func (l *calicoLayout) decodeValue(b []byte) (calicoEntry, error) {
	if len(b) != l.value {
		return calicoEntry{}, sizeError("value of "+l.name, len(b), l.value)
	}
	e := calicoEntry{seen: host.Uint64(b[8:]), kind: b[16], flags: uint32(b[17])}
	if l.wide {
		e.flags |= uint32(b[23])<<8 | uint32(b[18])<<16 | uint32(b[19])<<24
	}
	switch e.kind {
	case calicoForward:
		var err error
		if e.back, err = l.decodeKey(b[24 : 24+l.key]); err != nil {
			return e, err
		}
	case calicoNormal, calicoReverse:
		e.ab, e.ba = host.Uint32(b[l.legs+l.legBits:]), host.Uint32(b[l.legs+l.leg+l.legBits:])
		if tun := address(b[l.tun : l.tun+l.addr]); !tun.IsUnspecified() {
			e.tun = tun
		}
		e.dialled = endpoint(address(b[l.dst:l.dst+l.addr]), host.Uint16(b[l.port:]))
	default:
		return e, fmt.Errorf("an entry of %s is of the type %d, which no known version has", l.name, e.kind)
	}
	return e, nil
}

// packet is the original direction of a connection, after the translation of its destination.
func (e *calicoEntry) packet(k *calicoKey) event.Tuple {
	fromB := e.flags&calicoBA != 0
	if (e.ab^e.ba)&legOpener != 0 { // one leg says that it began the connection: that is older than the flag
		fromB = e.ba&legOpener != 0
	}
	if fromB {
		return event.Tuple{Src: k.b, Dst: k.a}
	}
	return event.Tuple{Src: k.a, Dst: k.b}
}

// closed reports whether both ends have said that they are done, or one has reset the connection.
func (e *calicoEntry) closed() bool {
	return (e.ab|e.ba)&legRST != 0 || e.ab&e.ba&legFIN != 0
}

// established reports whether both ends have begun.
func (e *calicoEntry) established() bool { return e.ab&e.ba&legSYN != 0 && (e.ab|e.ba)&legACK != 0 }

// state names the connection's state in conntrack's words, empty where it has none.
func (e *calicoEntry) state() string {
	switch {
	case e.closed():
		return "close"
	case (e.ab|e.ba)&legFIN != 0:
		return "fin_wait"
	case e.established():
		return "established"
	case (e.ab|e.ba)&legSYN != 0:
		return "syn_sent"
	}
	return ""
}
