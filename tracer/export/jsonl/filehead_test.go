package jsonl

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

// fact numbers by time, which is all that these tests need of a number.
func fact(t event.Type, seconds float64, source string, body event.Body) event.Event {
	return event.Event{Type: t, Time: at(seconds), Source: source, ID: event.ID{Origin: source + "-b1", N: uint64(seconds*1000) + 1}, Body: body}
}

func endpoint(text string) event.Endpoint {
	ap := netip.MustParseAddrPort(text)
	return event.Endpoint{IP: ap.Addr(), Port: ap.Port()}
}

func socketRow(cookie uint64, change event.Change, tcp event.Progress) event.SocketRow {
	return event.SocketRow{
		Change: change, TCP: tcp,
		Socket: event.Socket{Cookie: cookie, Netns: 1, Local: endpoint("10.0.0.1:80"), Peer: endpoint("10.0.0.2:4000"), Family: event.IPv4},
	}
}

func rows(seconds float64, source string, rows ...event.SocketRow) event.Event {
	return fact(event.PathSockets, seconds, source, &event.Sockets{Pass: 1, Limits: []event.Limits{{Retries2: 15}}, Rows: rows})
}

func started(seconds float64, source, origin string) event.Event {
	e := fact(event.StreamStarted, seconds, source, &event.Started{Midhop: event.Build{Version: "test"}, Complete: true})
	e.ID.Origin = origin
	return e
}

// headOf returns the head's events of one type.
func headOf(h *Head, typ event.Type) []event.Event {
	var out []event.Event
	for _, e := range h.Facts() {
		if e.Type == typ {
			out = append(out, e)
		}
	}
	return out
}

func cookies(h *Head) []uint64 {
	var out []uint64
	for _, e := range headOf(h, event.PathSockets) {
		for _, r := range e.Body.(*event.Sockets).Rows {
			out = append(out, r.Socket.Cookie)
		}
	}
	return out
}

func TestHeadTellsWhatIsStillThere(t *testing.T) {
	const src = "agent/n1"
	healthy := event.Progress{State: "established"}
	h := NewHead()
	h.Take([]event.Event{
		started(0, src, "agent/n1-b1"),
		rows(1, src, socketRow(1, event.SocketSeen, healthy), socketRow(2, event.SocketSeen, healthy), socketRow(3, event.SocketSeen, healthy),
			socketRow(4, event.SocketSeen, healthy), socketRow(5, event.SocketSeen, healthy)),
		rows(2, src, socketRow(1, event.SocketGone, healthy)),
		fact(event.TCPClosed, 3, src, &event.TCPFact{Socket: socketRow(2, "", healthy).Socket, How: "fin"}),
		fact(event.TCPError, 3, src, &event.TCPFact{Socket: socketRow(3, "", healthy).Socket, Errno: "ETIMEDOUT"}),
		fact(event.TCPReset, 3, src, &event.TCPFact{Socket: socketRow(4, "", healthy).Socket, Reset: &event.Reset{By: "peer"}}),
		fact(event.TCPReset, 3, src, &event.TCPFact{Socket: socketRow(5, "", healthy).Socket, TCP: healthy, Reset: &event.Reset{By: "local"}}),
		fact(event.TCPRetransmit, 3, src, &event.TCPFact{Socket: socketRow(6, "", healthy).Socket, TCP: event.Progress{State: "established", Retransmits: 2}}),
	})
	if got := cookies(h); !slices.Equal(got, []uint64{5, 6}) {
		t.Errorf("sockets %v are told, want 5 and 6", got)
	}
}

