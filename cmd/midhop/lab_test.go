package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/midhop/midhop/tracer/event"
)

// labRun is what one lab wrote.
type labRun struct {
	events []event.Event
	stderr string
	code   int
}

// runLabBinary runs the real program and validates every line against the schema that it prints itself.
func runLabBinary(t *testing.T, args ...string) labRun {
	t.Helper()
	return runLabAnd(t, func(*event.Event) {}, args...)
}

// runLabAnd is runLabBinary that shows every line to meet as soon as it is written.
func runLabAnd(t *testing.T, meet func(*event.Event), args ...string) labRun {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the lab makes network namespaces: needs root")
	}
	schema := compileSchema(t)
	cmd := exec.Command(binary, append([]string{"lab"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var (
		run     labRun
		written []byte
	)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, event.MaxLine)
	for lines.Scan() {
		e, err := event.Decode(lines.Bytes())
		if err != nil {
			t.Errorf("line %d: %v: %s", len(run.events)+1, err, lines.Text())
		}
		meet(&e)
		run.events = append(run.events, e)
		written = append(append(written, lines.Bytes()...), '\n')
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	// Not while the lab runs: on a slow machine meet would be late.
	number := 0
	for line := range bytes.Lines(written) {
		number++
		if got := run.events[number-1].Seq; got != uint64(number) {
			t.Errorf("line %d has seq %d", number, got)
		}
		var any any
		if err := json.Unmarshal(line, &any); err != nil {
			t.Errorf("line %d: %v", number, err)
		}
		if err := schema.Validate(any); err != nil {
			t.Errorf("line %d is not what the schema says: %v\n%s", number, err, line)
		}
	}
	provesItself(t, written)
	run.stderr, run.code = stderr.String(), cmd.ProcessState.ExitCode()
	t.Logf("%s: %d lines, exit %d %s", strings.Join(args, " "), len(run.events), run.code, run.stderr)
	return run
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.Command(binary, "schema").Output()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("midhop.json", doc); err != nil {
		t.Fatal(err)
	}
	return c.MustCompile("midhop.json")
}

// of returns the events of one type.
func (r labRun) of(t event.Type) []event.Event {
	var out []event.Event
	for _, e := range r.events {
		if e.Type == t {
			out = append(out, e)
		}
	}
	return out
}

// fault returns the lab's own note of the fault.
func (r labRun) fault(t *testing.T) (time.Time, event.Fault) {
	t.Helper()
	faults := r.of(event.LabFault)
	if len(faults) != 1 {
		t.Fatalf("%d lab.fault lines, want 1", len(faults))
	}
	return faults[0].Time, *faults[0].Body.(*event.Fault)
}

// told is every word of the run on an incident, a line each, to see by why there is one more or one less than there should be.
func (r labRun) told() string {
	var lines []byte
	for _, e := range r.events {
		switch e.Type {
		case event.IncidentOpened, event.IncidentUpdated, event.IncidentClosed:
			lines = event.AppendJSON(append(lines, '\n'), &e)
		}
	}
	return string(lines)
}

// exact is how far from the fault a silence may be dated where much is said.
const exact = 50 * time.Millisecond

// runLabInTime runs a lab until it names in time and dates exactly, three times at most, and returns the last run. A machine that
// has too much to do is late by chance, a program that is slow always. A late run is held to all but its haste.
func runLabInTime(t *testing.T, within time.Duration, args ...string) (r labRun) {
	t.Helper()
	for try := range 3 {
		r = runLabBinary(t, args...)
		at, _ := r.fault(t)
		all := r.of(event.IncidentOpened)
		if len(all) != 1 || try == 2 {
			break
		}
		in := all[0].Body.(*event.IncidentFinding).Incident
		took, off := all[0].Time.Sub(at), in.SilentSince.V.Sub(at)
		if took <= within && off.Abs() <= exact {
			break
		}
		t.Logf("late: named after %v, dated %v from the fault: once more", took, off)
		r.named(t, time.Minute)
	}
	return r
}

// named holds the run to exactly one incident that names the fault's target, and returns it as it was opened and as it
// was last told.
func (r labRun) named(t *testing.T, within time.Duration) (opened, last event.Incident) {
	t.Helper()
	at, fault := r.fault(t)
	all := r.of(event.IncidentOpened)
	if len(all) != 1 {
		t.Fatalf("%d incidents opened, want 1 on %s at %v:%s", len(all), fault.Target, at, r.told())
	}
	opened = all[0].Body.(*event.IncidentFinding).Incident
	last = opened
	for _, e := range r.of(event.IncidentUpdated) {
		last = e.Body.(*event.IncidentFinding).Incident
	}
	took := all[0].Time.Sub(at)
	t.Logf("named %s %s as %s %v after the fault: %q", opened.Culprit.Kind, opened.Culprit.Name, opened.Rule, took, opened.Title)
	for _, in := range []event.Incident{opened, last} {
		if in.Rule != "node-gone" || in.Culprit.Kind != event.CulpritNode || in.Culprit.Name != fault.Target {
			t.Errorf("%s blamed on %s %s, want node-gone on node %s", in.Rule, in.Culprit.Kind, in.Culprit.Name, fault.Target)
		}
	}
	if took <= 0 || took > within {
		t.Errorf("named %v after the fault, want within %v", took, within)
	}
	if r.code != exitOK {
		t.Errorf("exit %d, want 0", r.code)
	}
	return opened, last
}

// dated holds an incident's silent_since to within 50 ms of the fault where much is said; where little is, the silence is
// told to have begun in between two moments, and the first is not after the fault.
func (r labRun) dated(t *testing.T, in event.Incident, much bool) {
	t.Helper()
	at, _ := r.fault(t)
	off := in.SilentSince.V.Sub(at)
	t.Logf("dated %v from the fault", off)
	between := slices.ContainsFunc(in.Evidence, func(e event.Evidence) bool { return strings.HasPrefix(e.Text, "it fell silent between ") })
	switch {
	case !in.SilentSince.OK:
		t.Error("the silence has no date")
	case much && off.Abs() > exact:
		t.Errorf("dated %v from the fault, want %v", off, exact)
	case !much && (off > exact || !between):
		t.Errorf("dated %v from the fault; that it lies between two moments is told: %v", off, between)
	}
}

// nothing holds the run to no incident at all.
func (r labRun) nothing(t *testing.T) {
	t.Helper()
	for _, e := range r.of(event.IncidentOpened) {
		in := e.Body.(*event.IncidentFinding).Incident
		t.Errorf("incident %s on %s %s: %s", in.Rule, in.Culprit.Kind, in.Culprit.Name, in.Title)
	}
	if r.code != exitOK {
		t.Errorf("exit %d, want 0", r.code)
	}
	if len(r.of(event.PathSockets)) == 0 || len(r.of(event.NATCreated))+len(r.of(event.NATFound)) == 0 && !r.direct() {
		t.Error("nothing was found because nothing was watched")
	}
}

func (r labRun) direct() bool {
	for _, e := range r.of(event.ServiceChanged) {
		if e.Body.(*event.ServiceFact).Service.Direct {
			return true
		}
	}
	return false
}

// The labs run side by side, which is a test of its own.

func TestLabNamesTheDeadNode(t *testing.T) {
	t.Parallel()
	r := runLabInTime(t, 3*time.Second, "node-gone", "--connections", "200", "--duration", "18s", "-o", "jsonl")
	_, last := r.named(t, 3*time.Second)
	r.dated(t, last, true)
	if n := last.Sockets; n.Crossing <= n.Stalled+n.AtRisk || n.Crossing < 40 {
		t.Errorf("crossing %d of 200: idle ones are not counted; %+v", n.Crossing, n)
	}
	withClient := 0
	for _, e := range r.of(event.TCPStall) {
		if c := e.Body.(*event.Stall).Client; c != nil && c.IP.IsValid() {
			withClient++
		}
	}
	if withClient == 0 {
		t.Errorf("none of %d victims carries its client", len(r.of(event.TCPStall)))
	}
	if last.Clients.Total == 0 {
		t.Error("the incident counts no clients")
	}
}

func TestLabNamesAnyNode(t *testing.T) {
	t.Parallel()
	r := runLabInTime(t, 3*time.Second, "node-gone", "--victim", "2", "--seed", "7", "--duration", "18s", "-o", "jsonl")
	_, last := r.named(t, 3*time.Second)
	r.dated(t, last, true)
}

func TestLabNamesFromIdleSocketsAlone(t *testing.T) {
	t.Parallel()
	var r labRun
	for try := range 3 { // see runLabInTime
		r = runLabBinary(t, "node-gone", "--talk", "0", "-o", "jsonl")
		at, _ := r.fault(t)
		all := r.of(event.IncidentOpened)
		if len(all) != 1 || all[0].Time.Sub(at) <= 20*time.Second || try == 2 {
			break
		}
		t.Logf("late: named after %v: once more", all[0].Time.Sub(at))
		r.named(t, time.Minute)
	}
	_, last := r.named(t, 20*time.Second)
	r.dated(t, last, false)
}

// TestLabNamesFromThePodsNodeAlone is the usual first look: one machine, the pods', and nothing that shows the node's own
// life or death. The node is named as an inference, and says so.
func TestLabNamesFromThePodsNodeAlone(t *testing.T) {
	t.Parallel()
	r := runLabInTime(t, 3*time.Second, "node-gone", "--agents", "2", "--duration", "18s", "-o", "jsonl")
	opened, last := r.named(t, 3*time.Second)
	r.dated(t, last, true)
	if opened.Culprit.Sure != event.Inferred || opened.Confidence > 0.8 || len(opened.Alternatives) == 0 {
		t.Errorf("%s with confidence %g and alternatives %v, want inferred, at most 0.8, and another explanation",
			opened.Culprit.Sure, opened.Confidence, opened.Alternatives)
	}
	if !strings.Contains(opened.Title, "or what stands before it") {
		t.Errorf("title %q does not name what else it may be", opened.Title)
	}
}

// TestLabAsks: the usual first look, with leave to ask the suspect. That it does not answer proves its death; that it does
// rules it out before anybody has named it.
func TestLabAsks(t *testing.T) {
	t.Parallel()
	answer := func(t *testing.T, r labRun, want event.Answer) {
		t.Helper()
		_, fault := r.fault(t)
		all := r.of(event.NodeAsked)
		if len(all) != 1 {
			t.Fatalf("%d questions, want 1", len(all))
		}
		a := all[0].Body.(*event.Asked)
		if a.Asked.Node != fault.Target || a.Asked.Answer != want || (a.Control != nil) != (want == event.AnswerNone) {
			t.Errorf("asked %+v, control %+v; want %s of %s", a.Asked, a.Control, want, fault.Target)
		}
		if c := a.Control; c != nil && (!c.Answer.Lives() || c.Node == fault.Target || c.Node == a.By.Node) {
			t.Errorf("%s answered %q beside, to %s", c.Node, c.Answer, a.By.Node)
		}
	}
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		r := runLabInTime(t, 3*time.Second, "node-gone", "--agents", "2", "--ask", "--duration", "18s", "--whole", "-o", "jsonl")
		_, last := r.named(t, 3*time.Second)
		answer(t, r, event.AnswerNone)
		if last.Culprit.Sure != event.Proved || last.Confidence <= 0.8 || last.Sockets.Presumed == 0 {
			t.Errorf("at last %s, confidence %g, %d presumed lost", last.Culprit.Sure, last.Confidence, last.Sockets.Presumed)
		}
	})
	t.Run("lives", func(t *testing.T) {
		t.Parallel()
		r := runLabBinary(t, "front-gone", "--agents", "2", "--ask", "--duration", "18s", "-o", "jsonl")
		answer(t, r, event.AnswerRefused)
		all := r.of(event.IncidentOpened)
		if len(all) != 1 {
			t.Fatalf("%d incidents opened, want 1:%s", len(all), r.told())
		}
		if in := all[0].Body.(*event.IncidentFinding).Incident; in.Rule != "front-gone" || in.Culprit.Kind != event.CulpritUnknown {
			t.Errorf("%s on %s %s", in.Rule, in.Culprit.Kind, in.Culprit.Name)
		}
	})
}

