package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/event"
)

// state is what an attempt may not change: how each stream is made and how many messages each of its subjects has.
func (d *door) state(t testing.TB) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out := make(map[string]string)
	list := d.js.ListStreams(ctx)
	var names []string
	for info := range list.Info() {
		names = append(names, info.Config.Name)
	}
	if list.Err() != nil {
		t.Fatal(list.Err())
	}
	for _, name := range names {
		s, err := d.js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"), jetstream.WithDeletedDetails(true))
		if err != nil {
			t.Fatal(err)
		}
		c := info.Config
		c.Metadata = nil
		out[name] = fmt.Sprintf("%+v made %s, first %d, deleted %v, consumers %d", c, info.Created, info.State.FirstSeq, info.State.Deleted, info.State.Consumers)
		for subject, n := range info.State.Subjects {
			out[name+" "+subject] = fmt.Sprint(n)
		}
	}
	return out
}

// asked and answers are what a hostile client combines: what it may ask for, and where it would have the answer go.
func (id Identity) asked() []string { return id.asks() }

func answers() []string {
	out := []string{
		subjectHub, subjectIncidents, subjectFacts + token("node-b.example"), subjectLedger + token("node-b.example"), subjectFacts + "nobody",
		subjectLedger + "nobody", "midhop.facts.x", "midhop.ledger.x", "$JS.API.INFO", "$JS.API.STREAM.CREATE.X", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.AUTH",
		"$JS.ACK.X", "_R_.x", "midhop.hub.key",
	}
	for _, s := range []string{StreamFacts, StreamLedger, StreamIncidents} {
		for _, call := range []string{
			"STREAM.DELETE.", "STREAM.PURGE.", "STREAM.UPDATE.", "STREAM.CREATE.", "STREAM.MSG.DELETE.", "STREAM.MSG.GET.", "STREAM.SNAPSHOT.", "STREAM.RESTORE.",
			"STREAM.PEER.REMOVE.", "STREAM.LEADER.STEPDOWN.", "CONSUMER.CREATE.", "DIRECT.GET.", "STREAM.INFO.", "CONSUMER.NAMES.",
		} {
			out = append(out, "$JS.API."+call+s)
		}
	}
	return out
}

// bodies are what is asked with: nothing, what is not there (the answer is empty, which JetStream takes for a full request), what
// is there, and a fact.
func bodies(node string) [][]byte {
	e := event.Event{Type: event.NodeChanged, Time: time.Now().UTC(), Source: "kube", Body: &event.NodeFact{What: "removed", Node: event.Node{Name: "node-b.example"}}}
	return [][]byte{
		nil, []byte(`{"seq":999999999}`), []byte(`{"last_by_subj":"midhop.none"}`), []byte(`{"last_by_subj":"` + subjectFacts + token(node) + `"}`),
		[]byte(`{"seq":1,"next_by_subj":">","batch":8}`), pack(append(event.AppendJSON(nil, &e), '\n')),
	}
}

// hostile are the connections of whoever has stolen what leaks first: an agent's token and a reader's.
var hostile = map[string]Identity{
	"secret-a": {Role: RoleAgent, Node: "node-a"},
	"secret-r": {Role: RoleReader, Name: "eve"},
}

