package model

import "github.com/midhop/midhop/tracer/event"

// Turn is a change of one socket that is worth a finding, with all that was known when it happened.
type Turn struct {
	Type event.Type // TCPStall, TCPRecovered, TCPTimeout
	Flow string
	Body event.Stall
}

func (m *Model) turn(id uint32, typ event.Type, t int64, errno string) {
	r := m.socks.At(id)
	if r.flags&(fMirror|fOrphan) != 0 || r.cell == 0 {
		return
	}
	s := m.socketOf(r)
	d := m.deadline(r)
	b := event.Stall{Socket: s, Via: *m.viaOf(r), Clock: d.Clock, Since: Instant(m.pend(r).since).Time(), Errno: errno}
	b.Client, _ = m.clientOf(r)
	if !d.At.IsZero() && typ == event.TCPStall {
		b.Deadline, b.DeadlineIs = event.Known(d.At), d.Is
	}
	if typ != event.TCPStall {
		b.Stalled = event.Known(event.Seconds(t - m.pend(r).since))
	}
	if typ == event.TCPRecovered {
		m.history.recovered(t)
	}
	m.urgent++
	if len(m.turns) >= maxTurns {
		m.evicted["model.turns"]++
		return
	}
	m.turns = append(m.turns, Turn{Type: typ, Flow: event.FlowID(s.Local, s.Peer), Body: b})
}

// maxTurns bounds the changes between two judgements.
const maxTurns = 1 << 17

// Turns hands over the changes since the last call, in the order of the facts.
func (m *Model) Turns() []Turn {
	t := m.turns
	m.turns = nil
	return t
}