// TestLabNamesALaterDeath: a node that has a fault with a name already dies. That is found too, as something else.
func TestLabNamesALaterDeath(t *testing.T) {
	t.Parallel()
	r := runLabBinary(t, "pmtu-gone", "-o", "jsonl")
	for range 2 { // where a busy machine made it another story
		if why := r.noLaterDeath(t); why == "" {
			break
		} else {
			t.Log(why + ": once more")
		}
		r = runLabBinary(t, "pmtu-gone", "-o", "jsonl")
	}
	at, fault := r.fault(t)
	var told []event.Incident
	for _, e := range r.events {
		if f, ok := e.Body.(*event.IncidentFinding); ok && e.Type != event.IncidentUpdated {
			told = append(told, f.Incident)
			t.Logf("%s %s on %s %v after the fault", e.Type, f.Incident.Rule, f.Incident.Culprit.Name, e.Time.Sub(at))
		}
	}
	// Where it takes long until three large messages hang at once, losing segments is all that is known of the node at first.
	if len(told) == 5 && told[0].Rule == "node-lossy" && told[1].ID == told[0].ID && strings.HasPrefix(told[1].Why, "superseded: ") {
		told = told[2:]
	}
	if len(told) != 3 || told[0].Rule != "pmtu-blackhole" || told[1].ID != told[0].ID || told[2].Rule != "node-gone" {
		t.Fatalf("want pmtu-blackhole opened and closed, and node-gone opened:%s", r.told())
	}
	if why := told[1].Why; !strings.HasPrefix(why, "superseded: ") {
		t.Errorf("pmtu-blackhole is closed as %q", why)
	}
	last := told[2]
	if last.Culprit.Name != fault.Target || last.Culprit.Sure != event.Proved || last.SilentSince.V.Sub(at) < 7*time.Second {
		t.Errorf("%+v, silent since %v after the first fault", last.Culprit, last.SilentSince.V.Sub(at))
	}
	if !slices.ContainsFunc(last.Evidence, func(e event.Evidence) bool { return strings.HasPrefix(e.Text, "before that, from ") }) {
		t.Errorf("nothing is said of what was wrong before: %+v", last.Evidence)
	}
	if r.code != exitOK {
		t.Errorf("exit %d, want 0", r.code)
	}
}

// noLaterDeath says why a run shows no node that dies after its fault was named, empty where it does: the fault was not named in
// time, or the lab took so long to cut the node off, of which it warns, that its agent seems to have gone alone.
func (r labRun) noLaterDeath(t *testing.T) (why string) {
	t.Helper()
	if all := r.of(event.IncidentOpened); len(all) == 1 && all[0].Body.(*event.IncidentFinding).Incident.Rule == "node-gone" {
		return "the first fault was not named before the second"
	}
	if strings.Contains(r.stderr, "links went down late") {
		return "the node's links went down late"
	}
	return ""
}

func TestLabNamesNobody(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"healthy":  {"healthy"},
		"direct":   {"direct"},
		"no fault": {"node-gone", "--no-fault"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runLabBinary(t, append(args, "--duration", "18s", "-o", "jsonl")...).nothing(t)
		})
	}
}
