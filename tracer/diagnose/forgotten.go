package diagnose

import (
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// What makes a node's forgetting a case.
const (
	// harm is the fewest resets that show that somebody needed what was forgotten.
	harm = 3
	// lossNews is how long a loss is news. Expired entries hurt one by one, whenever their sockets speak again.
	lossNews   = time.Minute
	expiryNews = 15 * time.Minute
	// oneMoment is how far apart the losses of one cause may be told where nobody saw it: the answers of one look at a
	// table. Entries that expire one by one are further apart after a while: spread.
	oneMoment = 100 * time.Millisecond
	spread    = 250 * time.Millisecond
	// idleLeast is how long a connection says nothing at least before a table may forget it for that.
	idleLeast = 5 * time.Second
	// aftermath is how long a case stays open after the last socket of it has ended: who is reset reconnects, and whether
	// that holds is worth a look.
	aftermath = 15 * time.Second
)

// forgotten is the course of cases in which a node lives and has forgotten how to translate connections that are open:
// node-rebooted, nat-lost, idle-expired.
type forgotten struct {
	node string
	why  model.Loss
}

// oblivion is what a node forgot, and what came of it.
type oblivion struct {
	sockets     int
	first, last model.Instant
	resets      int           // sockets that were reset for it
	refused     int           // of these by a reset that the node told that it sent
	reset       model.Instant // the last of these
	shortest    time.Duration // silence before one of these resets
	refs        []string
}

// forget looks for nodes that have forgotten open connections which were needed.
func (j *Judge) forget(g *gate) {
	for _, name := range j.model.Forgetful() {
		if j.accused(name) {
			continue
		}
		for _, r := range []struct {
			why  model.Loss
			rule string
			news time.Duration
			harm int
		}{
			{model.LossReboot, ruleNodeRebooted, lossNews, 1},
			{model.LossFlushed, ruleNATLost, lossNews, 1},
			{model.LossRefused, ruleNATLost, lossNews, harm},
			{model.LossUnsaid, ruleNATLost, lossNews, harm},
			{model.LossExpired, ruleIdleExpired, expiryNews, harm},
		} {
			o := j.oblivion(name, r.why, g, r.news)
			if o.sockets < breadth || o.resets < r.harm {
				continue
			}
			if r.rule = j.unsaid(name, r.why, r.rule, &o, g); r.rule == "" {
				continue
			}
			c := &incident{course: forgotten{name, r.why}, begins: name + " forgot open connections", since: o.first, dated: o.first, first: o.first}
			c.body.Rule = r.rule
			for _, h := range j.model.HopsOf(name) {
				if old := j.named(h.Key); old != nil {
					j.close(old, g, "superseded: "+name+" has forgotten connections that were open")
				}
				c.keys = append(c.keys, h.Key)
			}
			j.begin(c, g, o.refs[0])
			break
		}
	}
}

// unsaid tells an emptied table from entries that expired where nobody saw why they went, empty where that cannot be told
// yet: a table is emptied at one moment, and talking connections are hurt as well as silent ones.
func (j *Judge) unsaid(node string, why model.Loss, rule string, o *oblivion, g *gate) string {
	idle := o.shortest >= idleLeast
	switch why {
	case model.LossRefused:
		if at, _ := j.model.Rebooted(node); at > o.first.Add(-lossNews) || o.shortest == 0 {
			return "" // a node that began anew knows nothing
		}
		if !idle {
			if o.refused*2 < j.through(node) {
				return "" // no table is emptied for a few: what they sent was none of what it translates
			}
			return rule
		}
	case model.LossUnsaid:
		// The kernel tells of expired entries when it comes across them, and a look at the table finds all of them gone at
		// once: what counts is that what was reset had been silent, and what was not silent was not reset.
		switch {
		case idle:
			return ruleIdleExpired
		case o.last <= o.first.Add(oneMoment):
			return rule
		}
		return ""
	default:
		return rule
	}
	if idle && (o.last > o.first.Add(spread) || j.unhurt(node, o, g)) {
		return ruleIdleExpired
	}
	return ""
}

// through counts the sockets that cross a node and talk.
func (j *Judge) through(node string) (n int) {
	for _, h := range j.model.HopsOf(node) {
		n += h.Sockets
	}
	return n
}

// unhurt says whether connections talk on through a node that has refused silent ones: an emptied table would have refused
// these first. It is for keepalives that fire at one moment, so that nothing is spread.
func (j *Judge) unhurt(node string, o *oblivion, g *gate) bool {
	for _, h := range j.model.HopsOf(node) {
		if h.Usual > 0 && h.Usual < idleLeast && h.Received > o.last.Add(spread) && g.passed(o.last, max(h.Usual, time.Second)) {
			return true
		}
	}
	return false
}

// accused says whether an open case names a node already, and not only as one of several candidates.
func (j *Judge) accused(node string) bool {
	for _, c := range j.open {
		if c.body.Culprit.Kind == event.CulpritNode && c.body.Culprit.Name == node && !slices.ContainsFunc(c.keys, j.model.Former) {
			return true
		}
	}
	return false
}

// settled is when the newest case about what a node had forgotten came to its end, 0 if there was none.
func (j *Judge) settled(node string) (at model.Instant) {
	for _, c := range j.closed {
		if f, ok := c.course.(forgotten); ok && f.node == node {
			at = max(at, model.InstantOf(c.body.Closed.V))
		}
	}
	return at
}

// oblivion sums up what a node has forgotten for one reason and not longer ago than news.
func (j *Judge) oblivion(node string, why model.Loss, g *gate, news time.Duration) oblivion {
	var o oblivion
	settled := j.settled(node)
	for _, f := range j.model.Forgot(node) {
		if f.Why != why || f.First <= settled || g.passed(f.Last, news) {
			continue
		}
		if o.first == 0 {
			o.first, o.refs = f.First, []string{f.Fact}
		}
		o.add(&f)
	}
	if o.first != 0 {
		j.harm(&o, node, why)
	}
	return o
}

// add takes in what was forgotten at one moment. What the node itself refused was reset, each of it.
func (o *oblivion) add(f *model.Forgotten) {
	o.sockets += f.Sockets
	o.last = max(o.last, f.Last)
	if f.Resets > 0 {
		o.refused += f.Resets
		o.reset = max(o.reset, f.Last)
		if f.Least != 0 && (o.shortest == 0 || f.Least < o.shortest) {
			o.shortest = f.Least
		}
	}
}

// harm counts the sockets that were reset for what a node has forgotten.
func (j *Judge) harm(o *oblivion, node string, why model.Loss) {
	for _, h := range j.model.HopsOf(node) {
		n := 0
		j.model.EachEnded(&h, o.first.Add(-skew), func(e model.Ended) bool {
			if e.Lost == why && e.Kind == model.EndReset {
				o.resets++
				o.reset = max(o.reset, e.At)
				if d := time.Duration(e.At - e.Received); e.Received != 0 && (o.shortest == 0 || d < o.shortest) {
					o.shortest = d
				}
				if len(o.refs) < maxRefs {
					o.refs = append(o.refs, e.Fact)
				}
			}
			n++
			return n < scanned
		})
	}
	o.resets = max(o.resets, o.refused)
}

// over ends a case when no socket is left that the node has forgotten, and none was reset for a while.
func (f forgotten) over(j *Judge, c *incident, g *gate) string {
	left := 0
	for _, h := range j.model.HopsOf(f.node) {
		left += h.Stranded
	}
	if left > 0 {
		return ""
	}
	o := oblivion{first: c.since}
	j.harm(&o, f.node, f.why)
	if !g.passed(max(o.reset, c.opened, c.refined), aftermath) {
		return ""
	}
	why := "ended: none of the connections that " + f.node + " had forgotten is left"
	if c.body.Was == ruleNodeGone {
		o := j.outcome(c)
		why += "; " + o.text()
	}
	return why
}

// evidence is what a node has forgotten since the case's beginning.
func (f forgotten) evidence(j *Judge, c *incident) oblivion {
	o := oblivion{}
	for _, l := range j.model.Forgot(f.node) {
		if l.Why != f.why || l.Last < c.since.Add(-skew) {
			continue
		}
		if o.first == 0 {
			o.first, o.refs = l.First, []string{l.Fact}
		}
		o.add(&l)
	}
	if o.first == 0 {
		o.first = c.since
	}
	j.harm(&o, f.node, f.why)
	return o
}

func (f forgotten) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	o := f.evidence(j, c)
	im := f.impact(j, c)
	node, _ := j.model.Node(f.node)
	b.Culprit = event.Culprit{Kind: event.CulpritNode, Name: f.node, IP: f.ip(j, c), Sure: event.Proved}
	if f.why == model.LossRefused {
		b.Culprit.Sure = event.Inferred
	}
	b.SilentSince = event.Opt[event.Timestamp]{}
	if b.Was == ruleNodeGone {
		b.SilentSince = event.Known(c.since.Time()) // it was silent for a while; else it never was
	}
	b.Severity = event.Warning
	if im.Crossing > 0 {
		b.Severity = event.Critical // connections are lost, or will be when they speak
	}
	switch b.Rule {
	case ruleNodeRebooted:
		j.nodeRebooted(c, f, &o, &im, node, g)
	case ruleNATLost:
		j.natLost(c, f, &o, &im, node, g)
	case ruleIdleExpired:
		j.idleExpired(c, f, &o, &im, node, g)
	}
	if b.Culprit.Sure == event.Inferred {
		b.Confidence = min(b.Confidence, mostMaybe)
		b.Alternatives[0].Confidence = round2(1 - b.Confidence)
		(*brief)(&b.Evidence).con(nil, "no ledger was seen to hold these connections and lose them: that %s has forgotten them is inferred from its resets", f.node)
	}
	f.fill(c, &im)
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}

