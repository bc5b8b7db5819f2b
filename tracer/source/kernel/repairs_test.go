package kernel

import (
	"slices"
	"testing"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// Tail loss probes and fast retransmissions are counted by peer, and no record tells of them.
func TestRepairs(t *testing.T) {
	needRoot(t)
	for name, rungs := range map[string]map[bpf.Fact]string{"tp_btf": typed, "raw_tp": untyped} {
		t.Run(name, func(t *testing.T) {
			r := newRoad(t)
			// The timer comes late, so that it does not fill the holes first on a machine where a program takes long to start.
			r.near.ip(t, "route change 10.77.0.0/24 dev road src %s rto_min 3s", nearIP)
			near, _ := r.connect(t, "tcp4", farIP, farIP)
			w := startWatch(t, bpf.Options{Rungs: rungs})
			is := r.whoIs(near)
			w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
			write := func() {
				t.Helper()
				if _, err := near.Write([]byte("a small segment")); err != nil {
					t.Fatal(err)
				}
			}
			count := func(of func(*event.Repair) uint64) func(event.Event) bool {
				return func(e event.Event) bool {
					b, ok := e.Body.(*event.Traffic)
					if !ok {
						return false
					}
					for _, n := range b.Repairs {
						if n.Netns == r.near.inum && n.Peer.String() == farIP && of(&n) > 0 {
							return true
						}
					}
					return false
				}
			}

			r.hole(t) // of two small segments that are lost the second is probed after two round trips
			write()
			write()
			w.wait(t, "a tail loss probe in the counts", soon, count(func(n *event.Repair) uint64 { return n.TailLoss }))
			r.mend(t)

			// What is acknowledged beyond a hole makes the kernel fill it at once, unless its timer was faster.
			fast := count(func(n *event.Repair) uint64 { return n.Fast })
			for range 50 {
				r.hole(t)
				write()
				r.mend(t)
				for range 4 {
					write()
				}
				w.wait(t, "a look at the traffic", soon, func(e event.Event) bool { return e.Type == event.PathTraffic })
				if w.has(fast) {
					break
				}
			}
			w.rewind()
			w.wait(t, "a fast retransmission in the counts", soon, fast)
			if w.has(fact(event.TCPRetransmit, is, func(f *event.TCPFact) bool { return f.TCP.Retransmits == 0 })) {
				t.Error("a segment that was sent again without a timeout is told by itself")
			}
		})
	}
}

// has says whether match accepts any event so far.
func (w *watch) has(match func(event.Event) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.events, match)
}
