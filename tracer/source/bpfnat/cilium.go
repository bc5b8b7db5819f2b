package bpfnat

import (
	"fmt"

	"github.com/midhop/midhop/tracer/event"
)

// The maps of Cilium that tell of translations, by the names of their pins (pkg/maps/ctmap, nat, lbmap), and the same of
// IPv6. "External" is every address outside the node.
const (
	ciliumCT4      = "cilium_ct4_global"
	ciliumCT6      = "cilium_ct6_global"
	ciliumSNAT4    = "cilium_snat_v4_external"
	ciliumSNAT6    = "cilium_snat_v6_external"
	ciliumRevNAT4  = "cilium_lb4_reverse_nat"
	ciliumRevNAT6  = "cilium_lb6_reverse_nat"
	ciliumBackend4 = "cilium_lb4_backends_v3" // 1.12 and newer
	ciliumBackend6 = "cilium_lb6_backends_v3"
	ciliumSockRev4 = "cilium_lb4_reverse_sk"
	ciliumRetries4 = "cilium_snat_v4_alloc_retries" // 1.18 and newer
	ciliumRetries6 = "cilium_snat_v6_alloc_retries"
)

// Flags of a tuple (TUPLE_F_* of bpf/lib/common.h).
const (
	tupleOut     = 0
	tupleIn      = 1
	tupleService = 4
)

// Bits of a connection's flags (ct_entry of bpf/lib/common.h); the others have moved between versions, or say nothing here.
const (
	ctRxClosing  = 0x01
	ctTxClosing  = 0x02
	ctSeenNonSYN = 0x10
	ctNodePort   = 0x20
	ctDSR        = 0x80
)

const tcpSYN = 0x02

// family tells the layouts of the two address families apart.
type family struct {
	addr     int // bytes of an address
	key      int // of a tuple
	nat      int // of an entry of the SNAT map
	natTo    int // where its address begins
	revNAT   int
	backend  int
	backends int // bytes of a key of the backends
}

var (
	family4 = family{addr: 4, key: 14, nat: 40, natTo: 32, revNAT: 6, backend: 12, backends: 4}
	family6 = family{addr: 16, key: 38, nat: 56, natTo: 32, revNAT: 18, backend: 24, backends: 4}
)

const (
	ctSize      = 56 // of every version since 1.12
	revNATKey   = 2
	retriesSize = 4
)

// ciliumTuple is a key of the CT and the SNAT maps. What its fields mean depends on the map and the flags: see snatPacket,
// ctPacket and servicePacket.
type ciliumTuple struct {
	daddr, saddr event.Endpoint // the ports that stand beside the addresses of the same letter
	proto, flags uint8
}

func (f *family) tuple(b []byte) (ciliumTuple, error) {
	if len(b) != f.key {
		return ciliumTuple{}, sizeError("key of a connection", len(b), f.key)
	}
	a := f.addr
	return ciliumTuple{
		daddr: endpoint(address(b[:a]), network(b[2*a:])), saddr: endpoint(address(b[a:2*a]), network(b[2*a+2:])),
		proto: b[2*a+4], flags: b[2*a+5],
	}, nil
}

// put writes a tuple as the maps hold it.
func (f *family) put(t ciliumTuple) []byte {
	b := make([]byte, 0, f.key)
	b = append(b, t.daddr.IP.AsSlice()...)
	b = append(b, t.saddr.IP.AsSlice()...)
	b = append(b, byte(t.daddr.Port>>8), byte(t.daddr.Port), byte(t.saddr.Port>>8), byte(t.saddr.Port))
	return append(b, t.proto, t.flags)
}

// snatPacket is the packet that a key of the SNAT map stands for, as it is on the wire.
func (t *ciliumTuple) snatPacket() event.Tuple { return event.Tuple{Src: t.saddr, Dst: t.daddr} }

// ctPacket is the packet of the original direction, after a translation of its destination, that a key of the CT map with
// the flag out or in stands for: the addresses are exchanged, the ports are not (ct_extract_tuple, ipv4_ct_tuple_reverse).
func (t *ciliumTuple) ctPacket() event.Tuple {
	return event.Tuple{Src: event.Endpoint{IP: t.daddr.IP, Port: t.saddr.Port}, Dst: event.Endpoint{IP: t.saddr.IP, Port: t.daddr.Port}}
}

