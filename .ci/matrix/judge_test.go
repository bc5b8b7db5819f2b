package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func at(s float64) string {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(s * 1e9)).Format(time.RFC3339Nano)
}

func fault(s float64, target string) string {
	return fmt.Sprintf(`{"type":"lab.fault","time":%q,"target":%q}`, at(s), target)
}

func incident(what string, s float64, id, rule, kind, name string) string {
	return fmt.Sprintf(`{"type":"incident.%s","time":%q,"incident":{"id":%q,"rule":%q,"culprit":{"kind":%q,"name":%q,"sure":"proved"}}}`,
		what, at(s), id, rule, kind, name)
}

func rowOf(t *testing.T, name string) row {
	t.Helper()
	for _, r := range slices.Concat(rows(), wildRows()) {
		if r.name() == name {
			return r
		}
	}
	t.Fatalf("no row %s", name)
	return row{}
}

func TestJudge(t *testing.T) {
	rebooted := []string{
		fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("updated", 7, "1", "node-rebooted", "node", "a"),
	}
	for _, c := range []struct {
		name, row string
		lines     []string
		wrong     string
		took      time.Duration
	}{
		{name: "right", row: "node-gone", lines: []string{fault(1, "a"), incident("opened", 1.5, "1", "node-gone", "node", "a")}, took: time.Second / 2},
		{name: "fault told late", row: "node-gone", lines: []string{incident("opened", 1.5, "1", "node-gone", "node", "a"), fault(1, "a")}, took: time.Second / 2},
		{name: "refined", row: "node-rebooted --duration 60s", lines: rebooted, took: time.Second},
		{name: "not refined", row: "node-rebooted --duration 60s", lines: rebooted[:2], wrong: "missed node-rebooted", took: time.Second},
		{name: "healthy node", row: "node-gone", lines: []string{fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "b")}, wrong: `"b"`},
		{name: "healthy node, taken back", row: "node-gone", lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "b"), incident("closed", 3, "1", "node-gone", "node", "b"),
			incident("opened", 3, "2", "node-gone", "node", "a"),
		}, wrong: `"b"`, took: 2 * time.Second},
		{name: "healthy node beside", row: "node-gone", lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("opened", 3, "2", "node-lossy", "node", "b"),
		}, wrong: `node-lossy on node "b"`, took: time.Second},
		{name: "closed", row: "node-gone", lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("closed", 3, "1", "node-gone", "node", "a"),
		}, wrong: "missed", took: time.Second},
		{name: "before the fault", row: "node-gone", lines: []string{incident("opened", 0.5, "1", "node-gone", "node", "a"), fault(1, "a")}, wrong: "node-gone", took: -time.Second / 2},
		{name: "unknown first", row: "node-gone", lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "unexplained", "unknown", ""), incident("opened", 3, "2", "node-gone", "node", "a"),
		}, took: 2 * time.Second},
		{name: "unknown is right", row: "front-gone", lines: []string{fault(1, "a"), incident("opened", 2, "1", "front-gone", "unknown", "")}, took: time.Second},
		{name: "node where unknown is right", row: "front-gone", lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("updated", 3, "1", "front-gone", "unknown", ""),
		}, wrong: `node "a"`, took: 2 * time.Second},
		{name: "two", row: "two-nodes --duration 60s", lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("opened", 4, "2", "node-lossy", "node", "b"),
		}, took: time.Second},
		{name: "one of two", row: "two-nodes --duration 60s", lines: []string{fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a")}, wrong: "missed node-lossy", took: time.Second},
		{name: "not sure enough", row: "node-gone --agents 2", lines: []string{fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a")}, wrong: "missed", took: time.Second},
		{name: "good day", row: "drain", lines: []string{fault(1, "a")}},
		{name: "anything on a good day", row: "drain", lines: []string{fault(1, "a"), incident("opened", 2, "1", "unexplained", "unknown", "")}, wrong: "unexplained"},
		{name: "no node named", row: "one-way" + wild, lines: []string{fault(1, "a"), incident("opened", 2, "1", "unexplained", "client", "c")}, took: time.Second},
		{name: "nothing where something is", row: "one-way" + wild, lines: []string{fault(1, "a")}, wrong: "missed anything"},
		{name: "nothing where that is right", row: "window-invalid" + wild, lines: []string{fault(1, "a")}},
		{name: "a node where none is", row: "window-invalid" + wild, lines: []string{fault(1, "a"), incident("opened", 2, "1", "nat-lost", "node", "a")}, wrong: "nat-lost"},
		{name: "over by the end", row: "address-reused" + wild, lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("closed", 8, "1", "node-gone", "node", "a"),
		}, took: time.Second},
		{name: "its heir", row: "address-reused" + wild, lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("opened", 8, "2", "node-gone", "node", "b"),
		}, wrong: `"b"`, took: time.Second},
		{name: "twice", row: "backend-node" + wild, lines: []string{
			fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a"), incident("opened", 3, "2", "unexplained", "unknown", ""),
		}, wrong: "2 incidents", took: time.Second},
		{name: "nothing at all", row: "healthy", wrong: "wrote nothing"},
	} {
		got, err := judge(rowOf(t, c.row), strings.NewReader(strings.Join(c.lines, "\n")))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !strings.Contains(got.wrong, c.wrong) || (got.wrong == "") != (c.wrong == "") || got.took != c.took {
			t.Errorf("%s: wrong %q after %s, want %q after %s", c.name, got.wrong, got.took, c.wrong, c.took)
		}
	}
	if _, err := judge(rowOf(t, "healthy"), strings.NewReader("{")); err == nil {
		t.Error("half a line is taken for a whole one")
	}
}

