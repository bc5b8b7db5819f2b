package diagnose

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// The names of rules.
const (
	ruleNodeGone        = "node-gone"
	ruleNodeRebooted    = "node-rebooted"
	ruleNATLost         = "nat-lost"
	ruleIdleExpired     = "idle-expired"
	ruleVIPMoved        = "vip-moved"
	rulePodGone         = "pod-gone"
	ruleClientGone      = "client-gone"
	rulePeerNotReading  = "peer-not-reading"
	ruleLocalNode       = "local-node"
	ruleFrontGone       = "front-gone"
	ruleConntrackFull   = "conntrack-full"
	ruleSNATExhausted   = "snat-exhausted"
	ruleNodeLossy       = "node-lossy"
	rulePMTU            = "pmtu-blackhole"
	ruleServiceDown     = "service-down"
	rulePeerUnreachable = "peer-unreachable"
	ruleUnexplained     = "unexplained"
)

// course is how a rule takes a case on once it is open.
type course interface {
	// over says why the case has come to its end, empty while it goes on.
	over(j *Judge, c *incident, g *gate) string
	// tell fills in everything that the case says, from what is known now.
	tell(j *Judge, c *incident, g *gate)
	// count fills in the numbers alone.
	count(j *Judge, c *incident)
}

const (
	// An open incident is told again when its counts have changed, at most every updateFast while it is young and every
	// updateSlow later.
	updateFast = time.Second
	updateSlow = 5 * time.Second
	young      = 15 * time.Second
	// dateSlack is how much later than silent_since something may turn out to have been received: facts of several
	// machines do not arrive in order. Anything later is a sign of life.
	dateSlack = time.Second
	maxMarks  = 200
	// dateJitter is what two looks at one receive may differ by: the kernel dates it in ticks of up to 10 ms.
	dateJitter = 20 * time.Millisecond
)

// incident is the case against one culprit, from its opening on.
type incident struct {
	body    event.Incident
	course  course
	keys    []model.HopKey // what its sockets cross; one but for unexplained silences of several hops together
	since   model.Instant  // silent_since, 0 unknown
	dated   model.Instant  // the same when it was opened
	first   model.Instant  // transmissions were unanswered by then
	opened  model.Instant
	told    model.Instant // newest finding about it
	seen    uint64        // the facts that its counts are from
	due     model.Instant // when time alone could change them, 0 never
	begins  string        // what happened at since, where that is no silence
	witness *suspect      // what proved the culprit's death
	before  *incident     // the case that this one superseded
	refined model.Instant // when its rule was found to be another, 0 never
	again   *incident     // the case that this one goes on with, within a minute of its end
	back    model.Instant // node-gone: its agent was heard again, with the same boot id; 0: it was not, or is silent since
	parted  model.Instant // several hops that fell silent together: the first of them was heard again, 0 not yet
	loss    culprit       // node-lossy: what was found last
	found   model.Instant // and when
	updates int
	marks   []model.Mark
}

func (c *incident) hops() []model.HopKey { return c.keys }

func (c *incident) view() model.IncidentView {
	return model.IncidentView{Incident: c.body, Updates: c.updates, Marks: slices.Clone(c.marks)}
}

func (c *incident) mark(at model.Instant, format string, args ...any) {
	if len(c.marks) < maxMarks {
		c.marks = append(c.marks, model.Mark{Time: at.Time(), Text: fmt.Sprintf(format, args...), Stalled: c.body.Sockets.Stalled})
	}
}

// begin opens a case whose rule, course and keys are set; fact is the id of the fact that opens it.
func (j *Judge) begin(c *incident, g *gate, fact string) {
	c.opened, c.told = g.at, g.at
	c.body.Opened = g.at.Time()
	j.tell(c, g)
	if old := j.again(c, g); old != nil {
		j.takeUp(c, old)
	} else {
		c.body.ID = j.idFor(fact)
	}
	if c.since != 0 {
		text := c.begins
		if text == "" {
			text = "newest receive through " + c.body.Culprit.Name
		}
		c.marks = append(c.marks, model.Mark{Time: c.since.Time(), Text: text})
	}
	c.mark(g.at, "incident opened")
	j.open = append(j.open, c)
	j.find(g.at, event.IncidentOpened, "", &event.IncidentFinding{Incident: c.body})
}

