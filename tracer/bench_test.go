package tracer

import (
	"fmt"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// fill folds n healthy connections through 100 nodes into a fresh river.
func fill(b *testing.B, n int) *river {
	b.Helper()
	m := model.New(model.Options{})
	r := newRiver(m, diagnose.New(m), DefaultTick, newNumbers("local", "b"))
	at := t0
	for i := range 100 {
		r.fold([]event.Event{{Type: event.NodeChanged, Time: at, Source: "kube", Body: &event.NodeFact{What: "added", Node: event.Node{
			Name: fmt.Sprintf("node-%d", i), Addresses: []event.Address{{IP: netip.AddrFrom4([4]byte{10, 146, 0, byte(i)}), From: "status InternalIP"}},
		}}}})
	}
	limits := []event.Limits{{Keepalive: true, KeepaliveTime: event.Seconds(15 * time.Second), KeepaliveInterval: event.Seconds(15 * time.Second), KeepaliveProbes: 9, Retries2: 15}}
	for i := 0; i < n; i += 24 {
		body := &event.Sockets{Pass: 1, Limits: limits}
		for k := i; k < min(i+24, n); k++ {
			body.Rows = append(body.Rows, event.SocketRow{
				Change: event.SocketSeen, Role: event.RoleAccepted, Socket: benchSocket(k),
				TCP: event.Progress{State: "established", ReceivedAge: event.Known(event.Seconds(time.Second))},
			})
		}
		at = at.Add(time.Microsecond)
		r.fold([]event.Event{{Type: event.PathSockets, Time: at, Source: "agent/x", Body: body}})
	}
	return r
}

func benchSocket(k int) event.Socket {
	return event.Socket{
		Cookie: uint64(k + 1), Netns: 7, Family: event.IPv4,
		Local: event.Endpoint{IP: netip.AddrFrom4([4]byte{10, 48, byte(k / 40000), 5}), Port: 8080},
		Peer:  event.Endpoint{IP: netip.AddrFrom4([4]byte{10, 146, 0, byte(k % 100)}), Port: uint16(1024 + k/100%60000)},
	}
}

// BenchmarkRetransmit is the cost of one fact in a stall storm, judged as it comes.
func BenchmarkRetransmit(b *testing.B) {
	r := fill(b, 100_000)
	at := r.clock
	bodies := make([]event.TCPFact, 4096)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		body := &bodies[i%len(bodies)]
		*body = event.TCPFact{Socket: benchSocket(i % 100_000), TCP: event.Progress{
			State: "established", Kind: "rto", Retransmits: 1, Unacked: 1, ReceivedAge: event.Known(event.Seconds(time.Second)),
		}}
		at += 10_000
		r.fold([]event.Event{{Type: event.TCPRetransmit, Time: time.Unix(0, at), Source: "agent/x", Body: body}})
		i++
	}
}

// BenchmarkSocketSeen is the cost of one socket of a first census, and what it takes in memory.
func BenchmarkSocketSeen(b *testing.B) {
	before, cpu := heapNow(), cpuNow()
	b.ResetTimer()
	r := fill(b, b.N)
	b.StopTimer()
	b.ReportMetric(float64(cpuNow()-cpu)/float64(b.N), "cpu-ns/socket")
	b.ReportMetric(float64(heapNow()-before)/float64(b.N), "B/socket")
	runtime.KeepAlive(r)
}

// BenchmarkEntrySeen is the cost of one translation of a first dump, and what it takes in memory.
func BenchmarkEntrySeen(b *testing.B) {
	r := fill(b, 0)
	before, cpu := heapNow(), cpuNow()
	b.ResetTimer()
	for i := range b.N {
		k := benchSocket(i)
		client := event.Endpoint{IP: netip.AddrFrom4([4]byte{35, byte(191 + i>>16), byte(i >> 8), byte(i)}), Port: 40_000}
		r.fold([]event.Event{{Type: event.NATFound, Time: time.Unix(0, r.clock+1000), Source: "agent/x", Body: &event.NATFact{
			NAT: event.NAT{
				Proto: "tcp", Original: event.Tuple{Src: client, Dst: event.Endpoint{IP: netip.AddrFrom4([4]byte{203, 0, 113, 10}), Port: 80}},
				Reply: event.Tuple{Src: k.Local, Dst: k.Peer}, Kinds: []string{"snat", "dnat"},
			},
			By: event.By{Node: "node-1"}, Rung: "dump",
		}}})
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuNow()-cpu)/float64(b.N), "cpu-ns/entry")
	b.ReportMetric(float64(heapNow()-before)/float64(b.N), "B/entry")
	runtime.KeepAlive(r)
}

// BenchmarkCollect is the processor time of one cycle of the collector beside b.N sockets: it must not grow with them.
func BenchmarkCollect(b *testing.B) {
	r := fill(b, b.N)
	runtime.GC()
	b.ResetTimer()
	const cycles = 10
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/assist:cpu-seconds"}, {Name: "/cpu/classes/gc/pause:cpu-seconds"}}
	read := func() (sum float64) {
		metrics.Read(sample)
		for _, s := range sample {
			sum += s.Value.Float64()
		}
		return sum
	}
	before := read()
	for range cycles {
		runtime.GC()
	}
	b.ReportMetric((read()-before)*1e3/cycles, "cpu-ms/cycle")
	runtime.KeepAlive(r)
}

func heapNow() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkTick is the cost of one judgement with one sick hop among many healthy sockets: it must not grow with them.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{10_000, 300_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := fill(b, n)
			for k := range 20 {
				r.fold([]event.Event{{Type: event.TCPRetransmit, Time: time.Unix(0, r.clock+1000), Source: "agent/x", Body: &event.TCPFact{
					Socket: benchSocket(k * 100), TCP: event.Progress{State: "established", Kind: "rto", Retransmits: 1, Unacked: 1},
				}}})
			}
			at := r.clock
			for b.Loop() {
				at += int64(DefaultTick)
				r.judge.At(time.Unix(0, at))
			}
		})
	}
}

// BenchmarkSnapshot is what a reader's look costs the owner.
func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{10_000, 300_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := fill(b, n)
			at := time.Unix(0, r.clock)
			for b.Loop() {
				at = at.Add(2 * time.Second)
				r.model.Snapshot(at, r.judge)
			}
		})
	}
}
