package diagnose

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// holder is the course of the case that a node is gone which holds the far ends of connections: the pods that others dial,
// straight or by an address that their own nodes translate. It is node-gone as well, told from the living ends.
type holder struct{ node string }

// holders looks for nodes whose pods fell silent, all of them.
func (j *Judge) holders(e *ends, g *gate) {
	for _, node := range slices.Sorted(maps.Keys(e.holders)) {
		r := e.holders[node]
		if r.sockets < breadth || j.openAbout(ruleNodeGone, node) || j.openAbout(ruleNodeRebooted, node) || !r.quietFor(g, quietProved) {
			continue
		}
		s := j.holding(node, r, g)
		if !s.gone(j, e, g) {
			continue
		}
		c := &incident{course: holder{node}, keys: []model.HopKey{s.hop.Key}, since: s.since, dated: s.since, first: s.first}
		c.body.Rule = ruleNodeGone
		j.supersede(g, r.hops, "its sockets lead to pods of "+node+", which is gone")
		for _, o := range slices.Clone(j.open) {
			if p, ok := o.course.(podGone); ok && p.node == node && o.body.Culprit.Sure != event.Proved {
				j.close(o, g, "superseded: "+node+" is found gone, and the pod with it")
			}
		}
		j.begin(c, g, r.refs[0])
	}
}

// held is what is suspected of a node by the silence of its pods.
type held struct {
	suspect
	group  *group
	pods   int  // known to be the node's, that fell silent
	others int  // sockets to other nodes' pods that go on
	lives  bool // something was received from the node since
	share  int  // of the sockets that lead to it, in percent, those in trouble
}

// holding collects what is known of the silence of a node's pods.
func (j *Judge) holding(node string, r *group, g *gate) *held {
	key := j.model.NodeHop(node)
	h, _ := j.model.Hop(key)
	h.Key, h.Node = key, node
	if !h.IP.IsValid() {
		n, _ := j.model.Node(node)
		for _, a := range n.Addresses {
			h.IP = a.IP
			break
		}
	}
	s := &held{group: r, suspect: suspect{
		hop: h, since: r.received, from: r.received, first: r.first, sent: r.first, proofs: r.sockets, stalled: r.stalled, talkers: r.together,
		refs: r.refs, sources: r.sources, holds: true,
	}}
	for source := range r.sources {
		s.lanes = append(s.lanes, model.Lane{Source: source, Node: j.nodeOf(source)})
	}
	j.askOthers(&s.suspect)
	after := r.received.Add(together)
	s.elsewhere = slices.DeleteFunc(s.elsewhere, func(p model.Path) bool {
		of, ok := j.model.Hop(p.Hop)
		if ok && p.Hop.Kind == model.KindPod && of.Node == node {
			s.lives = s.lives || p.Received > after
			return true
		}
		return false
	})
	s.lives = s.lives || h.Received > after
	for name, o := range j.model.HeldFor(r.sources) {
		switch {
		case name == node:
			s.share = o.Troubled * 100 / max(o.Sockets, 1)
		case o.Troubled == 0:
			s.others += o.Sockets
		}
	}
	if s.others > 0 { // by the same address, translated on the machines themselves: what comes in by it comes from these
		for source := range r.sources {
			if k := (model.HopKey{Kind: model.KindLocal, Name: j.nodeOf(source)}); j.receives(source, k, after) {
				s.elsewhere = append(s.elsewhere, model.Path{Hop: k, Received: j.heardBy(source, k)})
			}
		}
	}
	j.askLife(&s.suspect, g)
	return s
}

// gone says whether the node is gone. It is by its agent's falling silent with its pods; or, where nothing tells its own life
// or death, by the silence of several of its pods at one moment while others' go on. One pod's is not told from the pod's own.
func (s *held) gone(j *Judge, e *ends, g *gate) bool {
	for ip, r := range e.pods {
		_, removed := j.model.PodEnded(ip)
		switch {
		case j.model.PodNode(ip) != s.hop.Node:
		case removed, j.openAbout(rulePodGone, podAt(j, ip)), j.downWith(ip):
			s.proofs -= r.sockets // explained
		case r.stalled > 0 && r.received.Add(together) >= s.since && j.model.KnownOn(ip) == s.hop.Node:
			s.pods++
		}
	}
	if s.lives || s.proofs < breadth {
		return false
	}
	for source := range s.sources {
		if !j.looksOn(source, s.since.Add(quietProved)) {
			return false
		}
	}
	switch s.life {
	case lifeEnded:
		return s.group.since(s.agent.Heard.Add(-skew)) >= breadth
	case lifeMute:
		return s.share >= idleShare
	case lifeUnknown, lifeLost:
		j.wonder(&s.suspect)
		return s.pods >= 2 && s.talkers >= breadth && 2*s.talkers >= s.group.writing && len(s.elsewhere) > 0 && len(s.also) == 0 && g.passed(s.since, quietAlone)
	}
	return false
}

