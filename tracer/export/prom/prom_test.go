package prom

import (
	"flag"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

//go:generate go test -run TestDocumentation -update .

var update = flag.Bool("update", false, "write docs/metrics.md")

func TestDocumentation(t *testing.T) {
	const page = "../../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(page, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Markdown(), string(have)); d != "" {
		t.Errorf("docs/metrics.md is not what the list gives; run go generate ./tracer/export/prom (-want +have)\n%s", d)
	}
}

func text(t *testing.T, s Scrape) string {
	t.Helper()
	var b strings.Builder
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEverythingIsThereFromTheStart scrapes processes that have seen nothing: an alert on a series that appears with its
// first event would miss that one.
func TestEverythingIsThereFromTheStart(t *testing.T) {
	agent := text(t, Scrape{Counters: &Counters{}, Publish: &Publish{}})
	hub := text(t, Scrape{Counters: &Counters{}, Snapshot: &model.Snapshot{}, Stream: &Stream{}})
	for _, m := range Metrics() {
		want := 1
		open := false
		for _, l := range m.Labels {
			want *= max(1, len(l.Values))
			open = open || l.Values == nil
		}
		if open {
			want = 0
		}
		if m.Kind == Histogram {
			continue
		}
		line := regexp.MustCompile(`(?m)^` + m.Name + `[ {]`)
		for name, out := range map[string]string{"agent": agent, "hub": hub} {
			n := len(line.FindAllString(out, -1))
			switch {
			case m.From != "both" && m.From != name:
				if n != 0 {
					t.Errorf("%s is told by the %s", m.Name, name)
				}
			case n != want:
				t.Errorf("the %s tells %d series of %s, want %d", name, n, m.Name, want)
			}
		}
	}
}

// TestNoAddressLeaves gives a hub all kinds of addresses, and looks for any in what it tells.
func TestNoAddressLeaves(t *testing.T) {
	ip := netip.MustParseAddr("198.51.100.7")
	end := event.Endpoint{IP: ip, Port: 50044}
	socket := event.Socket{Local: end, Peer: end}
	var c Counters
	_ = c.Write([]event.Event{
		{Type: event.TCPRetransmit, Body: &event.TCPFact{Socket: socket, Via: &event.Via{Role: event.ViaEntry, IP: ip, Node: "node-a"}}},
		{Type: event.TCPStall, Body: &event.Stall{Socket: socket, Client: &event.Client{IP: ip}}},
		{Type: event.TCPRecovered, Body: &event.Stall{Socket: socket, Stalled: event.Known(event.Seconds(3 * time.Second))}},
		{Type: event.StreamLost, Body: &event.Lost{Stage: "198.51.100.7", Count: 3}},
		{Type: event.StreamLost, Body: &event.Lost{Stage: "ring.evidence", Count: 2}},
		{Type: event.StreamStarted, Source: "agent/node-a", Body: &event.Started{Probes: []event.Probe{{Fact: "retransmit", Rung: "tp_btf"}, {Fact: "198.51.100.7", Rung: "x"}, {Fact: "nat", Rung: "198.51.100.7"}}}},
		{Type: event.IncidentOpened, Body: &event.IncidentFinding{Incident: event.Incident{Rule: "198.51.100.7"}}},
	})
	snap := &model.Snapshot{
		Vias: []model.ViaRow{
			{Via: "198.51.100.7", Kind: model.KindAddress, Sockets: 5}, {Via: "198.51.100.7", Kind: model.KindUnknown, Sockets: 5},
			{Via: "node-a", Kind: model.KindNode, Sockets: 10, Stalled: 2, Presumed: 3, AtRisk: 1, Clients: 4},
		},
		Incidents: []model.IncidentView{{Incident: event.Incident{Rule: "198.51.100.7", Severity: event.Critical}}},
	}
	out := text(t, Scrape{Counters: &c, Snapshot: snap, Stream: &Stream{}})
	if strings.Contains(out, "198.51") || strings.Contains(out, "50044") {
		t.Errorf("an address is told:\n%s", out)
	}
	for _, want := range []string{
		`midhop_tcp_retransmits_total{via_role="entry"} 1`, `midhop_events_lost_total{stage="other"} 3`, `midhop_events_lost_total{stage="ring"} 2`,
		`midhop_path_sockets{via_node="node-a",state="healthy"} 4`, `midhop_path_sockets{via_node="node-a",state="presumed"} 3`,
		`midhop_incidents_open{rule="other",severity="critical"} 1`, `midhop_probes{fact="retransmit",rung="tp_btf"} 1`,
		`midhop_tcp_stall_duration_seconds_bucket{le="2"} 0`, `midhop_tcp_stall_duration_seconds_bucket{le="5"} 1`, `midhop_tcp_stall_duration_seconds_count 1`,
		`midhop_nat_mappings{via_node="node-a"} 4`,
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no line %s in\n%s", want, out)
		}
	}
}

// TestNamesFollowTheConvention holds metrics to base units and _total on counters.
func TestNamesFollowTheConvention(t *testing.T) {
	var names []string
	for _, m := range Metrics() {
		names = append(names, m.Name)
		if (m.Kind == Counter) != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		for _, l := range m.Labels {
			if slices.Contains([]string{"ip", "pod_ip", "port", "address", "client", "flow"}, l.Name) {
				t.Errorf("%s has a label %s", m.Name, l.Name)
			}
		}
	}
	if !slices.IsSorted(names) || len(slices.Compact(names)) != len(Metrics()) {
		t.Errorf("names are not sorted and different: %q", names)
	}
}
