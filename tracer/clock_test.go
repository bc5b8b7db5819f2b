package tracer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// watchLive folds facts as they arrive, in batches of any size, with a timer that is late now and then, and returns the
// lines that are written.
func watchLive(s *sim, until time.Duration, seed uint64) []event.Event {
	s.run(until)
	rng := rand.New(rand.NewPCG(seed, 11))
	m := model.New(model.Options{})
	r := newRiver(m, diagnose.New(m), DefaultTick, newNumbers("local", "live"))
	var out []event.Event
	timer := time.Duration(0)
	for i := 0; i < len(s.facts); {
		n := 1
		for most := 1 + rng.IntN(20); n < most && i+n < len(s.facts) && s.facts[i+n].arrival-s.facts[i].arrival < 60*time.Millisecond; n++ {
		}
		var batch []event.Event
		arrival := s.facts[i+n-1].arrival
		for _, f := range s.facts[i : i+n] {
			batch = append(batch, f.ev)
		}
		i += n
		for ; timer < arrival; timer += DefaultTick + time.Duration(rng.Int64N(int64(40*time.Millisecond))) {
			if rng.IntN(10) > 0 {
				out = append(out, r.timer(s.epoch.Add(timer).UnixNano())...)
			}
		}
		out = append(out, r.fold(batch)...)
	}
	return append(out, r.timer(s.epoch.Add(until+10*time.Second).UnixNano())...)
}

// written takes lines through their text form and leaves the findings out.
func written(t *testing.T, lines []event.Event) (facts []event.Event, findings []event.Event) {
	t.Helper()
	for i := range lines {
		if lines[i].Type.IsFinding() {
			findings = append(findings, lines[i])
			continue
		}
		text := event.AppendJSON(nil, &lines[i])
		ev, err := event.Decode(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		facts = append(facts, ev)
	}
	return facts, findings
}

func findingsOf(lines []event.Event) (out []event.Event) {
	for _, ev := range lines {
		if ev.Type.IsFinding() {
			out = append(out, ev)
		}
	}
	return out
}

// sameFindings compares findings but for their own numbers, which belong to the run.
func sameFindings(t *testing.T, what string, want, got []event.Event) {
	t.Helper()
	text := func(list []event.Event) []string {
		var out []string
		for _, ev := range list {
			ev.ID, ev.Seq = event.ID{}, 0
			out = append(out, string(event.AppendJSON(nil, &ev)))
		}
		return out
	}
	if diff := cmp.Diff(text(want), text(got)); diff != "" {
		t.Errorf("%s gives other findings (-want +got):\n%.3000s", what, diff)
	}
}

// TestReplay is the promise of the clock: what a live run wrote, with all findings taken out, gives the same findings at
// the same instants when it is replayed, and so do coarser ticks with one at each finding.
func TestReplay(t *testing.T) {
	files, _ := filepath.Glob("testdata/scenario/*.txtar")
	if len(files) == 0 {
		t.Fatal("no scenarios")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(3) {
				world, until := buildWorld(t, readArchive(t, file).section("world"), seed)
				if testing.Short() && until > time.Minute {
					t.Skip("long")
				}
				facts, want := written(t, watchLive(world, until, seed))
				sameFindings(t, fmt.Sprintf("seed %d: replay", seed), want, findingsOf(replay(copyOf(t, facts), DefaultTick, nil)))

				var every []int64
				for at := time.Duration(0); at < until+11*time.Second; at += DefaultTick {
					every = append(every, world.epoch.Add(at).UnixNano())
				}
				sameFindings(t, fmt.Sprintf("seed %d: judging every instant", seed), want,
					findingsOf(replay(copyOf(t, facts), DefaultTick, every)))

				var extra []int64
				for _, f := range want {
					extra = append(extra, f.Time.UnixNano())
				}
				sameFindings(t, fmt.Sprintf("seed %d: replay with 500 ms ticks", seed), want,
					findingsOf(replay(copyOf(t, facts), 500*time.Millisecond, slices.Compact(extra))))
			}
		})
	}
}

func copyOf(t *testing.T, facts []event.Event) []event.Event {
	t.Helper()
	out, _ := written(t, facts)
	return out
}

