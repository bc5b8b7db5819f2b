package compact

import "net/netip"

// Addr is an address in its 16-byte form, IPv4 mapped; the zero value is none.
type Addr [16]byte

// Pack returns the 16-byte form of an address.
func Pack(ip netip.Addr) Addr { return ip.As16() }

// IP gives the address back, IPv4 unmapped; invalid where there is none.
func (a Addr) IP() netip.Addr {
	if a == (Addr{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a).Unmap()
}

// Loopback says whether it is one of the machine itself: 127.0.0.0/8 or ::1.
func (a Addr) Loopback() bool {
	return a[12] == 127 && [12]byte(a[:12]) == [12]byte(mapped[:12]) || a == Addr{15: 1}
}

// Ref stands for an address in four bytes: an IPv4 address itself, or the number of another in a table of [Addrs]. Numbers
// take the place of 0.0.0.0/8, which stands in the table itself if it ever occurs. 0 is no address.
type Ref uint32

// refNumbers is the first reference that is an IPv4 address.
const refNumbers = 1 << 24

// Addrs gives addresses their references. What is not IPv4 is counted, and forgotten when nobody refers to it any more.
type Addrs struct {
	rows Slab[counted]
	ids  map[Addr]uint32
}

type counted struct {
	addr Addr
	refs uint32
}

// NewAddrs returns an empty table.
func NewAddrs() Addrs { return Addrs{rows: NewSlab[counted](), ids: make(map[Addr]uint32)} }

// mapped is what an IPv4 address begins with in its 16-byte form.
var mapped = Addr{10: 0xff, 11: 0xff}

func direct(a Addr) (Ref, bool) {
	if [12]byte(a[:12]) != [12]byte(mapped[:12]) || a[12] == 0 {
		return 0, false
	}
	return Ref(a[12])<<24 | Ref(a[13])<<16 | Ref(a[14])<<8 | Ref(a[15]), true
}

// Hold returns the reference of an address and counts it; every Hold needs a Release. It returns 0, no address, in the
// impossible case that 16 million others are held.
func (t *Addrs) Hold(a Addr) Ref {
	if r, ok := direct(a); ok || a == (Addr{}) {
		return r
	}
	id, ok := t.ids[a]
	if !ok {
		if t.rows.Len() >= refNumbers-2 {
			return 0
		}
		id = t.rows.Add(counted{addr: a})
		t.ids[a] = id
	}
	t.rows.At(id).refs++
	return Ref(id)
}

// Release ends a Hold.
func (t *Addrs) Release(r Ref) {
	if r == 0 || r >= refNumbers {
		return
	}
	c := t.rows.At(uint32(r))
	if c.refs--; c.refs == 0 {
		delete(t.ids, c.addr)
		t.rows.Drop(uint32(r))
	}
}

// Addr returns the address that a reference stands for.
func (t *Addrs) Addr(r Ref) Addr {
	if r < refNumbers {
		return t.rows.At(uint32(r)).addr
	}
	a := mapped
	a[12], a[13], a[14], a[15] = byte(r>>24), byte(r>>16), byte(r>>8), byte(r)
	return a
}

// Len is how many addresses are held that are not their own reference.
func (t *Addrs) Len() int { return t.rows.Len() }
