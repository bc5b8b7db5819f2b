package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/export/jsonl"
	"github.com/midhop/midhop/tracer/model"
)

// recordings returns the names of the committed recordings. They are never written again: whatever a version wrote must
// stay readable.
func recordings(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/recordings/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	return files
}

// readLines returns the lines of a recording.
func readLines(t *testing.T, path string) [][]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := jsonl.Plain(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte{'\n'}), []byte{'\n'})
}

// readEvents returns the events of a recording. Each call gives fresh ones: the fold fills names into their bodies.
func readEvents(t *testing.T, path string) []event.Event {
	t.Helper()
	var out []event.Event
	for i, line := range readLines(t, path) {
		e, err := event.Decode(line)
		if err != nil {
			t.Fatalf("%s: line %d: %v", path, i+1, err)
		}
		out = append(out, e)
	}
	return out
}

func facts(events []event.Event) []event.Event {
	var out []event.Event
	for _, e := range events {
		if e.Type.IsFact() {
			out = append(out, e)
		}
	}
	return out
}

// fold replays facts and returns the Engine, whose last state can still be asked for, and what it found.
func fold(t *testing.T, facts []event.Event, o tracer.Options) (*tracer.Engine, []event.Event) {
	t.Helper()
	engine := tracer.New(o)
	flow := newFlow()
	var found findingsOnly
	engine.AddSink("found", flow.sink(&found), tracer.Policy{Wait: patience})
	engine.AddSource("facts", flow.source(told(facts)))
	if err := engine.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return engine, found
}

// told is a source of facts that are known already.
type told []event.Event

// Run implements tracer.Source.
func (f told) Run(_ context.Context, emit func([]event.Event)) error {
	for len(f) > 0 {
		n := min(len(f), 64)
		emit(f[:n:n])
		f = f[n:]
	}
	return nil
}

// findingsOnly keeps what is found.
type findingsOnly []event.Event

// Write implements tracer.Sink.
func (f *findingsOnly) Write(batch []event.Event) error {
	for _, e := range batch {
		if e.Type.IsFinding() {
			*f = append(*f, e)
		}
	}
	return nil
}

// comparable returns findings without the numbers that an Engine gives them.
func comparable(list []event.Event) []string {
	var out []string
	for _, e := range list {
		out = append(out, findingOf(e).line)
	}
	return out
}

// incidents returns every incident's lines in the order of the stream.
func incidentsOf(list []event.Event) []event.Event {
	var out []event.Event
	for _, e := range list {
		if _, ok := e.Body.(*event.IncidentFinding); ok {
			out = append(out, e)
		}
	}
	return out
}

// diffLines describes the first difference of two lists.
func diffLines(a, b []string) string {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("item %d is new: %s", i, b[i])
		case i >= len(b):
			return fmt.Sprintf("item %d is missing: %s", i, a[i])
		case a[i] != b[i]:
			return fmt.Sprintf("item %d differs: %s", i, strings.Join(membersThatDiffer(a[i], b[i]), "; "))
		}
	}
	return ""
}

// TestOldRecordingsStayReadable reads what earlier versions wrote: every line is understood, and the same is blamed.
// Words and figures may have changed.
func TestOldRecordingsStayReadable(t *testing.T) {
	for _, path := range recordings(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			events := readEvents(t, path)
			for i, e := range events {
				if e.Type == event.Unknown {
					t.Errorf("line %d is of a type that is not known any more", i+1)
				}
			}
			want := verdicts(events)
			if len(want) == 0 && strings.Contains(path, "gone") {
				t.Fatal("the recording holds no incident")
			}
			_, found := fold(t, facts(events), tracer.Options{})
			if got := verdicts(found); !slices.EqualFunc(want, got, verdictCase.is) {
				t.Errorf("recorded as %v, now %v", want, got)
			}
		})
	}
}

// TestRecordingsFindTheSameAgain records what this version makes of every recording, and verifies that: from the lines
// alone come the findings that stand in them, though they are removed and have been through the file.
func TestRecordingsFindTheSameAgain(t *testing.T) {
	for _, path := range recordings(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			again := filepath.Join(t.TempDir(), "again.jsonl.zst")
			recordAgain(t, path, again)
			var recorded []event.Event
			events := readEvents(t, again)
			for _, e := range events {
				if e.Type.IsFinding() {
					recorded = append(recorded, e)
				}
			}
			_, found := fold(t, facts(events), tracer.Options{})
			if d := diffLines(comparable(recorded), comparable(found)); d != "" {
				t.Error(d)
			}
		})
	}
}

