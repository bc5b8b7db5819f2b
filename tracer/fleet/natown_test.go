package fleet

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// stuck has sockets of a pod on this node tell that they get no answer.
func stuck(at time.Time, ports ...uint16) (out []event.Event) {
	for _, port := range ports {
		out = append(out, event.Event{Type: event.TCPRetransmit, Time: at, Source: "agent/node-a", Body: &event.TCPFact{
			Socket: event.Socket{
				Local: event.Endpoint{IP: netip.MustParseAddr("10.48.1.5"), Port: 8080},
				Peer:  event.Endpoint{IP: netip.MustParseAddr("10.146.0.11"), Port: port},
			},
			TCP: event.Progress{State: "established", Retransmits: 2},
		}})
	}
	return out
}

// TestOwnConnectionsLeaveInTrouble: what ends on the node stays there until three of its sockets are in trouble. Then the
// healthy ones are told too, each once, and its end.
func TestOwnConnectionsLeaveInTrouble(t *testing.T) {
	w := newWorld(t)
	w.newHub(nobody{})
	asked := 0
	var want func(original, reply event.Tuple, zone uint16) bool
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{
		Node: "node-a", Translations: func(w func(event.Tuple, event.Tuple, uint16) bool) { asked++; want = w },
	})
	// As the source of NAT facts does.
	restate := func(facts ...event.Event) {
		for _, e := range facts {
			b := e.Body.(*event.NATFact)
			if want(b.NAT.Original, b.NAT.Reply, b.NAT.Zone) {
				b.Rung = rungCheckpoint
				p.Write([]event.Event{e})
			}
		}
	}
	now := time.Now()
	first, second := nat(event.NATFound, "198.51.100.7", "10.48.1.5", 1001), nat(event.NATFound, "198.51.100.7", "10.48.1.5", 1002)
	crosses := nat(event.NATFound, "198.51.100.7", "10.48.2.5", 1003)
	p.Write([]event.Event{{Type: event.PathSockets, Time: now, Source: "agent/node-a", Body: &event.Sockets{Rows: []event.SocketRow{{
		Change: event.SocketSeen, Socket: event.Socket{Local: event.Endpoint{IP: netip.MustParseAddr("10.48.1.5"), Port: 8080}},
	}}}}})
	p.Write(stuck(now, 1001, 1002, 1001, 1002))
	if asked != 0 {
		t.Fatal("asked for two sockets in trouble")
	}
	p.Write(stuck(now, 1004))
	if asked != 1 {
		t.Fatalf("asked %d times for three sockets in trouble", asked)
	}
	restate(first, second, crosses)
	restate(first, second)
	p.Write(stuck(now.Add(time.Second), 1005, 1006, 1007))
	if asked != 1 {
		t.Error("asked again within a second")
	}
	p.Write(stuck(now.Add(ownAgain), 1001, 1008)) // of the three before, which are remembered
	if asked != 2 {
		t.Errorf("asked %d times after a minute and more trouble", asked)
	}
	p.Write([]event.Event{
		nat(event.NATDestroyed, "198.51.100.7", "10.48.1.5", 1001),
		nat(event.NATDestroyed, "198.51.100.7", "10.48.1.5", 1001),
		nat(event.NATDestroyed, "198.51.100.7", "10.48.1.5", 1009), // never told
	})
	until(t, "acknowledged", func() bool { s := p.Stats(); return s.Facts.Waiting == 0 && s.Ledger.Waiting == 0 })
	got, stats := w.folded()
	count := countTypes(got)
	for _, e := range got {
		if b, ok := e.Body.(*event.NATFact); ok && b.NAT.Original.Src.Port == 1003 {
			t.Error("what crosses the node was told among the facts")
		}
	}
	if count[event.NATRecalled] != 2 || count[event.NATDestroyed] != 1 || count[event.NATFound] != 0 || stats.Refused != 0 {
		t.Errorf("told %v, %d refused", count, stats.Refused)
	}
	// A hub that starts later finds them again after a checkpoint, while there is trouble.
	p.checkpointLedger()
	p.Write(stuck(now.Add(3*ownAgain), 1001))
	if asked != 3 {
		t.Fatalf("asked %d times after a checkpoint", asked)
	}
	restate(second)
	until(t, "told again", func() bool { got, _ := w.folded(); return countTypes(got)[event.NATRecalled] == 3 })
}

func countTypes(events []event.Event) map[event.Type]int {
	count := make(map[event.Type]int)
	for _, e := range events {
		count[e.Type]++
	}
	return count
}

// TestOwnConnectionsAreBounded: of a node with many the rest is counted as lost, not told.
func TestOwnConnectionsAreBounded(t *testing.T) {
	o := newOwnNAT()
	asked := false
	for _, e := range stuck(time.Now(), 1, 2, 3) {
		asked = o.watch(&e)
	}
	if !asked {
		t.Fatal("not asked for three sockets in trouble")
	}
	told := 0
	for port := range uint16(maxOwn + 5) {
		if o.wants(crossKey{srcPort: port}) {
			told++
		}
	}
	if told != maxOwn || o.over != 5 {
		t.Errorf("%d told, %d counted as lost", told, o.over)
	}
}

// troubled is a fold of one socket in trouble through node-a, whose client is not known.
type troubled struct{ *crossingFold }

func (troubled) Unnamed(context.Context) ([]string, error) { return []string{"node-a"}, nil }

// TestALivingNodesLedgerIsRecalled: no incident names the node, and the clients of the sockets in trouble are found all the
// same. The ledger is not read for them again and again.
func TestALivingNodesLedgerIsRecalled(t *testing.T) {
	w := newWorld(t)
	fold := &crossingFold{}
	hub := w.newHub(troubled{fold})
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a"})
	p.Write([]event.Event{nat(event.NATFound, "198.51.100.7", "10.48.2.5", 1000)})
	until(t, "acknowledged", func() bool { return p.Stats().Ledger.Acked == 1 })
	got := make(chan event.Event, 64)
	looks := make(chan struct{}, 64)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- hub.Run(ctx, func(events []event.Event) {
			for _, e := range events {
				switch {
				case e.Type == event.NATRecalled:
					got <- e
				case e.Type == event.StreamHeartbeat && len(looks) < cap(looks):
					looks <- struct{}{}
				}
			}
		})
	}()
	e := <-got
	if b := e.Body.(*event.NATFact); b.NAT.Original.Src.IP.String() != "198.51.100.7" || e.Source != hubSource {
		t.Errorf("recalled %+v by %s", b, e.Source)
	}
	for range 8 { // beats of the hub, of which several pass between two looks at what is pending
		<-looks
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	fold.mu.Lock()
	defer fold.mu.Unlock()
	if fold.n != 1 {
		t.Errorf("the ledger was asked for %d times", fold.n)
	}
}
