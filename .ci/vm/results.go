package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A row is one test of one job; a job that is no test binary has one row, without a test.
type row struct{ job, test string }

// An outcome is how a row ended on one kernel.
type outcome struct {
	verdict  string // pass, fail or skip
	expected bool
	took     time.Duration
	reason   string // what the test said, for a skip; its whole output, for a failure
}

// A column is what one kernel gave.
type column struct {
	image
	outcomes    map[row]outcome
	boot, total time.Duration
	problem     error // the guest itself failed
}

// results holds the columns of all kernels.
type results struct {
	columns []column
	rows    []row // in the order of first appearance
	notable map[row]bool
	wrong   []string
	jobs    []job
}

func newResults(jobs []job) *results { return &results{notable: map[row]bool{}, jobs: jobs} }

// add judges a guest's output. The error is one of the harness: what went wrong in the guest is a result.
func (r *results) add(ctx context.Context, k image, jobs []job, g *guest, problem error, expected []*expectation) error {
	col := column{image: k, outcomes: map[row]outcome{}, problem: problem}
	if problem != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("%s: %v", k.name, problem))
	}
	if g != nil {
		col.boot, col.total = g.boot, g.total
		for i, j := range jobs {
			if err := r.judge(ctx, &col, j, g.outputs[i], g.exits[i]); err != nil {
				return err
			}
		}
	}
	for _, key := range r.rows {
		o, seen := col.outcomes[key]
		if !seen {
			continue
		}
		e, want := expect(expected, k.name, key), "pass"
		if e != nil {
			want = e.outcome
			r.notable[key] = true
		}
		o.expected = o.verdict == want || k.name == here && o.verdict == "skip"
		if o.verdict != "pass" {
			r.notable[key] = true
		}
		if !o.expected {
			r.wrong = append(r.wrong, fmt.Sprintf("%s: %s %s: %s, expected %s: %s", k.name, key.job, key.test, o.verdict, want, o.reason))
		}
		col.outcomes[key] = o
	}
	r.columns = append(r.columns, col)
	return nil
}

func (r *results) judge(ctx context.Context, col *column, j job, out []byte, exit int) error {
	failed := false
	if j.tests {
		err := readTests(ctx, out, func(test string, o outcome) {
			failed = failed || o.verdict == "fail"
			r.set(col, row{j.name, test}, o)
		})
		if err != nil {
			return err
		}
	}
	switch {
	case exit == -1:
		r.set(col, row{j.name, ""}, outcome{verdict: "fail", reason: "did not come to its end\n" + tail(out)})
	case exit != 0 && !failed:
		r.set(col, row{j.name, ""}, outcome{verdict: "fail", reason: fmt.Sprintf("exit status %d\n%s", exit, tail(out))})
	case !j.tests:
		r.set(col, row{j.name, ""}, outcome{verdict: "pass", reason: tail(out)})
	}
	return nil
}

// set takes an outcome; one without verdict only gives the row its place, which is where the test began, before its subtests.
func (r *results) set(col *column, key row, o outcome) {
	if o.verdict != "" {
		col.outcomes[key] = o
	}
	if !slices.Contains(r.rows, key) {
		r.rows = append(r.rows, key)
	}
}

// checkStale finds lines of the table that nothing fulfilled although their job and kernel ran.
func (r *results) checkStale(expected []*expectation) {
	for _, e := range expected {
		for _, col := range r.columns {
			if !e.on(col.name) || col.problem != nil || col.name == here || !slices.ContainsFunc(r.jobs, e.ran) {
				continue
			}
			if !slices.ContainsFunc(r.rows, func(key row) bool { _, seen := col.outcomes[key]; return seen && e.matches(key) }) {
				r.wrong = append(r.wrong, fmt.Sprintf("%s: no test %s %s, which expect.txt:%d names", col.name, e.job, e.test, e.line))
			}
		}
	}
}

// tail is the end of an output, enough to see why: 25 lines, none longer than a few rows of a terminal.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	lines = lines[max(0, len(lines)-25):]
	for i, l := range lines {
		if len(l) > 300 {
			lines[i] = l[:300] + " ..."
		}
	}
	return strings.Join(lines, "\n")
}

// said matches a line that a test logged.
var said = regexp.MustCompile(`^\s+\w+\.go:\d+: `)

// readTests has the Go tool convert the output of a test binary, and calls found when a test or subtest starts,
// without a verdict, and when it ends.
func readTests(ctx context.Context, out []byte, found func(string, outcome)) error {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t")
	cmd.Stdin = bytes.NewReader(out)
	converted, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go tool test2json: %w", err)
	}
	text := map[string]string{}
	for line := range bytes.Lines(converted) {
		var e struct {
			Action, Test, Output string
			Elapsed              float64
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("go tool test2json: %w", err)
		}
		switch e.Action {
		case "run":
			found(e.Test, outcome{})
		case "output":
			text[e.Test] += e.Output
		case "pass", "fail", "skip":
			if e.Test == "" {
				continue // the binary as a whole: its exit status says it
			}
			o := outcome{verdict: e.Action, took: time.Duration(e.Elapsed * float64(time.Second))}
			switch e.Action {
			case "fail":
				o.reason = "\n" + text[e.Test]
			case "skip":
				for line := range strings.Lines(text[e.Test]) {
					if said.MatchString(line) {
						o.reason = strings.TrimSpace(said.ReplaceAllString(line, ""))
					}
				}
			}
			found(e.Test, o)
		}
	}
	return nil
}
