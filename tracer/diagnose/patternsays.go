package diagnose

import (
	"fmt"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// What a pattern says, and what helps against it.

func (p pattern) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	all := j.model.Towards(p.far)
	x := j.hangs(g, c)[p.far]
	if x == nil {
		x = &hanging{far: p.far}
	}
	b.Severity = event.Warning
	b.SilentSince = event.Opt[event.Timestamp]{}
	b.Sockets = event.SocketCounts{Crossing: max(all.Sockets, x.stalled), Stalled: x.stalled}
	if p.kind != patternPod {
		b.Sockets.AtRisk = max(0, all.Troubled-x.stalled)
	}
	var e brief
	var name, title string
	switch p.kind {
	case patternTogether:
		name, title = p.saysTogether(c, x, &all, &e)
	case patternIdle:
		name, title = p.saysIdle(x, &all, &e)
	case patternNew:
		name, title = p.saysNew(j, g, c, &all, &e)
	case patternPod:
		name, title = p.saysPod(j, x, &e)
	default:
		name, title = p.saysPart(x, &all, &e)
	}
	if b.Culprit.Kind == "" { // what was named stays, however the case develops
		b.Culprit = event.Culprit{Kind: event.CulpritUnknown, Name: name, IP: p.far, Sure: event.Inferred}
		b.Title = title
		b.Confidence = 0.5
	}
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = p.remedies(x)
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}

func (p pattern) saysTogether(c *incident, x *hanging, all *model.Towards, e *brief) (name, title string) {
	crowd, at := x.crowd()
	far := p.far.String()
	if at != 0 {
		c.body.SilentSince = event.Known(at.Time())
	}
	e.pro(x.refs, "%d of %s to %s got no answer twice in a row; %d of these spoke until %s and fell silent together", x.stalled, count(all.Sockets, "socket"), far, crowd, clock(at))
	e.pro(nil, "the rest goes on: something was received from %s at %s", far, clock(all.Received))
	e.con(nil, "which of several servers stands behind a connection to %s is not seen from here", far)
	return "one backend behind " + far,
		fmt.Sprintf("%d of %d to %s fell silent together, the rest goes on: one backend behind it", x.stalled, all.Sockets, far)
}

func (p pattern) saysIdle(x *hanging, all *model.Towards, e *brief) (name, title string) {
	far := p.far.String()
	least := x.idleLeast()
	name = "something before the nodes, or before " + far + ", that forgets idle connections: a balancer, a firewall or a NAT device"
	if least == 0 {
		return name, "idle connections to " + far + " hang"
	}
	e.pro(x.refs, "%d of %s to %s got no answer twice in a row when they spoke again: all but %d of these had been silent for %s or more",
		x.stalled, count(all.Sockets, "socket"), far, len(x.heard), spoken(least))
	e.pro(nil, "busy ones go on: something was received from %s at %s", far, clock(all.Received))
	e.pro(nil, "keepalive with a TCP_KEEPIDLE of less than %s would have held them", spoken(least))
	e.con(nil, "what forgets them answers nothing, and is not seen itself; that it forgets after no less than that is not shown either")
	return name, fmt.Sprintf("%d to %s that had been silent for %s or more hang, busy ones go on: something on the way forgets idle connections after about that long",
		x.stalled, far, spoken(least))
}

// idleLeast is the shortest silence after which one of those that had been idle got no answer.
func (x *hanging) idleLeast() time.Duration {
	for _, gap := range x.gaps {
		if gap >= idleLeast {
			return gap
		}
	}
	return 0
}

func (p pattern) saysNew(j *Judge, g *gate, c *incident, all *model.Towards, e *brief) (name, title string) {
	to, n := p.far.String(), 0
	for _, d := range j.dialsHang(g) {
		if d.to.IP == p.far {
			e.pro(d.refs, "%s to %s got no answer, the first since %s", count(d.n, "connection attempt"), endpoint(d.to), clock(d.first))
			n += d.n
			to = endpoint(d.to)
		}
	}
	c.body.Sockets = event.SocketCounts{Crossing: all.Sockets, AtRisk: min(n, all.Sockets)}
	e.pro(nil, "%s go on: something was received from %s at %s", count(all.Sockets, "open connection"), p.far, clock(all.Received))
	e.con(nil, "a full queue of the server, a rule on the way and a used-up table of ports look the same from here")
	return "ports or rules on the way to " + to,
		"new connections to " + to + " get no answer, open ones go on: ports or rules upstream"
}

