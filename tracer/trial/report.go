package trial

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/midhop/midhop/tracer/world"
)

// Report gathers the verdicts of many worlds.
type Report struct {
	Worlds  int
	Nulls   int
	Facts   int
	Named   int // cases that name a node, pod or service
	Wrong   int // of these, healthy ones
	Hedged  int // worlds in which a healthy node was named "or what stands before it", and it was that
	Scores  []Score
	Broken  map[string]int         // worlds by invariant
	First   map[string]string      // the first of each, as seed and text
	Plans   map[string]*world.Plan // and its plan
	Elapsed time.Duration
}

// Add takes a verdict in.
func (r *Report) Add(v *Verdict) {
	if r.Broken == nil {
		r.Broken, r.First, r.Plans = make(map[string]int), make(map[string]string), make(map[string]*world.Plan)
	}
	r.Worlds++
	r.Scores = append(r.Scores, v.Scores...)
	r.Hedged += one(v.Hedged > 0)
	if len(v.Scores) == 0 {
		r.Nulls++
	}
	for _, c := range v.Cases {
		if kind, name := v.object(&c.last().Culprit); kind != "" && kind != "clients" {
			r.Named++
			if len(v.touches(kind, name, v.Plan.Until)) == 0 && !v.before(c.last()) {
				r.Wrong++
			}
		}
	}
	seen := make(map[string]bool)
	for _, b := range v.Breaks {
		if !seen[b.Rule] {
			seen[b.Rule] = true
			r.Broken[b.Rule]++
		}
		if r.First[b.Rule] == "" {
			r.Plans[b.Rule] = v.Plan
			r.First[b.Rule] = fmt.Sprintf("SEED=%d at %.2fs: %s", v.Plan.Seed, b.At.Seconds(), b.Text)
		}
	}
}

// sum is a line of figures.
type sum struct {
	n, victims, said, named, hedged, right int
	after, late                            []time.Duration
}

func (s *sum) add(x *Score) {
	s.n++
	if !x.Victims {
		return
	}
	s.victims++
	s.said += one(x.Said)
	s.named += one(x.Named)
	s.hedged += one(!x.Named && x.Hedged)
	s.right += one(x.Named && (x.Right || best[x.What] == nil))
	if x.Named {
		s.after = append(s.after, x.After)
		if x.Visible > 0 {
			s.late = append(s.late, x.After-x.Visible)
		}
	}
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// percentile of durations, 0 where there are none.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*p/100)]
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", float64(n)/float64(of))
}

// Write prints all figures. The error is the writer's.
func (r *Report) Write(w io.Writer) error {
	fmt.Fprintf(w, "%d worlds, %d of them without a fault, in %.1f s: %.0f a second\n", r.Worlds, r.Nulls, r.Elapsed.Seconds(), float64(r.Worlds)/r.Elapsed.Seconds())
	fmt.Fprintf(w, "precision %s: of %d incidents that name a node, pod or service, %d name a healthy one; in %d worlds a node was named \"or what stands before it\", and it was that\n", share(r.Named-r.Wrong, r.Named), r.Named, r.Wrong, r.Hedged)
	var all sum
	for i := range r.Scores {
		all.add(&r.Scores[i])
	}
	fmt.Fprintf(w, "of %d faults with three victims that an agent sees: said %s, named %s, listed among others %s, of those named the kind is right in %s\n\n",
		all.victims, share(all.said, all.victims), share(all.named, all.victims), share(all.hedged, all.victims), share(all.right, all.named))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tfaults\tvisible\tsaid\tnamed\tlisted\tkind\tp50\tp95\tp95 after signs\t")
	r.table(tw, func(s *Score) string { return s.What })
	r.table(tw, func(s *Score) string { return "agents: " + s.Coverage })
	r.table(tw, func(s *Score) string { return "rung: " + s.Rung })
	r.table(tw, func(s *Score) string {
		if s.What == "power" && s.Coverage == "all" {
			return "power, agents everywhere"
		}
		return ""
	})
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, name := range slices.Sorted(maps.Keys(Invariants)) {
		fmt.Fprintf(w, "%-17s %d worlds break it: %s\n", name, r.Broken[name], Invariants[name])
		if first := r.First[name]; first != "" {
			fmt.Fprintf(w, "%-17s first %s\n", "", first)
		}
	}
	return nil
}

// table prints a line for each group of scores.
func (r *Report) table(w io.Writer, group func(*Score) string) {
	by := make(map[string]*sum)
	for i := range r.Scores {
		g := group(&r.Scores[i])
		if g == "" {
			continue
		}
		if by[g] == nil {
			by[g] = new(sum)
		}
		by[g].add(&r.Scores[i])
	}
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(-cmp.Compare(by[a].victims, by[b].victims), cmp.Compare(a, b))
	})
	for _, name := range names {
		s := by[name]
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%.2fs\t%.2fs\t%.2fs\t\n", name, s.n, s.victims, share(s.said, s.victims), share(s.named, s.victims),
			share(s.hedged, s.victims), share(s.right, s.named), percentile(s.after, 50).Seconds(), percentile(s.after, 95).Seconds(), percentile(s.late, 95).Seconds())
	}
}

// Write prints one world with what was found in it.
func (v *Verdict) Write(w io.Writer) {
	coverage, rung := Coverage(v.Plan)
	fmt.Fprintf(w, "=== seed %d, %d nodes, agents %s (%s), inventory %s\n", v.Plan.Seed, len(v.Plan.Nodes), coverage, rung, v.Plan.Inventory.By)
	for i, f := range v.Plan.Faults {
		m := v.Truth.Moments[len(v.Truth.Moments)-1].Faults[i]
		fmt.Fprintf(w, "   fault %6.2fs %s %s %s n=%d for=%v: in the end %+v, resets %d\n", f.At.Seconds(), f.What, f.Who, f.With, f.N, f.For, m, v.Truth.Resets[i])
	}
	for _, c := range v.Cases {
		last := ""
		for k, x := range c.Versions {
			text := fmt.Sprintf("%s %s %s %q", x.in.Rule, x.in.Culprit.Kind, x.in.Culprit.Sure, x.in.Title)
			if text != last || k == len(c.Versions)-1 {
				fmt.Fprintf(w, "   %6.2fs %s crossing %d stalled %d presumed %d %s\n", x.at.Seconds(), text, x.in.Sockets.Crossing, x.in.Sockets.Stalled, x.in.Sockets.Presumed, x.in.Why)
			}
			last = text
		}
	}
	for _, b := range v.Breaks {
		fmt.Fprintf(w, "   BROKEN %s at %.2fs: %s\n", b.Rule, b.At.Seconds(), b.Text)
	}
}
