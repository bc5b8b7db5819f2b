package tracer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/midhop/midhop"

// rule is one row of the table of who may import whom, by paths within the module. A path that ends in /... stands for
// all below it too. "*" allows everything.
type rule struct {
	ours   []string // of our own packages
	others []string // of other modules, by path prefix; the standard library is always allowed
	tests  []string // more of either for the package's tests
}

// Small libraries of the Go project that everybody but the pure packages may use.
var golangX = []string{"golang.org/x/sys", "golang.org/x/term", "golang.org/x/sync"}

// For tests of any package.
var testLibraries = []string{
	"github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "go.uber.org/goleak", "github.com/santhosh-tekuri/jsonschema",
}

// table says who may import whom. What is not in it may not exist.
var table = map[string]rule{
	"bpf":                    {others: append([]string{"github.com/cilium/ebpf"}, golangX...)},
	"tracer/event":           {},
	"tracer/event/schemagen": {ours: []string{"tracer/event"}}, // a generator, in no binary
	"tracer/filter":          {},
	"tracer/compact":         {}, // tables without pointers
	"tracer/tick":            {}, // timers that fire together
	"tracer/model": {ours: []string{"tracer/compact", "tracer/event"},
		tests: []string{"tracer/source/kubenode"}}, // from real objects to the node that a peer's address names
	"tracer/diagnose": {ours: []string{"tracer/event", "tracer/model"}},
	"tracer": {ours: []string{"tracer/event", "tracer/model", "tracer/diagnose", "tracer/tick"}, others: golangX,
		tests: []string{"tracer/source/nodefile", "tracer/source/stream"}}, // recordings
	// One room with two doors: the kernel's events are kept only for namespaces that the census knows.
	"tracer/source/kernel": {ours: []string{"bpf", "tracer/event", "tracer/source/sockets", "tracer/tick"}, others: append([]string{"github.com/cilium/ebpf"}, golangX...),
		tests: []string{"tracer/source/conntrack"}}, // nothing may be told twice where both tell of translations
	"tracer/source/sockets": {ours: []string{"bpf", "tracer/compact", "tracer/event"}, others: append([]string{"github.com/cilium/ebpf"}, golangX...),
		tests: []string{"tracer/model"}}, // deadlines against deaths
	"tracer/source/conntrack": {ours: []string{"tracer/compact", "tracer/event", "tracer/tick"}, others: append([]string{"github.com/ti-mo/conntrack", "github.com/ti-mo/netfilter", "github.com/mdlayher/netlink"}, golangX...)},
	"tracer/source/bpfnat":    {ours: []string{"tracer/compact", "tracer/event", "tracer/tick"}, others: append([]string{"github.com/cilium/ebpf"}, golangX...)},
	"tracer/source/kubenode":  {ours: []string{"tracer/event"}}, // what a Node object means, for the two that meet one
	"tracer/source/kube":      {ours: []string{"tracer/event", "tracer/kubeaccess", "tracer/source/kubenode"}, others: append([]string{"k8s.io", "github.com/go-logr/logr"}, golangX...)},
	"tracer/kubeaccess": {others: append([]string{"k8s.io", "sigs.k8s.io/yaml"}, golangX...), // what it starts is shown as YAML
		tests: []string{"tracer/kubeaccess/apitest"}},
	"tracer/kubeaccess/apitest": {others: []string{"k8s.io", "github.com/gorilla/websocket"}}, // for tests only
	"tracer/source/ask":         {ours: []string{"tracer/event"}},
	"tracer/source/nodefile":    {ours: []string{"tracer/event", "tracer/source/kubenode"}, others: append([]string{"sigs.k8s.io/yaml", "github.com/klauspost/compress"}, golangX...)},
	"tracer/source/stream":      {ours: []string{"tracer/event"}, others: append([]string{"sigs.k8s.io/yaml", "github.com/klauspost/compress"}, golangX...)},
	"tracer/report":             {ours: []string{"tracer/event", "tracer/model"}},
	"tracer/redact":             {ours: []string{"tracer/event"}},
	"tracer/world":              {ours: []string{"tracer/event"}}, // a cluster on paper: it knows nothing of what it tests
	"tracer/trial": {ours: []string{"tracer", "tracer/event", "tracer/world"},
		tests: []string{"tracer/source/nodefile", "tracer/source/stream"}}, // recordings that worlds are held against
	"tracer/export/...": {ours: []string{"tracer/event", "tracer/model"}, others: append([]string{"github.com/klauspost/compress"}, golangX...)},
	"tracer/fleet":      {ours: []string{"tracer/event", "tracer/tick"}, others: append([]string{"github.com/nats-io", "github.com/klauspost/compress"}, golangX...)},
	"tracer/relief":     {ours: []string{"tracer/event", "tracer/model"}, others: append([]string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns"}, golangX...)},
	"tracer/lab": {ours: []string{"tracer/event"}, others: append([]string{
		"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/google/nftables",
		"github.com/ti-mo/conntrack", "github.com/ti-mo/netfilter", "github.com/mdlayher/netlink", "github.com/coder/websocket",
	}, golangX...)},
	"ui/...": {ours: []string{"tracer/event", "tracer/filter", "tracer/model", "tracer/report", "ui/..."}, others: append([]string{"github.com/rivo/tview", "github.com/rivo/uniseg", "github.com/gdamore/tcell"}, golangX...)},
	"ui/uitest": {ours: []string{"tracer/event", "tracer/filter", "tracer/model", "tracer/report", "ui/..."}, // for tests only
		others: append([]string{"github.com/rivo", "github.com/gdamore/tcell", "github.com/google/go-cmp"}, golangX...)},
	"cmd/midhop/deploy/rulegen": {},                                                                            // writes the chart's alert rules
	"cmd/midhop/deploy":         {others: []string{"sigs.k8s.io/yaml"}, tests: []string{"tracer/export/prom"}}, // the chart, compiled in
	"cmd/midhop": {ours: []string{"*"}, others: append([]string{"github.com/spf13"}, golangX...),
		tests: []string{"github.com/coder/websocket", "github.com/nats-io/nats.go", "k8s.io", "sigs.k8s.io/yaml"}}, // API servers that are attached and forwarded through, a cluster of nats-servers
}

// listed is what `go list -json` says of one package.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Module       *struct{ Path string }
}

// TestImports walks the package graph, as it is on each system that is built for, and compares it with the table.
func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			seen := make(map[string]bool)
			for _, p := range listPackages(t, goos) {
				path := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
				r, row, ok := ruleFor(path)
				if !ok {
					t.Errorf("%s has no row in the table", path)
					continue
				}
				seen[row] = true
				for _, i := range p.Imports {
					if !r.allows(i, false) {
						t.Errorf("%s imports %s", path, i)
					}
				}
				for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
					if i != p.ImportPath && !r.allows(i, true) {
						t.Errorf("a test of %s imports %s", path, i)
					}
				}
			}
			if goos == "linux" {
				for row := range table {
					if !seen[row] && !later[row] {
						t.Errorf("the table has a row for %s, which does not exist", row)
					}
				}
			}
		})
	}
}

