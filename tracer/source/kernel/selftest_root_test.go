package kernel

import (
	"testing"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// TestSelfTestIsNoFact: what a self-test loses and resets on purpose is told by nobody, also not by a process that watches
// already.
func TestSelfTestIsNoFact(t *testing.T) {
	r := newRoad(t)
	near, far := r.connect(t, "tcp4", farIP, farIP)
	w := startWatch(t, bpf.Options{})
	is := r.whoIs(near)
	w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
	other, report := mustLoad(t, bpf.Options{})
	report = other.SelfTest(t.Context(), soon, report)
	if f := report.Fact(bpf.FactReset); !f.Fired {
		t.Fatalf("the self-test reset nothing: %+v", f)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	far.Close()
	w.wait(t, "a reset of later", soon, fact(event.TCPReset, is, nil)) // the ring keeps the order
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		var s []event.Socket
		switch b := e.Body.(type) {
		case *event.TCPFact:
			s = append(s, b.Socket)
		case *event.Sockets:
			for i := range b.Rows {
				s = append(s, b.Rows[i].Socket)
			}
		}
		for _, s := range s {
			if bpf.SelfTestRange.Contains(s.Local.IP) || bpf.SelfTestRange.Contains(s.Peer.IP) {
				t.Errorf("%s of %v, %v", e.Type, s.Local, s.Peer)
			}
		}
	}
}