// wild are the arguments of the rows in rows_wild.go.
const wild = " --whole --fault-after 4s --duration 19s"

// TestVantage: a vantage sees its agent's facts and the API's, or none of the API's, and no finding of anybody else.
func TestVantage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run.jsonl")
	stream := strings.Join([]string{
		`{"type":"pod.changed","source":"kube","pod":{"name":"chat-1","node":"p"}}`,
		`{"type":"pod.changed","source":"kube","pod":{"name":"caller-1","node":"c"}}`,
		`{"type":"stream.heartbeat","source":"agent/p"}`, `{"type":"stream.heartbeat","source":"agent/c"}`, `{"type":"stream.heartbeat","source":"agent/v"}`,
		fault(1, "v"), incident("opened", 2, "1", "node-gone", "node", "v"),
	}, "\n")
	if err := os.WriteFile(path, []byte(stream), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v    vantage
		want string
	}{
		{vantage{one: "pods"}, "kube kube agent/p"},
		{vantage{one: "caller"}, "kube kube agent/c"},
		{vantage{noInventory: true}, "agent/p agent/c agent/v"},
		{vantage{one: "caller", noInventory: true}, "agent/c"},
	} {
		facts, told, err := c.v.part(path)
		if err != nil {
			t.Fatal(err)
		}
		var sources []string
		for l := range strings.Lines(string(facts)) {
			_, after, _ := strings.Cut(l, `"source":"`)
			source, _, _ := strings.Cut(after, `"`)
			sources = append(sources, source)
		}
		if got := strings.Join(sources, " "); got != c.want || string(told) != fault(1, "v")+"\n" {
			t.Errorf("%+v sees %q and %q", c.v, got, told)
		}
	}
	if _, _, err := (vantage{one: "nobody"}).part(path); err == nil {
		t.Error("an agent that nobody has is one agent")
	}
}

// One of several verdicts is enough where that is said, none is not, and each only as sure as it may be.
func TestVantageVerdicts(t *testing.T) {
	look := func(scenario string, lines ...string) string {
		got, err := judge(rowOf(t, scenario+wild).from(oneAgent(strings.Fields(scenario)[0])), strings.NewReader(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return got.wrong
	}
	const uplink = "uplink-returns --connections 30"
	hedge := strings.Replace(incident("opened", 2, "1", "node-gone", "node", "a"), "proved", "inferred", 1)
	for i, c := range []struct {
		said  string
		wrong bool
	}{
		{look(uplink, fault(1, "a")), true},
		{look(uplink, fault(1, "a"), incident("opened", 2, "1", "local-node", "local_node", "a")), false},
		{look(uplink, fault(1, "a"), incident("opened", 2, "1", "unexplained", "unknown", "")), false},
		{look("floating-address", fault(1, "192.0.2.7"), hedge), false}, // the fault is an address's
		{look("floating-address", fault(1, "192.0.2.7"), incident("opened", 2, "1", "node-gone", "node", "a")), true},
		{look("quick-reboot", fault(1, "a"), incident("opened", 2, "1", "node-lossy", "node", "a")), false},
		{look("quick-reboot", fault(1, "a"), incident("opened", 2, "1", "node-lossy", "node", "b")), true},
		{look("egress-node", fault(1, "a"), incident("opened", 2, "1", "node-gone", "node", "a")), true},
	} {
		if (c.said != "") != c.wrong {
			t.Errorf("%d: %q where wrong is %t", i, c.said, c.wrong)
		}
	}
}

func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := 10; i > 0; i-- {
		d = append(d, time.Duration(i))
	}
	for p, want := range map[int]time.Duration{50: 5, 95: 10, 100: 10} {
		if got := quantile(d, p); got != want {
			t.Errorf("p%d is %d, want %d", p, got, want)
		}
	}
}

// TestSlow: where a row was measured by itself, that counts.
func TestSlow(t *testing.T) {
	took := func(s ...time.Duration) (out []outcome) {
		for _, s := range s {
			out = append(out, outcome{took: s * time.Second})
		}
		return out
	}
	many := took(1, 1, 1, 1, 1, 1, 1, 1, 1, 3)
	for i, c := range []struct {
		r    *result
		want bool
	}{
		{&result{row: row{within: 2 * time.Second}, outcomes: took(1, 3)}, false}, // too few to tell
		{&result{row: row{within: 2 * time.Second}, outcomes: many}, true},
		{&result{row: row{}, outcomes: many}, false},
		{&result{row: row{within: 2 * time.Second, sure: "inferred"}, outcomes: took(3)}, true},
		{&result{row: row{within: 2 * time.Second, sure: "inferred"}, outcomes: took(3, 1, 1), alone: took(1, 1)}, false},
		{&result{row: row{within: 2 * time.Second}, outcomes: append(many, took(1, 3)...), alone: took(1, 3, 1)}, false},
		{&result{row: row{within: 2 * time.Second}, outcomes: append(many, took(1, 3, 3)...), alone: took(1, 3, 3)}, true},
		{&result{row: row{within: 2 * time.Second}, alone: []outcome{{wrong: "nothing"}}}, false}, // and counted as wrong
	} {
		if got := c.r.slow(); got != c.want {
			t.Errorf("%d: %t", i, got)
		}
	}
}
