package lab

import "testing"

// TestWindowInvalid: segments of the service reach the calling pod untranslated, who resets them, and with them the service's
// sockets. No entry of a connection that lives is lost, and nobody else resets anything.
func TestWindowInvalid(t *testing.T) {
	needRoot(t)
	t.Parallel()
	c, before := broken(t, "window-invalid")
	caller := c.node(c.plan.Caller.Node)
	began := len(before[c.plan.Caller.Addr])
	if began != c.opts.Connections {
		t.Fatalf("%d sockets of the service have the calling pod as their peer", began)
	}
	<-c.Settled()
	// A reset that comes when the service waits for another number already is answered, and nothing else.
	eventually(t, "the service's sockets are reset", func() bool { return resets(t, c) >= 3 })
	if sent := tcpCounter(t, c.caller.net, "OutRsts"); sent < resets(t, c) {
		t.Errorf("the calling pod sent %d resets, %d came", sent, resets(t, c))
	}
	if sent := tcpCounter(t, caller.net, "OutRsts"); sent > 0 {
		t.Errorf("the calling pod's node sent %d resets", sent)
	}
	translating := map[uint16]bool{}
	for _, f := range entries(t, caller) {
		if translated(f) {
			translating[f.TupleOrig.Proto.SourcePort] = true
		}
	}
	left := sockets(t, c.caller.net, 0, c.plan.V6)
	for _, s := range left {
		if !translating[s.local.Port()] {
			t.Errorf("%s lost the entry of %v", caller.name, s)
		}
	}
	eventually(t, "the calling pod hears of it when it speaks", func() bool {
		return len(sockets(t, c.caller.net, 0, c.plan.V6)) == c.opts.Connections-resets(t, c)
	})
}
