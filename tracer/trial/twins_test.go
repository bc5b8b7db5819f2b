package trial

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/nodefile"
	"github.com/midhop/midhop/tracer/source/stream"
	"github.com/midhop/midhop/tracer/world"
)

// TestTwins holds worlds against recordings of the same incidents, made with real sockets and real NAT: the Engine finds the
// same in both, and as soon. Where they differ the world is wrong until shown otherwise.
//
// A recording is one draw of chance, so its time to the name has to be within 30 % of what the twin's seeds span. The time
// counts from the newest heartbeat of the culprit's agent, which is in every recording; that of the fault is not.
func TestTwins(t *testing.T) {
	files, err := filepath.Glob("testdata/twins/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no twins", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, plan, _ := strings.Cut(string(data), "-- world --\n")
			_, path, _ := strings.Cut(strings.TrimSpace(head), "recording ")
			facts := recording(t, path)
			found, err := Fold(facts, 0, 256)
			if err != nil {
				t.Fatal(err)
			}
			want, after := story(facts, found)
			p, err := world.Parse(plan)
			if err != nil {
				t.Fatal(err)
			}
			var times []time.Duration
			same := 0
			const seeds = 15
			for seed := range uint64(seeds) {
				p.Seed = seed + 1
				o, err := world.Run(p)
				if err != nil {
					t.Fatal(err)
				}
				found, err := Fold(o.Facts, 0, 256)
				if err != nil {
					t.Fatal(err)
				}
				got, after := story(o.Facts, found)
				if slices.Equal(got, want) {
					same++
				} else {
					t.Logf("seed %d: %v", p.Seed, got)
				}
				times = append(times, after)
			}
			slices.Sort(times)
			t.Logf("the recording: %v, named %v after the last heartbeat; the twin: %v to %v, half of them %v", want, after, times[0], times[seeds-1], times[seeds/2])
			if same*10 < seeds*8 {
				t.Errorf("the same is found in %d of %d seeds; in the recording %v", same, seeds, want)
			}
			if low, high := times[0]*7/10, times[seeds-1]*13/10; after < low || after > high {
				t.Errorf("named %v after the last heartbeat, the twin between %v and %v", after, times[0], times[seeds-1])
			}
		})
	}
}

// story is what was found in the end: rule, culprit and how it ended, of every case that was not taken back; and how long
// after the newest word of its agent the first culprit was named.
func story(facts, found []event.Event) (lines []string, after time.Duration) {
	v := &Verdict{}
	v.gather(found)
	for _, c := range v.Cases {
		if c.undone() {
			continue
		}
		last := c.last()
		how, _, _ := strings.Cut(c.Why, ":")
		lines = append(lines, strings.TrimSpace(last.Rule+" "+string(last.Culprit.Sure)+" "+last.Culprit.Name+" "+how))
		if after != 0 {
			continue
		}
		opened := last.Opened
		for i := range facts {
			e := &facts[i]
			if e.Type == event.StreamHeartbeat && e.Source == "agent/"+last.Culprit.Name && e.Time.Before(opened) {
				after = opened.Sub(e.Time)
			}
		}
	}
	slices.Sort(lines)
	return lines, after
}

// recording returns the facts of a file, or of a folder with its nodes file.
func recording(t *testing.T, path string) (facts []event.Event) {
	t.Helper()
	path = filepath.Join("..", "..", "tracer", "trial", path)
	names := ""
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path, names = filepath.Join(path, "facts.jsonl.zst"), filepath.Join(path, "nodes.yaml")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	src := stream.New(file, stream.Options{Bad: func(e *stream.LineError) { t.Error(e) }})
	if err := src.Run(t.Context(), func(b []event.Event) { facts = append(facts, b...) }); err != nil || len(facts) == 0 {
		t.Fatal("no facts", err)
	}
	facts = slices.DeleteFunc(facts, func(e event.Event) bool { return !e.Type.IsFact() })
	if names == "" {
		return facts
	}
	list, err := os.Open(names)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	read, err := nodefile.Read(list, "nodes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	err = nodefile.New(read.Nodes, facts[0].Time).Run(context.Background(), func(b []event.Event) { facts = slices.Insert(facts, 1, b...) })
	if err != nil {
		t.Fatal(err)
	}
	return facts
}
