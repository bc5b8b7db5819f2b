package bpf

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// segmentsPerRun is how many segments of healthy connections may pass for one run of any program. Connections begin and
// end, and one in a while loses a segment; nothing else may happen.
const segmentsPerRun = 10_000

// A translated and a plain connection carry a gigabyte (a fifth of it in a guest), and no program runs for their
// segments: by the kernel's own counts, on the best rungs and, in guests, on those below.
func TestHealthyTraffic(t *testing.T) {
	needRoot(t)
	total := int64(1 << 30)
	sets := map[string]map[Fact]string{"best": nil}
	if os.Getenv("MIDHOP_VM") != "" {
		total = 200 << 20
		sets["second"] = map[Fact]string{FactRetransmit: "raw_tp", FactReset: "raw_tp", FactState: "raw_tp", FactProbe: "kprobe", FactNAT: "kprobe"}
	}
	for name, rungs := range sets {
		t.Run(name, func(t *testing.T) { testHealthyTraffic(t, rungs, total) })
	}
}

func testHealthyTraffic(t *testing.T, rungs map[Fact]string, total int64) {
	road := newNATRoad(t, natFamilies["IPv4"])
	probes, report := mustLoad(t, Options{NATNetns: road.nodeAt.inum, Rungs: rungs})
	defer probes.Close()
	for fact, rung := range rungs {
		if f := report.Fact(fact); f.Rung != rung {
			unavailable(t, f, rung)
		}
	}
	counting, err := CountRuns()
	if err != nil {
		t.Fatal(err)
	}
	defer counting.Close()
	road.connect(t, netip.AddrPortFrom(road.nodeOut, natNodePort), 1)
	road.connect(t, netip.AddrPortFrom(road.pod, natPodPort), 1)

	// Others on this machine open and lose connections too, which adds to the counts now and then. What belongs to healthy
	// traffic runs in every part of it, so the four quietest parts are the measure: where others are busy all the time, more
	// parts are sent until as many were quiet.
	const parts, quietest, most = 16, 4, 16 * 16
	var runs []uint64
	var all, sent, quiet, allowed uint64
	for len(runs) < parts || quiet > allowed && len(runs) < most {
		before, sentBefore := runsOf(t, probes.progs), segments(t, road.open[0])+segments(t, road.open[2])
		for i := 0; i < len(road.open); i += 2 {
			carry(t, road.open[i], road.open[i+1], total/2/parts)
		}
		part := runsOf(t, probes.progs) - before
		runs, all = append(runs, part), all+part
		sent += segments(t, road.open[0]) + segments(t, road.open[2]) - sentBefore
		slices.Sort(runs)
		quiet, allowed = runs[min(quietest, len(runs))-1], sent/uint64(len(runs))/segmentsPerRun
	}
	carried := total * int64(len(runs)) / parts
	t.Logf("%d MiB in %d segments, %d programs ran %d times, in a quiet part of %d segments %d times", carried>>20, sent,
		len(probes.progs), all, sent/uint64(len(runs)), quiet)
	if sent < uint64(total/65536) {
		t.Fatalf("only %d segments", sent)
	}
	if quiet > allowed {
		t.Errorf("%d runs for %d segments, want %d at most; by part %v", quiet, sent/uint64(len(runs)), allowed, runs)
	}
}

// carry sends bytes from one end of a connection to the other.
func carry(t *testing.T, from, to *net.TCPConn, total int64) {
	t.Helper()
	got := make(chan error, 1)
	go func(n int64) {
		_, err := io.CopyN(io.Discard, onlyReader{to}, n)
		got <- err
	}(total)
	for chunk := make([]byte, 1<<20); total > 0; total -= int64(len(chunk)) {
		if _, err := from.Write(chunk[:min(total, int64(len(chunk)))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// onlyReader hides that a connection can splice.
type onlyReader struct{ io.Reader }

// segments is how many segments a socket has sent (tcpi_segs_out).
func segments(t *testing.T, c *net.TCPConn) (n uint64) {
	t.Helper()
	if err := control(c, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = uint64(info.Segs_out)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// runsOf sums up how often programs have run since the kernel counts.
func runsOf(t *testing.T, progs []*ebpf.Program) (n uint64) {
	t.Helper()
	for _, p := range progs {
		s, err := p.Stats()
		if err != nil {
			t.Fatal(err)
		}
		n += s.RunCount
	}
	return n
}