// TestReplayRenamed replays a run with other names and addresses: verdicts must depend on neither.
func TestReplayRenamed(t *testing.T) {
	for _, name := range []string{"node-gone", "two-nodes-gone", "one-agent", "front-gone", "ambiguous"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			world, until := buildWorld(t, readArchive(t, "testdata/scenario/"+name+".txtar").section("world"), 5)
			facts, want := written(t, watchLive(world, until, 5))
			rename := strings.NewReplacer(
				"node-a", "zeta", "node-b", "alpha", "node-c", "mike", "node-d", "beta",
				"10.146.0.11", "172.20.9.200", "10.146.0.12", "172.20.9.3", "10.146.0.13", "172.20.9.77", "10.146.0.14", "172.20.9.1",
			)
			for i := range facts {
				ev, err := event.Decode([]byte(rename.Replace(string(event.AppendJSON(nil, &facts[i])))))
				if err != nil {
					t.Fatal(err)
				}
				facts[i] = ev
			}
			var wantText, gotText []string
			for _, ev := range want {
				if b, ok := ev.Body.(*event.IncidentFinding); ok {
					ev.Body = b
					ev.ID = event.ID{}
					wantText = append(wantText, rename.Replace(string(event.AppendJSON(nil, &ev))))
				}
			}
			for _, ev := range findingsOf(replay(facts, DefaultTick, nil)) {
				if _, ok := ev.Body.(*event.IncidentFinding); ok {
					ev.ID = event.ID{}
					gotText = append(gotText, string(event.AppendJSON(nil, &ev)))
				}
			}
			if diff := cmp.Diff(wantText, gotText); diff != "" {
				t.Errorf("renamed (-want +got):\n%.3000s", diff)
			}
		})
	}
}

// TestSilences lets an agent fall silent twice: each silence is told once, when 2.5 heartbeats have passed.
func TestSilences(t *testing.T) {
	var facts []event.Event
	for s := range 30 {
		for _, agent := range []string{"agent/x", "agent/y"} {
			if agent == "agent/x" && (s > 5 && s < 12 || s > 15 && s < 22) {
				continue
			}
			ev := beat(time.Duration(s)*time.Second + 300*time.Millisecond)
			ev.Source = agent
			facts = append(facts, ev)
		}
	}
	var got []string
	for _, f := range findingsOf(replay(facts, DefaultTick, nil)) {
		g := f.Body.(*event.Gap)
		got = append(got, fmt.Sprintf("%s %v %s", f.Time.Sub(t0), g.Silent, g.Peer))
	}
	want := []string{"7.8s 2.5s agent/x", "17.8s 2.5s agent/x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestFarFuture feeds lines that are dated ages ahead, or before anything: judging every instant between would take for
// ever, and some do not fit the clock at all.
func TestFarFuture(t *testing.T) {
	world, until := buildWorld(t, readArchive(t, "testdata/scenario/node-gone.txtar").section("world"), 1)
	facts := world.run(until)
	last := facts[len(facts)-1]
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, year := range []int{1, 1969, 2200, 2300, 9999} {
			last.Time = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
			facts = append(facts, last, last)
		}
		replay(facts, DefaultTick, nil)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("still judging")
	}
}

// TestRandomWorlds looks for a healthy node that is named in random clusters with random faults.
func TestRandomWorlds(t *testing.T) {
	runs := uint64(60)
	if testing.Short() {
		runs = 15
	}
	if n := os.Getenv("MIDHOP_RANDOM_WORLDS"); n != "" {
		fmt.Sscan(n, &runs)
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			text, dead, within := randomWorld(seed)
			world, until := buildWorld(t, text, seed)
			lines := watchLive(world, until, seed)
			named := ""
			for _, ev := range lines {
				if b, ok := ev.Body.(*event.IncidentFinding); ok {
					checkCase(t, &b.Incident)
				}
				if b, ok := ev.Body.(*event.IncidentFinding); ok && b.Incident.Rule == "node-lossy" {
					if v := b.Incident.Culprit.Name; !strings.Contains(text, " loss "+v+" ") {
						t.Fatalf("%q is called lossy\n%s\n%s", v, text, describe(world, lines))
					}
					continue
				}
				if b, ok := ev.Body.(*event.IncidentFinding); ok && b.Incident.Culprit.Kind == event.CulpritNode {
					if took := ev.Time.Sub(world.died); named == "" && took > within {
						t.Errorf("named after %v, want %v\n%s\n%s", took, within, text, describe(world, lines))
					}
					named = b.Incident.Culprit.Name
					if named != dead {
						t.Fatalf("%q is named, dead is %q\n%s\n%s", named, dead, text, describe(world, lines))
					}
				}
			}
			if named != dead {
				t.Errorf("%q is not named\n%s\n%s", dead, text, describe(world, lines))
			}
			facts, want := written(t, lines)
			sameFindings(t, "replay", want, findingsOf(replay(facts, DefaultTick, nil)))
		})
	}
}

