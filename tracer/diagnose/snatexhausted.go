package diagnose

import (
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// snatExhausted composes the case that a node has no masquerade port left towards one pod's port: new connections to that
// pod by this node fail, everything else works.
func (j *Judge) snatExhausted(c *incident, r *model.Refused, e *brief, node string) {
	b := &c.body
	before := b.Confidence
	b.Title = node + " has no masquerade port left"
	b.Confidence = 0.95
	if r.PortsGone > 0 {
		portsGone(c, r, e, node)
		return
	}
	b.Alternatives = []event.Alternative{{
		Rule: ruleConntrackFull, Confidence: 0.05,
		Culprit: event.Culprit{Kind: event.CulpritNode, Name: node, Sure: event.Inferred},
	}}
	crowd, ports := j.exhausted(node, r), masqueradePorts
	own := crowd.Entries*100 < masqueradePorts*usedShare
	if crowd.Entries == 0 { // some are free again
		crowd, own = j.model.CrowdedAt(node, func(*model.Crowd) bool { return true }), before == mostMaybe
	}
	if own {
		ports = crowd.Ports()
		b.Culprit.Sure, b.Confidence = event.Inferred, mostMaybe
		b.Alternatives[0].Confidence = round2(1 - b.Confidence)
	}
	to := endpoint(crowd.Backend)
	if pod := j.model.PodAt(crowd.Backend.IP); pod != "" {
		to = pod + " (" + to + ")"
		b.Pods = []event.Hit{{Name: pod, Sockets: crowd.Entries}}
	}
	e.pro(nil, "%d connections are masqueraded towards %s by it: all but %d of the %d ports that there are", crowd.Entries, to,
		max(0, ports-crowd.Entries), ports)
	if own {
		e.pro(nil, "no port below %d or above %d was ever chosen, and none is new since %s: its rule has a range of its own", crowd.Low, crowd.High, clock(crowd.Grown))
		e.con(nil, "the rule itself is not read: connections that begin at the same moment are refused as well, beside a crowd that is dense by chance")
	}
	e.pro(r.Refs[:min(len(r.Refs), maxRefs)], "its counters rose in %d looks since %s: insert_failed %d, drop %d",
		r.Rises, clock(c.since), r.InsertFailed, r.Drop)
	e.pro(nil, "its table is not full: %d of %d entries", r.Entries, r.Max)
	b.Remedy = []event.Remedy{
		outOfBalancer(node, "new connections come in by other nodes, each with ports of its own"),
		{
			When: "now", Text: "add pods to the service",
			Effect: "each pod's port has a set of masquerade ports of its own", Risk: "none", Needs: "room for them",
		},
		{
			When: "soon", Text: "let connections be used again instead of made anew: pools, HTTP keep-alive, fewer short connections",
			Effect: "a closed connection holds its port for 1 to 2 minutes more (TIME_WAIT in conntrack)", Risk: "none",
			Needs: "a change of the clients, or net.netfilter.nf_conntrack_tcp_timeout_time_wait on the node",
		},
		outOfMiddle(""),
		{
			When: "cure", Text: "take the masquerade out of the path, or give it more addresses",
			Effect: "no port is needed at all", Risk: "medium",
			Needs: "GKE: container-native load balancing, for egress Cloud NAT with more ports a VM; EKS: AWS_VPC_K8S_CNI_EXTERNALSNAT and NAT gateways; AKS: a NAT gateway instead of the balancer's outbound rules; bare metal: more node addresses",
		},
	}
}

// portsGone composes the same case where the dataplane itself counts connections that found no port: it need not be inferred
// from what its table holds.
func portsGone(c *incident, r *model.Refused, e *brief, node string) {
	b := &c.body
	b.Alternatives = nil
	e.pro(r.Refs[:min(len(r.Refs), maxRefs)], "its dataplane counted %s that found no port, in %d looks since %s",
		count(int(r.PortsGone), "connection"), r.Rises, clock(c.since))
	e.pro(nil, "%s holds %d of %d entries", r.Table, r.Entries, r.Max)
	e.con(nil, "towards which backend the ports are gone is not counted")
	b.Remedy = []event.Remedy{
		outOfBalancer(node, "new connections come in by other nodes, each with ports of its own"),
		{
			When: "now", Text: "add pods to the service",
			Effect: "each pod's port has a set of masquerade ports of its own", Risk: "none", Needs: "room for them",
		},
		{
			When: "soon", Text: "let connections be used again instead of made anew: pools, HTTP keep-alive, fewer short connections",
			Effect: "a closed connection frees its port after seconds", Risk: "none", Needs: "a change of the clients",
		},
		outOfMiddle(""),
		{
			When: "cure", Text: "let backends answer clients themselves (Cilium: loadBalancer.mode dsr or hybrid)",
			Effect: "no port is needed at all", Risk: "medium: the network must let replies pass that carry the service's address",
			Needs: "a change of the dataplane's configuration, and its restart on every node",
		},
	}
}
