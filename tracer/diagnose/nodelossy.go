package diagnose

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

const (
	// flowGrid is how often flows are compared, at whole instants of its own whatever the grid of judgement.
	flowGrid = time.Second
	// lossyAtLeast is the confidence from which on a lossy node is named.
	lossyAtLeast = 0.9
	// mixedLeast is in how many seconds something has to be lost through a node and something to come through: what is
	// silent for a moment and then speaks again was away, which is another matter.
	mixedLeast = 3
	// lossOver is how long nothing may be sent again through a node for it to be well again.
	lossOver = 20 * time.Second
	// maxMembers is how many components are remembered before the comparison begins anew: names come and go with pods.
	maxMembers = 500_000
)

// observe feeds a look at flows to the likelihood engine, as it is folded.
func (j *Judge) observe(f *model.Flow) {
	if len(j.flows.members) > maxMembers {
		j.flows = newLikelihood()
		j.flows.moving = true
	}
	l := j.flows
	l.advance(f.Half)
	var parts [4]component
	if f.Hop.Kind == model.KindNode {
		parts[0] = l.component(kindNode, f.Hop.Name)
	}
	if f.Local != "" {
		parts[1] = l.component(kindLocal, f.Local)
	}
	if f.Pod != "" {
		parts[2] = l.component(kindPod, f.Pod)
	}
	if f.Service != "" {
		parts[3] = l.component(kindService, f.Service)
	}
	p := l.path(parts[:]...)
	l.observe(p, look{
		Flows: uint32(f.Active), Bad: uint32(f.Bad), Stalled: uint32(f.Stalled), Sent: uint32(f.Sent), Resent: uint32(f.Resent),
		Mixed: f.Mixed,
	})
	l.leave(p)
}

// lossy looks for nodes through which segments are lost that get through elsewhere.
func (j *Judge) lossy(g *gate) {
	open := false
	for _, c := range j.open {
		open = open || c.body.Rule == ruleNodeLossy
	}
	if !open && !j.flows.anyBad() || !g.whole(flowGrid) {
		return
	}
	for _, a := range j.model.Agents() {
		if a.Node == "" || !a.Beats {
			continue
		}
		sign := signAlive
		if g.passed(a.Heard, silentAfter) {
			sign = signSilent
		}
		j.flows.vouch(j.flows.component(kindNode, a.Node), sign)
	}
	for i := range j.flows.members {
		if m := &j.flows.members[i]; m.kind == kindNode {
			n, _ := j.model.Node(m.name)
			j.flows.suspect(component(i), doubted(&n))
		}
	}
	var known []component
	for _, c := range j.open {
		if c.body.Culprit.Kind == event.CulpritNode && c.body.Rule != ruleNodeLossy {
			known = append(known, j.flows.component(kindNode, c.body.Culprit.Name))
		}
	}
	for _, found := range j.flows.judge(known...) {
		if found.kind != kindNode || found.both || found.beyond || len(found.rivals) > 0 || found.confidence < lossyAtLeast {
			continue
		}
		if bits.OnesCount32(found.through.mixed) < mixedLeast {
			continue
		}
		name := j.flows.members[found.part].name
		if c := j.caseOf(ruleNodeLossy, name); c != nil {
			c.loss, c.found = found, g.at
			continue
		}
		h, ok := j.model.Hop(j.model.NodeHop(name))
		if !ok || j.accused(name) || j.named(h.Key) != nil || !g.passed(j.recovered(h.Key), 2*model.FlowHalf) {
			continue // a silence is no share of losses, and what it left behind is in the window for a while
		}
		c := &incident{course: lossyNode{name}, loss: found, found: g.at, keys: []model.HopKey{h.Key}}
		c.body.Rule = ruleNodeLossy
		j.begin(c, g, h.Fact)
	}
}

// doubted says whether the cluster says of a node that something is wrong with it now. That it is preemptible is no such
// thing: it tells when the node may go, and nothing of segments that are lost while it is there.
func doubted(n *event.Node) bool {
	if n.Ready == "false" || n.Ready == "unknown" {
		return true
	}
	return slices.ContainsFunc(n.Causes, func(c event.Cause) bool {
		switch c.What {
		case event.CauseRecreated, event.CauseRebooted, event.CauseScaleDownCandidate, event.CauseOutOfBalancer:
			return false // it has happened, or says nothing of the machine
		}
		return true
	})
}

