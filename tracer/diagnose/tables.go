package diagnose

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// What makes a node's refusing connections a case.
const (
	// tableNews is how long a refusal is news: a table is looked at every 5 s, at once when it refuses more.
	tableNews = 30 * time.Second
	// fullShare is the fill, in percent, from which on a table that refuses entries is full. The kernel refuses at its
	// limit; what timed out since is not counted any more.
	fullShare = 97
	// refusals are the fewest entries that have to be refused, over two looks at least: one clash of two connections that
	// begin at the same moment is no exhaustion.
	refusals = 6
	looks    = 2
	// masqueradePorts are the ports that a masquerade may choose from towards one pod's port, unless its rule says less
	// (nf_nat_l4proto_unique_tuple: 1024 to 65535 for source ports from 1024 on); usedShare is the part, in percent, from
	// which on none is left to be found in time.
	masqueradePorts = 65536 - 1024
	usedShare       = 95
	// leastPorts is the smallest range of a rule of its own that is recognised by being full: fewer connections may stand
	// side by side by chance.
	leastPorts = 256
)

// refusing is the course of cases in which a node's conntrack takes no new connections: conntrack-full, snat-exhausted.
// Those that are established go on.
type refusing struct{ node string }

// refuse looks for nodes that refuse new connections.
func (j *Judge) refuse(g *gate) {
	for _, name := range j.model.Refusing() {
		if j.accused(name) {
			continue
		}
		since := max(g.at.Add(-tableNews), j.closedAbout(ruleConntrackFull, name), j.closedAbout(ruleSNATExhausted, name))
		r := j.model.RefusedBy(name, since)
		if r.Rises < looks || r.Total() < refusals || g.passed(r.Rose, tableNews) {
			continue
		}
		rule := ruleConntrackFull
		if !full(&r) {
			if r.PortsGone < refusals && (r.InsertFailed < refusals || j.exhausted(name, &r).Entries == 0) {
				continue // clashes of connections that begin together: they come through at the next try
			}
			rule = ruleSNATExhausted
		}
		c := &incident{course: refusing{name}, begins: name + " refused the first connection after this", since: r.From, dated: r.From, first: r.From}
		c.body.Rule = rule
		j.begin(c, g, r.Refs[0])
	}
}

func full(r *model.Refused) bool { return r.Max > 0 && r.Entries*100 >= r.Max*fullShare }

// exhausted returns the part of a node's table whose masquerade ports are used up, one without entries where there is none.
// What a rule's range of its own is shows by the ports that are in use, once that is nearly all of them from the lowest to
// the highest and none beyond was ever chosen: a crowd that only happens to be dense grows while others clash.
func (j *Judge) exhausted(node string, r *model.Refused) model.Crowd {
	return j.model.CrowdedAt(node, func(c *model.Crowd) bool {
		ports := masqueradePorts
		if c.Entries >= leastPorts && c.Grown < r.Began && c.Grown != 0 && r.Rises >= looks {
			ports = min(ports, c.Ports())
		}
		return c.Entries*100 >= ports*usedShare
	})
}

func (k refusing) over(j *Judge, c *incident, g *gate) string {
	r := j.model.RefusedBy(k.node, c.since)
	if !g.passed(max(r.Rose, c.opened), tableNews) {
		return ""
	}
	return "recovered: " + k.node + " has refused no connection for " + tableNews.String()
}

// attempts are the connection attempts through the node that got no answer.
func (k refusing) attempts(j *Judge, since model.Instant) (n int, refs []string) {
	for _, h := range j.model.HopsOf(k.node) {
		more, facts := j.model.Attempts(&h, since)
		n += more
		refs = append(refs, facts...)
	}
	return n, refs[max(0, len(refs)-maxRefs):]
}

func (k refusing) count(j *Judge, c *incident) {
	crossing := 0
	c.keys = nil
	for _, h := range j.model.HopsOf(k.node) {
		crossing += h.Sockets
		c.keys = append(c.keys, h.Key)
	}
	c.body.Sockets = event.SocketCounts{Crossing: crossing} // established: they go on
}

func (k refusing) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	r := j.model.RefusedBy(k.node, c.since)
	b.Culprit = event.Culprit{Kind: event.CulpritNode, Name: k.node, Sure: event.Proved}
	for _, h := range j.model.HopsOf(k.node) {
		if h.IP.IsValid() {
			b.Culprit.IP = h.IP
			break
		}
	}
	b.Severity = event.Warning
	k.count(j, c)
	var e brief
	if b.Rule == ruleConntrackFull {
		j.conntrackFull(c, &r, &e)
	} else {
		j.snatExhausted(c, &r, &e, k.node)
	}
	if n, refs := k.attempts(j, c.since); n > 0 {
		e.pro(refs, "%s through %s got no answer since", count(n, "connection attempt"), k.node)
	} else {
		e.con(nil, "no connection attempt without an answer is seen: who dials stands outside what is watched")
	}
	if a, ok := j.model.AgentOf(k.node); ok {
		e.pro([]string{a.Last()}, "its agent was heard at %s: the node %s", clock(a.Heard), j.tense(&a, g, "lives, and what is established goes on", "lived"))
	}
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}
