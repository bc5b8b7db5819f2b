package model

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
)

// TestShare: of four connections through node-a three are in trouble, of four through node-b one; they come from two
// clients of one network.
func TestShare(t *testing.T) {
	f := cluster()
	for i := range 8 {
		node, last, bad := "node-a", 11, i < 3
		if i >= 4 {
			node, last, bad = "node-b", 12, i == 4
		}
		peer := fmt.Sprintf("10.146.0.%d:%d", last, 40000+i)
		p := event.Progress{ReceivedAge: age(time.Second)}
		if bad {
			p.Retransmits = 2
		}
		// The census of node-c, so that both are other nodes.
		f.seen("agent/node-c", event.SocketSeen, event.RoleAccepted, uint64(i+1), pod, peer, p)
		f.fold("agent/"+node, event.NATFound, natFact(node, fmt.Sprintf("192.0.2.%d:%d", 1+i%2, 5000+i), "203.0.113.80:80", pod, peer))
	}
	if _, ok := f.Share(12345, none{}); ok {
		t.Error("a socket that does not exist was compared")
	}
	s, ok := f.Share(f.view(t, 0).Key, none{})
	if !ok || s.Subject.Socket.Cookie != f.view(t, 0).Socket.Cookie {
		t.Fatalf("not found: %+v", s)
	}
	if s.All.Sockets != 8 || s.All.Troubled != 4 {
		t.Errorf("all: %+v", s.All)
	}
	want := map[string][2]int{
		"via node-a": {4, 3}, "on node-c": {8, 4}, "pod ws/chat-1": {8, 4}, "service ws/chat": {8, 4},
		"network 192.0.2.0/24": {8, 4}, "client 192.0.2.1": {4, 3},
	}
	for _, r := range s.Rows {
		name := r.What + " " + r.Name
		if w, ok := want[name]; !ok || w != [2]int{r.Sockets, r.Troubled} {
			t.Errorf("%s: %d of %d in trouble, want %v", name, r.Troubled, r.Sockets, w)
		}
		delete(want, name)
		if (r.What == "via") != !r.Heard.IsZero() {
			t.Errorf("%s: heard %v", name, r.Heard)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// TestPageOrder: what is presumed lost comes before what is well, and an order of the asker's goes over all pages.
func TestPageOrder(t *testing.T) {
	f := cluster()
	for i := range 6 {
		last := 12 - i%2
		f.seen("agent/node-c", event.SocketSeen, event.RoleAccepted, uint64(i+1), pod, fmt.Sprintf("10.146.0.%d:%d", last, 40000+i), event.Progress{})
	}
	gone := none{named: map[HopKey]Named{{Kind: KindNode, Name: "node-a"}: {ID: "x-1", Gone: true}}}
	var got string
	for offset := 0; offset < 6; offset += 2 {
		for _, v := range f.Page(PageQuery{Offset: offset, Limit: 2}, gone).Rows {
			got += fmt.Sprintf(" %d%s", v.Socket.Peer.Port-40000, v.Status[:1])
		}
	}
	if want := " 1p 3p 5p 0o 2o 4o"; got != want {
		t.Errorf("got%s, want%s", got, want)
	}
	got = ""
	for offset := 0; offset < 6; offset += 4 {
		p := f.Page(PageQuery{Offset: offset, Limit: 4, Order: func(v *SocketView) Rank { return Rank{Text: v.Via.Node, Number: 0} }}, none{})
		for _, v := range p.Rows {
			got += fmt.Sprintf(" %d", v.Socket.Peer.Port-40000)
		}
	}
	if want := " 1 3 5 0 2 4"; got != want {
		t.Errorf("ordered by node:%s, want%s", got, want)
	}
	// In parts, and with a choice, it comes to the same.
	every := func(*SocketView) bool { return true }
	scan := Scan{Query: PageQuery{Match: every, Offset: 1, Limit: 4}}
	steps := 1
	for !f.Step(&scan, gone, 2) {
		steps++
	}
	whole := f.Page(PageQuery{Match: every, Offset: 1, Limit: 4}, gone)
	if part := f.Finish(&scan, gone); !cmp.Equal(part.Rows, whole.Rows, compareAddrs) || part.Total != 6 || steps != 3 {
		t.Errorf("in %d parts %d of %d rows: %s", steps, len(part.Rows), part.Total, cmp.Diff(whole.Rows, part.Rows, compareAddrs))
	}
}

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