// TestNoAnswerLandsInAStream asks for everything that an agent and a reader may ask for, and has the answer go to where it would
// be stored, or be taken for a request by JetStream, or trace the way of a message to there.
func TestNoAnswerLandsInAStream(t *testing.T) {
	eachDoor(t, func(t *testing.T, d *door) {
		own := "node-a"
		fill(t, d, own)
		before := d.state(t)
		for secret, id := range hostile {
			nc := d.knock(t, secret, nats.CustomInboxPrefix(strings.TrimSuffix(id.hears(), ".>")))
			nc.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
			n := 0
			for _, ask := range id.asked() {
				for _, reply := range answers() {
					for _, body := range bodies(own) {
						n++
						for _, traced := range []bool{false, true} {
							m := nats.NewMsg(ask)
							m.Data, m.Reply = body, reply
							if traced { // the server tells how a message went to whom the message says
								m.Reply = ""
								m.Header.Set("Nats-Trace-Dest", reply)
							}
							if err := nc.PublishMsg(m); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
			}
			// Answers come in turn: what was asked before this has been answered, whoever got it.
			for _, ask := range id.asked() {
				if _, err := nc.Request(ask, nil, patience); err != nil {
					t.Fatalf("%s: %s: %v", id.Role, ask, err)
				}
			}
			t.Logf("%s: %d pairs of a question and where its answer should go", id.Role, n)
		}
		d.unchanged(t, before, own)
	})
}

// fill has an honest agent and the hub tell a little, so that there is something to destroy.
func fill(t testing.TB, d *door, node string) {
	t.Helper()
	nc := d.knock(t, "secret-a", nats.CustomInboxPrefix(agentInbox(node)))
	for i := range 20 {
		e := heartbeat("agent/"+node, uint64(i+1))
		for _, to := range []string{subjectFacts, subjectLedger} {
			m := nats.NewMsg(to + token(node))
			m.Data = pack(append(event.AppendJSON(nil, &e), '\n'))
			m.Header.Set(headerOrigin, "agent/"+node+"-1")
			m.Header.Set(headerFirst, fmt.Sprint(i+1))
			m.Header.Set(headerCount, "1")
			if ack, err := nc.RequestMsg(m, patience); err != nil || strings.Contains(string(ack.Data), `"error"`) {
				t.Fatalf("not stored: %v", err)
			}
		}
	}
	if _, err := d.js.Publish(t.Context(), subjectIncidents, []byte("kept")); err != nil {
		t.Fatal(err)
	}
}

// unchanged requires that nothing but a node's own subjects, and what the running hub says itself, has another state than before.
func (d *door) unchanged(t testing.TB, before map[string]string, own string) {
	t.Helper()
	after := d.state(t)
	for _, is := range []map[string]string{before, after} {
		for _, subject := range []string{StreamFacts + " " + subjectFacts + token(own), StreamLedger + " " + subjectLedger + token(own)} {
			delete(is, subject)
		}
	}
	// The hub beats.
	hub := StreamFacts + " " + subjectHub
	delete(before, hub)
	delete(after, hub)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if before[name] != after[name] {
			t.Errorf("%s was changed:\n%s\n%s", name, before[name], after[name])
		}
		delete(before, name)
	}
	for name := range before {
		t.Errorf("%s is gone", name)
	}
	for _, m := range storedBy(t, d.hub, StreamFacts, subjectHub) {
		if m.header.Get(headerOrigin) == "" && m.header.Get(jetstream.MsgIDHeader) == "" {
			t.Errorf("message %d of the hub's subject is not the hub's: %q %.60q", m.seq, m.header, m.data)
		}
	}
}

// storedBy returns every message of a stream's subjects.
func storedBy(t testing.TB, c *Conn, stream, filter string) []message {
	t.Helper()
	f, err := follow(c, stream, filter, 1, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	var out []message
	if err := f.all(context.Background(), func(m *message) error { out = append(out, *m); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzHostileAgent plays whoever has stolen a token, against the real subject rules: it publishes what it likes to where it likes,
// with any reply subject and header. Nothing but what is its own may change.
func FuzzHostileAgent(f *testing.F) {
	f.Add(false, subjectFacts+"node-a", subjectHub, "Nats-Trace-Dest", subjectIncidents, []byte(`{"seq":999999999}`))
	f.Add(true, directGet+StreamFacts, "$JS.API.STREAM.DELETE."+StreamFacts, "Nats-Msg-Id", "x", []byte(`{"seq":999999999}`))
	f.Add(true, directGet+StreamFacts+".midhop.facts.hub", "$JS.API.STREAM.PURGE."+StreamLedger, "Status", "503", []byte(nil))
	f.Add(false, subjectClock, "$JS.API.STREAM.MSG.DELETE."+StreamIncidents, "Nats-Expected-Stream", StreamFacts, []byte(`{"seq":1}`))
	f.Add(true, "$JS.FC.MIDHOP", "$JS.ACK.MIDHOP_FACTS", "Nats-Request-Info", `{"acc":"$G"}`, []byte(nil))
	d := embeddedDoor(f, false)
	fill(f, d, "node-a")
	agent := d.knock(f, "secret-a", nats.CustomInboxPrefix(agentInbox("node-a")))
	reader := d.knock(f, "secret-r", nats.CustomInboxPrefix(readerInboxes+".fuzz"))
	for _, nc := range []*nats.Conn{agent, reader} {
		nc.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	}
	before := d.state(f)
	f.Fuzz(func(t *testing.T, reads bool, subject, reply, header, text string, body []byte) {
		nc, ask := agent, subjectClock
		if reads {
			nc, ask = reader, directGet+StreamLedger
		}
		m := nats.NewMsg(subject)
		m.Reply, m.Data = reply, body
		if header != "" {
			m.Header[header] = []string{text}
		}
		if err := nc.PublishMsg(m); err != nil {
			return // the client itself knows that it is no message
		}
		if _, err := nc.Request(ask, nil, patience); err != nil {
			if nc.IsConnected() {
				t.Fatal(err)
			}
			until(t, "connected again", nc.IsConnected) // it had said what is no protocol
		}
		d.unchanged(t, maps.Clone(before), "node-a")
	})
}