// servicePacket is the packet of the original direction, before any translation, that a key of the CT map with the flag of
// services stands for: the ports are exchanged, the addresses are not (lb4_extract_tuple).
func (t *ciliumTuple) servicePacket() event.Tuple {
	return event.Tuple{Src: event.Endpoint{IP: t.saddr.IP, Port: t.daddr.Port}, Dst: event.Endpoint{IP: t.daddr.IP, Port: t.saddr.Port}}
}

// ctKey is the key under which the CT map holds a packet of the original direction, after a translation of its destination.
func ctKey(packet event.Tuple, flags uint8) ciliumTuple {
	return ciliumTuple{
		daddr: event.Endpoint{IP: packet.Src.IP, Port: packet.Dst.Port}, saddr: event.Endpoint{IP: packet.Dst.IP, Port: packet.Src.Port},
		proto: protoTCP, flags: flags,
	}
}

// snatKey is the key under which the SNAT map holds a packet.
func snatKey(packet event.Tuple, flags uint8) ciliumTuple {
	return ciliumTuple{daddr: packet.Dst, saddr: packet.Src, proto: protoTCP, flags: flags}
}

// ciliumCT is what is read of a connection: only fields that have stood at one place since 1.12.
type ciliumCT struct {
	backend          uint32 // of a service's entry: the number of its backend
	expires          uint32 // units of the map's clock
	flags            uint16
	service          [2]byte // key of the reverse NAT map, as it stands; 0: none
	txFlags, rxFlags uint8   // TCP flags seen: towards the backend, from it
	txSeen, rxSeen   uint32  // units of the map's clock, coarse by 5 s
}

func decodeCT(b []byte) (ciliumCT, error) {
	if len(b) != ctSize {
		return ciliumCT{}, sizeError("connection", len(b), ctSize)
	}
	return ciliumCT{
		backend: host.Uint32(b[8:]), expires: host.Uint32(b[32:]), flags: host.Uint16(b[36:]), service: [2]byte(b[38:40]),
		txFlags: b[42], rxFlags: b[43], txSeen: host.Uint32(b[48:]), rxSeen: host.Uint32(b[52:]),
	}, nil
}

// dsrAddress is the address that was dialled, in the entry of a backend's node that answers clients itself. Since 1.19 it
// stands where older versions count packets and bytes, and nothing says which version wrote an entry: an IPv4 address is
// known by the twelve zero bytes before it. It is invalid where the entry does not tell.
func (f *family) dsrAddress(b []byte) event.Endpoint {
	ip, port := b[16-f.addr:16], network(b[40:])
	if f.addr != 4 || port == 0 || [12]byte(b[:12]) != [12]byte{} || [4]byte(ip) == [4]byte{} {
		return event.Endpoint{}
	}
	return endpoint(address(ip), port)
}

// state names the connection's state in conntrack's words, empty where it has none.
func (c *ciliumCT) state() string {
	switch {
	case c.flags&(ctRxClosing|ctTxClosing) == ctRxClosing|ctTxClosing:
		return "close"
	case c.flags&(ctRxClosing|ctTxClosing) != 0:
		return "fin_wait"
	case c.flags&ctSeenNonSYN != 0 && c.rxFlags&tcpSYN != 0:
		return "established"
	case c.rxFlags&tcpSYN != 0:
		return "syn_recv"
	case c.txFlags == tcpSYN:
		return "syn_sent"
	}
	return ""
}

// ciliumNAT is an entry of the SNAT map.
type ciliumNAT struct {
	created uint64 // units of the map's clock
	to      event.Endpoint
}

func (f *family) natEntry(b []byte) (ciliumNAT, error) {
	if len(b) != f.nat {
		return ciliumNAT{}, sizeError("translation", len(b), f.nat)
	}
	at := f.natTo
	return ciliumNAT{created: host.Uint64(b), to: endpoint(address(b[at:at+f.addr]), network(b[at+f.addr:]))}, nil
}

// addressPort reads the value of the reverse NAT map and the head of a backend's: an address and a port.
func (f *family) addressPort(b []byte, what string, size int) (event.Endpoint, error) {
	if len(b) != size {
		return event.Endpoint{}, sizeError(what, len(b), size)
	}
	return endpoint(address(b[:f.addr]), network(b[f.addr:])), nil
}

// SizeError says that a map's keys or values have a size that no known version has.
type SizeError struct {
	What      string // what the key or value is
	Got, Want int    // bytes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("a %s has %d bytes, and %d in every version that is known", e.What, e.Got, e.Want)
}

func sizeError(what string, got, want int) error { return &SizeError{What: what, Got: got, Want: want} }