// checkCase checks what every incident has to keep to.
func checkCase(t *testing.T, in *event.Incident) {
	t.Helper()
	if n := in.Sockets; n.Stalled+n.AtRisk+n.Presumed+n.TimedOut+n.Reset+n.GaveUp > n.Crossing || n.Crossing == 0 {
		t.Errorf("more than cross: %+v", n)
	}
	if in.Culprit.Sure == event.Inferred {
		if in.Confidence > 0.8 || len(in.Alternatives) == 0 && in.Rule == "node-gone" || in.Sockets.Presumed != 0 {
			t.Errorf("inferred with confidence %v, %d alternatives, %d presumed", in.Confidence, len(in.Alternatives), in.Sockets.Presumed)
		}
		if in.Rule == "node-gone" && !strings.HasPrefix(in.Title, in.Culprit.Name+", or what stands before it") {
			t.Errorf("inferred with title %q", in.Title)
		}
	}
	if len(in.Evidence) == 0 || len(in.Remedy) == 0 || in.ID == "" {
		t.Errorf("%d lines of evidence, %d remedies, id %q", len(in.Evidence), len(in.Remedy), in.ID)
	}
	for _, e := range in.Evidence {
		if e.For == e.Against || e.Text == "" {
			t.Errorf("evidence %+v", e)
		}
	}
	if line := event.AppendJSON(nil, &event.Event{Type: event.IncidentUpdated, Body: &event.IncidentFinding{Incident: *in}}); len(line) > event.MaxLine/2 {
		t.Errorf("a line of %d bytes", len(line))
	}
}

// randomWorld writes a world of three to six nodes with agents on all or some, and one fault that may or may not be the
// death of a node. The death has to be found within the given time.
func randomWorld(seed uint64) (text, dead string, within time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 3))
	n := 3 + rng.IntN(4)
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "node node-%d 10.146.0.%d 10.48.%d.0/24", i, 10+i, i)
		if i == 0 || rng.IntN(3) > 0 {
			b.WriteString(" agent")
		}
		b.WriteByte('\n')
	}
	b.WriteString("pod ws/chat-1 node-0 10.48.0.5 ws/chat\npod ws/chat-2 node-0 10.48.0.6 ws/chat\n")
	talk := rng.IntN(3) > 0
	for i := range n {
		for p := 1; p <= 2; p++ {
			conns := 10 + rng.IntN(30)
			talkers := 0
			if talk {
				talkers = 3 + rng.IntN(conns/2)
			}
			fmt.Fprintf(&b, "conns %d node-%d ws/chat-%d talk=%d every=%dms\n", conns, i, p, talkers, 50+rng.IntN([]int{200, 200, 900}[rng.IntN(3)]))
		}
	}
	for i := range n {
		if rng.IntN(4) == 0 {
			fmt.Fprintf(&b, "delay node-%d %dms\n", i, rng.IntN(150))
		}
	}
	if rng.IntN(3) == 0 {
		b.WriteString("no ledger\n")
	}
	if rng.IntN(3) == 0 { // a caller inside the cluster, through every node
		caller := 1 + rng.IntN(n-1)
		fmt.Fprintf(&b, "pod ws/caller node-%d 10.48.%d.9\n", caller, caller)
		for i := range n {
			fmt.Fprintf(&b, "conns %d node-%d ws/caller talk=2 dialled=ws/chat-1\n", 2+rng.IntN(6), i)
		}
	}
	until := 40 * time.Second
	victim := func() string { return fmt.Sprintf("node-%d", 1+rng.IntN(n-1)) }
	at := 5000 + rng.IntN(8000)
	decoy := func(at int) {
		switch v := victim(); rng.IntN(7) {
		case 0:
			fmt.Fprintf(&b, "at %dms agentdead %s\n", at, v)
		case 1:
			fmt.Fprintf(&b, "at %dms loss %s %d\n", at, v, 1+rng.IntN(40))
		case 2:
			fmt.Fprintf(&b, "at %dms gone %d %s\n", at, 1+rng.IntN(10), v)
		case 3:
			b.WriteString("churn 50ms\n")
		case 4:
			b.WriteString("vanish 3s\n")
		case 5:
			fmt.Fprintf(&b, "at %dms poddead ws/chat-2\n", at)
		}
	}
	switch rng.IntN(8) {
	case 0, 1:
		dead = victim()
		fmt.Fprintf(&b, "at %dms dead %s\n", at, dead)
	case 2, 3:
		decoy(at - 3000)
		dead = victim()
		fmt.Fprintf(&b, "at %dms dead %s\n", at, dead)
	case 4:
		dead = victim()
		fmt.Fprintf(&b, "at %dms dead %s\nattach %dms\n", at, dead, at+20000+rng.IntN(40000))
		until = 110 * time.Second
	case 5:
		fmt.Fprintf(&b, "at %dms uplink node-0\n", at)
	case 6:
		decoy(at)
		decoy(at + 5000)
	case 7:
		decoy(at)
	}
	fmt.Fprintf(&b, "until %v\n", until)
	within = 3 * time.Second
	if !talk { // the first unanswered probes come 15 s after the newest receive
		within = 24 * time.Second
	}
	return b.String(), dead, within
}
