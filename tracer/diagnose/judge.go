package diagnose

import (
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Judge finds what the folded facts of one model mean. A judgement is a function of these facts, of the instant, and of
// what was found before: the Judge keeps its findings and nothing else, so that an instant that finds nothing changes
// nothing and may as well be left out.
type Judge struct {
	model *model.Model
	flows *likelihood // follows the fold: a function of the facts alone

	open   []*incident              // in the order of opening
	closed []*incident              // the newest last, capped
	gaps   map[string]model.Instant // agent -> its newest fact when its silence was told
	census []event.CensusRow        // as told last
	told   model.Instant            // when
	ids    map[string]int           // incidents by the id of the fact that opened them

	question func(Question) // nil: nobody would ask

	version  uint64 // raised with every finding
	out      []event.Event
	gathered *ends // in this judgement, nil until somebody asks

	// What the last judgement looked at, so that needless ones can be left out.
	urgent uint64
	facts  uint64
	due    model.Instant
	at     model.Instant
	counts [2]uint64 // the shares and the findings that the last look at the census is from
}

// keptClosed is how many closed incidents readers may look back on.
const keptClosed = 100

// New returns a judge over m that has found nothing yet.
func New(m *model.Model) *Judge {
	j := &Judge{model: m, gaps: make(map[string]model.Instant), ids: make(map[string]int), flows: newLikelihood()}
	j.flows.moving = true
	m.Follow(j.observe)
	return j
}

// At judges as of the instant at and returns what it finds, without source and id.
func (j *Judge) At(at time.Time) []event.Event {
	g := &gate{at: model.InstantOf(at)}
	j.out, j.gathered = nil, nil
	j.at, j.urgent, j.facts = g.at, j.model.Urgent(), j.model.Facts()
	j.turns(at)
	j.silences(g)
	j.follow(g)
	j.forget(g)
	j.move(g)
	e := j.ends()
	j.holders(e, g)
	j.pods(e, g)
	j.clients(e, g)
	j.readers(g)
	j.refuse(g)
	j.large(g)
	j.lossy(g)
	j.locals(e, g)
	j.suspect(g)
	j.patterns(g)
	j.tellCensus(g)
	j.due = g.due
	out := j.out
	j.out, j.gathered = nil, nil
	if len(out) > 0 {
		j.version++
		j.urgent = 0 // a finding may let the next instant find more
	}
	return out
}

// Stale says whether facts have come since the last judgement that could let the next one find something.
func (j *Judge) Stale() bool {
	for source, at := range j.gaps {
		if j.model.Heard(source) != at {
			return true // a silent agent speaks again: its next silence has to be waited for
		}
	}
	return j.model.Urgent() != j.urgent || (len(j.open) > 0 && j.model.Facts() != j.facts)
}

// Due returns the instant from which the passing of time alone could let a judgement find something, false for never.
func (j *Judge) Due() (time.Time, bool) {
	due := j.due
	if j.counts != [2]uint64{j.model.Shares(), j.version} && (due == 0 || due > j.at+1) && j.model.Synced() {
		due = j.at + 1 // the census: whatever comes next asks for its own grid
		if at := j.told.Add(censusEvery); at > due {
			due = at
		}
		if j.due != 0 {
			due = min(due, j.due)
		}
	}
	return due.Time(), due != 0
}

// Version is raised with every finding.
func (j *Judge) Version() uint64 { return j.version }

// Incidents returns the open cases, newest first, and then those that were closed.
func (j *Judge) Incidents() []model.IncidentView {
	var out []model.IncidentView
	for _, list := range [][]*incident{j.open, j.closed} {
		for _, c := range slices.Backward(list) {
			out = append(out, c.view())
		}
	}
	return out
}

// Named returns what open incidents say of hops.
func (j *Judge) Named() map[model.HopKey]model.Named {
	out := make(map[model.HopKey]model.Named, len(j.open))
	for _, c := range j.open {
		for _, hop := range c.hops() {
			n := model.Named{ID: c.body.ID, Since: c.since}
			n.Gone = c.gone()
			out[hop] = n
		}
	}
	return out
}

func (j *Judge) find(at model.Instant, typ event.Type, flow string, body event.Body) {
	j.out = append(j.out, event.Event{Type: typ, Time: at.Time(), Flow: flow, Body: body})
}