// idFor makes the id of an incident from the fact that opened it; a second one by the same fact gets a suffix.
func (j *Judge) idFor(fact string) string {
	j.ids[fact]++
	if n := j.ids[fact]; n > 1 {
		return fact + "." + strconv.Itoa(n)
	}
	return fact
}

// close ends an incident.
func (j *Judge) close(c *incident, g *gate, why string) {
	c.course.count(j, c)
	c.body.Closed = event.Known(g.at.Time())
	c.body.Why = why
	c.mark(g.at, "closed: %s", why)
	j.open = slices.DeleteFunc(j.open, func(o *incident) bool { return o == c })
	j.closed = append(j.closed, c)
	if len(j.closed) > keptClosed {
		j.closed = slices.Delete(j.closed, 0, 1)
	}
	j.find(g.at, event.IncidentClosed, "", &event.IncidentFinding{Incident: c.body})
}

// follow takes every open incident on: closes it, refines it, or counts anew.
func (j *Judge) follow(g *gate) {
	for _, c := range slices.Clone(j.open) {
		before := c.body
		if j.refine(c) {
			c.refined = g.at
			j.update(c, &before, g)
			continue
		}
		if why := c.course.over(j, c, g); why != "" {
			j.close(c, g, why)
			continue
		}
		if c.seen == j.model.Facts() && (c.due == 0 || !g.reached(c.due)) {
			continue
		}
		every := updateSlow
		if !g.passed(c.opened, young) && c.body.Rule != ruleNodeLossy { // whose sockets go in and out of trouble all the time
			every = updateFast
		}
		if !g.passed(c.told, every) || !g.whole(updateFast) {
			continue
		}
		own := &gate{at: g.at}
		c.seen = j.model.Facts()
		j.update(c, &before, own)
		if c.due = own.due; c.due != 0 {
			g.reached(c.due)
		}
	}
}

// update counts anew and tells what has changed.
func (j *Judge) update(c *incident, before *event.Incident, g *gate) {
	j.tell(c, g)
	if !differs(before, &c.body) {
		c.body = *before
		return
	}
	c.told = g.at
	c.updates++
	switch {
	case before.Rule != c.body.Rule:
		c.mark(g.at, "%s: %s", c.body.Rule, c.body.Title)
	case before.Sockets.Stalled != c.body.Sockets.Stalled || before.Sockets.TimedOut != c.body.Sockets.TimedOut:
		c.mark(g.at, "%d stalled, %d timed out", c.body.Sockets.Stalled, c.body.Sockets.TimedOut)
	}
	j.find(g.at, event.IncidentUpdated, "", &event.IncidentFinding{Incident: c.body})
}

// differs says whether a reader would want to know.
func differs(a, b *event.Incident) bool {
	return a.Rule != b.Rule || a.Rule == ruleNodeGone && a.Title != b.Title || a.Culprit != b.Culprit || a.Severity != b.Severity || a.Sockets != b.Sockets ||
		a.SilentSince.OK != b.SilentSince.OK || b.SilentSince.V.Sub(a.SilentSince.V) > dateJitter || a.Clients != b.Clients || len(a.Pods) != len(b.Pods) || len(a.Services) != len(b.Services) ||
		!slices.Equal(a.Coverage.Silent, b.Coverage.Silent)
}

// count fills in what an impact counts. Where the culprit is proven gone, who has begun to notice is as lost as who has
// not.
func (c *incident) count(im *model.Impact, gone bool) {
	b := &c.body
	b.Sockets = event.SocketCounts{
		Crossing: im.Crossing, Stalled: im.Stalled, AtRisk: im.AtRisk,
		TimedOut: im.TimedOut, Reset: im.Reset, GaveUp: im.GaveUp,
	}
	if gone {
		b.Sockets.Presumed, b.Sockets.AtRisk = im.Idle+im.AtRisk, 0
	}
	b.Pods, b.Services, b.Clients = im.Pods, im.Services, im.Clients
	b.FirstDeadline, b.LastDeadline = event.Opt[event.Timestamp]{}, event.Opt[event.Timestamp]{}
	if !im.First.At.IsZero() {
		b.FirstDeadline = event.Known(im.First.At)
	}
	if !im.Last.At.IsZero() {
		b.LastDeadline = event.Known(im.Last.At)
	}
}

// clock writes an instant as evidence does: the time of day in UTC, to the millisecond.
func clock(i model.Instant) string { return i.Time().Format("15:04:05.000") }

// round2 rounds to two decimals, as confidences are told.
func round2(f float64) float64 { return float64(int(f*100+0.5)) / 100 }
