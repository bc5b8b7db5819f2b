package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/report"
)

//go:generate go test -run ^TestPostmortem$ -update-pages .

// The recordings that docs/postmortem.md walks through.
const (
	postmortem       = "../../docs/postmortem.md"
	postmortemGone   = "../../docs/postmortem/node-gone.jsonl.zst"
	postmortemDirect = "../../docs/postmortem/direct.jsonl.zst"
)

// renew writes a recording's facts with the findings that they give now.
func renew(t *testing.T, file string) {
	t.Helper()
	cmd := exec.Command("bash", "-ec", `set -o pipefail; go run . replay "$0" -o jsonl --complete | zstd -q -19 -f -o "$0.new" && mv "$0.new" "$0"`, file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, out)
	}
}

// TestPostmortem wants the recordings to give their findings again, and the document to show what midhop shows of them.
func TestPostmortem(t *testing.T) {
	for _, file := range []string{postmortemGone, postmortemDirect} {
		code := run("midhop", []string{"replay", file, "--verify"})
		if code != exitOK && *updatePages { // only then: the ids of findings differ with every run
			renew(t, file)
			code = run("midhop", []string{"replay", file, "--verify"})
		}
		if code != exitOK {
			t.Errorf("%s: exit code %d. Where the judge or its words were meant to change: make generate", file, code)
		}
	}
	data, err := os.ReadFile(postmortem)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	gone := readEvents(t, postmortemGone)
	var fault time.Time
	for _, e := range gone {
		if e.Type == event.LabFault {
			fault = e.Time
		}
	}
	if fault.IsZero() {
		t.Fatal("the recording has no fault")
	}
	for _, block := range []struct {
		name  string
		lines []event.Event
		until time.Time
		whole bool
	}{
		{"before", gone, fault, false},
		{"during", gone, time.Time{}, false},
		{"case", gone, time.Time{}, true},
		{"after", readEvents(t, postmortemDirect), time.Time{}, false},
	} {
		var until []event.Event
		for _, e := range facts(block.lines) {
			if block.until.IsZero() || e.Time.Before(block.until) {
				until = append(until, e)
			}
		}
		engine, _ := fold(t, until, tracer.Options{})
		s := engine.Snapshot()
		cx := report.Context{Now: s.Clock, Zone: time.UTC}
		var shown bytes.Buffer
		if block.whole {
			c, ok := report.CaseOf(s, report.FirstOpen(s))
			if !ok {
				t.Fatal("no incident is open at the end of the recording")
			}
			if err := report.WriteLines(&shown, c.Text(cx, 120)); err != nil {
				t.Fatal(err)
			}
		} else if err := report.Vias(s, report.ViaOptions{Context: cx}).Write(&shown, 120); err != nil {
			t.Fatal(err)
		}
		mark := "<!-- shown: " + block.name + " -->\n```text\n"
		before, rest, ok := strings.Cut(text, mark)
		if !ok {
			t.Fatalf("the document has no place for %s", block.name)
		}
		_, after, _ := strings.Cut(rest, "```\n")
		text = before + mark + strings.TrimRight(shown.String(), "\n") + "\n```\n" + after
	}
	isCommitted(t, postmortem, text)
}
