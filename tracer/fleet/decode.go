package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// intake turns the messages of the stream of facts into the events to fold, in their order. What it makes of a message
// depends on that message and those before it, and on nothing else: every reader of the stream makes the same.
type intake struct {
	build   event.Build
	unpack  *unpacker
	proof   *proof // nil: what stands under the hub's subject is the hub's
	passed  skips
	claims  claims
	agents  map[string]*spent // by node
	origins map[string]*account
	agent   time.Time // when the newest message of any agent was stored

	mu    sync.Mutex
	stats IntakeStats
	skews map[string]event.Seconds // by node
}

// account is what is known of one origin's numbers.
type account struct {
	next    uint64    // the number that follows
	at      time.Time // when the newest batch was stored
	dropped uint64    // that the agent said it dropped
}

// IntakeStats counts what came by the stream.
type IntakeStats struct {
	Messages  uint64
	Events    uint64 // handed on
	Duplicate uint64 // messages whose numbers had been seen
	Missing   uint64 // events that neither came nor were told of as dropped
	Dropped   uint64 // events that agents said they dropped
	Refused   uint64 // events that their publisher had no business to tell
	Bad       uint64 // lines and messages that cannot be read
	Over      uint64 // events above their agent's quota
	Foreign   uint64 // messages that are no agent's batch and not proven to be a hub's
	Shifted   uint64 // messages whose times were put right
	Resumed   uint64 // times that nothing had come from any agent for a while
}

func newIntake(build event.Build) (*intake, error) {
	u, err := newUnpacker()
	if err != nil {
		return nil, err
	}
	return &intake{build: build, unpack: u, origins: make(map[string]*account), claims: newClaims(), agents: make(map[string]*spent), skews: make(map[string]event.Seconds)}, nil
}

// Stats may be called from any goroutine.
func (in *intake) Stats() IntakeStats {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stats
}

const (
	// resumeAfter is how long no agent at all may be heard before that says something about the stream and not about
	// them: longer than any gap between the heartbeats of two of them.
	resumeAfter = 2 * time.Second
	// farOff is how far a batch may be from the time it was stored before its dates are put right here.
	farOff = time.Second
	// maxOrigins bounds the accounts: 5,000 agents that each start anew ten times within a stream's age.
	maxOrigins = 50_000
	maxOrigin  = 2*253 + 32 // of bytes: a node's name, and when the agent was started
)

// hubSource is the source of what readers of the stream add to it, each by the stream alone.
const hubSource = "hub"

// take returns the events of one message.
func (in *intake) take(m *message) []event.Event {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.stats.Messages++
	node, fromAgent := strings.CutPrefix(m.subject, subjectFacts)
	if why := in.foreign(m, node, fromAgent); why != nil {
		in.stats.Foreign++
		in.passed.by(StreamFacts, m, why)
		return nil
	}
	var out []event.Event
	if fromAgent {
		if m.stored.Sub(in.agent) > resumeAfter {
			in.stats.Resumed++
			out = append(out, in.own(m, event.StreamStarted, &event.Started{Midhop: in.build, Complete: true}))
		}
		in.agent = m.stored
	}
	skip, lost, fresh := in.settle(m)
	if lost > 0 {
		in.stats.Missing += lost
		out = append(out, in.own(m, event.StreamLost, &event.Lost{Stage: "fleet.gap", Count: lost, Since: m.stored}))
	}
	if !fresh {
		in.stats.Duplicate++
		return out
	}
	var agent *spent
	if fromAgent {
		agent = in.spentBy(node, m.stored)
		whole, beat := agent.admits(m)
		if !whole {
			return append(out, in.above(m, node, agent, beat)...)
		}
	}
	events, bad, err := in.unpack.unpack(m.data)
	if err != nil {
		in.stats.Bad++
		in.passed.by(StreamFacts, m, err)
		return append(out, in.own(m, event.StreamLost, &event.Lost{Stage: "fleet.batch", Count: max(1, countOf(m)), Since: m.stored}))
	}
	if bad > 0 {
		in.stats.Bad += uint64(bad)
		out = append(out, in.own(m, event.StreamLost, &event.Lost{Stage: "fleet.line", Count: uint64(bad), Since: m.stored}))
	}
	events = events[min(skip, uint64(len(events))):]
	if fromAgent && !agent.events.take(float64(len(events)), quotaEventsBurst) {
		all := events
		events = heartbeats(events)
		out = append(out, in.counted(m, agent, uint64(len(all)-len(events))))
	}
	kept := in.admit(events, node, fromAgent)
	in.date(m, node, kept)
	in.stats.Events += uint64(len(kept))
	return append(out, kept...)
}