// TestHeadMovesAges tells a healthy socket as of now, with its ages, and one in trouble as of when it was looked at.
func TestHeadMovesAges(t *testing.T) {
	const src = "agent/n1"
	h := NewHead()
	h.Take([]event.Event{
		started(0, src, "agent/n1-b1"),
		rows(1, src,
			socketRow(1, event.SocketSeen, event.Progress{
				State: "established", ReceivedAge: event.Known(event.Seconds(time.Second)), Timer: event.TimerKeepalive,
				TimerIn: event.Known(event.Seconds(time.Minute)),
			}),
			socketRow(2, event.SocketSeen, event.Progress{
				State: "established", Retransmits: 3, ReceivedAge: event.Known(event.Seconds(time.Second)), Timer: event.TimerRetransmit,
				TimerIn: event.Known(event.Seconds(time.Second)),
			}),
		),
		fact(event.StreamHeartbeat, 11, src, &event.Heartbeat{}),
	})
	lines := headOf(h, event.PathSockets)
	if len(lines) != 2 || !lines[0].Time.Equal(at(11)) || !lines[1].Time.Equal(at(1)) {
		t.Fatalf("lines %v", lines)
	}
	calm, sick := lines[0].Body.(*event.Sockets).Rows[0], lines[1].Body.(*event.Sockets).Rows[0]
	if calm.TCP.ReceivedAge.V.Duration() != 11*time.Second || calm.TCP.TimerIn.V.Duration() != 50*time.Second {
		t.Errorf("a healthy socket is told with %+v", calm.TCP)
	}
	if sick.TCP.ReceivedAge.V.Duration() != time.Second || sick.TCP.TimerIn.V.Duration() != time.Second {
		t.Errorf("a socket in trouble is told with %+v", sick.TCP)
	}
	if l := lines[0].Body.(*event.Sockets).Limits; len(l) != 1 || l[0].Retries2 != 15 {
		t.Errorf("limits %+v", l)
	}
}

// TestHeadWakesNoDeadAgent begins a stream anew long after one of its agents was heard last.
func TestHeadWakesNoDeadAgent(t *testing.T) {
	h := NewHead()
	h.Take([]event.Event{
		started(0, "agent/dead", "agent/dead-b1"),
		started(0, "agent/alive", "agent/alive-b1"),
		rows(1, "agent/dead", socketRow(1, event.SocketSeen, event.Progress{State: "established"})),
		fact(event.PathTraffic, 1, "agent/dead", &event.Traffic{Pass: 1, Rows: []event.TrafficRow{{Local: endpoint("10.0.0.1:80"), Peer: endpoint("10.0.0.2:0")}}}),
		fact(event.StreamHeartbeat, 2, "agent/dead", &event.Heartbeat{}),
		fact(event.StreamHeartbeat, 60, "agent/alive", &event.Heartbeat{}),
	})
	head := h.Facts()
	if head[0].Source != "agent/alive" || !head[0].Time.Equal(at(60)) {
		t.Errorf("the stream opens with %s of %s at %s", head[0].Type, head[0].Source, head[0].Time)
	}
	for _, e := range head {
		if e.Source == "agent/dead" && e.Time.After(at(2)) {
			t.Errorf("%s of the dead agent at %s", e.Type, e.Time)
		}
	}
}

// TestHeadForgetsWithTheProcess drops what an agent said before it started anew.
func TestHeadForgetsWithTheProcess(t *testing.T) {
	const src = "agent/n1"
	h := NewHead()
	h.Take([]event.Event{
		started(0, src, "agent/n1-b1"),
		rows(1, src, socketRow(1, event.SocketSeen, event.Progress{State: "established"})),
		fact(event.StreamSynced, 1, src, &event.Synced{Fact: "sockets"}),
		started(5, src, "agent/n1-b2"),
		rows(6, src, socketRow(2, event.SocketSeen, event.Progress{State: "established"})),
	})
	if got := cookies(h); !slices.Equal(got, []uint64{2}) {
		t.Errorf("sockets %v are told, want 2", got)
	}
	if got := headOf(h, event.StreamSynced); len(got) != 0 {
		t.Errorf("%v is told of a look that has not ended", got)
	}
	if got := headOf(h, event.StreamStarted); len(got) != 1 || got[0].ID.Origin != "agent/n1-b2" {
		t.Errorf("starts %v", got)
	}
}