func (f forgotten) count(j *Judge, c *incident) {
	im := f.impact(j, c)
	f.fill(c, &im)
}

func (f forgotten) fill(c *incident, im *model.Impact) {
	c.count(im, false)
	c.body.Sockets.Presumed = im.Idle // stranded ones that have not noticed yet
	// They do not wait for a clock: the next thing that they send is answered by a reset.
	c.body.FirstDeadline, c.body.LastDeadline = event.Opt[event.Timestamp]{}, event.Opt[event.Timestamp]{}
}

func (f forgotten) impact(j *Judge, c *incident) model.Impact {
	var im model.Impact
	for _, h := range j.model.HopsOf(f.node) {
		o := j.model.StrandedBy(&h, c.since)
		im.Merge(&o)
	}
	return im
}

// ip is the address by which connections cross the node.
func (f forgotten) ip(j *Judge, c *incident) (ip netip.Addr) {
	for _, h := range j.model.HopsOf(f.node) {
		if h.IP.IsValid() {
			return h.IP
		}
	}
	return c.body.Culprit.IP
}

// newcomers writes what speaks for the node's being alive: it serves what began after the loss.
func (b *brief) newcomers(j *Judge, node string, since model.Instant, g *gate) {
	for _, h := range j.model.HopsOf(node) {
		if h.Received <= since.Add(skew) {
			continue
		}
		if a, ok := j.model.AgentOf(node); g.passed(h.Received, silentAfter) && (!ok || j.now(&a, g).missed) {
			b.pro(nil, "%s lived after that: something was received through it at %s", node, clock(h.Received))
		} else {
			b.pro(nil, "%s lives: something was received through it at %s", node, clock(h.Received))
		}
		return
	}
}

// picked writes the connections that the node met in mid-stream after the loss.
func (b *brief) picked(j *Judge, node string, since model.Instant) {
	n := 0
	var refs []string
	for _, p := range j.model.Picks(since.Add(-skew)) {
		if p.Node == node && p.From == "" {
			n++
			if len(refs) < maxRefs {
				refs = append(refs, p.Fact)
			}
		}
	}
	if n > 0 {
		b.pro(refs, "%s met %s in mid-stream: the first state of their entries is established, so it had lost them", node, count(n, "connection"))
	}
}
