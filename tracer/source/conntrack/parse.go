package conntrack

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/midhop/midhop/tracer/event"
)

// tuple is one direction of an entry: addresses IPv4-mapped, so that it holds no pointer and the collector need not look
// into the table of them.
type tuple struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
}

func (t tuple) endpoints() event.Tuple {
	return event.Tuple{
		Src: event.Endpoint{IP: netip.AddrFrom16(t.src).Unmap(), Port: t.srcPort},
		Dst: event.Endpoint{IP: netip.AddrFrom16(t.dst).Unmap(), Port: t.dstPort},
	}
}

// key names an entry as the kernel does (nf_ct_key_equal): its original direction and its zone.
type key struct {
	original tuple
	zone     uint16
}

// entry is what a ctnetlink message says of a translated TCP connection.
type entry struct {
	key
	reply   tuple
	id      uint32 // CTA_ID, nf_ct_get_id: another connection with the same tuple has another
	mark    uint32
	timeout uint32 // whole seconds until it is forgotten, unless something moves; noTimeout where not told
	started int64  // Unix nanoseconds, where nf_conntrack_timestamp is on; 0 where not told
	nat     uint8  // statusSrcNAT, statusDstNAT
	state   uint8  // see stateNames; 0 where not told
}

// Bits of CTA_STATUS (enum ip_conntrack_status, nf_conntrack_common.h).
const (
	statusSrcNAT = 1 << 4
	statusDstNAT = 1 << 5
	statusNAT    = statusSrcNAT | statusDstNAT
)

// Attributes (nfnetlink_conntrack.h).
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoInfo  = 4
	ctaTimeout    = 7
	ctaMark       = 8
	ctaID         = 12
	ctaZone       = 18
	ctaTimestamp  = 20
	ctaTop        = 21 // above these nothing is read

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum     = 1
	ctaProtoSrcPort = 2
	ctaProtoDstPort = 3

	ctaProtoInfoTCP      = 1
	ctaProtoInfoTCPState = 1

	ctaTimestampStart = 1
)

// The states of CTA_PROTOINFO_TCP_STATE (enum tcp_conntrack, nf_conntrack_tcp.h).
const (
	stateSynSent     = 1
	stateEstablished = 3
	stateLastAck     = 6
	stateTimeWait    = 7
	stateClose       = 8
	stateSynSent2    = 9
)

var stateNames = [...]string{
	"", "syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close", "syn_sent2",
}

func stateName(state uint8) string {
	if int(state) < len(stateNames) {
		return stateNames[state]
	}
	return ""
}

const protoTCP = 6

// noTimeout is longer than any timeout. A 0 is told too: less than a second is left.
const noTimeout = math.MaxUint32

// attributes calls f for each attribute of a netlink message or of a nested attribute (struct nlattr, netlink.h), whose
// flags are cut off. It stops at the first that does not fit.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:length])
		b = b[min((length+3)&^3, len(b)):]
	}
}

// parse reads a conntrack message after its struct nfgenmsg. It returns false for anything but a translated TCP
// connection.
func parse(b []byte) (entry, bool) {
	var top [ctaTop][]byte
	attributes(b, func(kind uint16, value []byte) {
		if kind < ctaTop {
			top[kind] = value
		}
	})
	status := bigEndian32(top[ctaStatus])
	if status&statusNAT == 0 {
		return entry{}, false
	}
	e := entry{nat: uint8(status & statusNAT)}
	if !parseTuple(top[ctaTupleOrig], &e.original, &e.zone) || !parseTuple(top[ctaTupleReply], &e.reply, nil) {
		return entry{}, false
	}
	if zone := top[ctaZone]; len(zone) == 2 {
		e.zone = binary.BigEndian.Uint16(zone)
	}
	e.id, e.mark, e.timeout = bigEndian32(top[ctaID]), bigEndian32(top[ctaMark]), noTimeout
	if len(top[ctaTimeout]) == 4 {
		e.timeout = bigEndian32(top[ctaTimeout])
	}
	attributes(top[ctaProtoInfo], func(kind uint16, value []byte) {
		if kind == ctaProtoInfoTCP {
			attributes(value, func(kind uint16, value []byte) {
				if kind == ctaProtoInfoTCPState && len(value) >= 1 {
					e.state = value[0]
				}
			})
		}
	})
	attributes(top[ctaTimestamp], func(kind uint16, value []byte) {
		if kind == ctaTimestampStart && len(value) == 8 {
			e.started = int64(binary.BigEndian.Uint64(value))
		}
	})
	return e, true
}

func bigEndian32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// parseTuple returns false for a tuple that is not of TCP or not whole.
func parseTuple(b []byte, t *tuple, zone *uint16) bool {
	var src, dst, tcp bool
	attributes(b, func(kind uint16, value []byte) {
		switch kind {
		case ctaTupleIP:
			attributes(value, func(kind uint16, value []byte) {
				a, ok := netip.AddrFromSlice(value)
				switch {
				case !ok:
				case kind == ctaIPv4Src || kind == ctaIPv6Src:
					t.src, src = a.As16(), true
				case kind == ctaIPv4Dst || kind == ctaIPv6Dst:
					t.dst, dst = a.As16(), true
				}
			})
		case ctaTupleProto:
			attributes(value, func(kind uint16, value []byte) {
				switch {
				case kind == ctaProtoNum && len(value) == 1:
					tcp = value[0] == protoTCP
				case kind == ctaProtoSrcPort && len(value) == 2:
					t.srcPort = binary.BigEndian.Uint16(value)
				case kind == ctaProtoDstPort && len(value) == 2:
					t.dstPort = binary.BigEndian.Uint16(value)
				}
			})
		case ctaTupleZone:
			if zone != nil && len(value) == 2 {
				*zone = binary.BigEndian.Uint16(value)
			}
		}
	})
	return src && dst && tcp
}

// appendKey appends the attributes that name an entry in a request.
func appendKey(b []byte, k key) []byte {
	original := k.original.endpoints()
	from, to := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
	if original.Src.IP.Is6() {
		from, to = ctaIPv6Src, ctaIPv6Dst
	}
	port := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	addresses := appendAttribute(appendAttribute(nil, from, original.Src.IP.AsSlice()), to, original.Dst.IP.AsSlice())
	proto := appendAttribute(nil, ctaProtoNum, []byte{protoTCP})
	proto = appendAttribute(proto, ctaProtoSrcPort, port(original.Src.Port))
	proto = appendAttribute(proto, ctaProtoDstPort, port(original.Dst.Port))
	both := appendAttribute(appendAttribute(nil, ctaTupleIP|nested, addresses), ctaTupleProto|nested, proto)
	b = appendAttribute(b, ctaTupleOrig|nested, both)
	if k.zone != 0 {
		b = appendAttribute(b, ctaZone, port(k.zone))
	}
	return b
}

// nested marks an attribute that holds attributes (NLA_F_NESTED).
const nested = 0x8000

// appendAttribute appends an attribute and what fills it up to a multiple of four bytes.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}