// above takes a batch above its agent's quota.
func (in *intake) above(m *message, node string, agent *spent, beat bool) []event.Event {
	out := []event.Event{in.counted(m, agent, max(1, countOf(m)))}
	if !beat {
		return out
	}
	events, _, err := in.unpack.unpack(m.data)
	if err != nil {
		return out
	}
	kept := in.admit(heartbeats(events), node, true)
	in.date(m, node, kept)
	return append(out, kept...)
}

// counted tells of events above a quota.
func (in *intake) counted(m *message, agent *spent, n uint64) event.Event {
	agent.over += n
	in.stats.Over += n
	return in.own(m, event.StreamLost, &event.Lost{Stage: "fleet.quota", Count: n, Since: m.stored})
}

// admit leaves those events that their publisher may tell.
func (in *intake) admit(events []event.Event, node string, fromAgent bool) []event.Event {
	kept := events[:0]
	for _, e := range events {
		if !allowed(&e, node, fromAgent) {
			in.stats.Refused++
			continue
		}
		if b, ok := e.Body.(*event.NodeFact); ok {
			if !fromAgent {
				in.claims.learn(b)
			} else if b = in.claims.own(b); b == nil {
				continue
			} else {
				e.Body = b
			}
		}
		kept = append(kept, e)
	}
	return kept
}

// foreign returns why a message is not of whom its subject says, nil where it is.
func (in *intake) foreign(m *message, node string, fromAgent bool) error {
	switch {
	case fromAgent && (len(node) > maxToken || strings.Contains(node, ".")):
		return errors.New("its subject ends in no node")
	case fromAgent:
		if err := notABatch(m); err != nil {
			return err
		}
		return in.absurd(m)
	case m.subject != subjectHub:
		return errors.New("nobody tells anything there")
	case in.proof != nil:
		return in.proof.check(m)
	}
	return nil
}

// Numbers that an agent cannot have reached.
const (
	maxToken  = 3 * 253 // of a name in Kubernetes, each byte of it written as three
	maxRate   = 1_000_000
	maxEvents = maxMessage / 2 // of a batch: no line is shorter
)

// absurd returns why the numbers of a batch cannot be: no agent tells a million events a second.
func (in *intake) absurd(m *message) error {
	first, err := strconv.ParseUint(m.header.Get(headerFirst), 10, 64)
	if n, countErr := strconv.ParseUint(m.header.Get(headerCount), 10, 64); err != nil || countErr != nil || n > maxEvents {
		return errors.New("its numbers cannot be read")
	}
	a := in.origins[m.subject+" "+m.header.Get(headerOrigin)]
	if a == nil || first <= a.next {
		return nil
	}
	if since := m.stored.Sub(a.at); float64(first-a.next) > maxRate*(since.Seconds()+60) {
		return errors.New("its numbers cannot be: there are too many between it and the one before")
	}
	return nil
}

// notABatch returns why a message on an agent's subject is not what an agent's outbox has put there, but an answer that somebody
// had the server put there, or another's message.
func notABatch(m *message) error {
	for _, name := range serverHeaders {
		if len(m.header.Values(name)) > 1 {
			return fmt.Errorf("it was stored with the server's own header %s", name)
		}
	}
	if n := len(m.header.Get(headerOrigin)); n == 0 || n > maxOrigin {
		return fmt.Errorf("it has no %s", headerOrigin)
	}
	return nil
}

// own is an event that this reader adds. Its number is the message's, so that every reader gives it the same.
func (in *intake) own(m *message, t event.Type, b event.Body) event.Event {
	return event.Event{
		Type: t, Time: m.stored, Source: hubSource, Body: b,
		ID: event.ID{Origin: "hub-stream." + strings.ReplaceAll(t.String(), ".", "_"), N: m.seq},
	}
}

