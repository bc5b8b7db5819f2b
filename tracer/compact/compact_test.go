package compact

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// An index does what a map does, whatever is put in and taken out, keys that clash included.
func TestIndexIsAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rows := NewSlab[uint16]()
	x := NewIndex(func(id uint32) uint16 { return *rows.At(id) })
	want := make(map[uint16]uint32)
	for i := range 200_000 {
		k := uint16(r.IntN(9000))
		switch {
		case r.IntN(5) < 3 || i < 4000:
			if old := want[k]; old != 0 {
				x.Delete(k, old)
				rows.Drop(old)
			}
			id := rows.Add(k)
			x.Put(k, id)
			want[k] = id
		default:
			x.Delete(k, want[k]+1) // another's: nothing happens
			if id := want[k]; id != 0 {
				x.Delete(k, id)
				rows.Drop(id)
				delete(want, k)
			}
		}
		probe := uint16(r.IntN(9000))
		if got := x.Get(probe); got != want[probe] {
			t.Fatalf("step %d: key %d is row %d, want %d", i, probe, got, want[probe])
		}
	}
	if x.Len() != len(want) || rows.Len() != len(want) {
		t.Fatalf("%d in the index, %d rows, want %d", x.Len(), rows.Len(), len(want))
	}
	for k, id := range want {
		if x.Get(k) != id {
			t.Errorf("key %d is lost", k)
		}
	}
}

func TestAddrs(t *testing.T) {
	a := NewAddrs()
	var refs []Ref
	for _, text := range []string{"10.48.2.5", "255.255.255.255", "240.0.0.1", "0.0.0.7", "0.0.0.0", "2001:db8::1", "::", "1.0.0.0"} {
		ip := netip.MustParseAddr(text)
		r := a.Hold(Pack(ip))
		refs = append(refs, r)
		if got := a.Addr(r); got != Pack(ip) {
			t.Errorf("%s: %s", text, got.IP())
		}
		if again := a.Hold(Pack(ip)); again != r {
			t.Errorf("%s has two references", text)
		}
	}
	if a.Len() != 3 {
		t.Errorf("%d addresses stand in the table, want 3", a.Len())
	}
	for range 2 {
		for _, r := range refs {
			a.Release(r)
		}
	}
	if a.Len() != 0 {
		t.Errorf("%d addresses that nobody holds", a.Len())
	}
	if a.Addr(0).IP().IsValid() {
		t.Error("no address is one")
	}
}

func TestShared(t *testing.T) {
	s := NewShared[string]()
	a, b := s.Hold("a"), s.Hold("b")
	if a == b || s.Hold("a") != a || *s.At(a) != "a" || *s.At(0) != "" {
		t.Error("numbers")
	}
	if s.Swap(b, "a") != a || s.Len() != 1 {
		t.Error("swap")
	}
	for range 3 {
		s.Release(a)
	}
	if s.Len() != 0 {
		t.Errorf("%d left", s.Len())
	}
}

// Rows keep their numbers when a table grows into more chunks.
func TestSlab(t *testing.T) {
	s := NewSlab[int]()
	for i := 1; i < 3*chunk; i++ {
		if id := s.Add(i); id != uint32(i) {
			t.Fatalf("row %d has number %d", i, id)
		}
	}
	for i := 1; i < 3*chunk; i++ {
		if *s.At(uint32(i)) != i {
			t.Fatalf("row %d is %d", i, *s.At(uint32(i)))
		}
	}
	s.Drop(chunk + 5)
	if s.Len() != 3*chunk-2 || s.End() != 3*chunk || s.Add(7) != chunk+5 {
		t.Error("a dropped row")
	}
}
