package conntrack

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

func testTuple(src, dst string) tuple {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return tuple{src: s.Addr().As16(), dst: d.Addr().As16(), srcPort: s.Port(), dstPort: d.Port()}
}

// testEntry is a client's connection number n through a NodePort, translated both ways.
func testEntry(n int, state uint8, timeout uint32) *entry {
	e := &entry{id: uint32(n), nat: statusNAT, state: state, timeout: timeout}
	e.original = testTuple(fmt.Sprintf("192.0.2.100:%d", 50000+n), "192.0.2.11:30080")
	e.reply = testTuple("10.244.2.5:8080", fmt.Sprintf("192.0.2.11:%d", 20000+n))
	return e
}

func testLedger() *ledger {
	l := newLedger("node-a", 4026531840)
	for state := range l.timeouts.byState {
		l.timeouts.byState[state] = 120
	}
	l.timeouts.byState[stateEstablished] = 432000
	l.timeouts.maxRetrans, l.timeouts.unacknowledged = 300, 300
	return l
}

// told sums up facts as "found", "created", "destroyed closed 2.5s".
func told(l *ledger) string {
	var all []string
	for _, e := range l.take() {
		text := strings.TrimPrefix(e.Type.String(), "nat.")
		if fact := e.Body.(*event.NATFact); fact.Why != "" {
			text += " " + fact.Why
			if fact.Age.OK {
				text += " " + fact.Age.V.String()
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func want(t *testing.T, l *ledger, text string) {
	t.Helper()
	if got := told(l); got != text {
		t.Fatalf("told %q, want %q", got, text)
	}
}

func TestLedgerFact(t *testing.T) {
	l := testLedger()
	e := testEntry(1, stateSynSent, 120)
	e.zone, e.mark = 3, 0x4000
	l.created(e, at(0))
	got := l.take()
	if len(got) != 1 {
		t.Fatal(got)
	}
	line := string(event.AppendJSON(nil, &got[0]))
	const wantLine = `{"v":1,"type":"nat.created","time":"2026-11-23T12:00:00Z","source":"","flow":"192.0.2.100:50001-192.0.2.11:30080",` +
		`"nat":{"proto":"tcp","original":{"src":{"ip":"192.0.2.100","port":50001},"dst":{"ip":"192.0.2.11","port":30080}},` +
		`"reply":{"src":{"ip":"10.244.2.5","port":8080},"dst":{"ip":"192.0.2.11","port":20001}},"kinds":["snat","dnat"],"zone":3,"mark":16384,` +
		`"netns":4026531840},"by":{"node":"node-a"},"rung":"ctnetlink","state":"syn_sent"}`
	if line != wantLine {
		t.Errorf("\n got %s\nwant %s", line, wantLine)
	}
}

func TestLedgerIsIdempotent(t *testing.T) {
	l := testLedger()
	l.beginDump()
	l.seen(testEntry(1, stateEstablished, 432000), at(0))
	want(t, l, "found")
	l.seen(testEntry(1, stateEstablished, 432000), at(0))
	l.created(testEntry(1, stateSynSent, 120), at(0))
	want(t, l, "")
	l.destroyed(testEntry(1, stateTimeWait, 0), at(1))
	want(t, l, "destroyed closed")
	l.destroyed(testEntry(1, stateTimeWait, 0), at(1))
	l.destroyed(testEntry(2, stateTimeWait, 0), at(1))
	want(t, l, "")
	if l.index.Len() != 0 || l.older != 0 {
		t.Errorf("%d known, %d older", l.index.Len(), l.older)
	}
}

// TestLedgerReusedTuple has the same client port twice, with the end of the first missed.
func TestLedgerReusedTuple(t *testing.T) {
	again := testEntry(1, stateSynSent, 120)
	again.id = 99
	l := testLedger()
	l.created(testEntry(1, stateSynSent, 120), at(0))
	l.created(again, at(1))
	want(t, l, "created, destroyed unknown, created")
	l.destroyed(testEntry(1, stateClose, 0), at(2)) // late news of the first
	want(t, l, "")
	l.beginDump()
	again.id = 100
	l.seen(again, at(3))
	want(t, l, "destroyed unknown, found")
	if l.index.Len() != 1 || l.older != 1 {
		t.Errorf("%d known, %d older", l.index.Len(), l.older)
	}
	l.beginDump() // it sees nothing, and while the kernel is asked again for what is missing the client comes back
	missing := l.missing()
	again.id = 101
	l.created(again, at(4))
	want(t, l, "destroyed unknown, created")
	for _, m := range missing {
		l.gone(m, at(4))
	}
	want(t, l, "")
}

func TestLedgerMissing(t *testing.T) {
	l := testLedger()
	l.beginDump()
	l.seen(testEntry(1, stateEstablished, 432000), at(0))
	l.seen(testEntry(2, stateEstablished, 432000), at(0))
	l.created(testEntry(3, stateSynSent, 120), at(0)) // while the dump runs: it need not see it
	if missing := l.missing(); len(missing) != 0 {
		t.Fatalf("%v are missing", missing)
	}
	l.take()
	l.beginDump()
	l.seen(testEntry(1, stateEstablished, 431999), at(60))
	l.seen(testEntry(3, stateEstablished, 432000), at(60))
	missing := l.missing()
	if len(missing) != 1 || missing[0].key != testEntry(2, 0, 0).key {
		t.Fatalf("%v are missing", missing)
	}
	l.gone(missing[0], at(60))
	l.gone(missing[0], at(60))
	want(t, l, "destroyed unknown")
	if l.repairs != 1 || l.older != 1 {
		t.Errorf("%d repairs, %d older", l.repairs, l.older)
	}
}

func TestWhy(t *testing.T) {
	look := func(state uint8, timeout uint32, seconds ...float64) func(*ledger) {
		return func(l *ledger) {
			for _, s := range seconds {
				l.beginDump()
				l.seen(testEntry(1, state, timeout-uint32(s)), at(s))
			}
		}
	}
	create := func(l *ledger) { l.created(testEntry(1, stateSynSent, 120), at(0)) }
	for _, test := range []struct {
		name   string
		before func(*ledger)
		state  uint8
		when   float64
		want   string
	}{
		{"both ends closed it", create, stateTimeWait, 2.5, "destroyed closed 2.5s"},
		{"reset", create, stateClose, 400, "destroyed closed 6m40s"},
		{"an old kernel does not tell the state", create, 0, 2, "destroyed unknown 2s"},
		{"a state of tomorrow", create, 77, 2, "destroyed unknown 2s"},
		{"deleted long before its time", create, stateEstablished, 10, "destroyed flushed 10s"},
		{"data unanswered for five minutes may have ended it", create, stateEstablished, 301, "destroyed unknown 5m1s"},
		{"never answered", create, stateSynSent, 120.4, "destroyed unknown 2m0.4s"},
		{"found, deleted soon after", look(stateEstablished, 432000, 0), stateEstablished, 60, "destroyed flushed"},
		{"found once, gone at its time", look(stateEstablished, 100, 0), stateEstablished, 101, "destroyed unknown"},
		{"idle for two looks, gone at its time", look(stateEstablished, 100, 0, 60), stateEstablished, 100.5, "destroyed timeout"},
		{"less than a second left at the last of two looks", look(stateEstablished, 60, 0, 60), stateEstablished, 61.5, "destroyed timeout"},
		{"less than a second left when it was found", look(stateEstablished, 0, 0), stateEstablished, 2.5, "destroyed unknown"},
		{"found, how long it stays is not told", look(stateEstablished, noTimeout, 0), stateEstablished, 60, "destroyed flushed"},
		{"idle for two looks, gone before its time", look(stateEstablished, 100, 0, 60), stateEstablished, 90, "destroyed flushed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := testLedger()
			test.before(l)
			l.take()
			l.destroyed(testEntry(1, test.state, 0), at(test.when))
			want(t, l, test.want)
		})
	}
	t.Run("moved between the looks", func(t *testing.T) {
		l := testLedger()
		for _, s := range []float64{0, 60} {
			l.beginDump()
			l.seen(testEntry(1, stateEstablished, 100), at(s))
		}
		l.take()
		l.destroyed(testEntry(1, stateEstablished, 0), at(161))
		want(t, l, "destroyed unknown")
	})
	t.Run("timeouts that cannot be read", func(t *testing.T) {
		l := testLedger()
		l.timeouts = timeouts{}
		create(l)
		l.take()
		l.destroyed(testEntry(1, stateEstablished, 0), at(1))
		want(t, l, "destroyed unknown 1s")
	})
}

func BenchmarkLedger(b *testing.B) {
	l := testLedger()
	now := at(0)
	e := testEntry(1, stateSynSent, 120)
	b.ReportAllocs()
	for b.Loop() {
		e.id++
		e.original.srcPort = uint16(e.id)
		l.created(e, now)
		l.destroyed(e, now)
		l.out = l.out[:0]
	}
}

// TestLedgerRestates tells again what is wanted of what is known, in pieces.
func TestLedgerRestates(t *testing.T) {
	l := testLedger()
	const all = fullBatch + 10
	for n := range all {
		l.created(testEntry(n, stateSynSent, 120), at(0))
	}
	l.destroyed(testEntry(7, stateTimeWait, 0), at(1))
	l.take()
	var pieces []int
	restate := func(want func(original, reply event.Tuple, zone uint16) bool) (facts []event.Event) {
		pieces = nil
		l.restate(want, at(2), func() {
			batch := l.take()
			pieces = append(pieces, len(batch))
			facts = append(facts, batch...)
		})
		return facts
	}
	facts := restate(func(o, r event.Tuple, _ uint16) bool {
		return o.Src.Port == 50003 && r.Dst.Port == 20003 || o.Src.Port == 50007
	})
	if len(facts) != 1 {
		t.Fatalf("%d facts, want that of the one entry that is wanted and known", len(facts))
	}
	if b := facts[0].Body.(*event.NATFact); facts[0].Type != event.NATFound || b.Rung != "checkpoint" || b.NAT.Original.Src.Port != 50003 || b.By.Node != "node-a" {
		t.Errorf("told %s %+v", facts[0].Type, b)
	}
	if facts := restate(func(event.Tuple, event.Tuple, uint16) bool { return true }); len(facts) != all-1 || pieces[0] != fullBatch {
		t.Errorf("%d facts in pieces of %d, want %d", len(facts), pieces, all-1)
	}
}
