package nodefile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
)

func utf16le(text []byte, mark bool) []byte {
	var out []byte
	if mark {
		out = append(out, 0xff, 0xfe)
	}
	for _, u := range utf16.Encode([]rune(string(text))) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func utf16be(text []byte) []byte {
	out := []byte{0xfe, 0xff}
	for _, u := range utf16.Encode([]rune(string(text))) {
		out = binary.BigEndian.AppendUint16(out, u)
	}
	return out
}

func gzipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstandard(t *testing.T, text []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(text, nil)
}

func watched(items []json.RawMessage) []byte {
	var b bytes.Buffer
	for _, i := range items {
		b.WriteString(`{"type":"ADDED","object":` + string(i) + "}\n")
	}
	b.WriteString(`{"type":"ADDED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"gone"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.9"}]}}}`)
	b.WriteString(`{"type":"DELETED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"gone"}}}`)
	return b.Bytes()
}

// TestUnicode: characters beyond 16 bits survive.
func TestUnicode(t *testing.T) {
	text := []byte(`[{"name":"näöd-𝄞","addresses":["10.0.0.1"]}]`)
	for _, packed := range [][]byte{text, utf16le(text, true), utf16be(text)} {
		if n := readAll(t, packed); len(n) != 1 || n[0].Name != "näöd-𝄞" {
			t.Errorf("read %+v", n)
		}
	}
}

const good = `{"kind":"Node","apiVersion":"v1","metadata":{"name":"good"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}}`

func listed(items ...string) string {
	return `{"apiVersion":"v1","kind":"List","items":[` + strings.Join(append(items, good), ",") + `]}`
}

// TestOneOddObject: it costs itself, as far as it cannot be used, and is told with its place.
func TestOneOddObject(t *testing.T) {
	node := func(name, rest string) string {
		return `{"kind":"Node","apiVersion":"v1","metadata":{"name":"` + name + `"}` + rest + `}`
	}
	for _, c := range []struct {
		name, text string
		nodes      []string // name, addresses and ranges
		warning    string
	}{
		{"a redacted address", listed(node("a", `,"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"REDACTED"},{"type":"ExternalIP","address":"198.51.100.1"}]}`)),
			[]string{"a 198.51.100.1 10.244.1.0/24", "good 10.0.0.1"}, `items[0].status.addresses[0].address: "REDACTED" is not an IP address`},
		{"an empty address", listed(node("a", `,"status":{"addresses":[{"type":"InternalIP","address":""}]}`)), []string{"a", "good 10.0.0.1"}, "without any address or range of pods: a;"},
		{"a redacted range", listed(node("a", `,"spec":{"podCIDRs":["x.x.x.x/24","10.244.1.0/24"]}`)), []string{"a 10.244.1.0/24", "good 10.0.0.1"}, `items[0].spec.podCIDRs[0]: "x.x.x.x/24" is not a range`},
		{"a pod", listed(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"spec":{"nodeName":"good"},"status":{"podIP":"10.0.0.9"}}`), []string{"good 10.0.0.1"}, `items[0].kind: "Pod" is not a Node`},
		{"a node twice", listed(node("good", `,"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.7"}]}`)), []string{"good 10.0.0.1"}, "1 times a node stands there again (items[1] is good): the last word counts"},
		{"no kind", `{"items":[{"metadata":{"name":"a"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.2"}]}}]}`, []string{"a 10.0.0.2"}, ""},
		{"no kind, alone", `{"metadata":{"name":"a"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.2"}]}}`, []string{"a 10.0.0.2"}, ""},
		{"another's Node", listed(`{"kind":"Node","apiVersion":"longhorn.io/v1beta2","metadata":{"name":"x"}}`), []string{"good 10.0.0.1"}, `items[0].apiVersion: a Node of "longhorn.io/v1beta2" is not one of Kubernetes' own`},
		{"calicoctl's", `{"kind":"NodeList","apiVersion":"projectcalico.org/v3","items":[{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"a.example.com"},"spec":{"addresses":[{"address":"10.0.0.2/24","type":"CalicoNodeIP"},{"address":"10.0.0.2","type":"InternalIP"}],"bgp":{"ipv4Address":"10.0.0.2/24","ipv4IPIPTunnelAddr":"10.244.7.64"},"orchRefs":[{"nodeName":"a","orchestrator":"k8s"}]},"status":{}}]}`,
			[]string{"a 10.0.0.2 10.244.7.64"}, "1 of 1 are Nodes as calicoctl prints them"},
		{"a name of the wrong kind", listed(`{"kind":"Node","metadata":{"name":7}}`), []string{"good 10.0.0.1"}, "items[0].metadata.name: want a text, have a number"},
		{"a time that is none", listed(`{"kind":"Node","metadata":{"name":"a","creationTimestamp":"yesterday"}}`), []string{"good 10.0.0.1"}, "items[0]: "},
		{"labels of the wrong kind", listed(node("a", `,"status":{"addresses":"none"}`)), []string{"a", "good 10.0.0.1"}, "items[0].status.addresses: want a list, have a string"},
		{"null for an item", listed(`null`), []string{"good 10.0.0.1"}, "items[0]"},
		{"short, one bad address", "- {name: a, addresses: [10.0.0.1, node-a]}", []string{"a 10.0.0.1"}, `nodes[0].addresses[1]: "node-a" is not an IP address`},
		{"short, twice", "- {name: a, addresses: [10.0.0.1]}\n- {name: a, addresses: [10.0.0.2]}", []string{"a 10.0.0.2"}, "the last word counts"},
		{"short, a label of the wrong kind", "- {name: a, addresses: [10.0.0.1], labels: {x: [1]}}", []string{"a 10.0.0.1"}, "want a text"},
		{"short, an unknown field", "- {name: a, addresses: [10.0.0.1], podCIDR: 10.0.0.0/24}", []string{"a 10.0.0.1"}, "nodes[0].podCIDR: unknown field; there are name, addresses, podCIDRs, labels"},
		{"short, a name that is a number", "- {name: 7, addresses: [10.0.0.1]}", []string{"7 10.0.0.1"}, ""},
		{"short, and one of kubectl's", `[{"name":"a","addresses":["10.0.0.2"]},` + good + `]`, []string{"a 10.0.0.2", "good 10.0.0.1"}, ""},
		{"one address twice", "- {name: a, addresses: [10.0.0.1]}\n- {name: b, addresses: [10.0.0.1]}", []string{"a 10.0.0.1", "b 10.0.0.1"}, "a and b have the same address 10.0.0.1: what comes from there is taken for neither's"},
		{"one range twice", "- {name: a, podCIDRs: [10.244.1.0/24]}\n- {name: b, podCIDRs: [10.244.1.0/24]}", []string{"a 10.244.1.0/24", "b 10.244.1.0/24"}, "a and b have the same range of pods 10.244.1.0/24"},
		{"a broken item of YAML", "items:\n- {kind: Node, metadata: {name: a]}\n- kind: Node\n  metadata: {name: good}\n  status:\n    addresses: [{type: InternalIP, address: 10.0.0.1}]\nkind: List\n", []string{"good 10.0.0.1"}, "items[0]: not YAML (from line 2)"},
		{"Cilium's beside it", listed(`{"kind":"CiliumNode","apiVersion":"cilium.io/v2","metadata":{"name":"good"},"spec":{"addresses":[{"type":"InternalIP","ip":"10.0.0.1"},{"type":"CiliumInternalIP","ip":"10.0.1.13"}],"ipam":{"podCIDRs":["10.0.1.0/24"]}}}`),
			[]string{"good 10.0.0.1 10.0.1.13 10.0.1.0/24"}, ""},
		{"Calico's blocks beside it", listed(`{"kind":"BlockAffinity","apiVersion":"crd.projectcalico.org/v1","metadata":{"name":"x"},"spec":{"cidr":"10.244.77.64/26","node":"good","state":"confirmed","deleted":"false"}}`,
			`{"kind":"BlockAffinity","apiVersion":"projectcalico.org/v3","metadata":{"name":"y"},"spec":{"cidr":"10.244.78.0/26","node":"good","state":"confirmed","deleted":true}}`), []string{"good 10.0.0.1 10.244.77.64/26"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := Read(strings.NewReader(c.text), "f")
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, n := range list.Nodes {
				words := []string{n.Name}
				for _, a := range n.Addresses {
					words = append(words, a.IP.String())
				}
				for _, p := range n.PodCIDRs {
					words = append(words, p.String())
				}
				have = append(have, strings.Join(words, " "))
			}
			if strings.Join(have, "|") != strings.Join(c.nodes, "|") {
				t.Errorf("nodes are %q, want %q", have, c.nodes)
			}
			told := strings.Join(list.Warnings, "\n")
			if !strings.Contains(told, c.warning) || c.warning == "" && told != "" {
				t.Errorf("told %q, want %q", told, c.warning)
			}
		})
	}
}

// TestRefused: what holds nothing that could be used is named, with what would give the right thing.
func TestRefused(t *testing.T) {
	kubectl := "kubectl get nodes -o json > nodes.json"
	whole := []byte(listed(good))
	for _, test := range []struct{ name, text, want, remedy string }{
		{"nothing", "", "nodes file f: no nodes; want a list of nodes", kubectl},
		{"comments only", "# none\n", "no nodes", kubectl},
		{"empty list", "[]", "no nodes", kubectl},
		{"an empty list of kubectl's", `{"apiVersion":"v1","items":[],"kind":"List"}`, "no nodes", kubectl},
		{"no YAML", "- name: a\n  addresses: [10.0.0.1\n- b", "not YAML: line", kubectl},
		{"no JSON", `{"kind":"List","items":[` + good + `,]`, "nodes file f: not JSON: invalid character", kubectl},
		{"a table", "NAME     STATUS   ROLES    AGE   VERSION\nnode-a   Ready    <none>   3d    v1.33.1\n", "the table that kubectl get nodes prints for people", kubectl},
		{"a wide table", "NAME     STATUS   ROLES    AGE   VERSION   INTERNAL-IP   EXTERNAL-IP   OS-IMAGE\nnode-a   Ready    <none>   3d    v1.33.1   10.0.0.1   <none>   x\n", "the table that kubectl get nodes prints", kubectl},
		{"any text", "NAME STATUS\nnode-a Ready", "is a table for people", kubectl},
		{"describe", "Name:               node-a\nRoles:              <none>\nLabels:             a=b\n", "kubectl describe prints for people", kubectl},
		{"names", "node/node-a\nnode/node-b\n", "holds the names of nodes only", kubectl},
		{"kubectl's error", "Error from server (Forbidden): nodes is forbidden\n", "holds an error of kubectl's: Error from server (Forbidden): nodes is forbidden", kubectl},
		{"the API's refusal", `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"nodes is forbidden: User \"dev\" cannot list resource \"nodes\"","reason":"Forbidden","code":403}`, `holds the API's refusal: 403 nodes is forbidden: User "dev" cannot list`, "kubectl auth can-i list nodes"},
		{"Cilium's only", `{"kind":"CiliumNodeList","apiVersion":"cilium.io/v2","items":[{"kind":"CiliumNode","apiVersion":"cilium.io/v2","metadata":{"name":"a"},"spec":{"addresses":[{"type":"CiliumInternalIP","ip":"10.0.1.13"}]}}]}`, "names Cilium's addresses only", "kubectl get nodes,ciliumnodes -o json > nodes.json"},
		{"Calico's only", `{"kind":"List","apiVersion":"v1","items":[{"kind":"BlockAffinity","apiVersion":"crd.projectcalico.org/v1","spec":{"cidr":"10.0.0.0/26","node":"a"}}]}`, "names Calico's blocks only", "blockaffinities"},
		{"pods", `{"kind":"PodList","items":[]}`, "no nodes", kubectl},
		{"a pod", `{"kind":"Pod","metadata":{"name":"x"}}`, `"Pod" holds no nodes`, kubectl},
		{"a pod in a list", `{"kind":"List","items":[{"kind":"Pod","metadata":{"name":"x"}}]}`, `items[0].kind: "Pod" is not a Node`, kubectl},
		{"a kubeconfig", "apiVersion: v1\nkind: Config\nclusters: []\n", "is a kubeconfig", "--kubeconfig FILE"},
		{"a recording", `{"v":1,"type":"stream.started","time":"2026-11-01T00:00:00Z"}`, "is a recording of midhop's", "midhop replay"},
		{"a web page", "<!DOCTYPE html><html>", "is a web page", kubectl},
		{"bytes", "\x7fELF\x02\x01\x01\x00\x00\x00", "is no text", kubectl},
		{"xz", "\xfd7zXZ\x00\x00", "compressed by xz", "xz -dc FILE"},
		{"cut gzip", string(gzipped(t, bytes.Repeat(whole, 50))[:60]), "the compressed file ends too early: it is cut off", kubectl},
		{"cut zstd", string(zstandard(t, whole)[:40]), "the compressed file ends too early: it is cut off", kubectl},
		{"a cut list", string(whole[:len(whole)-20]), "ends in the middle: it is cut off", kubectl + " once more"},
		{"a cut list of YAML", "apiVersion: v1\nitems:\n- kind: Node\n  metadata: {name: a}\n  status:\n    addresses: [{type: InternalIP, address: 10.0.0.1}]\n", "ends in the middle: it is cut off", kubectl + " once more"},
		{"no address anywhere", listed2(`{"kind":"Node","metadata":{"name":"a"}}`), "a: none has an address or a range of pods", kubectl},
		{"unknown field", "- name: a\n  podCIDR: 10.0.0.0/24", "nodes[0].podCIDR: unknown field; there are name, addresses", kubectl},
		{"no name", "- addresses: [10.0.0.1]", "nodes[0].name: missing", kubectl},
		{"not a range", "- {name: a, podCIDRs: [10.0.0.1]}", `nodes[0].podCIDRs[0]: "10.0.0.1" is not a range such as`, kubectl},
		{"no list", "- {name: a, addresses: 10.0.0.1}", "nodes[0].addresses: want a list, have a string", kubectl},
		{"nothing to recognise it by", "- {name: a}", "nodes[0]: a has neither addresses nor podCIDRs", kubectl},
		{"texts", "- a\n- b\n", "nodes[0]: want a list of nodes", kubectl},
		{"node without a name", `{"kind":"Node"}`, "metadata.name: missing", kubectl},
		{"wrong kind of value", `{"kind":"Node","metadata":{"name":7}}`, "metadata.name: want a text, have a number", kubectl},
		{"bad status", listed2(`{"kind":"Node","metadata":{"name":"a"},"status":{"addresses":[{"type":"InternalIP","address":"a"}]}}`), `items[0].status.addresses[0].address: "a" is not an IP address`, kubectl},
		{"second document", "kind: Node\nmetadata: {name: a}\n---\nkind: Node\n", "document 2.metadata.name: missing", kubectl},
		{"a number", "7", "want a list of nodes", kubectl},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(test.text), "f")
			var typed *Error
			if !errors.As(err, &typed) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if !strings.Contains(typed.Remedy(), test.remedy) || typed.Effect() == "" {
				t.Errorf("remedy is %q, want %q", typed.Remedy(), test.remedy)
			}
		})
	}
}

func listed2(item string) string { return `{"apiVersion":"v1","kind":"List","items":[` + item + `]}` }
