package diagnose

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/midhop/midhop/tracer/model"
)

// The matrix asks how often the engine is right: faults, traffic, agents, losses and sizes, each cell with several seeds.
// Its generator knows bursts, back-off and bad last miles, which flatter nobody; 007's votes are judged beside it.
var (
	matrixGrid  = flag.String("matrix", "smoke", "cells of the matrix: smoke, ci, or full")
	matrixSeeds = flag.Int("matrix.seeds", 0, "seeds for each cell, 0: as the grid says")
	matrixFault = flag.String("matrix.fault", "", "only faults whose name matches")
	matrixCells = flag.Bool("matrix.cells", false, "print every cell, not only each fault by size")
)

var (
	small  = size{nodes: 100, flows: 1_000}
	medium = size{nodes: 1_000, flows: 100_000}
	large  = size{nodes: 5_000, flows: 1_000_000}
)

// The bounds that hold in every cell: at least half of the nodes have agents, at most a tenth of the records is lost.
const (
	enoughFlows = 200  // of a node fault
	enoughLoss  = 0.01 // of a node fault
	leastTop    = 0.99
	leastKind   = 0.99
)

// What a run consists of, in seconds: a calm with everything well, then the fault.
const (
	halfFor  = int(model.FlowHalf / time.Second)
	calmFor  = 10 // and up to a half window more, so that faults begin anywhere in one
	faultFor = scoredAt + 1
	scoredAt = 2*halfFor - 1 // after the fault: the window holds nothing else
)

// grid lists the cells of the matrix and how many seeds each gets.
func grid(name string) (cells []conditions, seeds map[size]int) {
	add := func(s size, zipf bool, instrumented, lost int) {
		cells = append(cells, conditions{size: s, zipf: zipf, instrumented: instrumented, lost: lost})
	}
	switch name {
	case "smoke":
		add(small, false, 100, 0)
		add(small, true, 50, 10)
		return cells, map[size]int{small: 1}
	case "ci":
		for _, instrumented := range []int{100, 80, 50} {
			for _, lost := range []int{0, 1, 10} {
				add(small, false, instrumented, lost)
				add(small, true, instrumented, lost)
			}
		}
		add(medium, false, 100, 0)
		add(medium, true, 100, 10)
		add(medium, false, 50, 10)
		add(medium, true, 50, 0)
		return cells, map[size]int{small: 4, medium: 1}
	default:
		for _, s := range []size{small, medium, large} {
			for _, instrumented := range []int{100, 80, 50} {
				for _, lost := range []int{0, 1, 10} {
					add(s, false, instrumented, lost)
					add(s, true, instrumented, lost)
				}
			}
		}
		return cells, map[size]int{small: 30, medium: 30, large: 2}
	}
}

// TestMatrix runs the matrix, prints it, and fails under its bounds. `make bench-blame` runs it at length.
func TestMatrix(t *testing.T) {
	cells, seeds := grid(*matrixGrid)
	only := regexp.MustCompile(*matrixFault)
	type job struct {
		conditions
		seed int
	}
	var jobs []job
	for _, c := range cells {
		n := seeds[c.size]
		if *matrixSeeds > 0 {
			n = *matrixSeeds
		}
		for s := range n {
			jobs = append(jobs, job{c, s + 1})
		}
	}
	scores := make(map[cellOf]*score)
	var mu sync.Mutex
	var wait sync.WaitGroup
	queue := make(chan job)
	for range min(runtime.GOMAXPROCS(0), 4) {
		wait.Go(func() {
			for j := range queue {
				w := newWorld(j.conditions, uint64(j.seed))
				for i := range faults {
					if f := &faults[i]; only.MatchString(f.name) {
						r := w.run(f)
						mu.Lock()
						at := cellOf{f.name, j.conditions}
						if scores[at] == nil {
							scores[at] = &score{fault: f}
						}
						scores[at].add(&r)
						mu.Unlock()
					}
				}
			}
		})
	}
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	wait.Wait()
	report(t, scores)
}

type cellOf struct {
	fault string
	conditions
}

// run lets a fault strike a world and scores what is named.
func (w *world) run(f *fault) result {
	w.calm()
	w.background = cmp.Or(f.background, usual)
	var r run
	out := result{named: -1}
	from := calmFor + w.rng.IntN(halfFor)
	for s := range from + faultFor {
		if s%halfFor == 0 {
			w.half++
			w.engine.advance(w.half)
		}
		if s == from {
			f.strike(w, &r)
		}
		weather := 1.0
		if s >= from {
			if r.each != nil {
				r.each(s - from)
			}
			if !r.steady { // a bad second in three or four, two and a half times as bad
				weather = 0.357
				if w.rng.IntN(10) < 3 {
					weather = 2.5
				}
			}
		}
		w.second(float32(s), weather)
		found := w.engine.judge()
		out.judge(w.engine, found, r.truth, s-from)
		if s == from+scoredAt {
			out.score(found, r.truth)
			out.votes[0] = scoreVotes(w.engine, r.truth, 0.01, 1)
			out.votes[1] = scoreVotes(w.engine, r.truth, 0.0025, 2)
		}
	}
	out.affected, out.truths = r.affected, len(r.truth)
	return out
}

// report prints the matrix by size and fault, and checks the bounds of every cell.
func report(t *testing.T, scores map[cellOf]*score) {
	keys := make([]cellOf, 0, len(scores))
	for k := range scores {
		keys = append(keys, k)
	}
	order := make(map[string]int)
	for i, f := range faults {
		order[f.name] = i
	}
	slices.SortFunc(keys, func(a, b cellOf) int {
		return cmp.Or(cmp.Compare(a.flows, b.flows), cmp.Compare(order[a.fault], order[b.fault]), cmp.Compare(a.instrumented, b.instrumented),
			cmp.Compare(a.lost, b.lost), strings.Compare(fmt.Sprint(a.zipf), fmt.Sprint(b.zipf)))
	})
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "nodes/flows\tfault\t\truns\tprecision\trecall\ttop-1\ttop-1, >= 200 flows\tkind\tunsure\tfalse names\tp50 s\tp95 s\tBrier\tvotes 1 %: P\tR\tvotes 0.25 %: P\tR\t")
	for i := 0; i < len(keys); {
		sum := &score{fault: scores[keys[i]].fault}
		j := i
		for ; j < len(keys) && keys[j].fault == keys[i].fault && keys[j].size == keys[i].size; j++ {
			s := scores[keys[j]]
			sum.merge(s)
			if *matrixCells {
				fmt.Fprintf(out, "\t\t%s\t%s\n", keys[j].conditions, s)
				for _, f := range s.false_ {
					t.Logf("%v %s: %s", keys[j].conditions, keys[j].fault, f)
				}
			}
			for _, broken := range s.bounds() {
				t.Errorf("%d nodes, %d flows, %s, %s: %s", keys[j].nodes, keys[j].flows, keys[j].conditions, keys[j].fault, broken)
			}
		}
		fmt.Fprintf(out, "%d/%d\t%s\t\t%s\n", keys[i].nodes, keys[i].flows, keys[i].fault, sum)
		i = j
	}
	out.Flush()
}

func (c conditions) String() string {
	traffic := "uniform"
	if c.zipf {
		traffic = "zipf"
	}
	return fmt.Sprintf("%s, %d %% agents, %d %% lost", traffic, c.instrumented, c.lost)
}
