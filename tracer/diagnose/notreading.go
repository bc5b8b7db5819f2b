package diagnose

import (
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// A window that is shut for a moment is ordinary flow control; one that stays shut means that nobody reads.
const shutLeast = 5 * time.Second

// readerShare is the part of a network's sockets, in percent, that have to be shut before it is worth a word.
const readerShare = 5

// notReading is the course of the case that peers acknowledge and do not read: their windows stay shut, which is no fault
// of any path. The zero network stands for clients behind nodes whose ledgers are not read: who they are is not known.
type notReading struct{ network netip.Prefix }

func (k notReading) name() string {
	if !k.network.IsValid() {
		return "unknown clients"
	}
	return k.network.String()
}

// shutBy groups the sockets whose peers do not read by the peers' network.
func (j *Judge) shutBy() map[netip.Prefix][]model.Shut {
	var out map[netip.Prefix][]model.Shut
	for _, s := range j.model.ShutSockets() {
		if out == nil {
			out = make(map[netip.Prefix][]model.Shut)
		}
		n := netip.Prefix{}
		if s.Client.IsValid() {
			n = model.Network(s.Client)
		}
		out[n] = append(out[n], s)
	}
	return out
}

// readers looks for networks whose clients do not read.
func (j *Judge) readers(g *gate) {
	shut := j.shutBy()
	if len(shut) == 0 {
		return
	}
	var order []netip.Prefix
	for n := range shut {
		order = append(order, n)
	}
	slices.SortFunc(order, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for _, n := range order {
		k := notReading{n}
		if j.openAbout(rulePeerNotReading, k.name()) {
			continue
		}
		long, all := 0, k.crossing(j, shut[n])
		first, refs := model.Instant(0), []string(nil)
		for _, s := range shut[n] {
			if !g.passed(s.Since, shutLeast) {
				continue
			}
			long++
			if first == 0 || s.Since < first {
				first = s.Since
			}
			refs = append(refs, s.Fact)
		}
		if long < breadth || long*100 < all*readerShare {
			continue
		}
		c := &incident{course: k, begins: "the first window was shut", since: first, dated: first, first: first}
		c.body.Rule = rulePeerNotReading
		j.begin(c, g, refs[0])
	}
}

// crossing counts the sockets of the network. Of unknown clients these are what crosses the same nodes, less those that are
// known.
func (k notReading) crossing(j *Judge, shut []model.Shut) (all int) {
	if k.network.IsValid() {
		return clientGone(k).crossing(j)
	}
	hops := make(map[model.HopKey]bool)
	for _, s := range shut {
		if h, ok := j.model.Hop(s.Hop); ok && !hops[s.Hop] {
			hops[s.Hop] = true
			all += h.Sockets
		}
	}
	for _, by := range j.model.Networks() {
		for h, n := range by {
			if hops[h] {
				all -= n
			}
		}
	}
	return max(all, 0)
}

func (k notReading) over(j *Judge, c *incident, g *gate) string {
	if len(j.shutBy()[k.network]) > 0 {
		return ""
	}
	return "recovered: the windows of " + k.name() + " are open again, or their sockets are gone"
}

func (k notReading) fill(j *Judge, c *incident) []model.Shut {
	shut := j.shutBy()[k.network]
	all := k.crossing(j, shut)
	c.body.Sockets = event.SocketCounts{Crossing: max(all, len(shut))}
	c.body.Clients = event.ClientCounts{}
	if k.network.IsValid() {
		c.body.Clients = event.ClientCounts{Total: all, Networks: 1}
	}
	return shut
}

func (k notReading) count(j *Judge, c *incident) { k.fill(j, c) }

func (k notReading) tell(j *Judge, c *incident, g *gate) {
	b := &c.body
	shut := k.fill(j, c)
	name := k.name()
	b.Culprit = event.Culprit{Kind: event.CulpritClient, Name: name, Sure: event.Proved}
	b.Title = "clients of " + name + " do not read"
	b.Severity = event.Info
	b.Confidence = 0.95
	if !k.network.IsValid() {
		b.Title = name + " do not read"
		b.Culprit.Sure, b.Confidence = event.Inferred, mostMaybe
	}
	b.Alternatives = []event.Alternative{{
		Rule: ruleUnexplained, Confidence: round2(1 - b.Confidence),
		Culprit: event.Culprit{Kind: event.CulpritClient, Name: name + ", slower than what it is sent", Sure: event.Inferred},
	}}
	unsent, hops := uint64(0), make(map[model.HopKey]bool)
	var refs []string
	for _, s := range shut {
		unsent += uint64(s.Unsent)
		hops[s.Hop] = true
		if len(refs) < maxRefs {
			refs = append(refs, s.Fact)
		}
	}
	var e brief
	e.pro(refs, "%s to %s: the window is shut and every probe of it is answered, the first since %s", count(len(shut), "socket"), name, clock(c.since))
	e.pro(nil, "%d bytes wait for their readers", unsent)
	e.pro(nil, "the answers come back through %s: the way is open in both directions", count(len(hops), "hop"))
	if !k.network.IsValid() {
		e.con(nil, "who they are is not known, nor whether they have a network in common: no ledger of these nodes is read")
	}
	e.con(nil, "a slow reader looks the same as one that hangs: whether it ever reads is seen when the window opens")
	e.late(c, j.model.Since())
	b.Evidence = e
	b.Remedy = []event.Remedy{
		{
			When: "now", Text: "look at the clients: stopped processes, full disks, a browser's tab in the background",
			Effect: "the cause is there, not in the cluster", Risk: "none",
		},
		{
			When: "soon", Text: "let the server bound what it queues for a client, and give up who does not read",
			Effect: "memory and send queues stay bounded: an answered window probe never times out by itself",
			Risk:   "low: slow clients are cut off", Needs: "a change of the application: write deadlines, or TCP_USER_TIMEOUT, which counts a shut window too",
		},
	}
	b.Coverage = j.model.Coverage(g.at, j.silent(g))
}
