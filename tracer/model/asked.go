package model

import "github.com/midhop/midhop/tracer/event"

// maxAsked is how many nodes' answers are remembered: whoever asks names nodes that connections cross.
const maxAsked = 4096

// Asked is the newest answer of a node to the question whether it lives.
type Asked struct {
	event.Asked
	Sent Instant // when it was asked
	At   Instant // when it answered, or was waited for no longer
	Fact string  // id
}

// Lives says whether the node answered.
func (a *Asked) Lives() bool { return a.Asked.Asked.Answer.Lives() }

// Silent says whether the node did not answer while a healthy one did: nothing else counts as silence.
func (a *Asked) Silent() bool {
	return a.Asked.Asked.Answer == event.AnswerNone && a.Control != nil && a.Control.Answer.Lives()
}

func (m *Model) applyAsked(ev *event.Event, b *event.Asked, t int64) {
	name := b.Asked.Node
	old, known := m.asked[name]
	switch {
	case known && old.At > Instant(t):
		return
	case !known && len(m.asked) >= maxAsked:
		m.evicted["model.asked"]++
		return
	}
	m.asked[name] = Asked{Asked: *b, Sent: Instant(t - int64(b.Asked.Took)), At: Instant(t), Fact: idText(ev.ID)}
	m.urgent++
}

// AskedOf returns a node's newest answer to the question whether it lives, false where it was never asked.
func (m *Model) AskedOf(node string) (Asked, bool) {
	a, ok := m.asked[node]
	return a, ok
}
