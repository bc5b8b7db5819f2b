package main

import (
	"fmt"
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
	for _, r := range rows() {
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
