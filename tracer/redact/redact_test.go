package redact

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

func ep(text string) event.Endpoint {
	ap := netip.MustParseAddrPort(text)
	return event.Endpoint{IP: ap.Addr(), Port: ap.Port()}
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func nat(client string) event.Event {
	n := event.NAT{Proto: "tcp", Original: event.Tuple{Src: ep(client), Dst: ep("203.0.113.5:80")}, Reply: event.Tuple{Src: ep("10.48.1.7:8080"), Dst: ep("10.0.0.11:1000")}}
	return event.Event{Type: event.NATCreated, Flow: event.FlowID(n.Original.Src, n.Original.Dst), Body: &event.NATFact{NAT: n, By: event.By{Node: "node-a"}}}
}

func inventory() []event.Event {
	return []event.Event{
		{Type: event.NodeChanged, Body: &event.NodeFact{Node: event.Node{Name: "node-a", Addresses: []event.Address{{IP: addr("10.0.0.11"), From: "status InternalIP"}}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.1.0/24")}}}},
		{Type: event.ServiceChanged, Body: &event.ServiceFact{Service: event.Service{Name: "chat", VIPs: []netip.Addr{addr("203.0.113.5")}}}},
	}
}

// TestClientsGetPseudonyms renames what is a client's, the same everywhere, and nothing else.
func TestClientsGetPseudonyms(t *testing.T) {
	r := New(Options{Keep: []netip.Prefix{netip.MustParsePrefix("35.191.0.0/16")}})
	r.Take(inventory())
	for _, c := range []struct{ client, want string }{
		{"198.51.100.7:1", "240.0.0.1:1"}, {"198.51.100.9:2", "240.0.0.2:2"}, {"198.51.101.7:3", "240.0.1.1:3"}, {"198.51.100.7:4", "240.0.0.1:4"},
		{"[2a00:1450:1:2::7]:5", "[2001:db8::1]:5"}, {"[2a00:1450:1:3::7]:6", "[2001:db8:0:1::1]:6"}, {"[2a00:1450:1:2::8]:7", "[2001:db8::2]:7"},
		{"35.191.3.4:8", "35.191.3.4:8"}, {"10.0.0.11:9", "10.0.0.11:9"}, {"10.48.1.200:10", "10.48.1.200:10"}, {"127.0.0.1:11", "127.0.0.1:11"},
		{"240.0.0.1:12", "240.0.2.1:12"}, // a pseudonym cannot be anybody's own name
	} {
		in := nat(c.client)
		out := r.Take([]event.Event{in})
		b := out[0].Body.(*event.NATFact)
		if got := b.NAT.Original.Src.String(); got != c.want {
			t.Errorf("%s becomes %s, want %s", c.client, got, c.want)
		}
		if want := c.want + "-203.0.113.5:80"; out[0].Flow != want {
			t.Errorf("the flow is %q, want %q", out[0].Flow, want)
		}
		if b.NAT.Original.Dst != ep("203.0.113.5:80") || b.NAT.Reply.Src != ep("10.48.1.7:8080") || b.NAT.Reply.Dst != ep("10.0.0.11:1000") {
			t.Errorf("%s: the cluster's own addresses have changed: %+v", c.client, b.NAT)
		}
		if in.Body.(*event.NATFact).NAT.Original.Src.String() != c.client {
			t.Errorf("%s: the original was changed", c.client)
		}
	}
}

// TestTextIsRenamed finds addresses in words.
func TestTextIsRenamed(t *testing.T) {
	r := New(Options{})
	for in, want := range map[string]string{
		"no node holds 198.51.100.7":              "no node holds 240.0.0.1",
		"[2a00:1450::7]:80, 198.51.100.7:443.":    "[2001:db8::1]:80, 240.0.0.1:443.",
		"from 2a00:1450::7 at 11:27:30.5, v1.2.3": "from 2001:db8::1 at 11:27:30.5, v1.2.3",
		"nothing": "nothing", "a:b": "a:b",
	} {
		if got := r.text(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	started := event.Event{Type: event.StreamStarted, Body: &event.Started{Host: event.Host{Kernel: "6.1.0.13"}}}
	if out := r.Take([]event.Event{started}); out[0].Body.(*event.Started).Host.Kernel != "6.1.0.13" {
		t.Error("the version of a kernel is taken for an address")
	}
}

// TestFactsAreHeldBack sees a node's address before anybody says that it is one.
func TestFactsAreHeldBack(t *testing.T) {
	sockets := func() event.Event {
		return event.Event{Type: event.PathSockets, Body: &event.Sockets{Rows: []event.SocketRow{{Socket: event.Socket{Local: ep("10.48.9.9:8080"), Peer: ep("10.0.0.11:1000")}}}}}
	}
	peer := func(out []event.Event) string { return out[0].Body.(*event.Sockets).Rows[0].Socket.Peer.String() }
	r := New(Options{Hold: 3, Wait: time.Hour})
	if out := r.Take([]event.Event{sockets()}); len(out) != 0 {
		t.Fatalf("%d facts go on before the inventory is known", len(out))
	}
	out := r.Take(inventory())
	if len(out) != 3 || peer(out) != "10.0.0.11:1000" {
		t.Errorf("%d facts go on; the node is called %s", len(out), peer(out))
	}
	// Without that, the pseudonym stays, also in what is told of the node later.
	r = New(Options{})
	if got := peer(r.Take([]event.Event{sockets()})); got != "240.0.0.1:1000" {
		t.Errorf("an address that nobody has told of is called %s", got)
	}
	out = r.Take(append(inventory(), sockets()))
	if got := out[0].Body.(*event.NodeFact).Node.Addresses[0].IP; got != addr("240.0.0.1") || peer(out[2:]) != "240.0.0.1:1000" {
		t.Errorf("the node holds %s, and is called %s", got, peer(out[2:]))
	}
	if out := New(Options{Hold: 3}).Flush(); len(out) != 0 {
		t.Error("nothing was held")
	}
}

// TestNoAddressIsLeft renames every kind of fact whose every address is a client's, and looks for it in its line.
func TestNoAddressIsLeft(t *testing.T) {
	client := event.Endpoint{IP: addr("198.51.100.77"), Port: 4711}
	socket := event.Socket{Local: ep("127.0.0.1:1"), Peer: client}
	text := "seen from 198.51.100.77"
	for _, e := range []event.Event{
		{Type: event.PathSockets, Flow: "x", Body: &event.Sockets{Rows: []event.SocketRow{{Socket: socket, Via: &event.Via{IP: client.IP, Because: text}}}}},
		{Type: event.PathTraffic, Body: &event.Traffic{Rows: []event.TrafficRow{{Local: ep("127.0.0.1:1"), Peer: client}}}},
		{Type: event.TCPRetransmit, Flow: event.FlowID(socket.Local, socket.Peer), Body: &event.TCPFact{Socket: socket}},
		nat(client.String()),
		{Type: event.StreamLost, Body: &event.Lost{Stage: text}},
	} {
		out := New(Options{}).Take([]event.Event{e})
		if line := string(event.AppendJSON(nil, &out[0])); strings.Contains(line, "198.51.100") {
			t.Errorf("%s", line)
		}
	}
}
