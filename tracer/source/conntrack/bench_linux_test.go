package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// BenchmarkDump is the first dump of 100,000 translated connections, told as facts, beside what conntrack -L takes for the
// same in processor time.
func BenchmarkDump(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: makes a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with its namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	const entries = 100_000
	fill(b, entries)
	var wall, cpu, least time.Duration
	for b.Loop() {
		s, err := Open(Options{Node: "node-a"})
		if err != nil {
			b.Fatal(err)
		}
		told := 0
		s.emit = func(batch []event.Event) { told += len(batch) }
		began, before := time.Now(), threadTime()
		if err := s.dump(); err != nil {
			b.Fatal(err)
		}
		took := threadTime() - before
		wall, cpu = wall+time.Since(began), cpu+took
		if least == 0 || took < least {
			least = took
		}
		s.Close()
		if told != entries {
			b.Fatalf("%d entries told of %d", told, entries)
		}
	}
	b.ReportMetric(wall.Seconds()*1e3/float64(b.N), "ms/dump")
	b.ReportMetric(cpu.Seconds()*1e3/float64(b.N), "cpu-ms/dump")
	b.ReportMetric(least.Seconds()*1e3, "cpu-ms-least")
	cmd := exec.Command("conntrack", "-L")
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric((cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()).Seconds()*1e3, "cpu-ms-conntrack-L")
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// Attributes of a new entry that the source itself never reads (nfnetlink_conntrack.h, nf_nat.h).
const (
	ctaNATSrc   = 6
	ctaNATDst   = 13
	ctaNATMinIP = 1
	ctaNATMaxIP = 2
	ctaNATProto = 3
	ctaPortMin  = 1
	ctaPortMax  = 2
)

// fill inserts connections into the table of this thread's namespace and has the kernel translate both their ends.
func fill(b testing.TB, n int) {
	b.Helper()
	s, err := openSocket()
	if err != nil {
		b.Fatal(err)
	}
	defer s.close()
	pod, node := netip.MustParseAddr("10.48.1.7"), netip.MustParseAddr("10.146.0.3")
	for i := range n {
		client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 16), byte(i >> 8)}), uint16(1024+i&0xff))
		dialled := netip.AddrPortFrom(node, 30080)
		e := netlink.NewAttributeEncoder()
		e.ByteOrder = binary.BigEndian
		tuple := func(kind uint16, src, dst netip.AddrPort) {
			e.Nested(kind, func(e *netlink.AttributeEncoder) error {
				e.Nested(ctaTupleIP, func(e *netlink.AttributeEncoder) error {
					e.Bytes(ctaIPv4Src, src.Addr().AsSlice())
					e.Bytes(ctaIPv4Dst, dst.Addr().AsSlice())
					return nil
				})
				e.Nested(ctaTupleProto, func(e *netlink.AttributeEncoder) error {
					e.Uint8(ctaProtoNum, protoTCP)
					e.Uint16(ctaProtoSrcPort, src.Port())
					e.Uint16(ctaProtoDstPort, dst.Port())
					return nil
				})
				return nil
			})
		}
		nat := func(kind uint16, to netip.AddrPort) {
			e.Nested(kind, func(e *netlink.AttributeEncoder) error {
				e.Bytes(ctaNATMinIP, to.Addr().AsSlice())
				e.Bytes(ctaNATMaxIP, to.Addr().AsSlice())
				e.Nested(ctaNATProto, func(e *netlink.AttributeEncoder) error {
					e.Uint16(ctaPortMin, to.Port())
					e.Uint16(ctaPortMax, to.Port())
					return nil
				})
				return nil
			})
		}
		tuple(ctaTupleOrig, client, dialled)
		tuple(ctaTupleReply, dialled, client)
		e.Uint32(ctaTimeout, 86400)
		nat(ctaNATDst, netip.AddrPortFrom(pod, uint16(8080+i>>16)))
		nat(ctaNATSrc, netip.AddrPortFrom(node, uint16(i)))
		e.Nested(ctaProtoInfo, func(e *netlink.AttributeEncoder) error {
			e.Nested(ctaProtoInfoTCP, func(e *netlink.AttributeEncoder) error {
				e.Uint8(ctaProtoInfoTCPState, stateEstablished)
				return nil
			})
			return nil
		})
		body, err := e.Encode()
		if err != nil {
			b.Fatal(err)
		}
		if err := s.query(msgNew, netlink.Create, unix.AF_INET, body, func(message) {}, nil); err != nil {
			b.Fatal(fmt.Errorf("entry %d: %w", i, err))
		}
	}
}
