package kernel

import (
	"testing"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// One connection is one socket for everybody, on whichever rung the census stands: told without a cookie while nobody has asked for
// one, told with it after a probe has, and gone once.
func TestOneSocket(t *testing.T) {
	needRoot(t)
	for _, rung := range bpf.Rungs(bpf.FactSockets) {
		t.Run(rung, func(t *testing.T) { testOneSocket(t, rung) })
	}
}

func testOneSocket(t *testing.T, rung string) {
	r := newRoad(t)
	near, _ := r.connect(t, "tcp4", farIP, farIP)
	w := startWatch(t, bpf.Options{Rungs: map[bpf.Fact]string{bpf.FactSockets: rung}})
	is := r.whoIs(near)
	e := w.wait(t, "the socket in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
	for _, r := range e.Body.(*event.Sockets).Rows {
		if is.matches(&r.Socket) && (r.Socket.Cookie != 0) != (rung == "task_file") {
			t.Errorf("seen with cookie %d", r.Socket.Cookie)
		}
	}
	r.hole(t)
	if _, err := near.Write([]byte("into the hole")); err != nil {
		t.Fatal(err)
	}
	e = w.wait(t, "a retransmission", soon, fact(event.TCPRetransmit, is, nil))
	cookie := cookieOf(t, near)
	if got := e.Body.(*event.TCPFact).Socket.Cookie; got != cookie && got != 0 {
		t.Errorf("the probe tells cookie %d, the socket has %d", got, cookie)
	}
	w.rewind()
	w.wait(t, "the cookie in the census", soon, row(is, func(r *event.SocketRow) bool { return r.Socket.Cookie == cookie }))
	if err := near.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	near.Close()
	w.wait(t, "its end", soon, row(is, func(r *event.SocketRow) bool { return r.Change == event.SocketGone }))
	r.mend(t) // a look later nothing more is told of it
	last, _ := r.connect(t, "tcp4", farIP, farIP)
	w.wait(t, "another socket", soon, row(r.whoIs(last), func(r *event.SocketRow) bool { return r.Change == event.SocketSeen }))
	w.stop()
	changes := make(map[event.Change]int)
	for _, e := range w.events {
		if s, ok := e.Body.(*event.Sockets); ok {
			for _, r := range s.Rows {
				if is.matches(&r.Socket) {
					changes[r.Change]++
				}
			}
		}
	}
	if changes[event.SocketSeen] != 1 || changes[event.SocketGone] != 1 {
		t.Errorf("told %v", changes)
	}
}
