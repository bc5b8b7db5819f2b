package diagnose

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// movesNews is how long a connection that another node met in mid-stream is news.
const movesNews = 30 * time.Second

// moved is the course of the case that a service's traffic was handed from one node to another while both live: the new
// one meets connections in mid-stream that it never translated, and translates them to something that the pod does not
// know. Neither node is to blame.
type moved struct {
	vip  event.Endpoint
	from []string // nodes that still hold the entries
	to   []string // nodes that met the connections
}

// moves are the connections of one address that other nodes have met in mid-stream.
type moves struct {
	n        int
	first    model.Instant
	last     model.Instant
	from, to []string
	refs     []string
}

// move looks for services whose traffic was handed from node to node.
func (j *Judge) move(g *gate) {
	picks := j.model.Picks(g.at.Add(-movesNews))
	// A node that is gone hands nothing over: that its connections turn up elsewhere is what its death is followed by.
	picks = slices.DeleteFunc(picks, func(p model.Pick) bool {
		_, ok := j.lives(p.From, p.At)
		return !ok
	})
	var order []event.Endpoint
	for _, p := range picks {
		if p.From != "" && !slices.Contains(order, p.VIP) {
			order = append(order, p.VIP)
		}
	}
	for _, vip := range order {
		name := j.serviceName(vip)
		if j.openAbout(ruleVIPMoved, name) {
			continue
		}
		m := movesOf(picks, vip, j.closedAbout(ruleVIPMoved, name))
		if m.n < breadth {
			continue
		}
		c := &incident{course: moved{vip, m.from, m.to}, begins: "another node met the first of its connections", since: m.first, dated: m.first, first: m.first}
		c.body.Rule = ruleVIPMoved
		for _, node := range m.from {
			for _, h := range j.model.HopsOf(node) {
				if old := j.named(h.Key); old != nil && old.body.Culprit.Sure != event.Proved {
					j.close(old, g, "superseded: the traffic of "+name+" was handed to another node")
				}
				c.keys = append(c.keys, h.Key)
			}
		}
		j.begin(c, g, m.refs[0])
	}
}

func movesOf(picks []model.Pick, vip event.Endpoint, after model.Instant) moves {
	var m moves
	for _, p := range picks {
		if p.From == "" || p.VIP != vip || p.At <= after {
			continue
		}
		m.n++
		if m.first == 0 {
			m.first = p.At
		}
		m.last = max(m.last, p.At)
		if !slices.Contains(m.from, p.From) {
			m.from = append(m.from, p.From)
		}
		if !slices.Contains(m.to, p.Node) {
			m.to = append(m.to, p.Node)
		}
		if len(m.refs) < maxRefs {
			m.refs = append(m.refs, p.Fact)
		}
	}
	return m
}

// serviceName names what stands at an address that clients dial.
func (j *Judge) serviceName(vip event.Endpoint) string {
	if name := j.model.ServiceAt(vip); name != "" {
		return name
	}
	return fmt.Sprintf("%s:%d", vip.IP, vip.Port)
}

// openAbout says whether a case of this rule about this culprit is open.
func (j *Judge) openAbout(rule, culprit string) bool {
	return slices.ContainsFunc(j.open, func(c *incident) bool { return c.body.Rule == rule && c.body.Culprit.Name == culprit })
}

// closedAbout is when the newest case of this rule about this culprit came to its end, 0 if there was none.
func (j *Judge) closedAbout(rule, culprit string) (at model.Instant) {
	for _, c := range j.closed {
		if c.body.Rule == rule && c.body.Culprit.Name == culprit {
			at = max(at, model.InstantOf(c.body.Closed.V))
		}
	}
	return at
}

func (m moved) over(j *Judge, c *incident, g *gate) string {
	troubled := 0
	for _, k := range c.keys {
		h, ok := j.model.Hop(k)
		if !ok {
			continue
		}
		if h.Revived > c.opened {
			return "recovered: a connection through " + k.Via() + " that had stalled goes on since " + clock(h.Revived)
		}
		troubled += h.Troubled()
	}
	if troubled > 0 || !g.passed(c.opened, movesNews) {
		return ""
	}
	return "ended: none of the connections that were handed over is left"
}

func (m moved) impact(j *Judge, c *incident) model.Impact { return j.impact(c) }

func (m moved) count(j *Judge, c *incident) {
	im := m.impact(j, c)
	c.count(&im, false)
}

func (m moved) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	name, from, to := j.serviceName(m.vip), strings.Join(m.from, ", "), strings.Join(m.to, ", ")
	b.Culprit = event.Culprit{Kind: event.CulpritService, Name: name, IP: m.vip.IP, Sure: event.Proved}
	b.Title = fmt.Sprintf("%s handed over from %s to %s", name, from, to)
	b.Severity = event.Critical
	b.Confidence = 0.95
	b.Alternatives = []event.Alternative{{
		Rule: ruleFrontGone, Confidence: 0.05,
		Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: from + " or what stands before it", Sure: event.Inferred},
	}}
	im := m.impact(j, c)
	all := movesOf(j.model.Picks(c.since), m.vip, c.since-1)
	var e brief
	n := max(all.n, breadth)
	e.pro(all.refs, "%s met %s to %s in mid-stream since %s: %s translated them until then, and still holds their entries",
		to, count(n, "connection"), endpoint(m.vip), clock(c.since), from)
	for _, node := range m.from {
		if a, ok := j.model.AgentOf(node); ok && a.Heard > c.since.Add(skew) {
			e.pro([]string{a.Last()}, "the agent of %s was heard at %s: it %s", node, clock(a.Heard), j.tense(&a, g, "lives", "lived"))
		}
	}
	if n := im.AtRisk + im.Stalled; n > 0 {
		e.pro(nil, "%s through %s got no answer since: who answers speaks by another node now", count(n, "socket"), from)
	}
	e.con(nil, "what moved the address is not seen: the balancer's health checks, a leader election, or routes that hash anew")
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "close what the pods still hold of it: their clients were reset already, and have come back or will",
			Effect: "the pods stop keeping sessions that nobody is behind", Risk: "low where only these are closed",
			Needs: "a restart of what holds them, or the server's own idle timeout",
		},
		{
			When: "now", Text: "look why the address moved: health checks of " + from + ", the announcer's leader, the balancer's list of nodes",
			Command: describeService(name),
			Effect:  "a flapping check moves it again", Risk: "none",
		},
		spreadClients(),
		{
			When: "soon", Text: "let connections drain before a node leaves the balancer",
			Effect: "established connections stay with their node until they end", Risk: "low: nodes leave later",
			Needs: "GKE: connection draining of the backend service; EKS: deregistration delay of the target group, connection termination off; AKS: no draining for TCP, keep the node until its connections end; bare metal: MetalLB in L2 mode has none, BGP with resilient hashing helps",
		},
		outOfMiddle(""),
	}
	c.count(&im, false)
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}

// describeService looks at a service; where its name is not known, at all of them, since one of these has the address.
func describeService(name string) string {
	if namespace, service, ok := strings.Cut(name, "/"); ok {
		return "kubectl describe service -n " + arg(namespace) + " " + arg(service)
	}
	return "kubectl get services -A -o wide"
}

func endpoint(e event.Endpoint) string {
	if e.IP.Is6() {
		return fmt.Sprintf("[%s]:%d", e.IP, e.Port)
	}
	return fmt.Sprintf("%s:%d", e.IP, e.Port)
}
