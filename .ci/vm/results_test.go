package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// serial is what a test binary with -test.v=test2json writes (^V before each line of the framework), as it comes over the line.
const serial = "\x16=== RUN   TestProbe\n\x16--- PASS: TestProbe (0.30s)\n\x16=== NAME  \n" +
	"\x16=== RUN   TestNAT\n\x16=== RUN   TestNAT/fexit\n    nat_test.go:7: no module BTF\n\x16--- SKIP: TestNAT/fexit (0.00s)\n" +
	"\x16=== NAME  TestNAT\n\x16--- PASS: TestNAT (0.01s)\n\x16=== NAME  \n\x16PASS\n"

func judged(t *testing.T, table, out string, exit int, problem error) *results {
	t.Helper()
	expected, err := parseExpectations(table)
	if err != nil {
		t.Fatal(err)
	}
	jobs := []job{{name: "bpf", tests: true}}
	r := newResults(jobs)
	g := &guest{outputs: [][]byte{[]byte(out)}, exits: []int{exit}, total: 9 * time.Second}
	if err := r.add(t.Context(), image{kernel: matrix[2]}, jobs, g, problem, expected); err != nil {
		t.Fatal(err)
	}
	r.checkStale(expected)
	return r
}

func TestJudgement(t *testing.T) {
	for name, test := range map[string]struct {
		table, out string
		exit       int
		problem    error
		want       []string // a part of each line that must be wrong
	}{
		"skip that nobody expects":       {"", serial, 0, nil, []string{"TestNAT/fexit: skip, expected pass: no module BTF"}},
		"skip as expected":               {"6.12 bpf Test*/fexit skip no BTF", serial, 0, nil, nil},
		"skip expected elsewhere":        {"5.10 bpf TestNAT/fexit skip no BTF", serial, 0, nil, []string{"TestNAT/fexit: skip"}},
		"pass where a skip is told":      {"* bpf TestProbe skip old\n* bpf TestNAT/* skip old", serial, 0, nil, []string{"TestProbe: pass, expected skip"}},
		"told but not there":             {"* bpf TestNAT/* skip old\n6.12 bpf TestGone pass", serial, 0, nil, []string{"no test bpf TestGone"}},
		"told of a job that did not run": {"* bpf TestNAT/* skip old\n* tracer/lab TestGone pass", serial, 0, nil, nil},
		"exit status without a failure":  {"* bpf TestNAT/* skip old", serial, 2, nil, []string{"exit status 2"}},
		"cut short":                      {"* bpf TestNAT/* skip old", strings.TrimSuffix(serial, "\x16PASS\n"), -1, errors.New("deadline"), []string{"deadline", "did not come to its end"}},
		"failure": {"", "\x16=== RUN   TestA\n    a_test.go:9: wanted 1, got 0\n\x16--- FAIL: TestA (1.00s)\nFAIL\n", 1, nil,
			[]string{"wanted 1, got 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := judged(t, test.table, test.out, test.exit, test.problem).wrong
			if len(wrong) != len(test.want) {
				t.Fatalf("wrong: %q, want %q", wrong, test.want)
			}
			for i := range wrong {
				if !strings.Contains(wrong[i], test.want[i]) {
					t.Errorf("wrong: %q, want %q", wrong[i], test.want[i])
				}
			}
		})
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	judged(t, "* bpf TestNAT/* skip old", serial, 0, nil).print(&b)
	var cells [][]string
	for line := range strings.Lines(b.String()) {
		cells = append(cells, strings.Fields(line))
	}
	for _, want := range [][]string{{"6.12"}, {"guest", "ran", "9.0s"}, {"TestProbe", "ok", "0.3s"}, {"TestNAT/fexit", "skip"},
		{"6.12:", "bpf", "TestNAT/fexit:", "no", "module", "BTF"}} {
		if !slices.ContainsFunc(cells, func(line []string) bool { return slices.Equal(line, want) }) {
			t.Errorf("no line %q in\n%s", want, b.String())
		}
	}
}

func TestExpectationsOfTheMatrix(t *testing.T) {
	if _, err := readExpectations(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"6.12 bpf TestA", "6.12 bpf TestA skip", "6.13 bpf TestA pass", "6.12 bpf Test[ pass", "6.12 bpf TestA fail why"} {
		if _, err := parseExpectations(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
