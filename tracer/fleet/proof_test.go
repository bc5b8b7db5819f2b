package fleet

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/event"
)

// puts stores a message with the rights of the hub's own account, as a mistake of a server's configuration lets others.
func (w *world) puts(m *nats.Msg) uint64 {
	w.t.Helper()
	js, err := jetstream.New(w.hub.nc)
	if err != nil {
		w.t.Fatal(err)
	}
	ack, err := js.PublishMsg(w.t.Context(), m)
	if err != nil {
		w.t.Fatal(err)
	}
	return ack.Sequence
}

func line(e event.Event) []byte { return pack(append(event.AppendJSON(nil, &e), '\n')) }

// copied is a stored message as an answer of the server has it, under another subject.
func copied(m message, subject string) *nats.Msg {
	out := nats.NewMsg(subject)
	out.Data = m.data
	for name, all := range m.header {
		out.Header[name] = all
	}
	return out
}

// TestTheHubsWordIsProven puts messages under the hub's subject that are not the hub's: none is believed, each is counted, and
// named with its sequence.
func TestTheHubsWordIsProven(t *testing.T) {
	w := newWorld(t)
	h := w.newHub(nobody{})
	removed := event.Event{Type: event.NodeChanged, Time: time.Now().UTC(), Source: "kube", ID: event.ID{Origin: "kube-u", N: 7}, Body: &event.NodeFact{What: "removed", Node: event.Node{Name: "node-b.example"}}}
	h.tell([]event.Event{removed}) // an honest word, once
	var genuine message
	until(t, "stored", func() bool {
		for _, m := range storedBy(t, w.hub, StreamFacts, subjectHub) {
			genuine = m
		}
		return genuine.seq != 0
	})
	unsigned := nats.NewMsg(subjectHub)
	unsigned.Data = line(removed)
	other := nats.NewMsg(subjectHub)
	other.Data = line(removed)
	_, key, _ := ed25519.GenerateKey(nil)
	sign(key, other)
	changed := copied(genuine, subjectHub)
	changed.Header = nats.Header{}
	for _, name := range append([]string{headerProof}, proven...) {
		if v := genuine.header.Get(name); v != "" && name != jetstream.MsgIDHeader {
			changed.Header.Set(name, v)
		}
	}
	changed.Data = line(event.Event{Type: event.NodeAsked, Time: time.Now().UTC(), Source: "kube", Body: &event.Asked{Asked: event.Reply{Node: "node-b.example", Answer: event.AnswerNone}}})
	again := nats.NewMsg(subjectHub) // the same words, without the id by which the server would know them
	again.Data = genuine.data
	again.Header.Set(headerProof, genuine.header.Get(headerProof))
	again.Header.Set(headerSent, genuine.header.Get(headerSent))
	forged := map[uint64]bool{}
	for _, m := range []*nats.Msg{unsigned, other, changed, again, {Subject: subjectHub}, {Subject: "midhop.facts.x", Data: line(removed)}} {
		forged[w.puts(m)] = true
	}
	log := &records{}
	in, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	in.proof, in.passed.log = newProof(h.public()), slog.New(slog.NewTextHandler(log, nil))
	believed := 0
	for _, m := range w.stored(StreamFacts, allFacts) {
		events := in.take(&m)
		if believed += len(events); forged[m.seq] && len(events) > 0 {
			t.Errorf("message %d is believed: %s of %s", m.seq, events[0].Type, events[0].Source)
		}
	}
	if s := in.Stats(); believed != 1 || s.Foreign != uint64(len(forged)) {
		t.Errorf("%d events, want the honest one; %s", believed, s)
	}
	if !log.has("a message in a stream was passed over", "it is not signed", "its signature is not the hub's", "nobody tells anything there", "sequence=2") {
		t.Errorf("told: %s", log.text.String())
	}
	// A repetition under the very same id, once the server has forgotten the id.
	late := genuine
	late.seq, late.stored = 1000, genuine.stored.Add(time.Minute)
	if events := in.take(&late); len(events) != 0 {
		t.Error("a repetition is believed")
	}
	fresh, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	fresh.proof = newProof(h.public())
	late.stored = genuine.stored.Add(time.Hour)
	if events := fresh.take(&late); len(events) != 0 {
		t.Error("a repetition of an hour ago is believed by whoever has not met the first")
	}
}

// TestPeersHaveOneKey starts two hubs on one server at the same moment, and one later.
func TestPeersHaveOneKey(t *testing.T) {
	w := newWorld(t)
	js, err := jetstream.New(w.hub.nc)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan ed25519.PrivateKey, 2)
	for range 2 {
		go func() {
			key, err := hubKey(t.Context(), js, 1)
			if err != nil {
				t.Error(err)
			}
			got <- key
		}()
	}
	first := <-got
	if !first.Equal(<-got) || !first.Equal(w.newHub(nobody{}).key) {
		t.Error("hubs of one cluster have keys of their own")
	}
	reader := w.mustDial("", "secret-r")
	if askKey(reader) != nil {
		t.Error("a key without a hub that runs")
	}
	clock, err := answerClock(w.hub.nc, first.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = clock.Unsubscribe() }()
	if err := w.hub.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if key := askKey(reader); !key.Equal(first.Public()) {
		t.Error("a reader does not learn the key")
	}
}

// TestForeignIncidents starts a hub on a stream of incidents with messages that are no findings.
func TestForeignIncidents(t *testing.T) {
	w := newWorld(t)
	h := w.newHub(nobody{})
	e := event.Event{Type: event.IncidentOpened, Time: time.Now().UTC(), Body: &event.IncidentFinding{Incident: event.Incident{ID: "i-1", Opened: time.Now().UTC()}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.publishFindings(ctx) }()
	if err := h.Write([]event.Event{e}); err != nil {
		t.Fatal(err)
	}
	until(t, "kept", func() bool { return len(w.stored(StreamIncidents, subjectIncidents)) == 1 })
	cancel()
	<-done
	forged := e
	forged.Body = &event.IncidentFinding{Incident: event.Incident{ID: "i-forged", Opened: time.Now().UTC()}}
	for _, data := range [][]byte{nil, []byte("kept"), pack([]byte("{}\n")), line(forged)} {
		w.puts(&nats.Msg{Subject: subjectIncidents, Data: data})
	}
	log := &records{}
	next, err := NewHub(t.Context(), w.hub, HubOptions{Fold: nobody{}, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatalf("the hub does not start: %v", err)
	}
	if n := next.Stats().Passed; n != 4 || len(next.told) != 1 || !next.told[findingID(&e)] {
		t.Errorf("%d messages passed over, %d findings known", n, len(next.told))
	}
	if !log.has("a message in a stream was passed over", "stream="+StreamIncidents, "sequence=2") {
		t.Errorf("told: %s", log.text.String())
	}
	reader := w.mustDial("", "secret-r")
	clock, err := answerClock(w.hub.nc, next.public())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = clock.Unsubscribe() }()
	if err := w.hub.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	all, err := Incidents(t.Context(), reader, time.Now().Add(-time.Hour))
	if err != nil || len(all) != 1 || all[0].ID != "i-1" {
		t.Errorf("a reader gets %v, %v", all, err)
	}
}
