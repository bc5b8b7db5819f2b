package world

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
)

// TestText reads back what plans of all sorts write.
func TestText(t *testing.T) {
	for seed := range uint64(300) {
		p := Random(seed, "")
		again, err := Parse(p.String())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, p)
		}
		if diff := cmp.Diff(p.String(), again.String()); diff != "" {
			t.Fatalf("seed %d:\n%s", seed, diff)
		}
	}
}

func TestTextErrors(t *testing.T) {
	for text, want := range map[string]string{
		"nodes":                        `line 1: unknown statement "nodes"`,
		"node a 10.0.0.1":              "line 1: range of pods is missing",
		"until 5":                      `line 1: until: time: missing unit in duration "5"`,
		"\nfault 1s power node-a":      `fault 1: power: no node "node-a"`,
		"fault 1s quake":               `fault 1: unknown primitive "quake"`,
		"pod a/b node-a 10.0.0.1":      "pod a/b: its node is not declared, or has another range",
		"inventory api delay=1s lated": `line 1: "lated" is not understood`,
	} {
		if _, err := Parse(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestDeterministic runs worlds twice and compares every byte of what agents tell.
func TestDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		var texts [2]bytes.Buffer
		for i := range texts {
			o, err := Run(Random(seed, ""))
			if err != nil {
				t.Fatal(err)
			}
			for k := range o.Facts {
				texts[i].Write(event.AppendJSON(nil, &o.Facts[k]))
			}
			fmt.Fprintf(&texts[i], "%+v", o.Truth)
		}
		if !bytes.Equal(texts[0].Bytes(), texts[1].Bytes()) {
			t.Errorf("seed %d gives other facts the second time", seed)
		}
	}
}

// small is a world of three nodes: node-a translates, the pod is on node-b.
const small = `seed 1
until 30s
inventory file
node node-a 10.0.0.1 10.1.1.0/24 agent direct
node node-b 10.0.0.2 10.1.2.0/24 agent=best direct
node node-c 10.0.0.3 10.1.3.0/24 agent direct
pod shop/api-0 node-b 10.1.2.5
service shop/api LoadBalancer 10.96.0.1 443 nodeport=30080 vip=203.0.113.80 entries=node-a backends=shop/api-0
clients people 198.51.100.0/24 latency=5ms
`

func run(t *testing.T, more string) *Outcome {
	t.Helper()
	p, err := Parse(small + more)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Run(p)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// tcp returns the facts of one type about sockets, in order.
func tcp(o *Outcome, typ event.Type) (all []event.TCPFact, at []time.Duration) {
	for i := range o.Facts {
		if o.Facts[i].Type == typ {
			all = append(all, *o.Facts[i].Body.(*event.TCPFact))
			at = append(at, o.Facts[i].Time.Sub(Epoch))
		}
	}
	return all, at
}

// TestRetransmission compares a socket whose peer is gone with RFC 6298 and RFC 8985: a tail loss probe, then retransmissions
// at pauses that double, from the smoothed round trip and 200 ms.
func TestRetransmission(t *testing.T) {
	o := run(t, "load 1 vip people shop/api talk=1 every=50ms speaks=server\nfault 5s clients people\n")
	facts, at := tcp(o, event.TCPRetransmit)
	if len(facts) < 7 || facts[0].TCP.Kind != "tail_loss" {
		t.Fatalf("%d retransmissions, the first %+v", len(facts), facts[0].TCP)
	}
	if d := at[0] - 5*time.Second; d < 0 || d > 350*time.Millisecond {
		t.Errorf("the tail loss probe came %v after the fault", d)
	}
	for i := 2; i < 7; i++ {
		pause, want := at[i]-at[i-1], 211*time.Millisecond<<(i-1)
		if pause < want-want/10 || pause > want+want/10 {
			t.Errorf("retransmission %d came after %v, want about %v", i, pause, want)
		}
		if got := facts[i].TCP; got.Kind != "rto" || int(got.Retransmits) != i || got.Unacked == 0 {
			t.Errorf("retransmission %d: %+v", i, got)
		}
	}
}

// TestKeepalive compares an idle socket whose hop is gone with tcp(7): probes after keepalive_time and every interval, an
// error when the last one was not answered.
func TestKeepalive(t *testing.T) {
	o := run(t, "load 1 vip people shop/api keepalive=4s,2s,3\nfault 1s power node-a\n")
	facts, at := tcp(o, event.TCPError)
	if len(facts) != 1 || facts[0].Errno != "ETIMEDOUT" {
		t.Fatalf("errors: %+v", facts)
	}
	// Set up within the three seconds before the start, and probed at most once while all was well.
	if at[0] < 7*time.Second || at[0] > 1*time.Second+14*time.Second {
		t.Errorf("given up at %v", at[0])
	}
	probes, when := tcp(o, event.TCPProbe)
	if len(probes) != 2 || when[1]-when[0] != 2*time.Second {
		t.Errorf("probes at %v: %+v", when, probes)
	}
}

// TestUserTimeout is tcp(7)'s TCP_USER_TIMEOUT: data that nobody acknowledges is given up after that long.
func TestUserTimeout(t *testing.T) {
	o := run(t, "load 1 vip people shop/api talk=1 every=50ms speaks=server user=6s\nfault 5s clients people\n")
	_, at := tcp(o, event.TCPError)
	if len(at) != 1 || at[0] < 11*time.Second || at[0] > 12*time.Second {
		t.Errorf("given up at %v", at)
	}
}

// TestGiveUp is ip-sysctl.rst on tcp_retries2: 3 stands for 0.2 + 0.4 + 0.8 + 1.6 seconds since the first retransmission, and
// the first firing of the timer after that ends the socket: the fourth is a little too early, the fifth is 6.3 s after the first.
func TestGiveUp(t *testing.T) {
	o := run(t, "load 1 vip people shop/api talk=1 every=50ms speaks=server retries=3\nfault 5s clients people\n")
	_, at := tcp(o, event.TCPError)
	if len(at) != 1 || at[0] < 11300*time.Millisecond || at[0] > 12200*time.Millisecond {
		t.Errorf("given up at %v", at)
	}
}

// TestFlush empties a table: the node answers the pod's next segment with a reset of its own.
func TestFlush(t *testing.T) {
	o := run(t, "load 3 vip people shop/api talk=3 every=100ms speaks=server\nfault 5s flush node-a\n")
	resets, at := tcp(o, event.TCPReset)
	nobody, peer := 0, 0
	for i, r := range resets {
		if at[i] < 5*time.Second || at[i] > 6*time.Second {
			continue
		}
		switch r.Reset.By {
		case "nobody's":
			nobody++
		case "peer":
			peer++
		}
	}
	if nobody < 3 || peer < 3 {
		t.Errorf("%d resets sent for nobody's segments, %d received", nobody, peer)
	}
	if o.Truth.Resets[0] < 3 {
		t.Errorf("the truth knows of %d resets", o.Truth.Resets[0])
	}
}

// TestPickUp lets the client speak first after a flush: conntrack takes the connection up in mid-stream and translates it
// to another port, so the pod's kernel knows no such socket.
func TestPickUp(t *testing.T) {
	o := run(t, "load 3 vip people shop/api talk=3 every=100ms speaks=client\nfault 5s flush node-a\n")
	picked := 0
	for i := range o.Facts {
		if b, ok := o.Facts[i].Body.(*event.NATFact); ok && o.Facts[i].Type == event.NATCreated && b.State == "established" {
			picked++
		}
	}
	if picked < 3 {
		t.Errorf("%d entries picked up in mid-stream", picked)
	}
}

// TestZeroWindow hangs a reader: the window shuts, and probes of it are answered, so none is counted as out for long.
func TestZeroWindow(t *testing.T) {
	o := run(t, "load 1 vip people shop/api talk=1 every=50ms size=5000 speaks=server\nfault 5s hung people\n")
	shut := false
	for i := range o.Facts {
		b, ok := o.Facts[i].Body.(*event.Sockets)
		if !ok {
			continue
		}
		for _, r := range b.Rows {
			shut = shut || r.TCP.Timer == event.TimerProbe0 && r.TCP.SendWindow.V == 0
			if r.TCP.ProbesOut > 1 {
				t.Errorf("%d probes out", r.TCP.ProbesOut)
			}
		}
	}
	if !shut {
		t.Error("no window was seen shut")
	}
}

// TestTruth: a node without power makes what crosses it hang, and nothing else.
func TestTruth(t *testing.T) {
	o := run(t, "load 5 vip people shop/api talk=5 every=100ms speaks=server\nload 5 direct people shop/api-0 talk=5 every=100ms speaks=server\nfault 5s power node-a\n")
	last := o.Truth.Moments[len(o.Truth.Moments)-1]
	if got := last.Faults[0]; got.Hanging != 5 || got.Long != 5 || last.Other != 0 {
		t.Errorf("in the end %+v", last)
	}
	if last.Cross[0] != 5 || last.Cross[1] != 10 || last.Cross[2] != 0 {
		t.Errorf("crossing: %v", last.Cross)
	}
}

// TestNobodyHangs: ordinary life makes no socket hang but those of clients that vanish.
func TestNobodyHangs(t *testing.T) {
	for seed := range uint64(300) {
		p := Random(seed, "")
		null := true
		for _, f := range p.Faults {
			null = null && (f.What == "agent" || f.What == "late" || f.What == "deaf" || f.What == "batch" || f.What == "recreate")
		}
		if !null {
			continue
		}
		o, err := Run(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range o.Truth.Moments {
			if m.Other > 0 {
				t.Errorf("seed %d: %d sockets hang for nobody's sake at %v", seed, m.Other, m.At)
				break
			}
		}
	}
}
