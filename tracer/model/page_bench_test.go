package model

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// BenchmarkReaders is what the owner spends on a screen's questions about 200,000 sockets through twenty nodes.
func BenchmarkReaders(b *testing.B) {
	f := newFacts(Options{Node: "node-z"})
	const nodes, each = 20, 10_000
	cookie := uint64(0)
	for n := range nodes {
		addr := fmt.Sprintf("10.146.1.%d", n+1)
		f.node("nodes file", "added", event.Node{Name: fmt.Sprintf("node-%d", n), Addresses: addrs("nodes file", addr)})
	}
	f.fold("agent/node-z", event.StreamHeartbeat, &event.Heartbeat{})
	for n := range nodes {
		for at := 0; at < each; at += 500 {
			body := &event.Sockets{Pass: 1, Limits: []event.Limits{chatLimits}}
			for i := range 500 {
				cookie++
				body.Rows = append(body.Rows, event.SocketRow{Change: event.SocketSeen, Role: event.RoleAccepted, TCP: event.Progress{State: "established"},
					Socket: event.Socket{Cookie: cookie, Netns: 7, Local: ep("10.48.12.9:8080"),
						Peer: event.Endpoint{IP: netip.AddrFrom4([4]byte{10, 146, 1, byte(n + 1)}), Port: uint16(1024 + at + i)}}})
			}
			f.fold("agent/node-z", event.PathSockets, body)
		}
	}
	key := f.Page(PageQuery{Limit: 1}, none{}).Rows[0].Key
	for _, test := range []struct {
		name string
		run  func()
	}{
		{"page", func() { f.Page(PageQuery{Offset: 100_000}, none{}) }},
		{"page-of-a-node", func() { f.Page(PageQuery{Via: "node-7"}, none{}) }},
		{"filtered", func() {
			f.Page(PageQuery{Match: func(v *SocketView) bool { return v.Socket.Peer.Port == 1024 }}, none{})
		}},
		{"ordered", func() {
			f.Page(PageQuery{Order: func(v *SocketView) Rank { return Rank{Number: float64(v.Socket.Peer.Port)} }}, none{})
		}},
		{"share", func() { f.Share(key, none{}) }},
	} {
		b.Run(test.name, func(b *testing.B) {
			for b.Loop() {
				test.run()
			}
		})
	}
}
