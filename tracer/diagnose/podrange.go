package diagnose

import (
	"fmt"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// This file keeps the silence of several pods' addresses of one range one case: what they share stands before all of them.
// Which node that is, the range alone does not say: a peered cluster may have the same.

// sameRange says whether two pods' addresses are of one range.
func (j *Judge) sameRange(a, b model.HopKey) bool {
	return a.Kind == model.KindPod && b.Kind == model.KindPod && j.model.RangeOf(a.IP).Contains(b.IP)
}

// neighbours returns the addresses of a pod's range that fell silent at about the same time for the same machines, and that no
// case names.
func (j *Judge) neighbours(s *suspect) (out []model.HopKey) {
	for _, o := range j.model.Sick() {
		if o.Key == s.hop.Key || !j.sameRange(s.hop.Key, o.Key) || j.named(o.Key) != nil || o.Received == 0 {
			continue
		}
		if o.Received.Add(tie) >= s.since && o.Received <= s.since.Add(together) && j.sharesSource(s, &o) {
			out = append(out, o.Key)
		}
	}
	return out
}

// joins adds a pod's address to the open case of its range, where there is one of the same moment. It says whether it did.
func (j *Judge) joins(s *suspect, g *gate) bool {
	for _, c := range j.open {
		if _, whole := c.course.(silence); !whole { // a part of the connections to an address has no hop for itself
			continue
		}
		if c.body.Rule != ruleUnexplained || !j.sameRange(c.keys[0], s.hop.Key) || s.since > c.dated.Add(tie) || s.since.Add(tie) < c.dated {
			continue
		}
		before := c.body
		c.keys = append(c.keys, s.hop.Key)
		c.body.Culprit.Kind = "" // it is told anew whom it may be
		j.update(c, &before, g)
		return true
	}
	return false
}

// podNames names a case's pods.
func (j *Judge) podNames(keys []model.HopKey) string {
	if len(keys) == 1 {
		return podName(j, &model.Hop{Key: keys[0]})
	}
	var list []string
	for _, k := range keys[:min(len(keys), 3)] {
		list = append(list, k.IP.String())
	}
	name := "the pods at " + strings.Join(list, ", ")
	if more := len(keys) - len(list); more > 0 {
		name += fmt.Sprintf(" and %d more", more)
	}
	return name
}

// podCandidates names what may stand behind the silence of pods. A node is one only where it is known to hold them all, and is
// not heard.
func (j *Judge) podCandidates(c *incident, s *suspect) (name, why string, others []event.Alternative) {
	name = j.podNames(c.keys)
	node := j.model.KnownOn(c.keys[0].IP)
	for _, k := range c.keys {
		if j.model.KnownOn(k.IP) != node {
			node = ""
		}
	}
	why = "a pod that stops answering is not told from its node that does by its own sockets alone"
	switch _, lives := j.lives(node, s.first); {
	case node != "" && !lives:
		name += ", or its node " + node
	case node != "":
		why = "their node is heard: what fails is the pod, or stands before it"
	case len(c.keys) > 1:
		why = "where these addresses are is not known by their range alone, which may be another cluster's too: what they share stands before all of them"
	default:
		why = "where this address is is not known by its range alone, which may be another cluster's too"
	}
	return name, why, []event.Alternative{{
		Rule: rulePodGone, Confidence: 0.4, Culprit: event.Culprit{Kind: event.CulpritPod, Name: name, Sure: event.Inferred},
	}}
}
