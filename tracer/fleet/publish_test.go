package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/midhop/midhop/tracer/event"
)

// run runs f until the test ends, and waits for it.
func run(t *testing.T, f func(stop <-chan struct{})) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); f(stop) }()
	t.Cleanup(func() { close(stop); <-done })
}

func startPublisher(t *testing.T, c *Conn, o PublishOptions) *Publisher {
	t.Helper()
	p, err := NewPublisher(c, o)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(stop <-chan struct{}) {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-stop; cancel() }()
		p.Run(ctx)
	})
	return p
}

// nat is a translated connection: a client's to a service address, by a node's address to a pod.
func nat(t event.Type, client, pod string, port uint16) event.Event {
	end := func(ip string, port uint16) event.Endpoint {
		return event.Endpoint{IP: netip.MustParseAddr(ip), Port: port}
	}
	return event.Event{Type: t, Time: time.Now().UTC(), Source: "agent/node-a", Body: &event.NATFact{
		Rung: "ctnetlink", By: event.By{Node: "node-a"},
		NAT: event.NAT{
			Proto: "tcp", Kinds: []string{"snat", "dnat"},
			Original: event.Tuple{Src: end(client, port), Dst: end("203.0.113.10", 80)},
			Reply:    event.Tuple{Src: end(pod, 8080), Dst: end("10.146.0.11", port)},
		},
	}}
}

// TestEveryEventIsAccountedFor takes the hub away while an agent goes on, and brings it back over the same files: what
// came and what the agent had to drop are together what it told, and nothing is doubled.
func TestEveryEventIsAccountedFor(t *testing.T) {
	for name, buffer := range map[string]int{"room": 0, "too little room": 6 << 10} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.newHub(nobody{})
			listen := w.server.Address()
			p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a", Buffer: buffer, Delay: time.Millisecond})
			told := uint64(0)
			tell := func(n int) {
				batch := make([]event.Event, n)
				for i := range batch {
					told++
					batch[i] = event.Event{Type: event.StreamLost, Time: time.Now().UTC(), Source: "agent/node-a", ID: event.ID{Origin: "agent/node-a-1", N: told},
						Body: &event.Lost{Stage: "ring", Count: told * 7919 % 1000, Since: time.Unix(int64(told*104729%100000), 0)}}
				}
				p.Write(batch)
			}
			tell(50)
			until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == told })
			w.hub.Close()
			w.server.Close()
			for range 300 {
				tell(20)
				p.facts.mu.Lock()
				p.facts.seal("") // as time does
				p.facts.mu.Unlock()
			}
			w.restart(listen)
			until(t, "all sent", func() bool { s := p.Stats().Facts; return s.Waiting == 0 && (buffer == 0 || s.Dropped > 0) })
			until(t, "the loss is told", func() bool { s := p.Stats().Facts; return s.Waiting == 0 })

			events, stats := w.folded()
			came, lost := uint64(0), uint64(0)
			last := uint64(0)
			for _, e := range events {
				b, ok := e.Body.(*event.Lost)
				switch {
				case !ok:
				case b.Stage == "publish.facts":
					lost += b.Count
				case b.Stage == "ring":
					came++
					if e.ID.N <= last {
						t.Errorf("number %d after %d", e.ID.N, last)
					}
					last = e.ID.N
				default:
					t.Errorf("lost %+v", *b)
				}
			}
			t.Logf("told %d, came %d, said lost %d; %s", told, came, lost, stats)
			if came+lost != told || stats.Missing != 0 || stats.Dropped != lost {
				t.Errorf("came %d + lost %d of %d told; %s", came, lost, told, stats)
			}
			if (buffer != 0) != (lost > 0) {
				t.Errorf("%d were lost with a buffer of %d", lost, buffer)
			}
		})
	}
}

