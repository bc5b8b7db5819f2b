package bpfnat

import "testing"

// BenchmarkPass is a whole pass over the maps of 100,000 connections: 200,000 entries of the SNAT map and 100,000 of the other.
func BenchmarkPass(b *testing.B) {
	w := newWorld(b, ciliumTypes)
	now, _ := uptimes(b, 0)
	w.name(nth(0))
	for i := range 100_000 {
		w.open(nth(i), now)
	}
	s := New(Options{Root: w.dir, Node: "hop"})
	r := s.readers[0]
	if _, err := r.pass(w.dir, s.moment()); err != nil {
		b.Fatal(err)
	}
	if n := r.ledger.rows.Len(); n != 100_000 {
		b.Fatalf("%d translations", n)
	}
	r.ledger.take()
	began := processTime()
	for b.Loop() {
		if _, err := r.pass(w.dir, s.moment()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processTime()-began)/float64(b.N)/1e6, "cpu-ms/pass")
}
