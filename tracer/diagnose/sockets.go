package diagnose

import (
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// turns tells what sockets have come to: stalled, recovered, given up.
func (j *Judge) turns(at time.Time) {
	for _, t := range j.model.Turns() {
		body := t.Body
		j.find(model.InstantOf(at), t.Type, t.Flow, &body)
	}
}

// An agent sends a heartbeat each second at least.
const (
	heartbeat   = time.Duration(model.HeartbeatInterval)
	silentAfter = heartbeat * 5 / 2
)

// silences tells every agent that has been silent for 2.5 heartbeats, once per silence.
func (j *Judge) silences(g *gate) {
	for _, a := range j.model.Agents() {
		if told, ok := j.gaps[a.Source]; ok && told == a.Heard {
			continue
		}
		delete(j.gaps, a.Source)
		if !a.Beats || !g.passed(a.Heard, silentAfter) || j.returning(&a, g) {
			continue
		}
		j.gaps[a.Source] = a.Heard
		j.find(g.at, event.StreamGap, "", &event.Gap{Peer: a.Source, LastID: a.Last(), Silent: event.Seconds(g.at - a.Heard)})
	}
}

// returnGrace is how long agents may take to come back to a stream that was away: a connection that a partition cut is
// given up after two pings of 2 s, and made anew within a dial of 4 s.
const returnGrace = 10 * time.Second

// returning says whether an agent's silence may yet be that of the stream, which was away and has just gone on.
func (j *Judge) returning(a *model.Agent, g *gate) bool {
	resumed := j.model.Resumed()
	return resumed != 0 && a.Heard < resumed && !g.passed(resumed, returnGrace)
}

// silent returns the nodes whose agents are silent. One that was deleted is silent for good, and no gap in what is seen.
func (j *Judge) silent(g *gate) []string {
	var out []string
	for _, a := range j.model.Agents() {
		if a.Beats && g.passed(a.Heard, silentAfter) && !j.returning(&a, g) && !j.deleted(a.Node) {
			out = append(out, a.Node)
		}
	}
	return out
}

// deleted says whether the cluster has said that a node is deleted.
func (j *Judge) deleted(name string) bool {
	n, ok := j.model.Node(name)
	return ok && slices.ContainsFunc(n.Causes, func(c event.Cause) bool { return c.What == event.CauseDeleted })
}

// A census is told at most every censusEvery, and looked for at whole censusGrid instants, whatever the grid of judgement.
const (
	censusEvery = 5 * time.Second
	censusGrid  = time.Second
)

// tellCensus tells the sockets per pod, service and via when their shares have changed.
func (j *Judge) tellCensus(g *gate) {
	counts := [2]uint64{j.model.Shares(), j.version}
	if counts == j.counts || !j.model.Synced() || (j.told != 0 && !g.passed(j.told, censusEvery)) || !g.whole(censusGrid) {
		return
	}
	j.counts = counts
	rows := j.model.CensusRows(j.Named())
	if j.told != 0 && alike(rows, j.census) {
		return
	}
	j.told, j.census = g.at, rows
	j.find(g.at, event.PathCensus, "", &event.Census{Rows: rows})
}

// alike says whether two censuses have the same rows with about the same shares: each within a percent of all sockets, and
// both with or both without stalls.
func alike(a, b []event.CensusRow) bool {
	if len(a) != len(b) {
		return false
	}
	total := func(rows []event.CensusRow) (n int) {
		for i := range rows {
			n += rows[i].Established
		}
		return max(n, 1)
	}
	ta, tb := total(a), total(b)
	near := func(x, y int) bool {
		apart := x*tb - y*ta // x/ta - y/tb, without fractions
		return max(apart, -apart)*100 < ta*tb
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Pod != y.Pod || x.Service != y.Service || x.Via != y.Via || (x.Stalled > 0) != (y.Stalled > 0) ||
			!near(x.Established, y.Established) || !near(x.AtRisk, y.AtRisk) || !near(x.Stalled, y.Stalled) || !near(x.Presumed, y.Presumed) {
			return false
		}
	}
	return true
}
