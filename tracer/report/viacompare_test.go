package report

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// TestCompareVias is the incident's table before and after a migration to container-native load balancing, through a file.
func TestCompareVias(t *testing.T) {
	s := ws()
	s.Services = []model.GroupRow{{Name: "ws/chat", Sockets: 18714, Crossing: 10130, Policy: "Cluster"}}
	var file bytes.Buffer
	if err := json.NewEncoder(&file).Encode(NewViaJSON(s)); err != nil {
		t.Fatal(err)
	}
	before, err := ReadViaJSON(&file)
	if err != nil {
		t.Fatal(err)
	}
	s = ws()
	s.Services = []model.GroupRow{{Name: "ws/chat", Sockets: 18000, Policy: "Cluster", Direct: true}}
	s.Totals = model.Totals{Sockets: 18000}
	s.Coverage.NodesSeen = 2
	for i := range s.Vias {
		r := &s.Vias[i]
		r.Sockets = 0
		r.Table.Entries /= 10
		if r.Kind == model.KindDirect {
			r.Sockets, r.From = 18000, []model.FromNetwork{{Prefix: netip.MustParsePrefix("35.191.0.0/16"), Sockets: 18000}}
		}
	}
	after := NewViaJSON(s)
	want := `VIA            KIND    BEFORE  SHARE     NOW  SHARE  CONNTRACK    NODE IS
node-60        node     4,225   23 %       0    0 %  61k -> 6.1k  preemptible 21h
node-3         node     4,224   23 %       0    0 %  58k -> 5.8k  preemptible 3h
node-10        node       833    4 %       0    0 %               standard
node-98        node       449    2 %       0    0 %               standard
node-11        node       399    2 %       0    0 %               standard
(this node)    local    4,259   23 %       0    0 %               standard
(pods)         pod      4,325   23 %       0    0 %
(balancer)     direct       0    0 %  18,000  100 %
crossing another node: 10,130 of 18,714 (54 %) before, 0 of 18,000 (0 %) now
direct, with no node in the middle: 0 of 18,714 (0 %) before, 18,000 of 18,000 (100 %) now, from 35.191.0.0/16 18,000
conntrack entries of 2 nodes: 120k before, 12k now
ws/chat: Cluster before, container-native now
before: 2026-11-23T11:30:12Z, seen from 1 of 12 nodes; now: 2026-11-23T11:30:12Z, seen from 2 of 12 nodes
the looks were not taken from the same places: compare shares, not counts
`
	if diff := cmp.Diff(want, printed(t, CompareVias(before, &after).Table(Context{Now: now}), 0)); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadViaJSON(strings.NewReader(`{"items": []}`)); err == nil {
		t.Error("what is no look is taken for one")
	}
}

// TestViasTellsOfTheHop names the services for which the hop need not be, and a dataplane that keeps no ledger.
func TestViasTellsOfTheHop(t *testing.T) {
	s := ws()
	s.Vias[2].NoLedger = true
	s.Services = []model.GroupRow{
		{Name: "ws/chat", Crossing: 9000, Policy: "Cluster"}, {Name: "ws/local", Crossing: 5, Policy: "Local"},
		{Name: "ws/neg", Crossing: 6, Policy: "Cluster", Direct: true}, {Name: "ws/quiet", Policy: "Cluster"}, {Name: "ws/unknown", Crossing: 8},
	}
	got := printed(t, Vias(s, ViaOptions{Context: Context{Now: now}}), 0)
	for _, want := range []string{
		"ws/chat has externalTrafficPolicy Cluster: Local, or a balancer that speaks to pods, would remove the hop of 9,000 sockets.\n",
		"preemptible 21h   no ledger\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestViasBehind says the truth where a list of nodes was asked for and not got.
func TestViasBehind(t *testing.T) {
	s := &model.Snapshot{Complete: true, Totals: model.Totals{Sockets: 3}, Vias: []model.ViaRow{{Via: "192.0.2.1", Kind: model.KindAddress, Sockets: 3}},
		Coverage: event.Coverage{Behind: []string{"nodes (nodes: the API cannot be reached: connection refused)"}}}
	got := printed(t, Vias(s, ViaOptions{Context: Context{Now: now}}), 0)
	if want := "3 sockets; the list of nodes could not be read (nodes: the API cannot be reached: connection refused), so peers"; !strings.Contains(got, want) || strings.Contains(got, "was given") {
		t.Errorf("no %q in\n%s", want, got)
	}
}
