package event

import (
	"bytes"
	"os"
	"slices"
	"testing"
)

func TestField(t *testing.T) {
	data, err := os.ReadFile("testdata/examples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want := map[Type]map[string]string{
		TCPRetransmit: {"type": "tcp.retransmit", "time": "2026-11-23T11:27:04.331104201Z", "source": "agent/node-b", "id": "agent/node-b-3f1c9a02-122",
			"flow": "10.244.2.5:8080-192.0.2.11:40112", "node": "node-b", "ns": "ws", "pod": "chat-7f9c", "workload": "deployment/chat",
			"service": "ws/chat", "local": "10.244.2.5:8080", "peer": "192.0.2.11:40112", "owner": "chat", "state": "established",
			"kind": "rto", "retrans": "1", "probes": "0", "rto": "408ms", "unacked": "256", "via": "node-a", "role": "entry", "sure": "proved"},
		TCPError:     {"errno": "ETIMEDOUT"},
		TCPClosed:    {"how": "abort"},
		TCPStall:     {"client": "192.0.2.100:52110", "clock": "rto", "deadline": "2026-11-23T11:42:28.931104201Z"},
		TCPRecovered: {"stalled": "4.2s"},
		NATDestroyed: {"original": "192.0.2.100:52180-192.0.2.11:30080", "reply": "10.244.2.5:8080-192.0.2.11:24117", "rung": "ctnetlink", "why": "closed",
			"node": "node-a", "kind": "snat dnat"},
		NodeChanged: {"node": "node-a", "what": "added"},
		PodChanged:  {"pod": "chat-7f9c", "ns": "ws"},
		IncidentOpened: {"rule": "node-gone", "culprit": "node-a", "severity": "critical", "confidence": "0.93", "incident": "agent/node-b-3f1c9a02-126",
			"title": "node-a is gone: 71 connections dead, 14 know it", "service": "ws/chat"},
		StreamSynced: {"fact": "sockets"},
		StreamLost:   {"stage": "ring.bulk"},
	}
	had := map[string]bool{}
	for line := range bytes.Lines(data) {
		e, err := Decode(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range fields {
			if text, ok := e.Field(name); ok {
				had[name] = true
				if expected, listed := want[e.Type][name]; listed && text != expected {
					t.Errorf("%s %s: got %q, want %q", e.Type, name, text, expected)
				}
				delete(want[e.Type], name)
			}
		}
		if text, ok := e.Field("nonsense"); ok {
			t.Errorf("%s has nonsense %q", e.Type, text)
		}
	}
	for typ, left := range want {
		if len(left) > 0 {
			t.Errorf("%s lacks %v", typ, left)
		}
	}
	for _, name := range fields {
		if !had[name] {
			t.Errorf("no example has the field %s", name)
		}
	}
	if got := Fields(); !slices.Equal(got, fields) {
		t.Error("Fields lists others")
	}
}
