package tracer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/source/nodefile"
	"github.com/midhop/midhop/tracer/source/stream"
)

// notYet are recordings whose verdict is known to be wrong, each with what is wrong. One that comes right has to leave.
var notYet = map[string]string{}

// TestWild replays every recorded incident in testdata/wild, which the lab was not made for, and holds what is found
// against what was done on the wire. Each folder has the facts, the nodes file where one was given, and expect.json.
func TestWild(t *testing.T) {
	dirs, err := filepath.Glob("testdata/wild/*/expect.json")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no recordings", err)
	}
	for _, file := range dirs {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong := judgeWild(t, dir)
			why, known := notYet[name]
			switch {
			case known && len(wrong) == 0:
				t.Errorf("right by now: take it out of notYet (%s)", why)
			case !known:
				for _, w := range wrong {
					t.Error(w)
				}
			}
		})
	}
}

// expectation is what a recording has to lead to, and what it must not.
type expectation struct {
	What         string         `json:"what"`          // what was done on the wire
	Must         [][]any        `json:"must"`          // rules (any of them; "*" any) and the culprit's name ("*" anybody) that have to be found at some moment
	Never        []string       `json:"never"`         // nodes that may not be named at any moment
	NeverMention []string       `json:"never_mention"` // nor in a title
	OpenedMax    int            `json:"opened_max"`    // how many incidents the one cause may open; 0: 9
	Quiet        bool           `json:"quiet"`         // none
	CrossingMax  map[string]int `json:"crossing_max"`  // most sockets that may be counted to a culprit
}

// judgeWild returns what is wrong about the findings of a recording.
func judgeWild(t *testing.T, dir string) (wrong []string) {
	var exp expectation
	data, err := os.ReadFile(filepath.Join(dir, "expect.json"))
	if err == nil {
		err = json.Unmarshal(data, &exp)
	}
	if err != nil {
		t.Fatal(err)
	}
	say := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !slices.Contains(wrong, text) {
			wrong = append(wrong, text)
		}
	}
	ids := make(map[string]bool)
	met := make([]bool, len(exp.Must))
	for _, ev := range replayWild(t, dir) {
		f, ok := ev.Body.(*event.IncidentFinding)
		if !ok {
			continue
		}
		in := &f.Incident
		if n := in.Sockets; n.Stalled+n.AtRisk+n.Presumed+n.TimedOut+n.Reset+n.GaveUp > n.Crossing {
			say("counts more than cross: %s", in.Title)
		}
		ids[in.ID] = true
		c := in.Culprit
		if (c.Kind == event.CulpritNode || c.Kind == event.CulpritLocalNode) && slices.Contains(exp.Never, c.Name) {
			say("names %s: %s %s", c.Name, in.Rule, c.Sure)
		}
		for _, n := range exp.NeverMention {
			if strings.Contains(c.Name, n) || strings.Contains(in.Title, n) {
				say("implicates %s: %s", n, in.Title)
			}
		}
		if ev.Type == event.IncidentClosed && strings.HasPrefix(in.Why, "recovered") && in.Sockets.Stalled > 3 {
			say("closed as recovered with %d stalled: %s", in.Sockets.Stalled, in.Title)
		}
		if most, limited := exp.CrossingMax[c.Name]; limited && in.Sockets.Crossing > most {
			say("%s: %d crossing, %d at most", c.Name, in.Sockets.Crossing, most)
		}
		if exp.Quiet {
			say("not quiet: %s", in.Title)
		}
		for i, m := range exp.Must {
			met[i] = met[i] || meets(m, in)
		}
	}
	for i, m := range exp.Must {
		if !met[i] {
			say("lacks %v", m)
		}
	}
	most := exp.OpenedMax
	if most == 0 {
		most = 9
	}
	if len(ids) > most {
		say("%d incidents for one cause, %d at most", len(ids), most)
	}
	return wrong
}

// meets says whether an incident is by one of the rules and about the culprit that an expectation asks for.
func meets(must []any, in *event.Incident) bool {
	rules, _ := must[0].([]any)
	rule := slices.Contains(rules, any("*")) || slices.Contains(rules, any(in.Rule))
	return rule && (must[1] == "*" || must[1] == in.Culprit.Name)
}

// replayWild folds a recording as `midhop replay` does.
func replayWild(t *testing.T, dir string) []event.Event {
	facts := readWild(t, dir)
	opts := model.Options{}
	if b, ok := facts[0].Body.(*event.Started); ok && strings.HasPrefix(facts[0].Source, "agent/") {
		opts.Node = b.Host.Node
	}
	m := model.New(opts)
	r := newRiver(m, diagnose.New(m), DefaultTick, newNumbers("replay", "t"))
	var out []event.Event
	for i := range facts {
		out = append(out, r.fold(facts[i:i+1])...)
	}
	return out
}

// readWild returns the facts of a recording, with those of its nodes file right after the first line.
func readWild(t *testing.T, dir string) []event.Event {
	file, err := os.Open(filepath.Join(dir, "facts.jsonl.zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var facts []event.Event
	src := stream.New(file, stream.Options{Bad: func(e *stream.LineError) { t.Error(e) }})
	if err := src.Run(t.Context(), func(b []event.Event) { facts = append(facts, b...) }); err != nil || len(facts) == 0 {
		t.Fatal("no facts", err)
	}
	names, err := os.Open(filepath.Join(dir, "nodes.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		return facts
	}
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	list, err := nodefile.Read(names, "nodes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	first := 0
	if facts[0].Type == event.StreamStarted {
		first = 1
	}
	_ = nodefile.New(list.Nodes, facts[0].Time).Run(context.Background(), func(b []event.Event) { facts = slices.Insert(facts, first, b...) })
	return facts
}
