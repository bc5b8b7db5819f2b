package diagnose

import (
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// What makes a silence evidence. Times are event time.
const (
	// breadth is the fewest sockets that can accuse what they have in common: one or two have ends of their own to fail.
	breadth = 3
	// quietProved is how long nothing may have come through a hop whose agent fell silent too.
	quietProved = 500 * time.Millisecond
	// quietAlone is the same where nothing tells the hop's own life or death: longer than a hiccup of a link or a pause
	// of a virtual machine's migration usually is, and past the second retransmission (0.2 + 0.4 s).
	quietAlone = 1200 * time.Millisecond
	// unusual is how many times longer than its usual silences a living hop's may be before it counts: a lossy or a slow
	// one has long ones. mostUsual bounds what that can ask for.
	unusual   = 4
	mostUsual = 10 * time.Second
	// quietUnexplained is how long stalls last before "nobody knows" is worth saying.
	quietUnexplained = 3 * time.Second
	// together is how close to the silence a socket has received last that spoke all the time: such sockets going silent
	// together is no coincidence of single clients.
	together = 300 * time.Millisecond
	// idleShare is the part of a hop's sockets, in percent, that has to be unanswered where none of them spoke: a few
	// clients that vanish leave a few unanswered probes, a node that vanishes leaves all.
	idleShare = 20
	// tardy is how late an agent's heartbeat may be without being missed, twice its own lateness of late if that is more: a
	// busy machine's process waits that long for a processor, and clocks are up to skew apart. Its silence is told later, at
	// silentAfter.
	tardy = 300 * time.Millisecond
	// skew is how far the clocks of two machines may be apart before one seems to outlive the other.
	skew = 250 * time.Millisecond
	// tie is how close in time two silences are one.
	tie = 2 * time.Second
	// scanned is the most sockets in trouble that are looked at one by one for one hop.
	scanned = 4096
	// leastRTO is how long a segment has been under way at least when it is sent again (TCP_RTO_MIN).
	leastRTO = 200 * time.Millisecond
	// dated is how exact a silence's date is where nothing is said about it.
	dated = 50 * time.Millisecond
	// maxRefs is how many facts one line of evidence refers to.
	maxRefs = 5
)

// life is what is known of a hop's own life, beside the sockets through it.
type life uint8

const (
	lifeUnknown life = iota // nothing speaks for it
	lifeAlive               // its agent was heard after transmissions through it went unanswered: they are not for its death
	lifeWaiting             // its agent's next heartbeat is not due yet
	lifeEnded               // its agent fell silent with it, while others are heard
	lifeLost                // its agent had fallen silent before: that proves nothing
	lifeMute                // it was asked, and did not answer as a healthy node did
)

// suspect is a hop through which transmissions are unanswered, with what speaks for and against it.
type suspect struct {
	hop     model.Hop
	lanes   []model.Lane
	since   model.Instant // newest receive through it, 0 unknown
	from    model.Instant // from then on what goes unanswered counts: since, or the end of a case that it recovered from
	first   model.Instant // by then, since then, transmissions of three sockets were known to be unanswered
	sent    model.Instant // by then, such transmissions of three sockets had been sent
	lost    model.Instant // by then, the first transmission that is known to have met the silence had been sent, 0 unknown
	proofs  int           // sockets with one
	stalled int           // of these with two in a row
	talkers int           // of these that had received until just before the silence
	arrives int           // of these that received something while what they sent went unanswered
	stuck   int           // of the proofs: without an answer already while others had one
	refs    []string      // ids of some of the facts that show it
	sources map[string]bool

	holds bool // the sockets lead to the node's pods: it holds their far ends, and does not stand in the middle

	life  life
	agent model.Agent
	pulse pulse        // of that agent
	asked *model.Asked // what it answered when it was asked in this silence; nil: it was not, or that counts for nothing

	elsewhere []model.Path // other paths of the same machines on which something was received since
	also      []model.Hop  // other hops that fell silent at about the same time
}

// ripe says whether a hop has been silent, and looked at since, for long enough to be worth going through its sockets one
// by one: a lossy hop, or one that nobody has looked at again, is left alone at once.
func (j *Judge) ripe(h *model.Hop, g *gate) bool {
	if h.Received != 0 && !g.passed(h.Received, quietProved) {
		return false
	}
	for _, l := range j.model.Lanes(h) {
		silent := l.Beats && g.passed(l.Heard, silentAfter)
		if l.Troubled > 0 && !silent && l.Look < h.Received.Add(quietProved) {
			return false
		}
	}
	return true
}

// gather collects what is known of a hop's silence, c being the open case that names it, nil for none. It returns false
// where there is no silence worth the name.
func (j *Judge) gather(h model.Hop, g *gate, c *incident) (*suspect, bool) {
	s := &suspect{hop: h, since: h.Received, sources: make(map[string]bool)}
	s.from = max(s.since, j.recovered(h.Key))
	if c != nil {
		s.from = max(s.from, c.parted)
	}
	if s.since != 0 && !g.passed(s.since, quietProved) {
		return s, false
	}
	look, from := make(map[string]model.Instant), make(map[string]model.Instant)
	for _, l := range j.model.Lanes(&h) {
		if l.Beats && g.passed(l.Heard, silentAfter) {
			continue // what a silent machine said last is no news
		}
		s.lanes = append(s.lanes, l)
		look[l.Source], from[l.Source] = l.Look, max(s.from, j.reconnected(l.Source))
	}
	seen, hung := 0, j.hung(&h, c)
	var unanswered, old, sent []model.Instant
	j.model.EachTroubled(&h, func(t *model.Troubled) bool {
		seen++
		at, heard := look[t.Source]
		// A transmission sent before the newest receive may have met a live hop, and a single probe may be on its way.
		onItsWay := t.Retransmits == 0 && t.Probes == 1 && t.First.Add(quietProved) > at
		if heard && t.Sign > from[t.Source] && !onItsWay && !j.explained(&h, t) {
			if t.Received > hung && (t.First > s.since || s.spoke(t)) {
				unanswered = append(unanswered, s.take(t))
			} else {
				s.stuck++
				old = append(old, s.take(t))
			}
			sent = append(sent, max(t.Since, s.since))
		}
		return seen < scanned
	})
	if s.proofs == 0 {
		return s, false
	}
	if len(unanswered) < breadth {
		unanswered = append(unanswered, old...)
	}
	// Not the earliest: a client or two may have vanished before, with the hop alive.
	slices.Sort(unanswered)
	slices.Sort(sent)
	s.first, s.sent = unanswered[min(len(unanswered), breadth)-1], sent[min(len(sent), breadth)-1]
	return s, true
}

// take counts a socket and returns since when it is known to be unanswered in this silence.
func (s *suspect) take(t *model.Troubled) model.Instant {
	s.proofs++
	s.sources[t.Source] = true
	if t.Stalled {
		s.stalled++
	}
	if s.talked(t) {
		s.talkers++
	}
	if t.Retransmits > 1 && t.Received > t.Since.Add(leastRTO) {
		s.arrives++
	}
	if len(s.refs) < maxRefs {
		if fact := t.Fact(); !slices.Contains(s.refs, fact) {
			s.refs = append(s.refs, fact)
		}
	}
	if t.Since > s.since {
		sent := t.Since
		if t.Retransmits > 0 {
			sent = max(s.since, sent.Add(-leastRTO))
		}
		if s.lost == 0 || sent < s.lost {
			s.lost = sent
		}
	}
	if t.First > s.since {
		return t.First
	}
	return t.Sign
}

// talked says whether a socket that writes had received something until the silence began.
func (s *suspect) talked(t *model.Troubled) bool {
	return t.Retransmits > 0 && t.Received != 0 && t.Received.Add(together) >= s.since
}

// spoke says whether such a socket's trouble is of the same moment too: through a lossy hop much is sent again all the time.
func (s *suspect) spoke(t *model.Troubled) bool { return s.talked(t) && t.Since.Add(tie) >= s.since }

// looked says whether the machines that use the hop have looked at all of its sockets since it fell silent: only then is
// the newest receive known. A machine without trouble is waited for in vain only so long.
func (s *suspect) looked(g *gate, quiet time.Duration) bool {
	until := max(s.since.Add(quiet), s.first)
	for _, l := range s.lanes {
		switch {
		case l.Sockets == 0 || l.Look >= until:
		case l.Troubled > 0:
			return false
		case !g.passed(until, 2*time.Second):
			return false
		}
	}
	for _, l := range s.lanes {
		if l.Troubled > 0 && !l.Synced {
			return false
		}
	}
	return true
}

// askOthers looks for paths on which the same machines have received something after transmissions through this one had
// gone unanswered, and for such that fell silent together with it.
func (j *Judge) askOthers(s *suspect) {
	for _, l := range s.lanes {
		if !s.sources[l.Source] {
			continue
		}
		for _, p := range j.model.Paths(l.Source) {
			if p.Hop != s.hop.Key && p.Received > max(s.since.Add(together), s.sent) {
				s.elsewhere = append(s.elsewhere, p)
			}
		}
	}
	for _, o := range j.model.Sick() {
		if o.Key == s.hop.Key || o.Received == 0 || o.Troubled() < breadth || j.provedGone(o.Key) {
			continue
		}
		switch o.Key.Kind {
		case model.KindNode, model.KindAddress, model.KindUnknown:
		default:
			continue
		}
		if o.Received.Add(tie) >= s.since && o.Received <= s.since.Add(together) && j.sharesSource(s, &o) {
			s.also = append(s.also, o)
		}
	}
}

func (j *Judge) sharesSource(s *suspect, o *model.Hop) bool {
	for _, l := range j.model.Lanes(o) {
		if l.Troubled > 0 && s.sources[l.Source] {
			return true
		}
	}
	return false
}

// verdict is what a judgement concludes of one suspect.
type verdict uint8

const (
	nothing verdict = iota
	gone            // the hop is gone: proved, or inferred
	unexplained
)

// judge concludes. Every way to accuse a hop ends here, and every way to acquit it.
func (j *Judge) judge(s *suspect, g *gate) verdict {
	switch s.hop.Key.Kind {
	case model.KindLocal, model.KindDirect:
		return nothing // the machine itself, or single clients: other rules' concern
	}
	enough := s.proofs >= breadth
	if !enough && s.stalled < s.hop.Sockets {
		return nothing
	}
	if !s.looked(g, quietProved) {
		return nothing
	}
	j.askOthers(s)
	j.askLife(s, g)
	switch s.life {
	case lifeWaiting:
		return nothing
	case lifeEnded:
		switch {
		case !s.worked():
		case j.caseOf(ruleNodeLossy, s.hop.Key.Name) != nil && !g.passed(s.from, s.unusual()):
			return nothing // it has silences for another reason
		default:
			return gone
		}
	}
	if !enough || !s.convincing() {
		return nothing
	}
	j.wonder(s)
	switch s.hop.Key.Kind {
	case model.KindNode, model.KindAddress:
		if s.life == lifeAlive || !j.accusable(s) {
			break
		}
		if s.life == lifeMute {
			return gone
		}
		if s.life == lifeEnded || !s.fell() {
			break
		}
		quiet := s.unusual()
		if !g.passed(s.from, quiet) || !s.looked(g, quiet) {
			return nothing
		}
		if len(s.also) > 0 && !g.passed(s.from, quietUnexplained) {
			return nothing // whether it is one of them or what they share is seen a little later
		}
		if len(s.also) == 0 {
			return gone
		}
	}
	if s.stalled < breadth || !g.passed(s.from, quietUnexplained) || !s.looked(g, quietUnexplained) {
		return nothing
	}
	return unexplained
}

// convincing says whether the unanswered sockets are more than single clients that went: several that spoke until the
// same moment, or a good part of all.
func (s *suspect) convincing() bool {
	return s.talkers >= breadth || s.proofs*100 >= s.hop.Sockets*idleShare
}

// worked says whether enough sockets accuse the hop that had answers as long as others had, or whether all do: what hung
// already while the hop served others has a cause of its own, and hangs on whatever becomes of the hop.
func (s *suspect) worked() bool { return s.stuck == 0 || s.proofs-s.stuck >= breadth }

// fell says whether these are more than single clients that went.
func (s *suspect) fell() bool {
	return s.stuck == 0 || s.worked() && (s.talkers >= breadth || (s.proofs-s.stuck)*100 >= (s.hop.Sockets-s.stuck)*idleShare)
}

// unusual is how long a silence of the hop has to be to be none of its usual ones.
func (s *suspect) unusual() time.Duration {
	return min(max(quietAlone, unusual*s.hop.Usual), mostUsual)
}

// accusable says whether the silence is the hop's rather than the looking machine's own: something else has to make
// progress. An address that is all that a machine speaks to may be named nevertheless: it is no node.
func (j *Judge) accusable(s *suspect) bool {
	return len(s.elsewhere) > 0 || (s.hop.Key.Kind == model.KindAddress && len(s.also) == 0)
}

// suspect judges every hop with sockets in trouble that no open incident names.
func (j *Judge) suspect(g *gate) {
	for _, h := range j.model.Sick() {
		c := j.named(h.Key)
		if c != nil && c.final() {
			continue
		}
		if h.Key.Kind == model.KindPod && j.provedGone(j.model.NodeHop(h.Node)) {
			continue // the pod went with its node
		}
		if !j.ripe(&h, g) {
			continue
		}
		s, ok := j.gather(h, g, c)
		if !ok {
			continue
		}
		v := j.judge(s, g)
		if c != nil && c.body.Culprit.Kind != event.CulpritUnknown && (v != gone || s.life != lifeEnded && c.body.Rule != ruleNodeLossy) {
			continue // what is known already explains the silence, short of a proof of more
		}
		switch {
		case v == gone:
			if c != nil {
				j.close(c, g, "superseded: "+s.hop.Key.Via()+" is found gone")
			}
			j.openCase(s, g, ruleOf(s), c)
		case v == unexplained && c == nil && s.life == lifeAlive && len(s.elsewhere) > 0 && len(s.also) == 0:
			j.openCase(s, g, ruleFrontGone, nil)
		case v == unexplained && c == nil && j.joins(s, g):
		case v == unexplained && c == nil:
			j.openCase(s, g, ruleUnexplained, nil)
		}
	}
}
