package fleet

import (
	"context"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/midhop/midhop/tracer/event"
)

// TestAStreamThatIsTouched has the streams removed, emptied and thinned out beneath a running hub: it says so within seconds, is
// not ready meanwhile, and goes on to read what comes.
func TestAStreamThatIsTouched(t *testing.T) {
	w := newWorld(t)
	log := &records{}
	h, err := NewHub(t.Context(), w.hub, HubOptions{Fold: nobody{}, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var beats atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- h.Run(ctx, func(batch []event.Event) {
			for _, e := range batch {
				if e.Source == "agent/node-a" {
					beats.Add(1)
				}
			}
		})
	}()
	defer func() { cancel(); <-done }()
	p := startPublisher(t, w.mustDial("node-a", "secret-a"), PublishOptions{Node: "node-a", Delay: time.Millisecond})
	n := uint64(0)
	say := func() {
		t.Helper()
		n++
		was := beats.Load()
		p.Write([]event.Event{heartbeat("agent/node-a", n)})
		until(t, "heard", func() bool { return beats.Load() > was })
	}
	say()
	js, err := jetstream.New(w.hub.nc)
	if err != nil {
		t.Fatal(err)
	}
	calm := func() { // as if the minute was over, and the next looks were the first ones
		h.guard.mu.Lock()
		defer h.guard.mu.Unlock()
		for _, s := range h.guard.streams {
			s.until, s.marks = time.Time{}, nil
		}
	}
	looked := func() {
		until(t, "looked at", func() bool {
			h.guard.mu.Lock()
			defer h.guard.mu.Unlock()
			s := h.guard.streams[StreamFacts]
			return s != nil && len(s.marks) > 1
		})
	}
	looked()
	if err := h.Trouble(); err != nil {
		t.Fatalf("trouble before there is any: %v", err)
	}
	api := func(subject string, body string) {
		t.Helper()
		if m, err := w.hub.nc.Request(subject, []byte(body), patience); err != nil || strings.Contains(string(m.Data), `"error"`) {
			t.Fatalf("%s: %v", subject, err)
		}
	}
	for _, c := range []struct {
		what string
		do   func()
	}{
		{"is gone", func() { api("$JS.API.STREAM.DELETE."+StreamFacts, "") }},
		{"has lost messages before their time", func() { api("$JS.API.STREAM.PURGE."+StreamFacts, "") }},
		{"has lost messages from its middle", func() {
			all := storedBy(t, w.hub, StreamFacts, allFacts)
			s, err := js.Stream(t.Context(), StreamFacts)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteMsg(t.Context(), all[len(all)/2].seq); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		before, at := h.Breaks()["facts"], time.Now()
		c.do()
		until(t, c.what, func() bool {
			err := h.Trouble()
			return err != nil && strings.Contains(err.Error(), c.what) || log.has(c.what)
		})
		if took := time.Since(at); took > 10*time.Second {
			t.Errorf("%s: told after %s", c.what, took)
		}
		if h.Trouble() == nil || h.Breaks()["facts"] == before {
			t.Errorf("%s: the hub is ready", c.what)
		}
		say() // it goes on
		say()
		calm()
		looked()
	}
	if h.Trouble() != nil && strings.Contains(h.Trouble().Error(), "cannot be read") {
		t.Error(h.Trouble())
	}
}

// TestAStreamThatIsFull lets a stream's size and age let messages go, which is nobody's doing.
func TestAStreamThatIsFull(t *testing.T) {
	now := time.Now()
	info := func(first, last uint64, firstAt, lastAt time.Time, bytes uint64) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{
			Created: now, Config: jetstream.StreamConfig{MaxAge: time.Hour, MaxBytes: 1000},
			State: jetstream.StreamState{Msgs: last - first + 1, FirstSeq: first, LastSeq: last, FirstTime: firstAt, LastTime: lastAt, Bytes: bytes},
		}
	}
	var g guard
	for i := range uint64(3600 * 3) { // a message a second, for three hours
		at := now.Add(time.Duration(i) * time.Second)
		first := uint64(1)
		if i > 3600 {
			first = i - 3600
		}
		if what := g.compare("aged", info(first, i+1, at.Add(-time.Hour), at, 500), at); what != "" {
			t.Fatalf("after %d s: %s", i, what)
		}
		if what := g.compare("full", info(max(1, i-min(i, 10)), i+1, at, at, 990), at); what != "" {
			t.Fatalf("after %d s: %s", i, what)
		}
	}
	at := now.Add(3 * time.Hour)
	if what := g.compare("aged", info(3600*3-100, 3600*3+1, at, at, 500), at); what == "" {
		t.Error("a purge of all but the newest hundred is not seen")
	}
	if n := len(g.streams["aged"].marks); n > maxMarks {
		t.Errorf("%d marks are kept", n)
	}
}

// batch is one of an agent's outbox.
func batchOf(node string, first uint64, at time.Time, lines []byte, n int) *message {
	return &message{seq: first, subject: subjectFacts + token(node), stored: at, data: pack(lines), header: nats.Header{
		headerOrigin: {"agent/" + node + "-1"}, headerFirst: {itoa(first)}, headerCount: {itoa(uint64(n))}, headerOffset: {"0"},
	}}
}

// TestAMadAgent floods: what is over its quota is counted as its own, another is heard as ever, and its heartbeats go on.
func TestAMadAgent(t *testing.T) {
	in, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now().Add(-time.Hour)
	folded := make(map[string]int)
	take := func(m *message) {
		for _, e := range in.take(m) {
			folded[e.Source]++
		}
	}
	one := heartbeat("agent/mad", 1)
	line := append(event.AppendJSON(nil, &one), '\n')
	next, honest := uint64(1), uint64(1)
	for i := range 200_000 { // 1,000 batches a second
		at := start.Add(time.Duration(i) * time.Millisecond)
		take(batchOf("mad", next, at, line, 1))
		next++
		if i%500 == 0 {
			e := heartbeat("agent/honest", honest)
			take(batchOf("honest", honest, at, append(event.AppendJSON(nil, &e), '\n'), 1))
			honest++
		}
	}
	if n := folded["agent/honest"]; n != 400 {
		t.Errorf("%d of 400 events of an honest agent are folded", n)
	}
	most := quotaBatchesBurst + 200*quotaBatches + 200
	if n := folded["agent/mad"]; n > most+1 || n < 200 {
		t.Errorf("%d events of the mad agent are folded, want between 200, its heartbeats, and %d", n, most)
	}
	s := in.Stats()
	if s.Over == 0 || in.agents["mad"].over != s.Over || in.agents["honest"].over != 0 || s.Over+uint64(folded["agent/mad"]) < 200_000 {
		t.Errorf("not all that was left out is counted as its own: %s", s)
	}
}

// TestNumbersThatCannotBe gives numbers of which a gap would be counted as events lost.
func TestNumbersThatCannotBe(t *testing.T) {
	in, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e := heartbeat("agent/n", 1)
	lines := append(event.AppendJSON(nil, &e), '\n')
	in.take(batchOf("n", 1, now, lines, 1))
	for _, first := range []uint64{1 << 63, 1<<64 - 1, 1 << 40} {
		in.take(batchOf("n", first, now.Add(time.Second), lines, 1))
	}
	huge := batchOf("n", 3, now.Add(time.Second), lines, 1<<31)
	in.take(huge)
	in.take(batchOf("n", 2, now.Add(2*time.Second), lines, 1)) // and the honest go on
	if s := in.Stats(); s.Missing != 0 || s.Foreign != 4 || s.Events != 2 {
		t.Errorf("%s", s)
	}
	lost := func(stage string, n uint64) event.Event {
		return event.Event{Type: event.StreamLost, Time: now, Source: "agent/n", Body: &event.Lost{Stage: stage, Count: n, Since: now}}
	}
	for _, e := range []event.Event{
		lost("ring", 1<<63), lost("a stage of my own", 1), lost("ring."+strings.Repeat("x", 100), 1),
		{Type: event.StreamSynced, Time: now, Source: "agent/n", Body: &event.Synced{Fact: "pods", Behind: "because I say so"}},
		{Type: event.StreamSynced, Time: now, Source: "agent/n", Body: &event.Synced{Fact: strings.Repeat("x", 100)}},
	} {
		if allowed(&e, "n", true) {
			t.Errorf("%s %+v is taken", e.Type, e.Body)
		}
	}
	for _, stage := range []string{"ring", "ring.evidence", "publish.nat", "ledger.inbox", "line.path.sockets", "netlink", "sink.file"} {
		if e := lost(stage, 1); !allowed(&e, "n", true) {
			t.Errorf("an agent may not say that it has lost something at %s", stage)
		}
	}
}

// TestClaims has an agent claim another node's address, in the inventory's presence, and ranges.
func TestClaims(t *testing.T) {
	in, err := newIntake(event.Build{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	fact := func(source, what string, n event.Node) []event.Event {
		return in.admit([]event.Event{{Type: event.NodeChanged, Time: now, Source: source, Body: &event.NodeFact{What: what, Node: n}}}, "node-a", strings.HasPrefix(source, "agent/"))
	}
	mine, others, nobodys := addressOf("10.0.0.1"), addressOf("10.0.0.2"), addressOf("172.17.0.1")
	fact("kube", "added", event.Node{Name: "node-a", Addresses: []event.Address{mine}})
	fact("kube", "added", event.Node{Name: "node-b", Addresses: []event.Address{others}})
	lie := event.Node{Name: "node-a", Zone: "z", PodCIDRs: prefixes("10.0.0.0/8"), PodNets: prefixes("0.0.0.0/0"), Addresses: []event.Address{mine, others, nobodys}, Ready: "false"}
	got := fact("agent/node-a", "agent", lie)
	if len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	n := got[0].Body.(*event.NodeFact).Node
	if len(n.Addresses) != 2 || n.Addresses[0] != mine || n.Addresses[1] != nobodys || n.PodCIDRs != nil || n.PodNets != nil || n.Zone != "" || n.Ready != "" {
		t.Errorf("taken: %+v", n)
	}
	if in.claims.refused["node-a"] != 1 {
		t.Errorf("refused: %v", in.claims.refused)
	}
	// The address goes to another node: by the inventory's word, not by the agent's.
	fact("kube", "removed", event.Node{Name: "node-b"})
	if got := fact("agent/node-a", "agent", lie); len(got[0].Body.(*event.NodeFact).Node.Addresses) != 3 {
		t.Error("an address that belongs to nobody any more is not taken")
	}
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

func addressOf(ip string) event.Address { return event.Address{IP: netip.MustParseAddr(ip)} }

func prefixes(p string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(p)} }
