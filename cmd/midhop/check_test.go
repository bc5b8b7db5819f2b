package main

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestCheckNeverCallsAHangHealthy: three sockets that have been stalled for three seconds are said whatever the gate fails
// on, and shut one that fails on stalls.
func TestCheckNeverCallsAHangHealthy(t *testing.T) {
	now := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	look := func(n int, since time.Duration) *sight {
		s := &sight{snap: &model.Snapshot{Clock: now, Coverage: event.Coverage{NodesSeen: 1, NodesKnown: 1}}}
		s.snap.Totals = model.Totals{Sockets: 40, Stalled: n}
		s.snap.Vias = []model.ViaRow{{Via: "192.0.2.50", Kind: model.KindAddress, IP: netip.MustParseAddr("192.0.2.50"), Sockets: 40, Stalled: n}}
		for range n {
			s.snap.Trouble = append(s.snap.Trouble, model.SocketView{Status: model.StatusStalled, Since: now.Add(-since)})
		}
		return s
	}
	for name, test := range map[string]struct {
		stalled int
		since   time.Duration
		failOn  string
		verdict string
		shut    bool
	}{
		"three for 3 s":                {3, 3 * time.Second, failIncident, failStall, false},
		"three for 3 s, on stalls":     {3, 3 * time.Second, failStall, failStall, true},
		"three for 3 s, on risks":      {3, 3 * time.Second, failRisk, failStall, true},
		"three for a moment":           {3, time.Second, failIncident, "healthy", false},
		"three for a moment, on stall": {3, time.Second, failStall, failStall, true},
		"two for long":                 {2, time.Minute, failIncident, "healthy", false},
		"none":                         {0, 0, failStall, "healthy", false},
	} {
		t.Run(name, func(t *testing.T) {
			o := checkOptions{failOn: test.failOn, riskSockets: 100}
			s := look(test.stalled, test.since)
			out := judgeCheck(s, o)
			if out.Verdict != test.verdict {
				t.Errorf("verdict %q, want %q", out.Verdict, test.verdict)
			}
			var findings findingsError
			if err := out.gate(s, o); errors.As(err, &findings) != test.shut {
				t.Errorf("the gate ends with %v", err)
			}
			var b bytes.Buffer
			if err := out.write(&b, s); err != nil {
				t.Fatal(err)
			}
			if hangs := strings.Contains(b.String(), "192.0.2.50 (3)"); test.verdict == failStall && !hangs || strings.Contains(b.String(), "healthy: no incident") != (test.verdict == "healthy") {
				t.Errorf("it says:\n%s", b.String())
			}
		})
	}
}
