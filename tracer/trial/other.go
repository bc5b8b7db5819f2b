package trial

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/world"
)

// Otherwise folds a world's facts in other batches, and with some agents' facts a few milliseconds later on their way, and
// compares the incidents: they may not depend on how facts travel. It adds what differs to the verdict.
func (v *Verdict) Otherwise() error {
	for _, chunk := range []int{1, 1 << 20} {
		o, err := world.Run(v.Plan)
		if err != nil {
			return err
		}
		found, err := Fold(o.Facts, 0, chunk)
		if err != nil {
			return err
		}
		v.compare(fmt.Sprintf("in batches of %d", chunk), exact(v.Cases), exact(Judge(v.Plan, &o.Truth, found).Cases))
	}
	o, err := world.Run(v.Plan)
	if err != nil {
		return err
	}
	found, err := Fold(delayed(o), 0, 256)
	if err != nil {
		return err
	}
	v.compare("with agents in another order", outline(v.Cases), outline(Judge(v.Plan, &o.Truth, found).Cases))
	return nil
}

// delayed lets every second agent's facts arrive up to 20 ms later.
func delayed(o *world.Outcome) []event.Event {
	type late struct {
		at time.Duration
		ev event.Event
	}
	all := make([]late, len(o.Facts))
	for i := range o.Facts {
		all[i] = late{o.Arrivals[i], o.Facts[i]}
		if name := o.Facts[i].Source; strings.HasPrefix(name, "agent/") && name[len(name)-1]%2 == 0 {
			all[i].at += 20 * time.Millisecond
		}
	}
	slices.SortStableFunc(all, func(a, b late) int { return cmp.Compare(a.at, b.at) })
	out := make([]event.Event, len(all))
	for i := range all {
		out[i] = all[i].ev
	}
	return out
}

// exact is all that cases say and when.
func exact(cases []*Case) (lines []string) {
	for _, c := range cases {
		for _, x := range c.Versions {
			lines = append(lines, fmt.Sprintf("%v %s %s %s %s %.2f %+v %s", x.at, c.ID, x.in.Rule, x.in.Culprit.Name, x.in.Culprit.Sure, x.in.Confidence, x.in.Sockets, x.in.Why))
		}
	}
	return lines
}

// outline is who is named in the end, and by which rule: what a few milliseconds may not change. A case that nearly came, or
// nearly did not, may be missing, so only those that name somebody as proved are compared.
func outline(cases []*Case) (lines []string) {
	for _, c := range cases {
		if last := c.last(); last.Culprit.Sure == event.Proved && !c.undone() {
			lines = append(lines, last.Rule+" "+last.Culprit.Name)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

func (v *Verdict) compare(how string, want, got []string) {
	if slices.Equal(want, got) {
		return
	}
	for i := range max(len(want), len(got)) {
		a, b := "nothing", "nothing"
		if i < len(want) {
			a = want[i]
		}
		if i < len(got) {
			b = got[i]
		}
		if a != b {
			v.broken("differs", 0, "%s: %s in place of %s", how, b, a)
			return
		}
	}
}
