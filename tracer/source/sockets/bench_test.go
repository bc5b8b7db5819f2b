package sockets

import (
	"net/netip"
	"testing"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// What a look at a healthy socket costs outside the kernel.
func BenchmarkLook(b *testing.B) {
	const sockets = 50_000
	rows := make([]bpf.SocketRow, sockets)
	for i := range rows {
		peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 12), 3, byte(i >> 8 & 15)}), uint16(1024+i%60000))
		rows[i] = connection(uint64(i+1), "10.48.1.7:8080", peer.String())
	}
	s := New(&fakeLister{looks: [][]bpf.SocketRow{rows}}, Options{})
	if _, err := s.look(b.Context(), func([]event.Event) {}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.look(b.Context(), func([]event.Event) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sockets, "ns/socket")
}
