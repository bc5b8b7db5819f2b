package trial

import (
	"flag"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/world"
)

var (
	seeds = flag.Int("worlds.seeds", 60, "how many worlds")
	first = flag.Uint64("worlds.seed", 1, "the seed of the first one")
	what  = flag.String("worlds.fault", "", "the primitive of each, of chance if empty")
	hold  = flag.String("worlds.hold", "today", "which invariants fail the test: today (those of [Held]), or all")
	show  = flag.Bool("worlds.show", false, "print each world with its incidents")
)

// TestWorlds puts random worlds before the Engine and fails on a broken invariant; all are counted and printed (with -v).
func TestWorlds(t *testing.T) {
	began := time.Now()
	verdicts := make([]*Verdict, *seeds)
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
				if err != nil {
					t.Errorf("seed %d: %v", *first+uint64(k), err)
					return
				}
				verdicts[k] = v
			}
		})
	}
	wg.Wait()
	var r Report
	for _, v := range verdicts {
		if v == nil {
			continue
		}
		r.Add(v)
		if *show {
			v.Write(os.Stdout)
		}
	}
	r.Elapsed = time.Since(began)
	r.Write(os.Stdout)
	for name, n := range r.Broken {
		if n > 0 && (*hold == "all" || slices.Contains(Held, name)) {
			t.Errorf("%d worlds break %s, the first: %s", n, name, r.First[name])
		}
	}
}
