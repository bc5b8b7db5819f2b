package compact

import (
	"hash/maphash"
	"math/bits"
)

// Index finds rows by a key that the rows themselves hold: it keeps a row's number and eight bits of the key's hash, seven
// to nine bytes for each. The key of a row that is in it must not change.
type Index[K comparable] struct {
	slots []uint32 // row numbers, 0 is empty
	tags  []uint8
	n     int
	seed  maphash.Seed
	key   func(id uint32) K
}

// NewIndex returns an empty index of rows whose keys key tells.
func NewIndex[K comparable](key func(id uint32) K) Index[K] {
	return Index[K]{seed: maphash.MakeSeed(), key: key}
}

// Len is how many rows are in it.
func (x *Index[K]) Len() int { return x.n }

// home is where a key's row would stand if nothing else did, and its tag.
func (x *Index[K]) home(k K) (at int, tag uint8) {
	h := maphash.Comparable(x.seed, k)
	hi, _ := bits.Mul64(h, uint64(len(x.slots)))
	return int(hi), uint8(h)
}

// find returns the slot of a key's row, or the empty one where it belongs.
func (x *Index[K]) find(k K) (slot int, tag uint8) {
	at, tag := x.home(k)
	for x.slots[at] != 0 && !(x.tags[at] == tag && x.key(x.slots[at]) == k) {
		if at++; at == len(x.slots) {
			at = 0
		}
	}
	return at, tag
}

// Get returns the row with a key, 0 where there is none.
func (x *Index[K]) Get(k K) uint32 {
	if x.n == 0 {
		return 0
	}
	at, _ := x.find(k)
	return x.slots[at]
}

// Put makes a row the one with its key, whichever had it before.
func (x *Index[K]) Put(k K, id uint32) {
	if (x.n+1)*5 > len(x.slots)*4 {
		x.grow()
	}
	at, tag := x.find(k)
	if x.slots[at] == 0 {
		x.n++
	}
	x.slots[at], x.tags[at] = id, tag
}

// Delete takes a row out, if it is the one with this key.
func (x *Index[K]) Delete(k K, id uint32) {
	if x.n == 0 {
		return
	}
	hole, _ := x.find(k)
	if x.slots[hole] != id || id == 0 {
		return
	}
	x.n--
	// What follows moves up, unless it stands between its home and the hole.
	for at := hole; ; {
		if at++; at == len(x.slots) {
			at = 0
		}
		if x.slots[at] == 0 {
			break
		}
		home, _ := x.home(x.key(x.slots[at]))
		if between(hole, home, at) {
			continue
		}
		x.slots[hole], x.tags[hole] = x.slots[at], x.tags[at]
		hole = at
	}
	x.slots[hole] = 0
}

// between says whether home lies after hole and up to at, going round.
func between(hole, home, at int) bool {
	if hole < at {
		return hole < home && home <= at
	}
	return hole < home || home <= at
}

// Reserve makes room for so many rows and a few more at once, where it is known that they will come: growing takes their keys
// again and again.
func (x *Index[K]) Reserve(rows int) {
	if slots := rows*5/4 + rows/16 + 1; slots > len(x.slots) {
		x.resize(max(16, slots))
	}
}

// grow makes room for half as much more, and for a quarter where that is much: a table twice as large would be half empty too
// often.
func (x *Index[K]) grow() {
	n := len(x.slots)
	if n < large {
		x.resize(max(16, n+n/2))
	} else {
		x.resize(n + n/4)
	}
}

// large is how many slots are many: five bytes each are a megabyte.
const large = 200_000

// resize finds all rows their places in n slots. Memory that is far away is what growing costs, so rows are taken in their own
// order and not in that of the slots, and 64 at a time: the processor fetches what short loops need side by side.
func (x *Index[K]) resize(n int) {
	var last uint32
	for _, id := range x.slots {
		last = max(last, id)
	}
	in := make([]uint64, last/64+1)
	for _, id := range x.slots {
		in[id/64] |= 1 << (id % 64)
	}
	in[0] &^= 1 // an empty slot
	x.slots, x.tags = make([]uint32, n), make([]uint8, n)
	var homes [64]int
	var tags [64]uint8
	for i, word := range in {
		for w := word; w != 0; w &= w - 1 {
			k := bits.TrailingZeros64(w)
			homes[k], tags[k] = x.home(x.key(uint32(i*64 + k)))
		}
		for w := word; w != 0; w &= w - 1 {
			k := bits.TrailingZeros64(w)
			at := homes[k]
			for x.slots[at] != 0 {
				if at++; at == n {
					at = 0
				}
			}
			x.slots[at], x.tags[at] = uint32(i*64+k), tags[k]
		}
	}
}
