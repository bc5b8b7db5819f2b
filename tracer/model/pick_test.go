package model

import (
	"slices"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// TestHeldBefore: who had a connection that another node has met in mid-stream may be told before or after, and whom to ask is
// whoever has sockets in trouble.
func TestHeldBefore(t *testing.T) {
	f := newFacts(Options{})
	f.node("kube", "added", event.Node{Name: "node-a", Addresses: []event.Address{{IP: ip("10.146.0.11"), From: "status InternalIP"}}})
	nat := func(typ event.Type, node, state string, client uint16, port uint16) {
		f.fold("agent/"+node, typ, &event.NATFact{By: event.By{Node: node}, State: state, NAT: event.NAT{
			Original: event.Tuple{Src: event.Endpoint{IP: ip("198.51.100.7"), Port: client}, Dst: event.Endpoint{IP: ip("203.0.113.80"), Port: 443}},
			Reply:    event.Tuple{Src: event.Endpoint{IP: ip("10.48.2.5"), Port: 8080}, Dst: event.Endpoint{IP: ip("10.146.0.11"), Port: port}},
		}})
	}
	from := func() (out []string) {
		for _, p := range f.Picks(0) {
			out = append(out, p.From)
		}
		return out
	}
	for i := range uint16(3) {
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, uint64(i+1), "10.48.2.5:8080", "10.146.0.11:"+[]string{"5001", "5002", "5003"}[i], event.Progress{Retransmits: 2, State: "established"})
	}
	nat(event.NATFound, "node-a", "", 1001, 5001)
	nat(event.NATCreated, "node-c", "established", 1001, 6001)
	nat(event.NATCreated, "node-c", "established", 1002, 6002)
	nat(event.NATCreated, "node-c", "established", 1003, 6003)
	if got := from(); !slices.Equal(got, []string{"node-a", "", ""}) {
		t.Errorf("from %q", got)
	}
	if got := f.Handed(); got != nil {
		t.Errorf("asks %q for two connections", got)
	}
	nat(event.NATCreated, "node-c", "established", 1004, 6004)
	if got := f.Handed(); !slices.Equal(got, []string{"node-a"}) {
		t.Errorf("asks %q", got)
	}
	urgent := f.Urgent()
	nat(event.NATRecalled, "node-a", "", 1002, 5002)
	nat(event.NATRecalled, "node-a", "", 1003, 5003)
	if got := from(); !slices.Equal(got, []string{"node-a", "node-a", "node-a", ""}) {
		t.Errorf("from %q after the ledger was asked", got)
	}
	if f.Urgent() == urgent {
		t.Error("nobody looks at it")
	}
	if got := f.Handed(); got != nil {
		t.Errorf("asks %q again", got)
	}
	nat(event.NATRecalled, "node-c", "", 1004, 6004) // its own entry, once more
	if got := from(); got[3] != "" {
		t.Errorf("a connection was handed over by %q to itself", got[3])
	}
}
