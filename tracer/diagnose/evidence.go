package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// brief collects the evidence of a case.
type brief []event.Evidence

func (b *brief) pro(refs []string, format string, args ...any) {
	*b = append(*b, event.Evidence{For: true, Text: fmt.Sprintf(format, args...), Refs: refs})
}

func (b *brief) con(refs []string, format string, args ...any) {
	*b = append(*b, event.Evidence{Against: true, Text: fmt.Sprintf(format, args...), Refs: refs})
}

// silence writes what every case rests on: transmissions without answer, and nothing received.
func (b *brief) silence(c *incident, s *suspect, im *model.Impact, name string) {
	n := im.AtRisk + im.Stalled
	through := "through"
	switch {
	case s.hop.Key.Kind == model.KindAddress:
		through = "to"
	case s.holds:
		through, name = "to", "pods on "+name
	}
	if n == 0 {
		b.pro(nil, "%s "+through+" %s timed out, %d were reset or closed; nothing was received from there since %s",
			count(im.TimedOut, "socket"), name, im.Reset+im.GaveUp, clock(c.since))
		return
	}
	what := fmt.Sprintf("%s %s %s got no answer", count(n, "socket"), through, name)
	if im.Stalled > 0 {
		what += fmt.Sprintf(", %d of them twice in a row", im.Stalled)
	}
	switch {
	case s.arrives >= breadth && c.body.Rule != ruleNodeGone:
		b.pro(s.refs, "%s; what comes from there arrives, and nothing of ours is acknowledged: the way there is cut, the way back is open (%d of these received something meanwhile)",
			what, s.arrives)
	case c.since != 0 && s.hop.Received > c.since.Add(dateSlack):
		b.pro(s.refs, "%s; they fell silent at %s", what, clock(c.since))
		b.con(nil, "others go on without them: something was received "+through+" %s at %s", name, clock(s.hop.Received))
	case c.since != 0:
		b.pro(s.refs, "%s; nothing at all was received from there since %s", what, clock(c.since))
	default:
		b.pro(s.refs, "%s; nothing received from there is known at all", what)
	}
	if c.since != 0 && s.lost > c.since.Add(dated) {
		b.pro(nil, "it fell silent between %s and %s, when the first transmission was sent that is known to have met the silence", clock(c.since), clock(s.lost))
	}
	if s.talkers >= breadth {
		b.pro(nil, "%d of these spoke until %s and fell silent together: single clients do not", s.talkers, clock(c.since))
	}
}

// earlier writes what had been wrong before the silence: that is not undone by it, and no proof of it.
func (b *brief) earlier(c *incident, s *suspect) {
	if o := c.before; o != nil && o.opened <= max(c.since, s.agent.Heard) { // else it was about this very silence
		b.pro(nil, "before that, from %s on: %s, %s", clock(o.opened), o.body.Rule, o.body.Title)
	}
	if s.stuck > 0 {
		b.con(nil, "%d of these hung already while it lived: they are no proof of its end", s.stuck)
	}
}

// clocks writes which sockets will notice last, and why: what reads like the liveliest ones are.
func (b *brief) clocks(im *model.Impact) {
	if im.Writing == 0 {
		return
	}
	b.pro(nil, "%s data in flight, so keepalive does not judge them: tcp_retries2 does, by its default after 15 minutes and more; a WebSocket server that pings writes, too",
		have(im.Writing))
}

// progress writes what the same machines receive elsewhere.
func (b *brief) progress(s *suspect) {
	if len(s.elsewhere) == 0 {
		b.con(nil, "no other path of the same machine made progress since: its own uplink is not ruled out")
		return
	}
	paths := slices.Clone(s.elsewhere)
	slices.SortStableFunc(paths, func(a, c model.Path) int { return cmp.Compare(c.Received, a.Received) })
	var list []string
	for _, p := range paths[:min(len(paths), 3)] {
		list = append(list, fmt.Sprintf("%s at %s", p.Hop.Via(), clock(p.Received)))
	}
	b.pro(nil, "the same machines received elsewhere since: %s", strings.Join(list, ", "))
}

// agent writes what the hop's own agent says, or does not.
func (b *brief) agent(c *incident, s *suspect, node string) {
	b.asked(c, s, node)
	if w := c.witness; w != nil && w.life == lifeEnded {
		b.pro([]string{w.agent.Last()}, "the agent of %s fell silent at %s; %s heard after it", node, clock(w.agent.Heard), were(w.pulse.others, "other agent"))
		if s.agent.Boot != w.agent.Boot {
			b.pro([]string{s.agent.Last()}, "%s came back with another boot id: what it had translated is forgotten", node)
		}
		return
	}
	switch {
	case s.life == lifeAlive && s.asked == nil && !s.pulse.missed:
		b.con([]string{s.agent.Last()}, "the agent of %s was heard at %s, after transmissions through it went unanswered: the node lives", node, clock(s.agent.Heard))
	case s.life == lifeAlive && s.asked == nil, s.life == lifeMute && s.outlived():
		b.con([]string{s.agent.Last()}, "the agent of %s was heard at %s, after transmissions through it went unanswered: the node lived until then; %s",
			node, clock(s.agent.Heard), s.pulse.since())
	case s.life == lifeEnded:
		b.con([]string{s.agent.Last()}, "the agent of %s fell silent at %s, and %s heard after it: what still worked is too little to show whether the node went with it",
			node, clock(s.agent.Heard), were(s.pulse.others, "other agent"))
	case s.life == lifeLost:
		b.con([]string{s.agent.Last()}, "the agent of %s fell silent at %s, which does not fit: that shows neither its life nor its death", node, clock(s.agent.Heard))
	case s.life == lifeUnknown:
		b.con(nil, "no agent of %s was ever heard: nothing shows the node's own life or death", node)
	}
}

