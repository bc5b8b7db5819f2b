package bpf

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// An address in the list proves nothing: what is told has the cookie of the socket that was marked, and every other entry goes.
func TestMarksOfOthers(t *testing.T) {
	probes, report := mustLoad(t, Options{NoNAT: true, Rungs: map[Fact]string{FactRecovery: listedRung}})
	defer probes.Close()
	if f := report.Fact(FactRecovery); f.Rung != listedRung {
		unavailable(t, f, listedRung)
	}
	self := probes.newSelfTest(report)
	near, far, err := self.pair(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	defer far.Close()
	if err := control(far, deafen); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	var ours uint64 // the cookie
	self.await(t.Context(), func() bool {
		if err := probes.Troubled(t.Context(), func(r *SocketRow) {
			if self.ports[r.Sock.LocalPort] {
				ours = r.Sock.Cookie
			}
		}); err != nil {
			t.Fatal(err)
		}
		return ours != 0
	})
	list := probes.marks.at
	address := func() (at uint64) {
		var key uint64
		var value markValue
		for it := list.Iterate(); it.Next(&key, &value); {
			if cookieIn(value) == ours {
				at = key
			}
		}
		return at
	}
	at := address()
	if at == 0 {
		t.Fatal("the socket's address is not in the list")
	}
	// another socket's mark at this address, and addresses of nothing
	strangers := []uint64{at, 0, 1, 0x7fff_ffff_f000, 0xffff_8880_0000_1000, 0xffff_ffff_ffff_f000, at + 64}
	for _, a := range strangers {
		if err := list.Put(a, withCookie(ours+1<<40)); err != nil {
			t.Fatal(err)
		}
	}
	if err := probes.Troubled(t.Context(), func(r *SocketRow) {
		if r.Sock.Cookie == ours || r.Sock.Cookie == ours+1<<40 {
			t.Errorf("told %+v", r.Sock)
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, a := range strangers {
		var value markValue
		if err := list.Lookup(a, &value); err == nil && cookieIn(value) == ours+1<<40 {
			t.Errorf("%#x is still in the list", a)
		} else if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Error(err)
		}
	}
	// met again by its hook it is in the list again
	self.await(t.Context(), func() bool { return address() != 0 })
}

func cookieIn(v markValue) (cookie uint64) {
	for i := range 8 {
		cookie |= uint64(v[i]) << (8 * i)
	}
	return cookie
}

func withCookie(cookie uint64) (v markValue) {
	for i := range 8 {
		v[i] = byte(cookie >> (8 * i))
	}
	return v
}

// BenchmarkTroubled is what a look at marked sockets costs the processor, for each of them and at least, on whichever rung serves.
func BenchmarkTroubled(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	probes, report, err := Load(Options{NoNAT: true})
	if err != nil {
		b.Fatal(err)
	}
	defer probes.Close()
	look := func() (n int, took time.Duration) {
		before := threadTime()
		if err := probes.Troubled(b.Context(), func(*SocketRow) { n++ }); err != nil {
			b.Fatal(err)
		}
		return n, threadTime() - before
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := probes.newSelfTest(report)
	const sockets = 4000
	for range sockets {
		near, far, err := self.pair(b.Context(), 0)
		if err != nil {
			b.Fatal(err)
		}
		defer near.Close()
		defer far.Close()
		if err := control(far, deafen); err != nil {
			b.Fatal(err)
		}
		if _, err := near.Write([]byte{0}); err != nil {
			b.Fatal(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if n, _ := look(); n >= sockets {
			break
		} else if time.Now().After(deadline) {
			b.Fatalf("%d sockets are marked", n)
		}
	}
	best := time.Hour
	for b.Loop() {
		n, took := look()
		best = min(best, took/time.Duration(n))
	}
	b.ReportMetric(float64(best), "ns-cpu/socket")
	b.Log(report.Fact(FactRecovery).Rung)
}