// recordAgain writes a recording anew, with the findings of this version.
func recordAgain(t *testing.T, from, to string) {
	t.Helper()
	engine := tracer.New(tracer.Options{})
	var all everything
	flow := newFlow()
	engine.AddSink("all", flow.sink(&all), tracer.Policy{})
	engine.AddSource("facts", flow.source(told(facts(readEvents(t, from)))))
	if err := engine.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := jsonl.CreateFile(to, jsonl.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Write(all), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// everything keeps the whole stream.
type everything []event.Event

// Write implements tracer.Sink.
func (a *everything) Write(batch []event.Event) error { *a = append(*a, batch...); return nil }

// TestTicksDoNotMatter judges ten times less often: the incidents must be the same.
func TestTicksDoNotMatter(t *testing.T) {
	for _, path := range recordings(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, fine := fold(t, facts(readEvents(t, path)), tracer.Options{Tick: 50 * time.Millisecond})
			_, coarse := fold(t, facts(readEvents(t, path)), tracer.Options{Tick: 500 * time.Millisecond})
			// A coarse grid finds later, so moments differ; what is found must not.
			if a, b := verdicts(fine), verdicts(coarse); !slices.EqualFunc(a, b, verdictCase.is) {
				t.Errorf("50 ms ticks give %v, 500 ms ticks give %v", a, b)
			}
		})
	}
}

// verdictCase is what an incident came to, without the moment at which it was judged.
type verdictCase struct {
	rule    string
	kind    event.CulpritKind
	culprit string
	silent  time.Time
}

// roundings is how far two looks at one socket may date the same receive apart: the kernel counts in jiffies of up to 4 ms,
// and tells ages in milliseconds.
const roundings = 10 * time.Millisecond

// is says whether both are the same incident.
func (c verdictCase) is(o verdictCase) bool {
	return c.rule == o.rule && c.kind == o.kind && c.culprit == o.culprit && c.silent.Sub(o.silent).Abs() < roundings
}

func verdicts(list []event.Event) []verdictCase {
	var out []verdictCase
	for _, e := range incidentsOf(list) {
		if e.Type == event.IncidentOpened {
			in := e.Body.(*event.IncidentFinding).Incident
			out = append(out, verdictCase{in.Rule, in.Culprit.Kind, in.Culprit.Name, in.SilentSince.V})
		}
	}
	return out
}

// TestOtherNamesChangeNothing renames nodes and addresses throughout, so that neither their order nor their looks stay
// the same: the incidents must be the same ones, renamed.
func TestOtherNamesChangeNothing(t *testing.T) {
	for _, path := range recordings(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			rename := renaming(t, path)
			_, before := fold(t, facts(readEvents(t, path)), tracer.Options{})
			var want []string
			for _, e := range incidentsOf(before) {
				want = append(want, rename(findingOf(e).line))
			}
			var renamed []event.Event
			for i, line := range readLines(t, path) {
				e, err := event.Decode([]byte(rename(string(line))))
				if err != nil {
					t.Fatalf("line %d: %v", i+1, err)
				}
				renamed = append(renamed, e)
			}
			_, found := fold(t, facts(renamed), tracer.Options{})
			if d := diffLines(want, comparable(incidentsOf(found))); d != "" {
				t.Error(d)
			}
		})
	}
}

var nodeAddress = regexp.MustCompile(`\b10\.(\d+)\.(\d+)\.(\d+)\b`)

// renaming gives a recording's nodes other names, in another order, and moves their networks; ranges stay within ranges.
func renaming(t *testing.T, path string) func(line string) string {
	t.Helper()
	names := make(map[string]bool)
	for _, e := range readEvents(t, path) {
		if b, ok := e.Body.(*event.NodeFact); ok {
			names[b.Node.Name] = true
		}
	}
	var pairs []string
	for i, name := range slices.Sorted(maps.Keys(names)) {
		pairs = append(pairs, name, fmt.Sprintf("w%d-%d.example.net", len(names)-i, i))
	}
	replacer := strings.NewReplacer(pairs...)
	return func(line string) string {
		return nodeAddress.ReplaceAllStringFunc(replacer.Replace(line), func(ip string) string {
			part := strings.Split(ip, ".")
			second, _ := strconv.Atoi(part[1])
			return fmt.Sprintf("10.%d.%s.%s", second^0x55, part[2], part[3])
		})
	}
}

