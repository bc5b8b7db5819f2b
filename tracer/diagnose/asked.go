package diagnose

import (
	"net/netip"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/model"
)

// Question is what a judge would like to know: whether a node lives through which nothing comes any more, and of which
// nothing else shows its life or death. Whoever puts it tells the answer as a fact, node.asked; a recording has that.
type Question struct {
	Node    Address
	Healthy []Address // nodes that are known to live, best first: silence counts only where one answers the same question
	From    []string  // nodes whose machines hold the unanswered sockets, empty where the machine has no name
}

// Address is a node and where to reach it.
type Address struct {
	Node string
	IP   netip.Addr
}

// OnQuestion has f called with every question, from within [Judge.At] and again and again while the answer is missing. f
// must not block; what it does must come back as facts only.
func (j *Judge) OnQuestion(f func(Question)) { j.question = f }

// askNode weighs what the node answered when it was asked in this silence. An answer rules it out, whatever its agent does.
// That it kept silent counts where nothing else shows its life or death: its agent's newest word is older.
func (j *Judge) askNode(s *suspect) {
	q, ok := j.model.AskedOf(s.hop.Key.Name)
	switch {
	case !ok, s.outlived() && q.Sent <= s.agent.Heard:
	case q.Lives() && q.Sent > s.first.Add(j.apart(s, q.By.Node)):
		s.life, s.asked = lifeAlive, &q
	case q.Silent() && q.Sent > s.since && s.undecided():
		s.life, s.asked = lifeMute, &q
	}
}

// undecided says whether nothing shows the node's life or death now.
func (s *suspect) undecided() bool {
	switch s.life {
	case lifeUnknown, lifeLost:
		return true
	case lifeAlive:
		return s.asked == nil && s.outlived()
	case lifeEnded:
		return !s.worked()
	}
	return false
}

// apart is how far the clock of the machine that asked may be from the clocks that dated the silence.
func (j *Judge) apart(s *suspect, by string) (d time.Duration) {
	for _, l := range s.lanes {
		if l.Node != by {
			d = skew
		}
	}
	return d
}

// wonder asks for an answer where one would help: the node's own life or death is not known, and something else makes
// progress, so that the silence is not the looking machine's own.
func (j *Judge) wonder(s *suspect) {
	if j.question == nil || s.hop.Key.Kind != model.KindNode || !j.accusable(s) || !s.undecided() {
		return
	}
	q := Question{Node: j.addressOf(s.hop.Key.Name, s.hop.IP)}
	for _, l := range s.lanes {
		if s.sources[l.Source] {
			q.From = append(q.From, l.Node)
		}
	}
	for _, p := range s.elsewhere {
		if p.Hop.Kind != model.KindNode {
			continue
		}
		if h, ok := j.model.Hop(p.Hop); ok {
			q.Healthy = append(q.Healthy, j.addressOf(p.Hop.Name, h.IP))
		}
	}
	if len(q.Healthy) > 0 {
		j.question(q)
	}
}

// addressOf is where a node is reached: its internal address where the cluster tells it, else the one that its sockets
// show. Only an address of the same family is sure to be reachable.
func (j *Judge) addressOf(name string, seen netip.Addr) Address {
	node, _ := j.model.Node(name)
	for _, a := range node.Addresses {
		if strings.HasSuffix(a.From, "InternalIP") && a.IP.Is4() == seen.Is4() {
			return Address{name, a.IP}
		}
	}
	return Address{name, seen}
}
