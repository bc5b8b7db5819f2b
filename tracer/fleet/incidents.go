package fleet

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/event"
)

// Write implements a Sink of the fold: findings about incidents go to their stream, and incidents that name a node have
// its ledger recalled. It never waits for the network.
func (h *Hub) Write(batch []event.Event) error {
	for i := range batch {
		e := batch[i]
		b, ok := e.Body.(*event.IncidentFinding)
		if !ok {
			continue
		}
		e.Seq = 0
		select {
		case h.findway <- e:
		default: // bounded: a stream that is away for a thousand findings is repaired by the hub's next start
			h.log.Warn("a finding could not be kept", "incident", b.Incident.ID)
		}
		if e.Type != event.IncidentClosed && b.Incident.Culprit.Kind == event.CulpritNode {
			select {
			case h.wanted <- *b:
			default: // the next update asks again
			}
		}
	}
	return nil
}

// findingID is the same for one finding in every hub and after every restart: findings carry their tick's time.
func findingID(e *event.Event) string {
	b, ok := e.Body.(*event.IncidentFinding)
	if !ok {
		return ""
	}
	return b.Incident.ID + " " + e.Type.String() + " " + strconv.FormatInt(e.Time.UnixNano(), 10)
}

// publishFindings keeps findings that the stream does not have yet.
func (h *Hub) publishFindings(ctx context.Context) {
	for {
		var e event.Event
		select {
		case <-ctx.Done():
			return
		case e = <-h.findway:
		}
		id := findingID(&e)
		if h.told[id] {
			continue
		}
		msg := nats.NewMsg(subjectIncidents)
		msg.Data = pack(append(event.AppendJSON(nil, &e), '\n'))
		msg.Header.Set(jetstream.MsgIDHeader, id)
		for ctx.Err() == nil {
			h.sign(msg)
			if _, err := h.js.PublishMsg(ctx, msg); err == nil {
				h.told[id] = true
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(retryEvery):
			}
		}
	}
}

// readIncidents learns which findings the stream has, and how far back the fold has to begin so that it comes to the
// incidents that are open by itself, under the same ids.
func (h *Hub) readIncidents(ctx context.Context) (back time.Duration, err error) {
	open := make(map[string]time.Time)
	err = eachFinding(ctx, h.conn, h.public(), &h.passed, time.Unix(0, 0), func(e *event.Event, b *event.IncidentFinding) {
		h.told[findingID(e)] = true
		if e.Type == event.IncidentClosed {
			delete(open, b.Incident.ID)
		} else {
			open[b.Incident.ID] = b.Incident.Opened
		}
	})
	for _, at := range open {
		back = max(back, time.Since(at)+warmUp)
	}
	return back, err
}

// eachFinding calls f for every finding about incidents that was kept since from, in order. What is no hub's finding is passed
// over; without a key, whatever can be read is taken for one.
func eachFinding(ctx context.Context, c *Conn, key ed25519.PublicKey, passed *skips, from time.Time, f func(*event.Event, *event.IncidentFinding)) error {
	u, err := newUnpacker()
	if err != nil {
		return err
	}
	var proof *proof
	if key != nil {
		proof = newProof(key)
	}
	r, err := follow(c, StreamIncidents, subjectIncidents, 0, from)
	if err != nil {
		return err
	}
	defer r.close()
	return r.all(ctx, func(m *message) error {
		if proof != nil {
			if err := proof.check(m); err != nil {
				passed.by(StreamIncidents, m, err)
				return nil
			}
		}
		events, bad, err := u.unpack(m.data)
		if err == nil && bad > 0 {
			err = fmt.Errorf("%d lines cannot be read", bad)
		}
		if err != nil {
			passed.by(StreamIncidents, m, err)
		}
		for i := range events {
			if b, ok := events[i].Body.(*event.IncidentFinding); ok {
				f(&events[i], b)
			}
		}
		return nil
	})
}

// Incident is what the stream has of one incident.
type Incident struct {
	event.Incident
	Updates int
	Told    time.Time // the newest finding
}

// Incidents returns what hubs have found since a moment, in the order in which the incidents were opened.
func Incidents(ctx context.Context, c *Conn, since time.Time) ([]Incident, error) {
	var out []Incident
	at := make(map[string]int)
	err := eachFinding(ctx, c, askKey(c), &skips{log: c.link.o.Log}, since, func(e *event.Event, b *event.IncidentFinding) {
		i, ok := at[b.Incident.ID]
		if !ok {
			i = len(out)
			at[b.Incident.ID] = i
			out = append(out, Incident{})
		} else if e.Type == event.IncidentUpdated {
			out[i].Updates++
		}
		out[i].Incident, out[i].Told = b.Incident, e.Time
	})
	return out, err
}
