package diagnose

import (
	"slices"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// noneThrough is how long no full-size segment that had been sent again may have got through: one that did says that a share
// is lost, and not a size.
const noneThrough = 2 * quietUnexplained

// chance is how long a small segment may go unanswered though all that are small pass: a busy machine answers late, and
// a loss or two befall anybody.
const chance = quietUnexplained / 2

// pmtu is the course of the case that full-size segments vanish through a node while small ones pass.
type pmtu struct{ node string }

// sizes are the stalled sockets through a hop whose peers are heard all the same, by what they have in flight.
type sizes struct {
	large, small int
	lately       int    // small ones too, but not for longer than chance
	least        uint32 // of the large ones
	first        model.Instant
	refs         []string
}

// sizesOf looks for sockets that retransmit without an answer while their peers speak: the way back is open, and so is the
// way there for what they acknowledge with.
func (j *Judge) sizesOf(h *model.Hop, g *gate) sizes {
	var z sizes
	n := 0
	j.model.EachTroubled(h, func(t *model.Troubled) bool {
		n++
		if t.Retransmits < 2 || t.Received <= t.Since.Add(quietProved) || j.explained(h, t) {
			return n < scanned
		}
		if t.Unacked < model.LargeBytes {
			if g.passed(t.Since, chance) {
				z.small++
			} else {
				z.lately++
			}
			return n < scanned
		}
		z.large++
		if z.least == 0 || t.Unacked < z.least {
			z.least = t.Unacked
		}
		if z.first == 0 || t.Since < z.first {
			z.first = t.Since
		}
		if len(z.refs) < maxRefs {
			z.refs = append(z.refs, t.Fact())
		}
		return n < scanned
	})
	return z
}

// large looks for nodes through which only small segments pass.
func (j *Judge) large(g *gate) {
	for _, h := range j.model.Sick() {
		if h.Key.Kind != model.KindNode || h.Stalled < breadth {
			continue
		}
		lossy := j.caseOf(ruleNodeLossy, h.Key.Name)
		if lossy == nil && j.accused(h.Key.Name) {
			continue
		}
		z := j.sizesOf(&h, g)
		if z.large < breadth || z.small > 0 || !g.passed(z.first, quietUnexplained) || h.Received <= z.first.Add(quietUnexplained/2) {
			continue
		}
		if h.Large > z.first && !g.passed(h.Large, noneThrough) {
			continue
		}
		if lossy != nil {
			j.close(lossy, g, "superseded: it is full-size segments that "+h.Key.Name+" loses, and all of them")
		}
		c := &incident{course: pmtu{h.Key.Name}, first: z.first, keys: []model.HopKey{h.Key}, before: lossy}
		c.body.Rule = rulePMTU
		j.begin(c, g, z.refs[0])
	}
}

func (k pmtu) over(j *Judge, c *incident, g *gate) string {
	h, ok := j.model.Hop(c.keys[0])
	if !ok {
		return "ended: no connection crosses " + k.node + " any more"
	}
	switch z := j.sizesOf(&h, g); {
	case z.small > z.large:
		return "retracted: small segments through " + k.node + " go unanswered too"
	case z.large == 0 && g.passed(c.opened, young):
		return "recovered: no socket through " + k.node + " has a full-size segment unanswered"
	}
	return ""
}

func (k pmtu) count(j *Judge, c *incident) {
	im := j.impact(c)
	c.count(&im, false)
}

func (k pmtu) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	h, _ := j.model.Hop(c.keys[0])
	z := j.sizesOf(&h, g)
	b.Culprit = event.Culprit{Kind: event.CulpritNode, Name: k.node, IP: h.IP, Sure: event.Inferred}
	b.Title = k.node + " passes small segments only"
	b.Severity = event.Critical
	b.Confidence = 0.8
	b.Alternatives = []event.Alternative{{
		Rule: ruleFrontGone, Confidence: 0.2,
		Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: "a smaller MTU on the way behind " + k.node, Sure: event.Inferred},
	}}
	var e brief
	e.pro(z.refs, "through %s %s the same again and again, with %d bytes in flight at least, while the peers are heard",
		k.node, sends(z.large), z.least)
	if z.lately == 0 {
		e.pro(nil, "none of the stalled ones has less in flight: small segments and acknowledgements pass")
	} else {
		e.pro(nil, "of those with less in flight none is stalled for longer than %s: small segments and acknowledgements pass", chance)
	}
	if g.passed(h.Received, silentAfter) {
		e.pro(nil, "something was received through it at %s: it was not gone then", clock(h.Received))
	} else {
		e.pro(nil, "something was received through it at %s: it is not gone", clock(h.Received))
	}
	e.beats(j, c, k.node, g)
	if others := j.largeElsewhere(&h, g); others == 0 {
		e.pro(nil, "no socket is stalled that way through any other hop")
	} else {
		e.con(nil, "%s through other hops are stalled that way too: the cause may be common to all", count(others, "socket"))
	}
	e.con(nil, "where on the way the large ones vanish is not seen from here: on the node, or behind it")
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "let the kernel search for a size that passes, in the pods or on their nodes",
			Command: "sysctl -w net.ipv4.tcp_mtu_probing=1",
			Effect:  "stalled connections go on after a few retransmissions, with smaller segments", Risk: "low: a little less throughput",
			Needs: "root on the pods' node; it is not among the safe sysctls of a pod",
		},
		outOfBalancer(k.node, "new connections come in by nodes that pass full-size segments"),
		{
			When: "soon", Text: "compare the MTUs of " + k.node + "'s devices with the others', tunnels included",
			Command: "kubectl debug node/" + arg(k.node) + " -it --image=busybox -- ip link",
			Effect:  "finds the device that is smaller than what its neighbours send", Risk: "none",
		},
		{
			When: "cure", Text: "let ICMP \"fragmentation needed\" (IPv6: \"packet too big\") through, and clamp the MSS where a tunnel begins",
			Effect: "senders learn the size at once", Risk: "low",
			Needs: "GKE: the VPC's MTU and the nodes' agree (1460 or 8896); EKS: security groups that let ICMP in, jumbo frames (9001) inside the VPC only; AKS: no jumbo frames; bare metal: the switches' MTU, and the CNI's mtu setting below it",
		},
	}
	k.count(j, c)
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}

func sends(n int) string {
	if n == 1 {
		return "1 socket sends"
	}
	return count(n, "socket") + " send"
}

// largeElsewhere counts the sockets that are stalled the same way through other hops.
func (j *Judge) largeElsewhere(h *model.Hop, g *gate) (n int) {
	for _, o := range slices.Clone(j.model.Sick()) {
		if o.Key != h.Key {
			n += j.sizesOf(&o, g).large
		}
	}
	return n
}