// restart starts a server over the same files at the same address.
func (w *world) restart(listen string) {
	w.t.Helper()
	var err error
	w.server, err = StartServer(ServerOptions{Listen: listen, Dir: w.dir + "/streams", Auth: anybody{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.server.Close)
	if w.hub, err = w.server.Dial(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.hub.Close)
}

type anybody struct{}

func (anybody) Authenticate(context.Context, string) (Identity, error) {
	return Identity{Role: RoleAgent, Node: "node-a"}, nil
}

// TestRepetitionsChangeNothing stores batches twice, late and with a hole, under ids that the stream does not recognize.
func TestRepetitionsChangeNothing(t *testing.T) {
	in, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	stored := time.Now().UTC()
	batch := func(seq, first, count, dropped uint64) *message {
		var lines []byte
		for n := first; n < first+count; n++ {
			e := heartbeat("agent/n", n)
			lines = append(event.AppendJSON(lines, &e), '\n')
		}
		stored = stored.Add(time.Millisecond)
		m := &message{seq: seq, subject: subjectFacts + "n", stored: stored, data: pack(lines), header: map[string][]string{
			headerOrigin: {"agent/n-1"}, headerFirst: {fmt.Sprint(first)}, headerCount: {fmt.Sprint(count)}, headerDropped: {fmt.Sprint(dropped)},
			headerSent: {fmt.Sprint(stored.UnixNano())},
		}}
		return m
	}
	var got []uint64
	take := func(m *message) (lost uint64) {
		for _, e := range in.take(m) {
			switch b := e.Body.(type) {
			case *event.Heartbeat:
				got = append(got, e.ID.N)
			case *event.Lost:
				lost += b.Count
			}
		}
		return lost
	}
	for i, step := range []struct{ first, count, dropped, lost uint64 }{
		{1, 3, 0, 0}, {1, 3, 0, 0}, // twice
		{4, 2, 0, 0}, {2, 3, 0, 0}, // late, over two that were seen
		{5, 4, 0, 0},   // one seen, three new
		{12, 1, 0, 3},  // 9 to 11 never came
		{9, 3, 0, 0},   // and come too late
		{20, 1, 7, 0},  // 13 to 19 were dropped, and the agent says so
		{25, 1, 9, 2},  // of 21 to 24 it says so for two
		{26, 0, 9, 0},  // nothing
		{26, 1, 11, 0}, // what was dropped behind it is not missing yet
		{29, 1, 11, 0},
	} {
		if lost := take(batch(uint64(i+1), step.first, step.count, step.dropped)); lost != step.lost {
			t.Errorf("step %d: %d lost, want %d", i, lost, step.lost)
		}
	}
	want := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 12, 20, 25, 26, 29}
	if !slices.Equal(got, want) {
		t.Errorf("numbers %v, want %v", got, want)
	}
	t.Log(in.Stats())
}

// TestSkewedTimes holds the times of a publisher whose clock is wrong to the hub's.
func TestSkewedTimes(t *testing.T) {
	for name, c := range map[string]struct {
		ahead    time.Duration
		measured bool
		want     time.Duration // of the event to the time it was stored
	}{
		"right":                       {0, false, 0},
		"a little off":                {400 * time.Millisecond, false, 400 * time.Millisecond},
		"an hour ahead":               {time.Hour, false, 0},
		"an hour behind":              {-time.Hour, false, 0},
		"measured, and put right":     {0, true, 0},
		"measured, and ahead anyway":  {time.Hour, true, time.Second},
		"measured, and an old fact":   {-time.Hour, true, -time.Hour},
		"not measured, just about ok": {-900 * time.Millisecond, false, -900 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := newIntake(event.Build{})
			if err != nil {
				t.Fatal(err)
			}
			stored := time.Now().UTC()
			e := heartbeat("agent/n", 1)
			e.Time = stored.Add(c.ahead)
			m := &message{seq: 1, subject: subjectFacts + "n", stored: stored, data: pack(append(event.AppendJSON(nil, &e), '\n')), header: map[string][]string{
				headerOrigin: {"o"}, headerFirst: {"1"}, headerCount: {"1"}, headerSent: {fmt.Sprint(e.Time.UnixNano())},
			}}
			if c.measured {
				m.header.Set(headerOffset, "0")
			}
			events := in.take(m)
			if got := events[len(events)-1].Time.Sub(stored); (got-c.want).Abs() > time.Second && c.want != 0 || c.want == 0 && got.Abs() > 50*time.Millisecond {
				t.Errorf("dated %v from the time it was stored, want %v", got, c.want)
			}
		})
	}
}

