package nodefile

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/midhop/midhop/tracer/event"
)

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func address(ip, from string) event.Address {
	return event.Address{IP: netip.MustParseAddr(ip), From: from}
}

// readAll reads a file in which nothing is left out.
func readAll(t *testing.T, text []byte) []event.Node {
	t.Helper()
	list, err := Read(bytes.NewReader(text), "-")
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Warnings) > 0 {
		t.Errorf("warned: %q", list.Warnings)
	}
	return list.Nodes
}

func compare(t *testing.T, got, want []event.Node) {
	t.Helper()
	byValue := cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("want -, have +\n%s", diff)
	}
}

func TestShortForm(t *testing.T) {
	got := readAll(t, read(t, "testdata/short.yaml"))
	compare(t, got, []event.Node{
		{Name: "node-a", Addresses: []event.Address{address("192.0.2.11", "nodes file"), address("2001:db8::11", "nodes file")},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("2001:db8:244:1::/64")},
			Zone:     "eu-1b", Spot: "spot", Platform: "gke"},
		{Name: "node-b", Addresses: []event.Address{address("192.0.2.12", "nodes file")},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}},
		{Name: "node-c", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24")}},
	})
}

var kubectlNodes = []event.Node{
	{Name: "gke-prod-pool-1-0f4bd7a2-x1z9", UID: "0f4bd7a2-55f1-4a0b-9b0c-1f6d2b7c9e10",
		Addresses: []event.Address{address("10.146.0.60", "status InternalIP"), address("198.51.100.60", "status ExternalIP")},
		PodCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.48.12.0/24")},
		Zone:      "europe-west1-b", Platform: "gke", Spot: "preemptible", Created: time.Date(2026, 11, 22, 14, 20, 11, 0, time.UTC),
		BootID: "a1d0e7c2-6a0b-47e6-9b53-6b0d3a1c77f0", Ready: "unknown",
		Taints: []string{"node.kubernetes.io/unreachable:NoSchedule", "dedicated=ws:NoSchedule"},
		Causes: []event.Cause{{What: event.CauseUnknown, From: "condition Ready=Unknown (NodeStatusUnknown)"}}},
	{Name: "plain", UID: "u2", Addresses: []event.Address{address("10.146.0.3", "status InternalIP")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.13.0/24")}, Platform: "aws",
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), BootID: "b2", Ready: "true",
		Taints: []string{"node.kubernetes.io/unschedulable:NoSchedule"},
		Causes: []event.Cause{{What: event.CauseCordoned, From: "spec.unschedulable"}}},
}

// TestWhatKubectlPrints reads the same two nodes in every shape that kubectl and jq give them.
func TestWhatKubectlPrints(t *testing.T) {
	list := read(t, "testdata/list.json")
	var items struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(list, &items); err != nil {
		t.Fatal(err)
	}
	toYAML := func(data []byte) []byte {
		out, err := yaml.JSONToYAML(data)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	array, err := json.Marshal(items.Items)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"list as JSON":           list,
		"list as YAML":           toYAML(list),
		"NodeList":               bytes.Replace(list, []byte(`"List"`), []byte(`"NodeList"`), 1),
		"two objects of JSON":    bytes.Join([][]byte{items.Items[0], items.Items[1]}, []byte("\n")),
		"two documents of YAML":  bytes.Join([][]byte{[]byte("# nodes\n"), toYAML(items.Items[0]), toYAML(items.Items[1])}, []byte("---\n")),
		"an array, as of jq":     array,
		"with a byte order mark": append([]byte("\xef\xbb\xbf"), list...),
		"UTF-16, as PowerShell":  utf16le(list, true),
		"UTF-16 without a mark":  utf16le(list, false),
		"UTF-16, the other way":  utf16be(list),
		"YAML in UTF-16":         utf16le(toYAML(list), true),
		"gzip":                   gzipped(t, list),
		"zstd":                   zstandard(t, list),
		"zstd, of YAML":          zstandard(t, toYAML(list)),
		"indented items":         bytes.ReplaceAll(toYAML(list), []byte("\n- "), []byte("\n- ")),
		"a watch's events":       watched(items.Items),
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, readAll(t, text), kubectlNodes)
		})
	}
}

func TestSource(t *testing.T) {
	at := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	var got []event.Event
	if err := New(kubectlNodes, at).Run(t.Context(), func(b []event.Event) { got = append(got, b...) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[2].Type != event.StreamSynced || got[2].Body.(*event.Synced).Fact != "nodes" {
		t.Fatalf("got %+v", got)
	}
	for _, e := range got {
		if !e.Time.Equal(at) || e.Source != "nodefile" {
			t.Errorf("%s has time %s and source %q", e.Type, e.Time, e.Source)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(read(f, "testdata/short.yaml"))
	f.Add(read(f, "testdata/list.json"))
	f.Add([]byte("kind: Node\nmetadata: {name: a}\n---\n- {name: b, addresses: [10.0.0.1]}"))
	f.Add([]byte("a: &a [*a, *a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := Read(bytes.NewReader(text), "f")
		if err != nil {
			return
		}
		for _, n := range list.Nodes {
			e := event.Event{Type: event.NodeChanged, Source: name, Body: &event.NodeFact{What: "added", Node: n}}
			line := event.AppendJSON(nil, &e)
			back, err := event.Decode(line)
			if err != nil {
				t.Fatalf("%v\n%s", err, line)
			}
			if again := event.AppendJSON(nil, &back); !reflect.DeepEqual(line, again) {
				t.Fatalf("\nwrote %s\nagain %s", line, again)
			}
		}
	})
}