// TestHeadKeepsTheInventory tells nodes, pods and services as they are, removed nodes with their end, and NAT entries that
// were not destroyed.
func TestHeadKeepsTheInventory(t *testing.T) {
	node := func(seconds float64, source, what, name string) event.Event {
		return fact(event.NodeChanged, seconds, source, &event.NodeFact{What: what, Node: event.Node{Name: name}})
	}
	nat := func(typ event.Type, seconds float64, port string) event.Event {
		return fact(typ, seconds, "agent/n1", &event.NATFact{By: event.By{Node: "n1"}, NAT: event.NAT{
			Proto: "tcp", Original: event.Tuple{Src: endpoint("1.1.1.1:" + port), Dst: endpoint("2.2.2.2:80")},
		}})
	}
	h := NewHead()
	h.Take([]event.Event{
		started(0, "agent/n1", "agent/n1-b1"),
		node(1, "kube", "added", "a"), node(1, "agent/a", "agent", "a"), node(1, "kube", "added", "b"), node(1, "kube", "added", "c"),
		node(2, "kube", "changed", "a"),
		node(3, "kube", "removed", "b"), node(3, "kube", "removed", "c"), node(4, "kube", "added", "c"),
		fact(event.PodChanged, 1, "kube", &event.PodFact{What: "added", Pod: event.Pod{Namespace: "x", Name: "p"}}),
		fact(event.PodChanged, 1, "kube", &event.PodFact{What: "added", Pod: event.Pod{Namespace: "x", Name: "q"}}),
		fact(event.PodChanged, 2, "kube", &event.PodFact{What: "removed", Pod: event.Pod{Namespace: "x", Name: "q"}}),
		nat(event.NATCreated, 1, "1001"), nat(event.NATFound, 1, "1002"), nat(event.NATDestroyed, 2, "1001"),
		fact(event.NATTable, 1, "agent/n1", &event.Table{Node: "n1", Entries: 7}),
		fact(event.NATTable, 2, "agent/n1", &event.Table{Node: "n1", Entries: 8}),
	})
	var got []string
	for _, e := range headOf(h, event.NodeChanged) {
		b := e.Body.(*event.NodeFact)
		got = append(got, b.Node.Name+" "+b.What)
	}
	if want := []string{"a changed", "a agent", "b added", "c added", "b removed"}; !slices.Equal(got, want) {
		t.Errorf("nodes %q, want %q", got, want)
	}
	if pods := headOf(h, event.PodChanged); len(pods) != 1 || pods[0].Body.(*event.PodFact).Pod.Name != "p" {
		t.Errorf("pods %v", pods)
	}
	entries := headOf(h, event.NATFound)
	if len(entries) != 1 || entries[0].Body.(*event.NATFact).NAT.Original.Src.Port != 1002 || len(headOf(h, event.NATCreated)) > 0 {
		t.Errorf("NAT entries %v", entries)
	}
	if tables := headOf(h, event.NATTable); len(tables) != 1 || tables[0].Body.(*event.Table).Entries != 8 {
		t.Errorf("tables %v", tables)
	}
}

// TestHeadChunks keeps every line below the limit of the stream, and the last line of a look of traffic short.
func TestHeadChunks(t *testing.T) {
	const src = "agent/n1"
	h := NewHead()
	h.Take([]event.Event{started(0, src, "agent/n1-b1")})
	var traffic []event.TrafficRow
	for i := range 400 {
		h.Take([]event.Event{rows(1, src, socketRow(uint64(i+1), event.SocketSeen, event.Progress{State: "established"}))})
		traffic = append(traffic, event.TrafficRow{Local: endpoint("10.0.0.1:80"), Peer: event.Endpoint{IP: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}})
	}
	h.Take([]event.Event{fact(event.PathTraffic, 2, src, &event.Traffic{Pass: 1, Rows: traffic})})
	for _, e := range h.Facts() {
		if line := event.AppendJSON(nil, &e); len(line) >= event.MaxLine {
			t.Errorf("%s has %d bytes", e.Type, len(line))
		}
	}
	if n := len(cookies(h)); n != 400 {
		t.Errorf("%d sockets are told", n)
	}
	looks := headOf(h, event.PathTraffic)
	if n := len(looks[len(looks)-1].Body.(*event.Traffic).Rows); len(looks) != 3 || n >= headTraffic {
		t.Errorf("%d lines of traffic, the last with %d rows: it does not end the look", len(looks), n)
	}
}

func TestHeadOfNothing(t *testing.T) {
	h := NewHead()
	h.Take([]event.Event{rows(1, "agent/n1", socketRow(1, event.SocketSeen, event.Progress{}))})
	if got := h.Facts(); got != nil {
		t.Errorf("%d lines of a stream whose beginning was not told", len(got))
	}
}

func BenchmarkHeadTake(b *testing.B) {
	h := NewHead()
	e := fact(event.TCPRetransmit, 3, "agent/n1", &event.TCPFact{Socket: socketRow(6, "", event.Progress{}).Socket, TCP: event.Progress{State: "established", Retransmits: 2}})
	batch := []event.Event{e}
	b.ReportAllocs()
	for b.Loop() {
		h.Take(batch)
	}
}