// TestTheClockIsMeasured asks a hub whose clock answers.
func TestTheClockIsMeasured(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	sub, err := answerClock(w.hub.nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var off time.Duration
	for range 5 { // a question that waited long for a processor is answered less exactly
		p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a"})
		until(t, "measured", func() bool { return p.Stats().Offset.OK })
		if off = p.Stats().Offset.V.Duration(); off.Abs() <= 50*time.Millisecond {
			return
		}
	}
	t.Errorf("this machine is %v off itself, and no better measured five times", off)
}

// TestOnlyWhatCrossesLeaves gives an agent connections with an end on its node and such with none.
func TestOnlyWhatCrossesLeaves(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a"})
	local := event.Event{Type: event.PathSockets, Time: time.Now(), Source: "agent/node-a", Body: &event.Sockets{Rows: []event.SocketRow{{
		Change: event.SocketSeen, Socket: event.Socket{Local: event.Endpoint{IP: netip.MustParseAddr("10.48.1.5"), Port: 8080}, Peer: event.Endpoint{IP: netip.MustParseAddr("10.48.1.1"), Port: 4}},
	}}}}
	p.Write([]event.Event{
		local,
		nat(event.NATCreated, "198.51.100.7", "10.48.2.5", 1000),   // crosses
		nat(event.NATCreated, "198.51.100.7", "10.48.1.5", 1001),   // ends at a pod here
		nat(event.NATCreated, "10.48.1.5", "10.48.2.5", 1002),      // begins at a pod here
		nat(event.NATCreated, "198.51.100.8", "10.48.2.5", 1003),   // crosses
		nat(event.NATDestroyed, "198.51.100.8", "10.48.2.5", 1003), // and ends
		nat(event.NATDestroyed, "10.48.1.5", "10.48.2.5", 1002),
	})
	until(t, "acknowledged", func() bool { s := p.Stats(); return s.Facts.Acked == 1 && s.Ledger.Acked == 3 })
	if n := p.Stats().Crossing; n != 1 {
		t.Errorf("%d connections cross, want 1", n)
	}
	p.checkpointLedger()
	until(t, "checkpoint", func() bool { return p.Stats().Ledger.Acked == 4 && len(w.stored(StreamLedger, allLedger)) == 4 })
	var marks []string
	for _, m := range w.stored(StreamLedger, allLedger) {
		marks = append(marks, m.header.Get(headerMark))
	}
	if !slices.Equal(marks, []string{"", markBegin, "", markEnd}) {
		t.Errorf("marks %q", marks)
	}
}

// crossing is a fold of one socket that crosses node-a.
type crossingFold struct {
	mu sync.Mutex
	n  int
}

func (c *crossingFold) Handed(context.Context) ([]string, error)  { return nil, nil }
func (c *crossingFold) Unnamed(context.Context) ([]string, error) { return nil, nil }

func (c *crossingFold) Nameless(_ context.Context, node string) ([]event.Socket, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if node != "node-a" {
		return nil, fmt.Errorf("asked for %s", node)
	}
	return []event.Socket{{
		Local: event.Endpoint{IP: netip.MustParseAddr("10.48.2.5"), Port: 8080}, Peer: event.Endpoint{IP: netip.MustParseAddr("10.146.0.11"), Port: 1000},
	}}, nil
}

// TestADeadNodesLedgerIsRecalled publishes a ledger, lets its agent go, and has an incident name the node: the socket's
// own entry comes back by the stream of facts, and no other.
func TestADeadNodesLedgerIsRecalled(t *testing.T) {
	w := newWorld(t)
	fold := &crossingFold{}
	hub := w.newHub(fold)
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a"})
	batch := []event.Event{nat(event.NATFound, "198.51.100.7", "10.48.2.5", 1000)}
	for port := uint16(2000); port < 2500; port++ {
		batch = append(batch, nat(event.NATCreated, "198.51.100.9", "10.48.2.5", port))
	}
	p.Write(batch)
	until(t, "acknowledged", func() bool { return p.Stats().Ledger.Acked == 501 })

	got := make(chan event.Event, 64)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- hub.Run(ctx, func(events []event.Event) {
			for _, e := range events {
				if e.Type == event.NATRecalled {
					got <- e
				}
			}
		})
	}()
	opened := event.Event{Type: event.IncidentOpened, Time: time.Now().UTC(), Source: "engine", Body: &event.IncidentFinding{Incident: event.Incident{
		ID: "agent/node-b-1-7", Culprit: event.Culprit{Kind: event.CulpritNode, Name: "node-a"}, Opened: time.Now().UTC(),
	}}}
	_ = hub.Write([]event.Event{opened})
	e := <-got
	if b := e.Body.(*event.NATFact); b.NAT.Original.Src.IP.String() != "198.51.100.7" || b.By.Node != "node-a" || e.Source != hubSource {
		t.Errorf("recalled %+v by %s", b, e.Source)
	}
	opened.Type = event.IncidentUpdated
	_ = hub.Write([]event.Event{opened, opened}) // a repetition of a finding is the same finding
	until(t, "findings kept", func() bool { return len(w.stored(StreamIncidents, subjectIncidents)) == 2 })
	asked := func() int { fold.mu.Lock(); defer fold.mu.Unlock(); return fold.n }
	until(t, "asked again", func() bool { return asked() >= 2 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := hub.Stats().Recalled; n != 1 || len(got) != 0 {
		t.Errorf("%d entries recalled, %d more came: the socket was asked for once", n, len(got))
	}
	// Another hub finds what this one has found, and does not tell it again.
	again := w.newHub(fold)
	if !again.told[findingID(&opened)] {
		t.Error("a second hub does not know the finding")
	}
	list, err := Incidents(t.Context(), w.hub, time.Unix(0, 0))
	if err != nil || len(list) != 1 || list[0].Updates != 1 {
		t.Errorf("incidents %+v, %v", list, err)
	}
}

// TestALateBatchOfALedgerChangesNothing stores the batch with which a connection began again after the one with which it ended.
func TestALateBatchOfALedgerChangesNothing(t *testing.T) {
	w := newWorld(t)
	hub := w.newHub(&crossingFold{})
	publish := func(first uint64, types ...event.Type) {
		t.Helper()
		var lines []byte
		for i, kind := range types {
			e := nat(kind, "198.51.100.7", "10.48.2.5", 1000)
			e.Source, e.ID = "agent/node-a", event.ID{Origin: "agent/node-a-1", N: first + uint64(i)}
			lines = append(event.AppendJSON(lines, &e), '\n')
		}
		m := nats.NewMsg(subjectLedger + "node-a")
		m.Data = pack(lines)
		m.Header.Set(headerOrigin, "agent/node-a-1")
		m.Header.Set(headerFirst, fmt.Sprint(first))
		m.Header.Set(headerCount, fmt.Sprint(len(types)))
		if _, err := hub.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, event.NATCreated)
	publish(1, event.NATCreated, event.NATDestroyed) // with one more event: only that is new
	publish(1, event.NATCreated)
	hub.recalls.asked = make(map[string]map[legKey]struct{})
	if err := hub.recallFor(t.Context(), "x", "node-a"); err != nil {
		t.Fatal(err)
	}
	if n := hub.own.stats().Waiting; n != 2 {
		t.Errorf("%d events are recalled: the connection began, and ended", n)
	}
}

func TestToken(t *testing.T) {
	for node, want := range map[string]string{
		"node-a": "node-a", "ip-10-0-0-1.ec2.internal": "ip-10-0-0-1_ec2_internal", "a_b": "a=5Fb", "a.>": "a_=3E", "*": "=2A", "": "=00", "ö": "=C3=B6",
	} {
		if got := token(node); got != want {
			t.Errorf("%q becomes %q, want %q", node, got, want)
		}
	}
}

// TestLossesAreTold gives an agent entries that went before their connections: each is told among the facts with the entry
// itself before it, whoever its ends are; more than a table's worth is counted.
func TestLossesAreTold(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a"})
	var batch []event.Event
	gone := func(why string, port uint16) {
		e := nat(event.NATDestroyed, "198.51.100.7", "10.48.2.5", port)
		e.Body.(*event.NATFact).Why = why
		batch = append(batch, e)
	}
	gone("closed", 1)
	gone("flushed", 2)
	gone("timeout", 3)
	picked := nat(event.NATCreated, "198.51.100.7", "10.48.2.5", 4)
	picked.Body.(*event.NATFact).State = "established"
	p.Write(append(batch, picked, nat(event.NATCreated, "198.51.100.7", "10.48.2.5", 5)))
	until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == 5 })
	events, stats := w.folded()
	var got []string
	for _, e := range events[1:] { // the stream opens
		b := e.Body.(*event.NATFact)
		got = append(got, fmt.Sprintf("%s %d %s", e.Type, b.NAT.Original.Src.Port, b.Why))
	}
	want := []string{"nat.recalled 2 ", "nat.destroyed 2 flushed", "nat.recalled 3 ", "nat.destroyed 3 timeout", "nat.created 4 "}
	if !slices.Equal(got, want) || stats.Refused != 0 {
		t.Errorf("told %q, want %q; %s", got, want, stats)
	}
	batch = nil
	for port := range uint16(maxStrange + 100) {
		gone("flushed", port+1)
	}
	p.Write(batch)
	p.mu.Lock()
	over := p.strangers - maxStrange
	p.span = time.Time{} // the next span
	p.mu.Unlock()
	batch = nil
	gone("flushed", 1)
	p.Write(batch)
	until(t, "the rest is counted", func() bool {
		events, _ := w.folded()
		return slices.ContainsFunc(events, func(e event.Event) bool {
			b, ok := e.Body.(*event.Lost)
			return ok && b.Stage == "publish.nat" && b.Count == uint64(over)
		})
	})
}

// TestHeartbeatGoesAtOnce: what else waits for company goes with it.
func TestHeartbeatGoesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a", Delay: time.Hour})
	lost := event.Event{Type: event.StreamLost, Time: time.Now().UTC(), Source: "agent/node-a", ID: event.ID{Origin: "agent/node-a-1", N: 1},
		Body: &event.Lost{Stage: "ring", Count: 1, Since: time.Now()}}
	p.Write([]event.Event{lost})
	if s := p.Stats().Facts; s.Waiting != 1 {
		t.Fatalf("%+v", s)
	}
	p.Write([]event.Event{{Type: event.StreamHeartbeat, Time: time.Now().UTC(), Source: "agent/node-a", ID: event.ID{Origin: "agent/node-a-1", N: 2},
		Body: &event.Heartbeat{Every: event.Known(event.Seconds(time.Second))}}})
	until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == 2 })
}
