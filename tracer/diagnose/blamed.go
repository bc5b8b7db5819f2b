package diagnose

import (
	"slices"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// What was blamed already, and what came of it.

// hung is the silence that a case without a culprit, or the one before it, is about, 0 for none, where the node was heard
// after that began: what has received nothing since may be part of it, and of nothing that came later.
func (j *Judge) hung(h *model.Hop, c *incident) model.Instant {
	if c != nil && c.before != nil {
		c = c.before
	}
	if c == nil || c.body.Culprit.Kind != event.CulpritUnknown || h.Key.Kind != model.KindNode {
		return 0
	}
	if _, ok := j.lives(h.Key.Name, c.first); !ok {
		return 0
	}
	return c.since
}

// final says whether nothing worse can be found about the hops of a case.
func (c *incident) final() bool {
	switch c.body.Rule {
	case ruleNodeGone, ruleNodeRebooted, rulePeerUnreachable:
		return true
	}
	return false
}

// ruleOf says what happened to a hop that is gone.
func ruleOf(s *suspect) string {
	if s.hop.Key.Kind == model.KindAddress {
		return rulePeerUnreachable
	}
	return ruleNodeGone
}

// named returns the open incident that names a hop, nil where there is none.
func (j *Judge) named(k model.HopKey) *incident {
	for _, c := range j.open {
		for _, hop := range c.hops() {
			if hop == k {
				return c
			}
		}
	}
	return nil
}

// recovered is when a hop recovered from the newest case about it, 0 if it never did. A socket that backs off may be slow
// to see that: what went unanswered before is no news.
func (j *Judge) recovered(k model.HopKey) (at model.Instant) {
	over := func(c *incident) {
		if c != nil && slices.Contains(c.keys, k) && c.ended() {
			at = max(at, model.InstantOf(c.body.Closed.V))
		}
	}
	for _, c := range j.closed {
		over(c)
	}
	for _, c := range j.open {
		over(c.again)
	}
	return at
}

// reconnected is when a machine that was cut off was heard of again to receive something, 0 if it never was cut off: what its
// sockets sent in vain before says nothing about any hop, however long they back off.
func (j *Judge) reconnected(source string) (at model.Instant) {
	over := func(c *incident) {
		if c == nil || !c.ended() {
			return
		}
		if k, ok := c.course.(localNode); ok && k.source == source {
			at = max(at, model.InstantOf(c.body.Closed.V))
		}
	}
	for _, c := range j.closed {
		over(c)
	}
	for _, c := range j.open {
		over(c.again)
	}
	return at
}

func (j *Judge) provedGone(k model.HopKey) bool {
	c := j.named(k)
	return c != nil && c.body.Rule == ruleNodeGone && c.body.Culprit.Sure == event.Proved
}