// later are rooms whose row stands already though nobody lives there yet.
var later = map[string]bool{}

func listPackages(t *testing.T, goos string) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Module", module+"/...")
	cmd.Env = append(cmd.Environ(), "GOOS="+goos, "GOFLAGS=-mod=mod")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func ruleFor(path string) (rule, string, bool) {
	if r, ok := table[path]; ok {
		return r, path, true
	}
	for row, r := range table {
		if below(path, row) {
			return r, row, true
		}
	}
	return rule{}, "", false
}

// below says whether a path is what a row names, or lies below a row that ends in /...
func below(path, row string) bool {
	root, all := strings.CutSuffix(row, "/...")
	return path == row || (all && (path == root || strings.HasPrefix(path, root+"/")))
}

func (r *rule) allows(path string, test bool) bool {
	if ours, ok := strings.CutPrefix(path, module+"/"); ok {
		match := func(row string) bool { return row == "*" || below(ours, row) }
		return slices.ContainsFunc(r.ours, match) || (test && slices.ContainsFunc(r.tests, match))
	}
	first, _, _ := strings.Cut(path, "/")
	if !strings.Contains(first, ".") {
		return true // the standard library, and "C"
	}
	prefix := func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") }
	if slices.ContainsFunc(r.others, prefix) {
		return true
	}
	return test && (slices.ContainsFunc(testLibraries, prefix) || slices.ContainsFunc(r.tests, prefix))
}

// TestImportsRule checks the checker: it has to refuse what the table does not allow.
func TestImportsRule(t *testing.T) {
	model, _, _ := ruleFor("tracer/model")
	for path, want := range map[string]bool{
		"time":                            true,
		module + "/tracer/event":          true,
		module + "/tracer/diagnose":       false,
		module + "/tracer/eventful":       false,
		"golang.org/x/sys/unix":           false,
		"github.com/google/go-cmp/cmp":    false,
		"github.com/gdamore/tcell/v2":     false,
		"github.com/spf13/cobra":          false,
		"github.com/google/go-cmp-x/thin": false,
	} {
		if got := model.allows(path, false); got != want {
			t.Errorf("tracer/model may import %s: %v, want %v", path, got, want)
		}
	}
	if !model.allows("github.com/google/go-cmp/cmp", true) {
		t.Error("tests may use go-cmp")
	}
	screen, row, ok := ruleFor("ui/screen")
	if !ok || row != "ui/..." || !screen.allows(module+"/ui/widget", false) || screen.allows(module+"/tracer", false) {
		t.Errorf("ui/screen goes by row %q", row)
	}
}
