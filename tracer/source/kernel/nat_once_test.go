package kernel

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/conntrack"
)

// Every translated connection is told once when it comes and once when it goes, whoever tells: the probes by way of the
// ledger, or ctnetlink, while the table is dumped again and again beside it.
func TestNATOnce(t *testing.T) {
	needRoot(t)
	for _, rung := range bpf.Rungs(bpf.FactNAT) {
		t.Run(rung, func(t *testing.T) { testNATOnce(t, rung) })
	}
}

func testNATOnce(t *testing.T, rung string) {
	n := 300
	if os.Getenv("MIDHOP_VM") != "" && rung != "kprobe.multi" { // the same programs as kprobe
		n = 1000
	}
	s := newSpace(t)
	s.exec(t, `table ip nat {
		chain output { type nat hook output priority -100; ip daddr 127.0.0.1 tcp dport 30080 dnat to 127.0.0.2:8080; }
		chain postrouting { type nat hook postrouting priority 100; ct status dnat meta l4proto tcp snat to 127.0.0.3 fully-random; }
	}`, "nft", "-f", "-")
	probes, report := mustLoad(t, bpf.Options{NATNetns: s.inum, Rungs: map[bpf.Fact]string{bpf.FactNAT: rung}})
	t.Cleanup(func() { probes.Close() })
	probed := rung != bpf.RungCtnetlink
	if f := report.Fact(bpf.FactNAT); probed && f.Rung != rung {
		unavailable(t, f, rung)
	}
	w := &watch{report: report, more: make(chan struct{}, 1)}
	var ledger *conntrack.Source
	s.do(func() {
		var err error
		// one dump after the other, so that some meet every connection on its way
		if ledger, err = conntrack.Open(conntrack.Options{Node: "node-a", Probed: probed, Redump: time.Millisecond, Budget: 1, Poll: 100 * time.Millisecond, Table: 100 * time.Millisecond}); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	o := Options{Node: "node-a", NATRung: rung}
	if probed {
		o.Ledger = ledger.Take
	}
	w.kernel = New(probes, o)
	w.start(t, w.kernel.Run, w.until(ledger.Run))
	w.wait(t, "the first dump", soon, func(e event.Event) bool { return e.Type == event.StreamSynced })

	var ln net.Listener
	s.do(func() {
		var err error
		if ln, err = net.Listen("tcp4", "127.0.0.2:8080"); err != nil {
			t.Error(err)
			return
		}
		for range n {
			d := net.Dialer{Timeout: soon, KeepAlive: -1}
			c, err := d.Dial("tcp4", "127.0.0.1:30080")
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
			a, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { a.Close() })
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	defer ln.Close()
	w.waitNAT(t, event.NATCreated, n)
	s.exec(t, "", "conntrack", "-F")
	w.waitNAT(t, event.NATDestroyed, n)
	// what would come twice comes with the next dumps
	w.wait(t, "a poll of the table after the end", soon, func(e event.Event) bool { return e.Type == event.NATTable })

	counts := make(map[string]int)
	w.mu.Lock()
	defer w.mu.Unlock()
	twice := 0
	for _, e := range w.events {
		f, ok := e.Body.(*event.NATFact)
		if !ok {
			continue
		}
		if f.NAT.Netns != s.inum || f.NAT.Proto != "tcp" || f.By.Node != "node-a" {
			t.Errorf("told %+v", f)
		}
		key := fmt.Sprint(e.Type, e.Flow)
		if counts[key]++; counts[key] > 1 {
			twice++
		}
		counts[e.Type.String()]++
		counts[e.Type.String()+" "+f.Why]++
	}
	if twice > 0 || counts["nat.created"] != n || counts["nat.destroyed"] != n || counts["nat.found"] != 0 {
		t.Errorf("%d created, %d destroyed, %d found of %d connections, %d told twice",
			counts["nat.created"], counts["nat.destroyed"], counts["nat.found"], n, twice)
	}
	t.Logf("%d of %d ends told as flushed, %d unknown", counts["nat.destroyed flushed"], n, counts["nat.destroyed unknown"])
}

// exec runs a program in the namespace.
func (s *space) exec(t *testing.T, stdin string, args ...string) {
	t.Helper()
	s.do(func() {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}
