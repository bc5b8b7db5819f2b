package bpfnat

import (
	"encoding/binary"
	"net/netip"

	"github.com/midhop/midhop/tracer/event"
)

const protoTCP = 6 // IPPROTO_TCP

// What the dataplanes write in host order is little-endian: they, and midhop, run on no other kind of machine.
var host = binary.LittleEndian

// network reads a port in network order.
func network(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// address reads an address in network order, of 4 or 16 bytes. An IPv4 address in an IPv6 one is the former.
func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}

// endpoint puts an address and a port together.
func endpoint(ip netip.Addr, port uint16) event.Endpoint { return event.Endpoint{IP: ip, Port: port} }
