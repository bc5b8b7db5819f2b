package model

import (
	"net/netip"

	"github.com/midhop/midhop/tracer/compact"
)

// addr is an address without pointers.
type addr = compact.Addr

func pack(ip netip.Addr) addr { return compact.Pack(ip) }

func loopback(a addr) bool { return a.Loopback() }

// names gives strings small numbers that never change; 0 is the empty string.
type names struct {
	id   map[string]uint32
	text []string
}

func newNames() names {
	return names{id: map[string]uint32{"": 0}, text: []string{""}}
}

func (n *names) of(s string) uint32 {
	id, ok := n.id[s]
	if !ok {
		id = uint32(len(n.text))
		n.id[s] = id
		n.text = append(n.text, s)
	}
	return id
}

// small is of for sets that are closed by design (states, timers): beyond 255 different words the rest is unknown.
func (n *names) small(s string) uint8 {
	if id, ok := n.id[s]; ok {
		return uint8(id)
	}
	if len(n.text) > 255 {
		return 0
	}
	return uint8(n.of(s))
}
