package bpf

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unavailable skips a test of a rung that this kernel, or what it permits, does not have: no trampolines, no kprobes, no trust in a
// pointer. In guests expect.txt says where that may be; any other reason is a failure.
func unavailable(t *testing.T, f FactReport, rung string) {
	t.Helper()
	for _, a := range f.Tried {
		if a.Rung != rung {
			continue
		}
		if mayLack(a.Err) {
			t.Skipf("%s: %v", rung, a.Err)
		}
		t.Fatalf("%s: %v", rung, a.Err)
	}
	t.Fatalf("rung %s was not tried: %+v", rung, f)
}

func mayLack(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, ErrNoKprobes) || errors.Is(err, ErrUntrusted) || os.Getenv("MIDHOP_VM") != ""
}

// Every rung of every ladder, forced in turn, is attached and then seen to fire: first the best of all facts, then the
// second, and so on. In guests these rows are the table of kernels, facts and rungs.
func TestRungs(t *testing.T) {
	needRoot(t)
	for turn := 0; ; turn++ {
		forced := make(map[Fact]string)
		for _, fact := range Facts() {
			if names := Rungs(fact); turn < len(names) && names[turn] != RungCensus && names[turn] != RungCtnetlink {
				forced[fact] = names[turn]
			}
		}
		if len(forced) == 0 {
			return
		}
		if rung, ok := forced[FactRecovery]; ok && turn > 0 { // it needs marks by the best rungs of others
			delete(forced, FactRecovery)
			testRungs(t, map[Fact]string{FactRecovery: rung})
		}
		testRungs(t, forced)
	}
}

func testRungs(t *testing.T, forced map[Fact]string) {
	probes, report, err := Load(Options{Rungs: forced, VerifierText: true})
	var kernel *KernelError
	if err != nil && !errors.As(err, &kernel) {
		t.Fatalf("with %v: %v", forced, err)
	}
	if err == nil { // else none of these serves here
		defer probes.Close()
	}
	if report.Fact(FactNAT).Rung != "" { // a self-test may not translate and not flush
		road := newNATRoad(t, natFamilies["IPv4"])
		road.connect(t, netip.AddrPortFrom(road.nodeOut, natNodePort), 1)
		road.nodeAt.run(t, "", "conntrack -F")
	}
	if probes != nil {
		report = probes.SelfTest(t.Context(), patientSelfTest, report)
	}
	for _, fact := range Facts() {
		rung, ok := forced[fact]
		if !ok {
			continue
		}
		t.Run(string(fact)+"/"+rung, func(t *testing.T) {
			f := report.Fact(fact)
			if f.Rung != rung {
				unavailable(t, f, rung)
			}
			if !f.Fired {
				t.Errorf("not seen to fire: %s", f.Unproven)
			}
		})
	}
}

// patientSelfTest is for machines that others keep busy: what comes ends the wait.
const patientSelfTest = 30 * time.Second

// What the self-test makes is not told, and the best rungs are all seen to fire.
func TestSelfTest(t *testing.T) {
	probes, report := mustLoad(t, Options{NoNAT: true})
	defer probes.Close()
	began := time.Now()
	self := probes.newSelfTest(report)
	for _, f := range self.verdicts(t.Context(), patientSelfTest) {
		if f.Rung != "" && f.Rung != RungCensus && !f.Fired {
			t.Errorf("%s by %s: %s", f.Fact, f.Rung, f.Unproven)
		}
	}
	t.Logf("took %v", time.Since(began))
	sent, _, err := probes.Counts(probes.Evidence())
	if err != nil || sent < 3 { // a reset, what its socket was told, and its end
		t.Errorf("%d records were written: %v", sent, err)
	}
	for _, r := range []*Ring{probes.Evidence(), probes.Bulk()} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*idleTick)
		defer cancel()
		if err := r.Run(ctx, func(raw []byte) {
			var rec TCPRecord
			if Decode(raw, &rec) == nil && self.own(raw) { // others on this machine may be in trouble meanwhile
				t.Errorf("ring %s tells of %v to %v", r.Name(), rec.Sock.LocalAddr(), rec.Sock.PeerAddr())
			}
		}, func() {}); err != nil {
			t.Error(err)
		}
	}
}

func TestParseRungs(t *testing.T) {
	got, err := ParseRungs("nat=kprobe, probe=census")
	if err != nil || got[FactNAT] != "kprobe" || got[FactProbe] != RungCensus || len(got) != 2 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"nat", "nat=tp_btf", "weather=fine"} {
		if _, err := ParseRungs(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
