package diagnose

import (
	"net/netip"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// nodeGone composes the case that a node went without a word: power, preemption, a crash. Everything that it translated
// hangs, because its conntrack table was the only link between the two halves of each connection.
//
// It is proved by something that shows the node's own death: its agent falling silent with the paths through it while
// others are heard, or no answer to a question that a healthy node answers. Without that it is inferred, and what stands
// before the node cannot be told from it.
func (j *Judge) nodeGone(c *incident, s *suspect, im *model.Impact) {
	b := &c.body
	name := s.hop.Key.Name
	b.Severity = event.Critical
	b.Culprit = event.Culprit{Kind: event.CulpritNode, Name: name, IP: s.hop.IP, Sure: event.Inferred}
	n := im.AtRisk + im.Stalled + im.TimedOut
	if (s.life == lifeEnded && s.worked() || s.life == lifeMute) && (c.witness == nil || c.witness.life == lifeMute) {
		c.witness = s
	}
	if c.witness != nil {
		b.Culprit.Sure = event.Proved
		b.Title = name + " gone"
		if c.back != 0 {
			b.Title = name + " was gone, and is back"
		}
		b.Confidence = round2(0.95 + 0.04*float64(n)/float64(n+10))
		other := "the network of " + name + ", its agent cut off with it"
		if c.witness.life == lifeMute {
			b.Confidence = round2(0.85 + 0.1*float64(n)/float64(n+5))
			other = "the network of " + name + ", or a filter that keeps the question from it alone"
		}
		b.Alternatives = []event.Alternative{{
			Rule: ruleUnexplained, Confidence: round2(1 - b.Confidence),
			Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: other, Sure: event.Inferred},
		}}
	} else {
		b.Title = name + ", or what stands before it, gone"
		b.Confidence = round2(0.6 + 0.2*float64(n)/float64(n+5))
		b.Alternatives = []event.Alternative{{
			Rule: ruleUnexplained, Confidence: round2(1 - b.Confidence),
			Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: "what stands before " + name, Sure: event.Inferred},
		}}
	}
	var e brief
	if c.back != 0 {
		o := j.outcome(c)
		e.pro(nil, "its agent was heard again at %s, with the same boot id: %s", clock(c.back), o.text())
	}
	e.silence(c, s, im, name)
	if s.holds {
		e.pro(nil, "%s holds the far end of these connections: they lead to its pods, and no other node stands in the middle", name)
	}
	e.earlier(c, s)
	e.clocks(im)
	e.agent(c, s, name)
	e.progress(s)
	e.via(&s.hop, name)
	node, known := j.model.Node(name)
	if j.model.Former(s.hop.Key) {
		e.pro(nil, "another machine has the name %s since", name)
		node, known = event.Node{}, false
	}
	e.inventory(node, known)
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = nodeRemedies(name, s.hop.IP, im, node)
}

// nodeRemedies says what helps when a node in the middle is gone: at once, soon, and for good.
func nodeRemedies(name string, peer netip.Addr, im *model.Impact, node event.Node) []event.Remedy {
	r := []event.Remedy{
		outOfBalancer(name, "no new connection is sent into the hole; health checks do the same, but later"),
		closeSockets(peer, im.Crossing-im.TimedOut-im.Reset-im.GaveUp), shorterClocks(), outOfMiddle(node.Platform),
	}
	if node.Spot != "" {
		r = append(r, noSpotInFront(node))
	}
	return r
}