// TestBegunAnewAnywhere cuts recordings at many places, begins the stream anew there, and lets the rest follow: the picture
// at the end must be that of the whole, and so must the culprits.
func TestBegunAnewAnywhere(t *testing.T) {
	for _, path := range recordings(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			whole, found := fold(t, facts(readEvents(t, path)), tracer.Options{})
			want, culprits := picture(whole), verdicts(found)
			n := len(facts(readEvents(t, path)))
			for cut := n / 20; cut < n; cut += n / 20 {
				// What is cut off has been through a fold, as it has in a recording.
				folded := facts(readEvents(t, path))
				fold(t, folded[:cut], tracer.Options{})
				head := jsonl.NewHead()
				head.Take(folded[:cut])
				first := head.Facts()
				checkHead(t, first, folded[:cut])
				rest, found := fold(t, append(first, facts(readEvents(t, path))[cut:]...), tracer.Options{})
				if got := picture(rest); got != want {
					t.Errorf("begun anew at fact %d of %d, the end is\n%swhere the whole gives\n%s", cut, n, got, want)
				}
				if got := verdicts(found); !slices.EqualFunc(got, culprits, verdictCase.is) {
					t.Errorf("begun anew at fact %d of %d, the incidents are %v, where the whole gives %v", cut, n, got, culprits)
				}
			}
		})
	}
}

// picture is what an Engine knows in the end, as far as it does not depend on since when it has watched.
func picture(e *tracer.Engine) string {
	s := e.Snapshot()
	var b strings.Builder
	for _, r := range s.Vias {
		if r.Kind == model.KindLocal { // stands for several nodes; which of them describes it is of no account
			r.Table, r.Node = event.Table{}, event.Node{}
		}
		fmt.Fprintf(&b, "%s %s %s because %s: %d sockets, %d at risk, %d stalled, %d presumed, %d clients, pods %v, services %v, heard %s, agent %s, ready %s, table %d\n",
			r.Via, r.Kind, r.IP, r.Because, r.Sockets, r.AtRisk, r.Stalled, r.Presumed, r.Clients, r.Pods, r.Services,
			r.LastHeard.Format(time.StampMilli), r.Agent, r.Node.Ready, r.Table.Entries)
	}
	fmt.Fprintf(&b, "seen %d of %d, silent %v\n", s.Coverage.NodesSeen, s.Coverage.NodesKnown, s.Coverage.Silent)
	return b.String()
}

// checkHead holds the beginning of a file to its rules: it opens with the stream's time, goes back in time only from there,
// and every line of it is one that readers understand.
func checkHead(t *testing.T, head, before []event.Event) {
	t.Helper()
	var clock time.Time
	heard := make(map[string]time.Time)
	for _, e := range before {
		if e.Time.After(clock) {
			clock = e.Time
		}
		if e.Time.After(heard[e.Source]) {
			heard[e.Source] = e.Time
		}
	}
	for i, e := range head {
		if i == 0 && (e.Type != event.StreamStarted || !e.Time.Equal(clock)) {
			t.Errorf("the first line is %s of %s, want stream.started of %s", e.Type, e.Time, clock)
		}
		if i > 0 && e.Time.After(heard[e.Source]) {
			t.Errorf("line %d, %s: %s was heard last at %s, and is told to speak at %s", i+1, e.Type, e.Source, heard[e.Source], e.Time)
		}
		line := event.AppendJSON(nil, &e)
		if len(line) >= event.MaxLine {
			t.Errorf("line %d, %s: %d bytes", i+1, e.Type, len(line))
		}
		if back, err := event.Decode(line); err != nil || back.Type != e.Type {
			t.Errorf("line %d, %s: %v", i+1, e.Type, err)
		}
	}
}

// provesItself replays what was just written, which holds all facts: the findings must come out as they stand there.
func provesItself(t *testing.T, written []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "written.jsonl")
	if err := os.WriteFile(path, written, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "replay", path, "--verify").CombinedOutput(); err != nil {
		t.Errorf("replay --verify: %v: %s", err, out)
	}
}