func (p pattern) saysPod(j *Judge, x *hanging, e *brief) (name, title string) {
	pod := podAt(j, p.far)
	if j.model.PodAt(p.far) == "" && j.model.PodNode(p.far) == "" {
		pod = "what stands at " + p.far.String()
	}
	name = pod
	if node := j.model.KnownOn(p.far); node != "" {
		if _, lives := j.lives(node, x.newest); lives {
			e.con(nil, "its node %s lives", node)
		} else {
			name += ", or its node " + node
			e.con(nil, "a pod that stops answering is not told from its node that does by its own sockets alone")
		}
	}
	e.pro(x.refs, "%s that lead to %s at %s got no answer twice in a row", count(x.stalled, "socket"), pod, p.far)
	return name, fmt.Sprintf("%s that lead to %s hang: %s", count(x.stalled, "connection"), pod, name)
}

func (p pattern) saysPart(x *hanging, all *model.Towards, e *brief) (name, title string) {
	far := p.far.String()
	e.pro(x.refs, "%d of %s to %s got no answer twice in a row", x.stalled, count(all.Sockets, "socket"), far)
	if all.Troubled < all.Sockets || all.Received > x.newest {
		e.pro(nil, "something was received from %s at %s", far, clock(all.Received))
	}
	e.con(nil, "what those that hang have in common is not seen: neither a moment nor a silence before")
	return "something behind or before " + far,
		fmt.Sprintf("%d of %d to %s hang: something behind or before it", x.stalled, max(all.Sockets, x.stalled), far)
}

// remedies are for what a pattern points at.
func (p pattern) remedies(x *hanging) []event.Remedy {
	far := p.far.String()
	switch p.kind {
	case patternTogether:
		return []event.Remedy{
			{
				When: "now", Text: "look at the servers behind " + far + ": one of them, or the way to it, stopped answering; its balancer's health checks should say which",
				Command: "ss -tno dst " + arg(far), Effect: "lists the connections: those that hang have a timer that grows", Risk: "none",
				Needs: "on the node that dials, in the network namespace of the pod whose connections they are",
			},
			{
				When: "now", Text: "let the balancer before " + far + " close or drain the connections of a backend that fails its checks",
				Effect: "their clients get an error and come back by another backend", Risk: "low", Needs: "whoever runs the balancer",
			},
			shorterClocks(),
		}
	case patternIdle:
		least := x.idleLeast()
		half := max(least/2, time.Second).Round(time.Second)
		return []event.Remedy{
			{
				When: "now", Text: "restart what holds the silent connections, or let it reconnect",
				Effect: "an error now instead of one in the middle of a message", Risk: "medium: connections that are well end with it",
			},
			{
				When: "soon", Text: fmt.Sprintf("let one end speak at least every %s: SO_KEEPALIVE with TCP_KEEPIDLE and TCP_KEEPINTVL of that, or the protocol's own pings", spoken(half)),
				Effect: "nothing on the way sees an idle connection", Risk: "low: a few packets a minute for each connection",
				Needs: "a change of the application: keepalive of the kernel starts after 2 h unless a socket says otherwise",
			},
			{
				When: "cure", Text: "raise the idle timeout of what stands on the way",
				Effect: "idle connections are kept for as long as they are worth something", Risk: "low: its table holds more",
				Needs: "GCP: firewall rules forget idle TCP after 10 minutes; AWS: NLB and NAT gateway after 350 s; Azure: load balancer and NAT gateway after 4 minutes unless set; bare metal: the firewall's or balancer's own timeout",
			},
		}
	case patternNew:
		return []event.Remedy{
			{
				When: "now", Text: "look what lets open connections pass and new ones not: security groups, network policies, a firewall's rules, the FORWARD policy of the nodes, the server's queue of connections",
				Command: "iptables -S FORWARD; nft list ruleset; conntrack -S", Effect: "tells a rule from a full table", Risk: "none",
				Needs: "root on the node that dials",
			},
			{
				When: "soon", Text: "use connections again instead of making new ones, while " + far + " takes none",
				Effect: "fewer callers wait", Risk: "none", Needs: "a change of the clients: pools, HTTP keep-alive",
			},
		}
	case patternPod:
		return []event.Remedy{
			{
				When: "now", Text: "look whether it lives, and its node",
				Command: "kubectl get pods -A -o wide --field-selector status.podIP=" + arg(far), Effect: "tells a dead pod from a dead node", Risk: "none",
			},
			{
				When: "now", Text: "look from its own side: run midhop on the node that it is on", Effect: "a second vantage tells the candidates apart", Risk: "none",
			},
			shorterClocks(),
		}
	}
	return []event.Remedy{
		{
			When: "now", Text: "look at what stands before and behind " + far + ": balancer, routes, security groups, the FORWARD policy of the nodes",
			Command: "ip route get " + arg(far), Effect: "shows the way that they take from here", Risk: "none", Needs: "on the node that dials",
		},
		shorterClocks(),
	}
}

// spoken writes a span as people say it.
func spoken(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d/time.Second))
	}
	return d.Round(time.Second).String()
}
