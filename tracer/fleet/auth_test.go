package fleet

import (
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/midhop/midhop/tracer/event"
)

// TestNobodyComesInWithoutAToken knocks with nothing, with a guess, and with a token that has expired.
func TestNobodyComesInWithoutAToken(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	for name, secret := range map[string]string{"none": "", "a guess": "secret-x", "expired": "secret-c", "another token's start": "secret-"} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.raw(secret); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("connecting gives %v, want %v", err, nats.ErrAuthorization)
			}
		})
	}
	if _, err := w.raw("secret-a"); err != nil {
		t.Errorf("a good token is refused: %v", err)
	}
}

// denied publishes and requires that the server says no, and that nothing of it arrives.
func denied(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	said := make(chan error, 8)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err })
	if err := nc.Publish(subject, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-said:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("publishing to %s gives %v", subject, err)
		}
	case <-time.After(patience):
		t.Errorf("publishing to %s is allowed", subject)
	}
}

// TestAnAgentSpeaksForItsNodeOnly holds an agent's token and tries everything that is not its own.
func TestAnAgentSpeaksForItsNodeOnly(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	nc, err := w.raw("secret-a")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{
		subjectFacts + token("node-b.example"), subjectFacts + "node-a.more", subjectLedger + token("node-b.example"), subjectHub, subjectIncidents,
		"$JS.API.STREAM.PURGE." + StreamFacts, "$JS.API.STREAM.DELETE." + StreamFacts, "$JS.API.DIRECT.GET." + StreamFacts,
		"$JS.API.CONSUMER.CREATE." + StreamFacts, readerInboxes + ".x", agentInbox("node-b.example") + ".x", "$SYS.REQ.SERVER.PING",
	} {
		denied(t, nc, subject)
	}
	for _, subject := range []string{">", allFacts, "_INBOX.>", agentInbox("node-b.example") + ".>", readerInboxes + ".>", subjectClock} {
		said := make(chan error, 8)
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err })
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		_ = nc.Flush()
		select {
		case <-said:
		case <-time.After(patience):
			t.Errorf("an agent may listen to %s", subject)
		}
	}
	if n := len(w.stored(StreamFacts, allFacts)); n != 0 {
		t.Errorf("%d messages were stored all the same", n)
	}
}