// beats writes that the agent of the case's node was heard since shortly before the case was opened, and what that is worth now.
func (b *brief) beats(j *Judge, c *incident, node string, g *gate) {
	if a, ok := j.lives(node, c.opened.Add(-silentAfter)); ok {
		b.pro([]string{a.Last()}, "its agent was heard at %s: it %s", clock(a.Heard), j.tense(&a, g, "lives", "lived"))
	}
}

// asked writes what the node said when it was asked whether it lives.
func (b *brief) asked(c *incident, s *suspect, node string) {
	q := s.asked
	if q == nil && c.witness != nil {
		q = c.witness.asked
	}
	if q == nil {
		return
	}
	from := ""
	if q.By.Node != "" {
		from = " from " + q.By.Node
	}
	to := endpoint(q.Asked.Asked.To)
	if q.Lives() {
		b.con([]string{q.Fact}, "%s was asked%s, by a connection to %s, after transmissions through it went unanswered, and answered at %s (%s): the node lived then",
			node, from, to, clock(q.At), q.Asked.Asked.Answer)
		return
	}
	b.pro([]string{q.Fact}, "%s was asked%s, by a connection to %s at %s, and did not answer within %s; %s answered the same within %s",
		node, from, to, clock(q.Sent), tenths(q.Asked.Asked.Took), q.Control.Node, tenths(q.Control.Took))
}

// tenths writes a span in tenths of milliseconds at the finest.
func tenths(s event.Seconds) string { return s.Duration().Round(100 * time.Microsecond).String() }

// inventory writes what the cluster says of the node.
func (b *brief) inventory(n event.Node, known bool) {
	if !known {
		return
	}
	told := func(what event.CauseKind) bool {
		return slices.ContainsFunc(n.Causes, func(c event.Cause) bool { return c.What == what })
	}
	switch {
	case told(event.CauseDeleted), told(event.CauseUnknown), told(event.CauseNotReady), told(event.CauseShutdown): // said below
	case n.Ready == "false", n.Ready == "unknown":
		b.pro(nil, "the cluster says Ready=%s", n.Ready)
	case n.Ready == "true":
		b.con(nil, "the cluster still says Ready=true, as it does for about 50 s after a node went")
	}
	if n.Spot != "" {
		b.pro(nil, "%s is %s: its provider may take it at any time", n.Name, n.Spot)
	}
	for _, c := range n.Causes {
		since := ""
		if !c.Since.IsZero() {
			since = " since " + c.Since.UTC().Format("15:04:05")
		}
		b.pro(nil, "the cluster says that %s %s%s: %s", n.Name, causeWords[c.What], since, c.From)
	}
	for _, t := range n.Taints {
		if len(n.Causes) == 0 && (strings.Contains(t, "unreachable") || strings.Contains(t, "DeletionCandidate") || strings.Contains(t, "out-of-service")) {
			b.pro(nil, "%s carries the taint %s", n.Name, t)
		}
	}
}

// causeWords say what the cluster tells of a node's fate.
var causeWords = map[event.CauseKind]string{
	event.CauseDeleted:            "is deleted",
	event.CauseRecreated:          "is another machine of the same name",
	event.CauseRebooted:           "has rebooted",
	event.CauseUnknown:            "does not report any more",
	event.CauseNotReady:           "is not ready",
	event.CauseLeaseStale:         "has not renewed its Lease",
	event.CausePreempted:          "is being taken by its provider",
	event.CausePreemptionLikely:   "is likely to be taken by its provider",
	event.CauseShutdown:           "is shutting down",
	event.CauseOutOfService:       "is out of service",
	event.CauseScaleDown:          "is being removed by an autoscaler",
	event.CauseScaleDownCandidate: "is unneeded, says an autoscaler",
	event.CauseMaintenance:        "is under maintenance by its provider",
	event.CauseDraining:           "is being drained",
	event.CauseCordoned:           "is cordoned",
	event.CauseOutOfBalancer:      "is to be left out by load balancers",
}

// late writes that the watch began after the silence.
func (b *brief) late(c *incident, since model.Instant) {
	if c.since != 0 && c.since < since {
		b.con(nil, "watching since %s only: what died before is not seen", clock(since))
	}
}

// via writes where the address of the hop is known from.
func (b *brief) via(h *model.Hop, name string) {
	if h.Because != "" && h.IP.IsValid() {
		b.pro(nil, "%s is %s: %s", h.IP, name, h.Because)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// ofThem writes a part of what was counted before.
func ofThem(n int) string {
	if n == 1 {
		return "1 of them was"
	}
	return fmt.Sprintf("%d of them were", n)
}

func have(n int) string {
	if n == 1 {
		return "1 of these has"
	}
	return fmt.Sprintf("%d of these have", n)
}

func were(n int, what string) string {
	if n == 1 {
		return "1 " + what + " was"
	}
	return fmt.Sprintf("%d %ss were", n, what)
}
