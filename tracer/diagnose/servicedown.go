package diagnose

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// serviceDown is the course of the case that all pods of a service are gone at once: one cause, and so one case instead of
// one for each pod.
type serviceDown struct {
	name string
	ips  []netip.Addr
	pods []string
}

// removedNews is how long the removal of a pod belongs to the same cause as that of another.
const removedNews = 30 * time.Second

// services looks for services whose pods are all the culprits of open cases, or of those that were just found. It returns
// what it leaves of the latter.
func (j *Judge) services(found []finding, g *gate) []finding {
	all := slices.Clone(found)
	for _, c := range j.open {
		if _, ok := c.course.(podGone); ok {
			all = append(all, finding{c, c.body.ID})
		}
	}
	var order []string
	gone := make(map[string][]finding)
	for _, f := range all {
		s := j.model.ServiceOf(f.c.course.(podGone).ip)
		if s == "" {
			continue
		}
		if gone[s] == nil {
			order = append(order, s)
		}
		gone[s] = append(gone[s], f)
	}
	for _, s := range order {
		k := serviceDown{name: s}
		c := &incident{}
		for _, f := range gone[s] {
			p := f.c.course.(podGone)
			k.ips, k.pods = append(k.ips, p.ip), append(k.pods, p.name)
			c.since = max(c.since, f.c.since)
		}
		// Of those that were removed a moment ago it needs no socket to show that they are gone.
		for _, ip := range j.model.PodsEnded(s, g.at.Add(-removedNews)) {
			if end, ok := j.model.PodEnded(ip); ok && !slices.Contains(k.ips, ip) {
				k.ips, k.pods = append(k.ips, ip), append(k.pods, end.Name)
			}
		}
		if len(k.ips) < 2 || slices.ContainsFunc(j.model.BackendsOf(s), func(ip netip.Addr) bool { return !slices.Contains(k.ips, ip) }) {
			continue // a pod of it is left, or it had no more than one
		}
		for _, f := range gone[s] {
			if f.c.opened != 0 {
				j.close(f.c, g, "superseded: all pods of "+s+" are gone")
			}
		}
		found = slices.DeleteFunc(found, func(f finding) bool { return slices.Contains(gone[s], f) })
		c.course, c.dated, c.first = k, c.since, c.since
		c.body.Rule = ruleServiceDown
		j.begin(c, g, gone[s][0].fact)
	}
	return found
}

// downWith says whether a pod's address belongs to a service that is down.
func (j *Judge) downWith(ip netip.Addr) bool {
	return slices.ContainsFunc(j.open, func(c *incident) bool {
		k, ok := c.course.(serviceDown)
		return ok && slices.Contains(k.ips, ip)
	})
}

// groups are the troubled sockets that lead to the service's pods.
func (k serviceDown) group(j *Judge) *group {
	all := newGroup()
	e := j.ends()
	for _, ip := range k.ips {
		if r := e.pods[ip]; r != nil {
			all.sockets += r.sockets
			all.stalled += r.stalled
			all.received = max(all.received, r.received)
			all.refs = append(all.refs, r.refs...)
			for h, n := range r.hops {
				all.hops[h] += n
			}
		}
	}
	all.refs = all.refs[:min(len(all.refs), maxRefs)]
	return all
}

func (k serviceDown) over(j *Judge, c *incident, g *gate) string {
	r := k.group(j)
	switch {
	case r.received > c.opened:
		return "recovered: something was received from " + k.name + " again at " + clock(r.received)
	case r.sockets == 0 && g.passed(c.opened, 5*time.Second):
		return "ended: no connection to its pods is in trouble any more"
	}
	return ""
}

func (k serviceDown) count(j *Judge, c *incident) { c.body.Sockets = k.group(j).counts(0) }

func (k serviceDown) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	r := k.group(j)
	b.Culprit = event.Culprit{Kind: event.CulpritService, Name: k.name, Sure: event.Inferred}
	b.Title = "all pods of " + k.name + " are gone"
	b.Severity = event.Critical
	b.Confidence = 0.8
	if c.since != 0 {
		b.SilentSince = event.Known(c.since.Time())
	}
	b.Sockets = r.counts(0)
	b.Services = []event.Hit{{Name: k.name, Sockets: r.sockets}}
	b.Pods = nil
	removed := 0
	for i, ip := range k.ips {
		n := 0
		if p := j.ends().pods[ip]; p != nil {
			n = p.sockets
		}
		b.Pods = append(b.Pods, event.Hit{Name: k.pods[i], Sockets: n})
		if _, ok := j.model.PodEnded(ip); ok {
			removed++
		}
	}
	b.Alternatives = []event.Alternative{{
		Rule: rulePodGone, Confidence: 0.2,
		Culprit: event.Culprit{Kind: event.CulpritUnknown, Name: strings.Join(k.pods, " and ") + ", each for itself", Sure: event.Inferred},
	}}
	var e brief
	e.pro(r.refs, "%s that lead to %s of %s got no answer, %d of them twice in a row", count(r.sockets, "socket"), count(len(k.ips), "pod"), k.name, r.stalled)
	e.pro(nil, "no pod of it is left that is not among them")
	if removed == len(k.ips) {
		b.Culprit.Sure, b.Confidence, b.Alternatives[0].Confidence = event.Proved, 0.95, 0.05
	}
	if removed > 0 {
		e.pro(nil, "the cluster has removed %d of these pods", removed)
	} else {
		e.con(nil, "the cluster has not said that any of them is gone")
	}
	e.late(c, j.model.Since())
	b.Evidence = e
	namespace, name, _ := strings.Cut(k.name, "/")
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "look what ended them: a rollout, evictions, a quota, the node pool",
			Command: "kubectl -n " + arg(namespace) + " get events --sort-by=.lastTimestamp; kubectl -n " + arg(namespace) + " describe service " + arg(name),
			Effect:  "tells a bad version from a missing machine", Risk: "none",
		},
		{
			When: "soon", Text: "keep a part of the pods through every voluntary disruption: a PodDisruptionBudget, maxUnavailable, readiness gates",
			Effect: "a drain or a rollout waits instead of taking the last pod", Risk: "low: drains take longer", Needs: "more than one replica",
		},
		{
			When: "cure", Text: "spread the replicas over nodes and zones",
			Effect: "no single machine holds all of them", Risk: "none", Needs: "topologySpreadConstraints",
		},
	}
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}