// TestATokenOfSeveralNodes speaks for those that it names and for no other.
func TestATokenOfSeveralNodes(t *testing.T) {
	tokens, err := ReadTokens(strings.NewReader("agent node-a,node-b secret\n"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := tokens.Authenticate(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	user, err := userOf(id)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{subjectClock, subjectFacts + "node-a", subjectLedger + "node-a", subjectFacts + "node-b", subjectLedger + "node-b"}
	if got := user.Permissions.Publish.Allow; !slices.Equal(got, want) {
		t.Errorf("it may publish to %q", got)
	}
	if got := user.Permissions.Subscribe.Allow; !slices.Equal(got, []string{agentInbox("node-a") + ".>"}) {
		t.Errorf("it may listen to %q", got)
	}
	if _, err := ReadTokens(strings.NewReader("agent node-a, secret\n")); err == nil {
		t.Error("a node without a name is taken")
	}
}

// TestAReaderDoesNotWrite holds a reader's token and tries to write, also by a consumer that would deliver into a stream.
func TestAReaderDoesNotWrite(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	nc, err := w.raw("secret-r")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{
		subjectFacts + "node-a", subjectLedger + "node-a", subjectHub, subjectIncidents, readerInboxes + ".x",
		"$JS.API.CONSUMER.CREATE." + StreamLedger, "$JS.API.CONSUMER.CREATE." + StreamLedger + ".c." + allLedger,
		"$JS.API.CONSUMER.DURABLE.CREATE." + StreamLedger + ".c", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.UPDATE." + StreamFacts,
		"$JS.API.STREAM.PURGE." + StreamFacts, "$JS.API.STREAM.MSG.DELETE." + StreamFacts, "$JS.API.STREAM.DELETE." + StreamFacts,
	} {
		denied(t, nc, subject)
	}
	for stream, filter := range map[string]string{StreamFacts: allFacts, StreamLedger: allLedger, StreamIncidents: subjectIncidents} {
		if n := len(w.stored(stream, filter)); n != 0 {
			t.Errorf("%s: %d messages were stored all the same", stream, n)
		}
	}
}

// TestAReaderReads is the other half: what a reader's token is for works with it.
func TestAReaderReads(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a"})
	p.Write([]event.Event{heartbeat("agent/node-a", 1)})
	until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == 1 })
	f, err := NewFollower(w.mustDial("", "secret-r"), FollowOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan event.Event, 8)
	run(t, func(stop <-chan struct{}) {
		_ = f.Run(t.Context(), func(batch []event.Event) {
			for _, e := range batch {
				got <- e
			}
		})
	})
	for _, want := range []string{"hub", "agent/node-a"} { // the stream opens, then what it holds
		if e := <-got; e.Source != want {
			t.Errorf("got %s of %s, want one of %s", e.Type, e.Source, want)
		}
	}
}

// TestAnAgentCannotLie publishes to the own subject what is not the own node's to say.
func TestAnAgentCannotLie(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	nc, err := w.raw("secret-a", nats.CustomInboxPrefix(agentInbox("node-a")))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	lies := []event.Event{
		heartbeat("agent/node-b.example", 1), heartbeat("engine", 1), heartbeat("hub", 1), heartbeat("kube", 1),
		{Type: event.StreamStarted, Time: now, Source: "hub", Body: &event.Started{}},
		{Type: event.NodeChanged, Time: now, Source: "agent/node-a", Body: &event.NodeFact{What: "removed", Node: event.Node{Name: "node-a"}}},
		{Type: event.NodeChanged, Time: now, Source: "agent/node-a", Body: &event.NodeFact{What: "agent", Node: event.Node{Name: "node-b.example"}}},
		{Type: event.PodChanged, Time: now, Source: "agent/node-a", Body: &event.PodFact{What: "removed"}},
		{Type: event.NATTable, Time: now, Source: "agent/node-a", Body: &event.Table{Node: "node-b.example"}},
		{Type: event.NodeAsked, Time: now, Source: "agent/node-a", Body: &event.Asked{Asked: event.Reply{Node: "node-b.example", Answer: event.AnswerNone}}},
		{Type: event.NATRecalled, Time: now, Source: "agent/node-a", Body: &event.NATFact{By: event.By{Node: "node-b.example"}}},
		{Type: event.IncidentOpened, Time: now, Source: "agent/node-a", Body: &event.IncidentFinding{}},
	}
	var lines []byte
	for i := range lies {
		lines = append(event.AppendJSON(lines, &lies[i]), '\n')
	}
	send := func(stored bool, header map[string]string) {
		t.Helper()
		msg := nats.NewMsg(subjectFacts + "node-a")
		msg.Data = pack(lines)
		for name, text := range header {
			msg.Header.Set(name, text)
		}
		ack, err := nc.RequestMsg(msg, patience)
		if err != nil || strings.Contains(string(ack.Data), `"error"`) == stored {
			t.Fatalf("stored: %v, %v %s", !stored, err, ack.Data)
		}
	}
	send(true, map[string]string{headerOrigin: "o", headerFirst: "1", headerCount: "12", "Status": "204"})
	send(false, map[string]string{headerOrigin: "o", "Nats-Rollup": "all"})
	send(false, map[string]string{headerOrigin: "o", "Nats-TTL": "1s"})
	_, believed := w.folded()
	if believed.Refused != uint64(len(lies)) || believed.Foreign != 0 {
		t.Errorf("%d events refused, want %d: %s", believed.Refused, len(lies), believed)
	}
	// The same as if the server had put it there as an answer, or nobody's outbox.
	for _, name := range serverHeaders {
		send(true, map[string]string{headerOrigin: "o", headerFirst: "100", headerCount: "12", name: subjectHub})
	}
	send(true, map[string]string{headerFirst: "200", headerCount: "12"})
	events, stats := w.folded()
	for _, e := range events {
		if e.Source != hubSource || e.Type != event.StreamStarted || !strings.HasPrefix(e.ID.Origin, "hub-stream.") {
			t.Errorf("%s of %s was believed", e.Type, e.Source)
		}
	}
	if stats.Refused != believed.Refused || stats.Foreign != uint64(len(serverHeaders))+1 {
		t.Errorf("%d messages are foreign, want %d: %s", stats.Foreign, len(serverHeaders)+1, stats)
	}
}

// TestAServerIsNotOpenByMistake asks for a server that others can reach, without a lock on its door.
func TestAServerIsNotOpenByMistake(t *testing.T) {
	tokens, err := ReadTokens(strings.NewReader(tokenList))
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]ServerOptions{
		"no TLS":    {Listen: "0.0.0.0:0", Auth: tokens},
		"no tokens": {Listen: "[::]:0", TLS: &tls.Config{}},
		"neither":   {Listen: ":0"},
	} {
		var unsafe *UnsafeError
		if s, err := StartServer(o); !errors.As(err, &unsafe) {
			t.Errorf("%s: got %v, want an UnsafeError", name, err)
			if s != nil {
				s.Close()
			}
		}
	}
}

