package diagnose

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// idleExpired composes the case that a node's conntrack forgets connections because they say nothing for too long: each
// is reset when it speaks again, one by one, and never all at one moment.
func (j *Judge) idleExpired(c *incident, f forgotten, o *oblivion, im *model.Impact, node event.Node, g *gate) {
	b := &c.body
	b.Title = f.node + " forgets idle connections"
	b.Confidence = 0.95
	b.Severity = event.Warning
	b.Alternatives = []event.Alternative{{
		Rule: ruleNATLost, Confidence: 0.05,
		Culprit: event.Culprit{Kind: event.CulpritNode, Name: f.node, IP: b.Culprit.IP, Sure: event.Inferred},
	}}
	var e brief
	e.pro(o.refs[:min(1, len(o.refs))], "the conntrack entries of %s through %s ended while both ends kept the connection open, from %s to %s",
		count(o.sockets, "connection"), f.node, clock(o.first), clock(o.last))
	if o.resets > 0 {
		e.pro(o.refs[min(1, len(o.refs)):], "%s reset when they spoke again, the last at %s", ofThem(o.resets), clock(o.reset))
	}
	if o.shortest > 0 {
		e.pro(nil, "each of these had received nothing for %s at least before: no other connection was hurt", o.shortest.Round(time.Second))
	}
	e.newcomers(j, f.node, c.since, g)
	if im.Idle > 0 {
		e.con(nil, "%s forgotten too, without having spoken since: that these are lost is not seen yet", were(im.Idle, "idle socket"))
	}
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "restart what holds the forgotten sockets, so that their clients reconnect before they have something to say",
			Effect: "an error now instead of one in the middle of a message", Risk: "medium: connections that are well end with it",
			Needs: "midhop relief leaves these alone: they are not shown to be dead before they speak",
		},
		{
			When: "soon", Text: "let one end speak more often than the table forgets: TCP keepalive, or the protocol's own pings, at half of that time",
			Effect: "entries never time out under a living connection", Risk: "low: a few packets a minute for each connection",
			Needs: "a change of the application: keepalive of the kernel starts after 2 h unless a socket says otherwise",
		},
		{
			When: "cure", Text: "let the table remember established connections for longer: net.netfilter.nf_conntrack_tcp_timeout_established, through kube-proxy's conntrack.tcpEstablishedTimeout",
			Effect: "idle connections are kept for as long as they are worth something", Risk: "low: the table holds more entries; watch its fill",
			Needs: "GKE, EKS, AKS: kube-proxy's settings are the provider's (a DaemonSet that sets the sysctl does it); bare metal: kube-proxy's config map. A load balancer in front has its own, often shorter, idle timeout",
		},
		outOfMiddle(node.Platform),
	}
}