// since counts the sockets whose trouble began after a moment.
func (r *group) since(at model.Instant) (n int) {
	for _, t := range r.starts {
		if t > at {
			n++
		}
	}
	return n
}

// nodeOf returns the node that a source watches, empty where it has no name.
func (j *Judge) nodeOf(source string) string {
	for _, a := range j.model.Agents() {
		if a.Source == source {
			return a.Node
		}
	}
	return ""
}

// heardBy is when a machine received something through a hop last, 0 for never.
func (j *Judge) heardBy(source string, k model.HopKey) model.Instant {
	if h, ok := j.model.Hop(k); ok {
		for _, l := range j.model.Lanes(&h) {
			if l.Source == source {
				return l.Received
			}
		}
	}
	return 0
}

func (j *Judge) receives(source string, k model.HopKey, after model.Instant) bool {
	return j.heardBy(source, k) > after
}

func (k holder) group(j *Judge) *group {
	if r := j.ends().holders[k.node]; r != nil {
		return r
	}
	return newGroup()
}

func (k holder) over(j *Judge, c *incident, g *gate) string {
	r := k.group(j)
	if r.received > c.opened {
		return "recovered: something was received from pods of " + k.node + " again at " + clock(r.received)
	}
	if why := j.livesOn(c, g); why != "" {
		return why
	}
	if c.back != 0 {
		return "recovered: its agent was heard again at " + clock(c.back) + ", with the same boot id"
	}
	if r.sockets == 0 && g.passed(c.opened, 5*time.Second) {
		if h, ok := j.model.Hop(c.keys[0]); !ok || h.Sockets == 0 {
			return "ended: no connection to pods of " + k.node + " is in trouble any more"
		}
	}
	return ""
}

// impact adds what crosses the node to what leads to its pods: both went with it.
func (k holder) impact(j *Judge, c *incident) model.Impact { return j.impact(c) }

func (k holder) count(j *Judge, c *incident) {
	im := k.impact(j, c)
	c.count(&im, c.body.Culprit.Sure == event.Proved)
}

func (k holder) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	r := k.group(j)
	s := j.holding(k.node, r, g)
	if s.first == 0 {
		s.first = c.first
	}
	if r.received <= c.opened {
		c.since = max(c.since, r.received)
	}
	im := k.impact(j, c)
	b.SilentSince = event.Opt[event.Timestamp]{}
	if c.since != 0 {
		b.SilentSince = event.Known(c.since.Time())
	}
	j.nodeGone(c, &s.suspect, &im)
	b.Culprit.Role = event.RoleFarEnd
	b.Remedy = holderRemedies(k.node, b.Culprit.Sure == event.Proved)
	c.count(&im, b.Culprit.Sure == event.Proved)
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}

// holderRemedies says what helps when the node is gone that pods ran on which others speak to.
func holderRemedies(node string, proved bool) []event.Remedy {
	needs := "certainty that the machine is off: where it still runs, its pods would run twice"
	if !proved {
		needs += "; look at it first: kubectl get node " + node
	}
	return []event.Remedy{
		{
			When: "now", Text: "take its pods out of their services and start them elsewhere",
			Command: "kubectl taint node " + arg(node) + " node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
			Effect:  "new connections go to pods that live, at once instead of after the cluster has noticed (about 50 s)",
			Risk:    "high where the node still runs", Needs: needs,
		},
		{
			When: "now", Text: "restart what holds the dead connections, where it does not reconnect by itself",
			Effect: "an error now instead of after 15 minutes", Risk: "medium: its other connections end too",
		},
		shorterClocks(),
		{
			When: "cure", Text: "let clients bound how long they wait: keepalive, TCP_USER_TIMEOUT, or deadlines of the protocol; spread the replicas over nodes",
			Effect: "a node's death costs seconds, and a part of the connections only", Risk: "low", Needs: "a change of the clients",
		},
	}
}

// podAt names the pod at an address, by the address where no name is known.
func podAt(j *Judge, ip netip.Addr) string {
	if pod := j.model.PodAt(ip); pod != "" {
		return pod
	}
	return "the pod at " + ip.String()
}