// TestATokenStaysOffTheWire refuses to show a token where others can read it.
func TestATokenStaysOffTheWire(t *testing.T) {
	for url, want := range map[string]bool{
		"nats://10.0.0.1:4222": false, "10.0.0.1:4222": false, "tls://127.0.0.1:1,nats://hub:4222": false, "nats://127.0.0.1.example.com:4222": false,
		"ws://10.0.0.1": false,
	} {
		_, err := Dial(DialOptions{URL: url, TokenFile: "/dev/null", Node: "n"})
		if ok := !errors.Is(err, ErrPlain); ok != want {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestReadTokensRefuses(t *testing.T) {
	for _, text := range []string{"agent node-a", "admin x y", "agent a b not-a-time", "reader a b c d"} {
		if _, err := ReadTokens(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestBombs stores what expands without end, and what is not of this format at all.
func TestBombs(t *testing.T) {
	in, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for name, data := range map[string][]byte{
		"a bomb": pack(make([]byte, 64<<20)), "not compressed": []byte("{}\n"), "empty": nil, "cut off": pack([]byte("{}\n"))[:5],
	} {
		before := in.Stats()
		n++
		out := in.take(&message{seq: n, subject: subjectFacts + "n", stored: time.Now(), header: nats.Header{headerOrigin: {"o"}, headerFirst: {itoa(n)}, headerCount: {"1"}}, data: data})
		after := in.Stats()
		if name != "empty" && after.Bad != before.Bad+1 || after.Events != before.Events {
			t.Errorf("%s: %s", name, after)
		}
		for _, e := range out {
			if e.Source != hubSource {
				t.Errorf("%s: %s of %s", name, e.Type, e.Source)
			}
		}
	}
}

// FuzzIntake lets whoever may publish say anything: nothing but facts of that node about itself may come of it.
func FuzzIntake(f *testing.F) {
	e := heartbeat("agent/n", 1)
	f.Add(event.AppendJSON(nil, &e), "1", "1", "0")
	f.Add([]byte("{}"), "18446744073709551615", "18446744073709551615", "18446744073709551615")
	in, err := newIntake(event.Build{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, lines []byte, first, count, dropped string) {
		for _, e := range in.take(&message{
			seq: 1, subject: subjectFacts + "n", stored: time.Now(), data: pack(lines),
			header: nats.Header{headerOrigin: {"o"}, headerFirst: {first}, headerCount: {count}, headerDropped: {dropped}, headerSent: {dropped}, headerOffset: {count}},
		}) {
			if e.Source != hubSource && e.Source != "agent/n" || !e.Type.IsFact() {
				t.Errorf("%s of %s", e.Type, e.Source)
			}
			if e.Time.After(time.Now().Add(2 * farOff)) {
				t.Errorf("%s is dated %s", e.Type, e.Time)
			}
		}
	})
}
