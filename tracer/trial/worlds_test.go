package trial

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/world"
)

var (
	seeds  = flag.Int("worlds.seeds", 60, "how many worlds")
	first  = flag.Uint64("worlds.seed", 1, "the seed of the first one")
	what   = flag.String("worlds.fault", "", "the primitive of each, of chance if empty")
	hold   = flag.String("worlds.hold", "today", "which invariants fail the test: today (those of [Held]), all, or none")
	show   = flag.Bool("worlds.show", false, "print each world with its incidents")
	out    = flag.String("worlds.out", "", "a directory for the smallest world of each failure, as a scenario and as a recording; empty: none are sought")
	tries  = flag.Int("worlds.tries", 400, "how many smaller worlds are tried for each")
	other  = flag.Int("worlds.otherwise", 20, "every so manieth world is folded in other ways too")
	list   = flag.String("worlds.list", "", "write what breaks, a seed and an invariant a line, into this file")
	saying = flag.String("worlds.says", "", "print the seeds of worlds that break this invariant")
)

// TestWorlds puts random worlds before the Engine and fails on a broken invariant; all are counted and printed (with -v).
func TestWorlds(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // worlds are short-lived
	began := time.Now()
	var r Report
	var mu sync.Mutex
	ready := make(map[int]*Verdict) // worlds that are judged before one with a smaller seed
	taken := 0
	var broken strings.Builder
	// take adds verdicts in the order of their seeds, so that what is printed does not depend on who was quicker.
	take := func(k int, v *Verdict) {
		mu.Lock()
		defer mu.Unlock()
		for ready[k] = v; ready[taken] != nil; taken++ {
			v := ready[taken]
			delete(ready, taken)
			r.Add(v)
			for _, b := range v.Breaks {
				fmt.Fprintf(&broken, "%d %s\n", v.Plan.Seed, b.Rule)
			}
			if *show || *saying != "" && slices.ContainsFunc(v.Breaks, func(b Break) bool { return b.Rule == *saying }) {
				v.Write(os.Stdout)
			}
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				k := int(next.Add(1)) - 1
				if k >= *seeds {
					return
				}
				v, err := Try(world.Random(*first+uint64(k), *what))
				if err == nil && k%*other == 0 {
					err = v.Otherwise()
				}
				if err != nil {
					t.Errorf("seed %d: %v", *first+uint64(k), err)
					return
				}
				take(k, v)
			}
		})
	}
	wg.Wait()
	if *list != "" {
		if err := os.WriteFile(*list, []byte(broken.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r.Elapsed = time.Since(began)
	if err := r.Write(os.Stdout); err != nil {
		t.Error(err)
	}
	for name, n := range r.Broken {
		if n == 0 || *hold == "none" || *hold != "all" && !slices.Contains(Held, name) {
			continue
		}
		t.Errorf("%d worlds break %s, the first: %s", n, name, r.First[name])
		if *out != "" && name != "differs" {
			keep(t, Shrink(r.Plans[name], name, *tries), name)
		}
	}
}

// keep writes the smallest world of a failure.
func keep(t *testing.T, p *world.Plan, rule string) {
	t.Helper()
	o, err := world.Run(p)
	if err != nil {
		t.Fatal(err)
	}
	lines := event.AppendJSON(nil, &event.Event{
		Type: event.StreamStarted, Time: world.Epoch, Source: "world", Seq: 1, ID: event.ID{Origin: "world-w", N: 1}, Body: &event.Started{Complete: true},
	})
	for i := range o.Facts {
		ev := &o.Facts[i]
		ev.Seq = uint64(i) + 2
		if ev.ID.IsZero() {
			ev.ID = event.ID{Origin: ev.Source + "-w", N: ev.Seq}
		}
		lines = event.AppendJSON(append(lines, '\n'), ev)
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(*out, fmt.Sprintf("%s-%d", rule, p.Seed))
	if err := os.WriteFile(file+".jsonl", append(lines, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	v, err := Try(p)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%s: %s.\n-- world --\n%s-- broken --\n", rule, Invariants[rule], p)
	for _, name := range slices.Sorted(maps.Keys(Invariants)) {
		if slices.ContainsFunc(v.Breaks, func(b Break) bool { return b.Rule == name }) {
			text += name + "\n"
		}
	}
	if err := os.WriteFile(file+".txtar", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("the smallest world that breaks %s: %s.txtar, and as a recording %s.jsonl\n%s", rule, file, file, text)
}

// TestSmallest runs the worlds of testdata. What stands under "broken" in one is what it still broke when it was written;
// anything else that it breaks is a failure.
func TestSmallest(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no worlds", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(data), "-- world --\n")
			plan, broken, _ := strings.Cut(rest, "-- broken --\n")
			p, err := world.Parse(plan)
			if err != nil {
				t.Fatal(err)
			}
			v, err := Try(p)
			if err != nil {
				t.Fatal(err)
			}
			allowed := strings.Fields(broken)
			for _, b := range v.Breaks {
				if !slices.Contains(allowed, b.Rule) {
					t.Errorf("%s at %v: %s", b.Rule, b.At, b.Text)
				}
			}
			for _, rule := range allowed {
				if !slices.ContainsFunc(v.Breaks, func(b Break) bool { return b.Rule == rule }) {
					t.Logf("%s holds here now: take it off the list", rule)
				}
			}
			if t.Failed() {
				v.Write(os.Stdout)
			}
		})
	}
}
