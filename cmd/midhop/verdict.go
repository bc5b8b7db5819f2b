package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/lab"
)

// How long a verdict must stand before the lab ends: the contract's figures.
const (
	verdictStands = 3 * time.Second
	nothingStands = 10 * time.Second // under load, from the moment at which a fault would have come
)

// verdict is a sink that watches a lab run's incidents and knows the right answer, which the Engine does not.
type verdict struct {
	mu        sync.Mutex
	want      []lab.Verdict
	faultAt   time.Time // zero: not yet
	settledAt time.Time // all that the scenario makes happen has happened; zero: not yet
	open      map[string]event.Incident
	last      map[string]event.Incident // as last said of, open or closed
	named     map[lab.Verdict]time.Time // when each was first said
	wrong     string                    // the first wrong word, which nothing can mend
	changed   chan struct{}
}

func newVerdict(want []lab.Verdict) *verdict {
	return &verdict{
		want: want, open: make(map[string]event.Incident), last: make(map[string]event.Incident), named: make(map[lab.Verdict]time.Time), changed: make(chan struct{}, 1),
	}
}

// Write implements tracer.Sink.
func (v *verdict) Write(batch []event.Event) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range batch {
		f, ok := e.Body.(*event.IncidentFinding)
		if !ok {
			continue
		}
		in := f.Incident
		v.last[in.ID] = in
		switch e.Type {
		case event.IncidentOpened, event.IncidentUpdated:
			v.open[in.ID] = in
			v.judge(e.Time, in)
		case event.IncidentClosed:
			v.judge(e.Time, in)
			delete(v.open, in.ID)
		}
		v.news()
	}
	return nil
}

func (v *verdict) news() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// judge notes the first right name and the first wrong one. A healthy node that was named at any moment is a failure,
// whatever is said later.
func (v *verdict) judge(at time.Time, in event.Incident) {
	for _, w := range v.want {
		if says(in, w) && v.named[w].IsZero() {
			v.named[w] = at
		}
	}
	if v.wrong == "" && !v.allowed(in) {
		v.wrong = fmt.Sprintf("%s blamed on %s %s", in.Rule, in.Culprit.Kind, in.Culprit.Name)
	}
}

// allowed says whether an incident may be said on the way to the right answer: its rule may be refined, its culprit may
// be unknown, but it names nobody who is well. Where nothing is wrong nothing may be said.
func (v *verdict) allowed(in event.Incident) bool {
	for _, w := range v.want {
		c := in.Culprit
		if c.Kind == event.CulpritUnknown || c.Kind == event.CulpritAddress || w.Blames(string(c.Kind), c.Name) {
			return true
		}
		if w.Rule == "service-down" && in.Rule == "pod-gone" {
			return true // its pods are gone, one by one, and there are no others
		}
	}
	return false
}

// says tells whether an incident is a wanted one.
func says(in event.Incident, w lab.Verdict) bool {
	return w.Fits(in.Rule, string(in.Culprit.Kind), in.Culprit.Name)
}

// fault notes when the fault was made, or would have been made.
func (v *verdict) fault(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faultAt = at
}

func (v *verdict) faultTime() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.faultAt
}

// settled notes when all that is going to happen has happened.
func (v *verdict) settled(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.settledAt = at
	v.news()
}

// stands returns when the run may end if nothing changes, and false while it must go on to its end.
func (v *verdict) stands() (time.Time, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.faultAt.IsZero(), v.settledAt.IsZero():
		return time.Time{}, false
	case len(v.want) == 0:
		return v.settledAt.Add(nothingStands), true
	}
	last, stand := v.settledAt, verdictStands
	for _, w := range v.want {
		at := v.named[w]
		switch {
		case w.May:
			stand = nothingStands
		case at.IsZero() || !v.stillSaid(w):
			return time.Time{}, false
		case at.After(last):
			last = at
		}
	}
	return last.Add(stand), true
}

func (v *verdict) stillSaid(w lab.Verdict) bool {
	said := v.open
	if w.Ends {
		said = v.last
	}
	for _, in := range said {
		if says(in, w) {
			return true
		}
	}
	return false
}

// innocent says whether nothing wrong was said so far.
func (v *verdict) innocent() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.wrong == ""
}

// result says in one line what was found, and whether that was the right answer.
func (v *verdict) result() (string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.wrong != "":
		return "wrong: " + v.wrong + ", expected " + describe(v.want), false
	case len(v.want) == 0:
		return "right: nothing was found, and nothing was wrong", true
	case v.faultAt.IsZero():
		return "ended before the fault", false
	}
	var took []string
	for _, w := range v.want {
		if w.May && v.named[w].IsZero() {
			took = append(took, "nothing was found")
			continue
		}
		if !w.May && !v.stillSaid(w) {
			return "missed: expected " + describe(v.want), false
		}
		took = append(took, v.named[w].Sub(v.faultAt).Round(time.Millisecond).String())
	}
	return fmt.Sprintf("right: %s, %s after the fault", describe(v.want), strings.Join(took, " and ")), true
}

func describe(want []lab.Verdict) string {
	if len(want) == 0 {
		return "nothing"
	}
	var parts []string
	for _, w := range want {
		parts = append(parts, w.String())
	}
	return strings.Join(parts, "; ")
}
