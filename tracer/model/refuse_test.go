package model

import (
	"fmt"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// A flood of SYNs makes a machine send resets for nobody's segments without end. Only so many of them wait for the other end to
// tell of the same, and none for longer than that may take.
func TestRefusalsAreBounded(t *testing.T) {
	f := newFacts(Options{})
	flood := func() {
		for i := range 2 * maxPairs {
			f.Apply(&event.Event{Type: event.TCPReset, Time: f.t, Source: "agent/h", Body: &event.TCPFact{
				Socket: event.Socket{Local: ep("10.79.0.1:8080"), Peer: ep(fmt.Sprintf("10.79.%d.%d:%d", 1+i>>8, i&255, 1024+i))},
				Reset:  &event.Reset{By: "nobody's"},
			}})
		}
	}
	flood()
	if len(f.sent) != maxPairs {
		t.Errorf("%d resets wait for their other half, want %d", len(f.sent), maxPairs)
	}
	f.t = f.t.Add(time.Minute)
	f.fold("agent/h", event.StreamHeartbeat, &event.Heartbeat{})
	if len(f.sent) != 0 {
		t.Errorf("%d of them still wait a minute later", len(f.sent))
	}
	if n := f.socks.Len(); n != 0 {
		t.Errorf("%d sockets were made of them", n)
	}
}