// caseOf returns the open case of a rule about a culprit, nil where there is none.
func (j *Judge) caseOf(rule, culprit string) *incident {
	for _, c := range j.open {
		if c.body.Rule == rule && c.body.Culprit.Name == culprit {
			return c
		}
	}
	return nil
}

// lossyNode is the course of the case that a node, or what stands right before it, loses a part of the segments.
type lossyNode struct{ node string }

func (k lossyNode) over(j *Judge, c *incident, g *gate) string {
	h, ok := j.model.Hop(c.keys[0])
	if !ok || h.Sockets == 0 {
		return "ended: no connection crosses it any more"
	}
	if lost := max(j.model.LostThrough(&h), c.opened); g.passed(lost, lossOver) {
		return "recovered: nothing is sent again through " + k.node + " since " + clock(lost)
	}
	if g.passed(c.found, 2*model.FlowHalf) {
		return "ended: what is lost through " + k.node + " does not stand out from the rest any more, since " + clock(c.found)
	}
	return ""
}

func (k lossyNode) count(j *Judge, c *incident) {
	im := j.impact(c)
	c.count(&im, false)
	c.body.FirstDeadline, c.body.LastDeadline = event.Opt[event.Timestamp]{}, event.Opt[event.Timestamp]{}
}

func (k lossyNode) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	h, _ := j.model.Hop(c.keys[0])
	f := &c.loss
	b.Culprit = event.Culprit{Kind: event.CulpritNode, Name: k.node, IP: h.IP, Sure: event.Inferred}
	t, o := &f.through, &f.elsewhere
	b.Title = fmt.Sprintf("%s loses segments: %s are sent again", k.node, percent(t.share()))
	b.Severity = event.Warning
	b.Confidence = round2(min(f.confidence, mostMaybe)) // statistics infer: what stands right before the node is not ruled out
	b.Alternatives = []event.Alternative{{
		Rule: ruleFrontGone, Confidence: round2(1 - b.Confidence),
		Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: "what stands before " + k.node, Sure: event.Inferred},
	}}
	var e brief
	e.pro([]string{h.Fact}, "%d of %d segments through %s were sent again in the last minute: %s, by %d of %d sockets", t.resent, t.sent, k.node, percent(t.share()), t.bad, t.flows)
	if o.flows > 0 {
		e.pro(nil, "of the same pods and services by other ways: %d of %d, %s", o.resent, o.sent, percent(o.share()))
	}
	e.pro(nil, "the background is %s: losses there are no reason to name anybody", percent(f.background))
	e.beats(j, c, k.node, g)
	if h.Received > g.at.Add(-quietUnexplained) {
		e.pro(nil, "something was received through it at %s: it is lossy, not gone", clock(h.Received))
	}
	e.con(nil, "a lossy cable or balancer right before the node looks the same from the pods")
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		outOfBalancer(k.node, "new connections come in by nodes that lose nothing; established ones stay until they end"),
		{
			When: "now", Text: "look where it drops: the interface's counters, softnet_stat, the queues, rules that limit or drop",
			Command: "kubectl debug node/" + arg(k.node) + " -it --image=busybox -- sh -c 'ip -s -s link; cat /proc/net/softnet_stat'",
			Effect:  "tells a busy CPU or a full queue from a bad link", Risk: "none",
		},
		{
			When: "soon", Text: "replace the node: cordon, drain, delete",
			Command: "kubectl drain " + arg(k.node) + " --ignore-daemonsets --delete-emptydir-data",
			Effect:  "its pods start elsewhere and its share of the traffic goes elsewhere", Risk: "medium: connections through it end when it goes",
			Needs: "room on other nodes; on a provider's virtual machine that is the usual cure for a bad host",
		},
		outOfMiddle(""),
	}
	k.count(j, c)
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}

// share is the part of the segments that were sent again.
func (c *counts) share() float64 { return float64(c.resent) / float64(max(1, c.sent)) }

// percent writes a rate.
func percent(r float64) string {
	return strconv.FormatFloat(math.Round(r*1e4)/100, 'f', -1, 64) + " %"
}
