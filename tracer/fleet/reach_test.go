package fleet

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/event"
)

// TestReachOf: what is young, or whose age is over, is not cut short.
func TestReachOf(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		first uint64
		span  time.Duration
		bytes uint64
		cut   bool
	}{
		"young":              {1, time.Minute, 10, false},
		"young and full":     {1, time.Minute, 100, false}, // nothing has gone yet
		"cut":                {500, 6 * time.Minute, 96, true},
		"ended by its age":   {500, 2 * time.Hour, 96, false},
		"silent for a while": {500, 6 * time.Minute, 20, false}, // all before was too old
	} {
		i := &jetstream.StreamInfo{
			Config: jetstream.StreamConfig{MaxBytes: 100, MaxAge: 2 * time.Hour},
			State:  jetstream.StreamState{Msgs: 7, FirstSeq: c.first, FirstTime: now.Add(-c.span), Bytes: c.bytes},
		}
		if r := reachOf(i, now); r.Cut != c.cut || r.Span != c.span || r.Bytes != c.bytes || r.Limit != 100 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := reachOf(&jetstream.StreamInfo{Config: jetstream.StreamConfig{MaxBytes: 100, MaxAge: time.Hour}}, now); r.Span != 0 || r.Cut {
		t.Errorf("empty: %+v", r)
	}
}

// TestALedgerThatIsCutShort publishes more than a stream may hold: the hub says how far back it goes, what that costs, and the size
// to set.
func TestALedgerThatIsCutShort(t *testing.T) {
	w := newWorld(t)
	log := &records{}
	const limit = 64 << 10
	hub, err := NewHub(t.Context(), w.hub, HubOptions{Fold: nobody{}, Limits: Limits{Bytes: limit}, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a", LedgerDelay: time.Millisecond})
	for n := uint64(0); len(w.stored(StreamLedger, allLedger)) == 0 || w.stored(StreamLedger, allLedger)[0].seq == 1; n++ {
		var batch []event.Event
		for port := range uint16(50) { // small messages: what goes is whole ones, and the stream stays nearly full
			batch = append(batch, nat(event.NATCreated, "198.51.100.7", "10.48.2.5", port), nat(event.NATDestroyed, "198.51.100.7", "10.48.2.5", port))
		}
		p.Write(batch)
		until(t, "acknowledged", func() bool { return p.Stats().Ledger.Waiting == 0 })
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); hub.watchReach(ctx) }()
	until(t, "word on it", func() bool {
		return log.has("a stream is cut short", "stream=ledger", "wanted=2h0m0s", "the clients of a dead node's older connections are not found", "--max-size ")
	})
	cancel()
	<-done
	r := hub.Stats().Reach
	if l := r["ledger"]; !l.Cut || l.Limit != limit || l.Span <= 0 || l.Span > time.Minute || l.Bytes == 0 {
		t.Errorf("the ledger: %+v", l)
	}
	if f := r["facts"]; f.Cut || f.Limit != limit {
		t.Errorf("the facts: %+v", f)
	}
}