// settle enters a message's numbers: how many of its events were seen before, how many are missing before it that nobody
// has told of, and whether anything in it is new.
func (in *intake) settle(m *message) (skip, missing uint64, fresh bool) {
	origin := m.header.Get(headerOrigin)
	first, err := strconv.ParseUint(m.header.Get(headerFirst), 10, 64)
	if err != nil || origin == "" || first == 0 {
		return 0, 0, true // not of an outbox: a single fact under a message id of its own
	}
	count := countOf(m)
	dropped, _ := strconv.ParseUint(m.header.Get(headerDropped), 10, 64)
	key := m.subject + " " + origin
	a := in.origins[key]
	if a == nil {
		if len(in.origins) >= maxOrigins {
			clear(in.origins)
		}
		a = &account{next: first, dropped: dropped} // the stream may have begun before this reader did
		in.origins[key] = a
	}
	a.at = m.stored
	if first > a.next {
		gap := first - a.next
		told := min(gap, dropped-min(dropped, a.dropped))
		in.stats.Dropped += told
		missing = gap - told
		a.dropped += told
	}
	if end := first + count; end > a.next {
		skip = a.next - min(first, a.next)
		a.next = end
		fresh = true
	}
	return skip, missing, fresh
}

func countOf(m *message) uint64 {
	n, _ := strconv.ParseUint(m.header.Get(headerCount), 10, 32)
	return n
}

// What an agent may say of losses and of sources.
const (
	maxLost = 1 << 40
	maxFact = 32
)

// agentStages are where an agent loses events: each name, or what stands before its first dot.
var agentStages = []string{"encode", "file", "head", "ledger", "line", "netlink", "publish", "ring", "sink", "stream", "fold", "kube", "model"}

// known says whether an agent has such a stage.
func known(stage string) bool {
	head, rest, _ := strings.Cut(stage, ".")
	return slices.Contains(agentStages, head) && len(rest) <= maxFact
}

// allowed says whether whoever may publish to a subject may tell such an event there.
func allowed(e *event.Event, node string, fromAgent bool) bool {
	if !e.Type.IsFact() || e.Body == nil {
		return false
	}
	own, isAgent := strings.CutPrefix(e.Source, "agent/")
	if !fromAgent {
		return !isAgent
	}
	if !isAgent || token(own) != node {
		return false
	}
	switch b := e.Body.(type) {
	case *event.NATFact: // of its own table; what is healthy travels by the ledger
		return b.By.Node == own
	case *event.Table:
		return b.Node == "" || b.Node == own
	case *event.NodeFact: // its own addresses; everything else about nodes is the API's to say
		return b.What == "agent" && b.Node.Name == own
	case *event.Lost: // what no agent has seen, it cannot have lost; its stages are of a closed set
		return b.Count <= maxLost && known(b.Stage)
	case *event.Synced: // that a source lags behind is said of the API's
		return b.Behind == "" && len(b.Fact) <= maxFact
	case *event.PodFact, *event.ServiceFact, *event.Asked: // whether another node lives is not an agent's to say
		return false
	}
	return true
}

// date puts a message's times right: those of a publisher that could not measure how far its clock is off, and those that
// lie in the future, which would move the fold's clock there.
func (in *intake) date(m *message, node string, events []event.Event) {
	if node == "" || len(events) == 0 {
		return
	}
	var shift time.Duration
	if off, err := strconv.ParseInt(m.header.Get(headerOffset), 10, 64); err == nil {
		in.skews[node] = event.Seconds(off)
	} else if sent, err := strconv.ParseInt(m.header.Get(headerSent), 10, 64); err == nil {
		late := m.stored.Sub(time.Unix(0, sent)) // the way here included, which is short
		in.skews[node] = event.Seconds(late)
		if late.Abs() > farOff {
			shift = late
		}
	}
	newest := events[0].Time
	for i := range events {
		if events[i].Time.After(newest) {
			newest = events[i].Time
		}
	}
	if ahead := newest.Add(shift).Sub(m.stored); ahead > farOff {
		shift -= ahead
	}
	if shift == 0 {
		return
	}
	in.stats.Shifted++
	for i := range events {
		events[i].Time = events[i].Time.Add(shift)
	}
}

// String is for the log.
func (s IntakeStats) String() string {
	return fmt.Sprintf("%d messages, %d events, %d duplicate, %d missing, %d dropped by agents, %d refused, %d bad, %d foreign, %d over quotas, %d shifted",
		s.Messages, s.Events, s.Duplicate, s.Missing, s.Dropped, s.Refused, s.Bad, s.Foreign, s.Over, s.Shifted)
}
