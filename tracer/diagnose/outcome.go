package diagnose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// This file knows how the case of a silence ends: with its sockets, and not with the first of them.

const (
	// mostOf is the part of the sockets that hung, in percent, that has to go on for the rest to be single ones.
	mostOf = 90
	// lateReturn is how long a case waits for the word of a node that fell silent with its sockets: whether it is back, and
	// whether it began anew, is told by its agent, which starts when everything else has.
	lateReturn = time.Minute
	// longestRTO is how long a socket waits at most before it sends again (TCP_RTO_MAX): what hangs on for longer than
	// that, with its hop alive, has a cause of its own.
	longestRTO = 2 * time.Minute
	// reopens is how soon the same trouble at the same culprit is the same case.
	reopens = time.Minute
)

// outcome is what became of the sockets that hung.
type outcome struct {
	went, reset, timedOut, gaveUp int
	hung                          int           // hang still
	last                          model.Instant // newest moment at which one went on or ended
	heard                         model.Instant // newest receive through the hops
}

// outcome counts what became of a case's sockets since they fell silent.
func (j *Judge) outcome(c *incident) (o outcome) {
	from := max(c.since, c.first.Add(-silentAfter))
	for _, k := range c.keys {
		h, ok := j.model.Hop(k)
		if !ok {
			continue
		}
		n, last := j.model.WentOn(&h, c.opened)
		o.went += n
		o.hung += h.Stalled
		o.last, o.heard = max(o.last, last), max(o.heard, h.Received)
		seen := 0
		j.model.EachEnded(&h, from, func(e model.Ended) bool {
			switch e.Kind {
			case model.EndReset:
				o.reset++
			case model.EndTimedOut:
				o.timedOut++
			default:
				o.gaveUp++
			}
			o.last = max(o.last, e.At)
			seen++
			return seen < scanned
		})
	}
	return o
}

func (o *outcome) ended() int { return o.reset + o.timedOut + o.gaveUp }

// most says whether nearly all went on.
func (o *outcome) most() bool { return o.went > 0 && o.went*100 >= mostOf*(o.went+o.ended()+o.hung) }

// text counts what became of them.
func (o *outcome) text() string {
	if o.went+o.ended()+o.hung == 0 {
		return "none of them hung"
	}
	parts := []string{fmt.Sprintf("%d went on", o.went)}
	for _, p := range []struct {
		n    int
		what string
	}{{o.reset, "reset"}, {o.timedOut, "timed out"}, {o.gaveUp, "given up"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if o.hung > 0 {
		parts = append(parts, fmt.Sprintf("%d hang still", o.hung))
	}
	return "of the sockets that hung, " + strings.Join(parts, ", ")
}

// settledBy says why a case has come to its end with its sockets, empty while it goes on. back says whether its node is known to
// live again, and awaited whether its word is yet to come.
func (j *Judge) settledBy(c *incident, back, awaited bool, g *gate) string {
	o := j.outcome(c)
	patience := aftermath
	if awaited {
		patience = lateReturn
	}
	switch {
	case o.most() && (!awaited || g.passed(o.last, aftermath)):
		return "recovered: " + o.text() + ", the last at " + clock(o.last)
	case back && o.hung == 0 && o.went+o.ended() == 0:
		return "recovered: the node is back; " + o.text()
	case o.hung == 0 && o.went+o.ended() > 0 && (back || o.went > 0 || o.heard > c.opened) && g.passed(o.last, patience),
		o.went > 0 && g.passed(o.last, longestRTO):
		return "ended: " + o.text()
	}
	return ""
}

// again returns the case that a new one takes up: one of the same trouble at the same culprit that ended within the last
// minute. nil: there is none.
func (j *Judge) again(c *incident, g *gate) *incident {
	for _, old := range slices.Backward(j.closed) {
		if at := model.InstantOf(old.body.Closed.V); at.Add(reopens) < g.at {
			return nil
		}
		if !old.ended() || kindOfTrouble(old.body.Rule) != kindOfTrouble(c.body.Rule) {
			continue
		}
		a, b := &old.body.Culprit, &c.body.Culprit
		same := a.Kind == b.Kind && a.Name == b.Name
		if a.Kind == event.CulpritUnknown || b.Kind == event.CulpritUnknown {
			same = a.Kind == b.Kind && slices.ContainsFunc(c.keys, func(k model.HopKey) bool { return slices.Contains(old.keys, k) })
		}
		if same && !slices.ContainsFunc(old.keys, j.model.Former) {
			return old
		}
	}
	return nil
}

// ended says whether a closed case was right, and its trouble over.
func (c *incident) ended() bool {
	return strings.HasPrefix(c.body.Why, "recovered") || strings.HasPrefix(c.body.Why, "ended")
}

// kindOfTrouble joins the rules that follow one another in one case.
func kindOfTrouble(rule string) string {
	switch rule {
	case ruleNodeRebooted:
		return ruleNodeGone
	case ruleFrontGone, rulePeerUnreachable:
		return ruleUnexplained
	}
	return rule
}

// takeUp lets a case go on under the name of one that has ended.
func (j *Judge) takeUp(c, old *incident) {
	j.closed = slices.DeleteFunc(j.closed, func(o *incident) bool { return o == old })
	c.again = old
	c.body.ID, c.body.Opened = old.body.ID, old.body.Opened
	if old.body.Rule != c.body.Rule {
		c.body.Was = old.body.Rule
	}
	c.marks, c.updates = old.marks, old.updates
	if c.witness == nil {
		c.witness = old.witness
	}
}
