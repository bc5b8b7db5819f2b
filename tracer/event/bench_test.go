package event

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"
	"time"
)

func benchmarkEvent() Event {
	s := Seconds(204 * time.Millisecond)
	return Event{
		Type: TCPRetransmit, Time: time.Date(2026, 11, 23, 11, 27, 4, 331_104_201, time.UTC), ID: ID{"agent/node-b-3f1c", 90211},
		Seq: 90211, Source: "agent/node-b", Flow: "10.2.7.31:8080-10.9.4.11:40190",
		Body: &TCPFact{
			Socket: Socket{Cookie: 77123, Netns: 4026532281, Family: IPv4,
				Local: Endpoint{netip.AddrFrom4([4]byte{10, 2, 7, 31}), 8080}, Peer: Endpoint{netip.AddrFrom4([4]byte{10, 9, 4, 11}), 40190},
				K8s:   &K8sRef{Node: "node-b", Namespace: "ws", Pod: "chat-7f9c", Service: "ws/chat"},
				Owner: Owner{PID: 4711, Comm: "chat"}},
			TCP: Progress{State: "established", Kind: "rto", Retransmits: 2, RTO: 4 * s, SRTT: Known(s / 100), Unacked: 1448,
				Timer: TimerRetransmit, TimerIn: Known(4 * s), ReceivedAge: Known(s * 3), SentAge: Known(s * 3), StalledAge: Known(2 * s)},
			Via: &Via{Node: "node-a", IP: netip.AddrFrom4([4]byte{10, 9, 4, 11}), Role: ViaEntry, Sure: Proved, Because: "status InternalIP"},
		},
	}
}

func BenchmarkAppend(b *testing.B) {
	e := benchmarkEvent()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], &e)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkEncodingJSON(b *testing.B) {
	e := benchmarkEvent()
	enc := json.NewEncoder(&bytes.Buffer{})
	enc.SetEscapeHTML(false)
	b.ReportAllocs()
	for b.Loop() {
		if err := enc.Encode(e.Body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	e := benchmarkEvent()
	line := AppendJSON(nil, &e)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := Decode(line); err != nil {
			b.Fatal(err)
		}
	}
}
