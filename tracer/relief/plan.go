package relief

import (
	"cmp"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// rules whose incidents leave sockets behind that nothing will revive: what joined the two ends of each connection, or
// the other end, is gone. Sockets behind a culprit of another rule (loss, a closed window) may still recover.
var rules = []string{"node-gone", "node-rebooted", "nat-lost", "peer-unreachable"}

// Target is one socket to close. Its JSON form goes to the process that closes it.
type Target struct {
	Cookie uint64         `json:"cookie"` // SO_COOKIE: the number is never given twice while the machine runs
	Family event.Family   `json:"family"`
	Local  event.Endpoint `json:"local"`
	Peer   event.Endpoint `json:"peer"`
	// Heard is the newest receive that the verdict knows of: a later one is progress. Zero where none is known; then the
	// socket must still be unanswered (icsk_retransmits or icsk_probes_out) when its turn comes.
	Heard time.Time `json:"heard,omitzero"`
}

// Space is the sockets to close in one network namespace.
type Space struct {
	Netns   uint32 // inode number
	PIDs    []int32
	Targets []Target
	Views   []model.SocketView // of the targets, for people
}

// Plan is what relief would do about one incident.
type Plan struct {
	Incident event.Incident
	Via      string
	Spaces   []Space
	// LeftAlone counts sockets that cross the culprit and have not been shown to be dead: idle ones behind a culprit whose
	// end is inferred and not proved.
	LeftAlone int
	// Unreachable counts sockets without cookie or owner: they cannot be named beyond doubt.
	Unreachable int
}

// Sockets is how many sockets the plan closes.
func (p *Plan) Sockets() (n int) {
	for i := range p.Spaces {
		n += len(p.Spaces[i].Targets)
	}
	return n
}

// Covers says whether relief acts on incidents of this kind: on open ones that name what is gone.
func Covers(in *event.Incident) bool {
	return !in.Closed.OK && in.Culprit.Kind != event.CulpritUnknown && slices.Contains(rules, in.Rule)
}

// Make plans the relief of an incident from the sockets that cross its culprit. A stalled socket has proved itself dead; one
// that has not noticed yet is taken only where its culprit's end is proved.
func Make(in event.Incident, via string, sockets []model.SocketView) Plan {
	p := Plan{Incident: in, Via: via}
	at := make(map[uint32]int)
	for _, v := range sockets {
		dead := v.Status == model.StatusStalled || v.Status == model.StatusPresumed && in.Culprit.Sure == event.Proved
		switch {
		case !dead:
			p.LeftAlone++
			continue
		case v.Socket.Cookie == 0 || v.Socket.Owner.PID == 0:
			p.Unreachable++
			continue
		}
		i, ok := at[v.Socket.Netns]
		if !ok {
			i = len(p.Spaces)
			at[v.Socket.Netns] = i
			p.Spaces = append(p.Spaces, Space{Netns: v.Socket.Netns})
		}
		s := &p.Spaces[i]
		if !slices.Contains(s.PIDs, v.Socket.Owner.PID) {
			s.PIDs = append(s.PIDs, v.Socket.Owner.PID)
		}
		s.Targets = append(s.Targets, Target{
			Cookie: v.Socket.Cookie, Family: v.Socket.Family, Local: v.Socket.Local, Peer: v.Socket.Peer, Heard: v.LastHeard,
		})
		s.Views = append(s.Views, v)
	}
	slices.SortFunc(p.Spaces, func(a, b Space) int { return cmp.Compare(a.Netns, b.Netns) })
	return p
}

// Outcome is what became of one target.
type Outcome string

// The outcomes.
const (
	Closed   Outcome = "closed"   // the application has its error (ECONNABORTED, tcp_abort)
	Progress Outcome = "progress" // it received something since it was judged: left alone
	Gone     Outcome = "gone"     // it was closed already, or another socket has its place
	Failed   Outcome = "failed"   // Err says why
)

// Result is the outcome of one target.
type Result struct {
	Cookie  uint64    `json:"cookie"`
	Outcome Outcome   `json:"outcome"`
	Time    time.Time `json:"time"` // when it was so
	Err     string    `json:"err,omitempty"`
}

// Fact is what the stream says of a closed socket.
func Fact(source string, at time.Time, s event.Socket, p event.Progress) event.Event {
	return event.Event{Type: event.TCPClosed, Time: at.UTC(), Source: source, Body: &event.TCPFact{Socket: s, TCP: p, How: "relief"}}
}
