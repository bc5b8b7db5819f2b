package kernel

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

func TestRetransmissionKinds(t *testing.T) {
	for want, s := range map[string]bpf.Sock{
		"syn": {State: bpf.StateSynSent, Retransmits: 3},
		"rto": {State: bpf.StateEstablished, Retransmits: 1},
	} {
		if got := retransmission(&s); got != want {
			t.Errorf("%+v is %s, want %s", s, got, want)
		}
	}
}

func TestProbeKinds(t *testing.T) {
	if got := probe(&bpf.Sock{ProbesOut: 1}); got != "keepalive" {
		t.Errorf("a probe with nothing queued is %s", got)
	}
	if got := probe(&bpf.Sock{ProbesOut: 1, Unsent: 9}); got != "window" {
		t.Errorf("a probe with data queued is %s", got)
	}
}

func TestHow(t *testing.T) {
	for _, c := range []struct {
		err  unix.Errno
		from uint8
		want string
	}{
		{unix.ECONNRESET, bpf.StateEstablished, "rst"},
		{unix.EPIPE, bpf.StateCloseWait, "rst"},
		{unix.ECONNREFUSED, bpf.StateSynSent, "rst"},
		{unix.ETIMEDOUT, bpf.StateEstablished, "abort"},
		{unix.EHOSTUNREACH, bpf.StateEstablished, "abort"},
		{unix.ECONNABORTED, bpf.StateEstablished, "abort"},
		{0, bpf.StateLastAck, "fin"},
		{0, bpf.StateFinWait2, "fin"},
		{0, bpf.StateEstablished, "app"},
	} {
		if got := how(&bpf.TCPRecord{Err: int32(c.err), OldState: c.from}); got != c.want {
			t.Errorf("from state %d with %v: %s, want %s", c.from, c.err, got, c.want)
		}
	}
}

func TestErrno(t *testing.T) {
	if got := errno(int32(unix.ETIMEDOUT)); got != "ETIMEDOUT" {
		t.Errorf("got %s", got)
	}
	if got := errno(4095); got != "4095" {
		t.Errorf("got %s", got)
	}
}

func natRecord(kind bpf.Kind) bpf.NATRecord {
	tuple := func(src, dst string) bpf.NATTuple {
		s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		return bpf.NATTuple{Src: s.Addr().As16(), Dst: d.Addr().As16(), SrcPort: s.Port(), DstPort: d.Port()}
	}
	r := bpf.NATRecord{
		Original: tuple("203.0.113.9:55618", "10.146.0.3:30080"),
		Reply:    tuple("10.48.1.7:8080", "10.146.0.3:41000"),
		Status:   bpf.StatusConfirmed | bpf.StatusSourceNAT | bpf.StatusDestNAT,
		Netns:    4026531840, Mark: 7, Zone: 3, Proto: unix.IPPROTO_TCP, TCPState: 3, LeftMS: 5000,
	}
	r.Header.Kind, r.Header.Len, r.Header.KTime = kind, uint16(unsafe.Sizeof(r)), 1
	return r
}

func convertOne(s *Source, r *bpf.NATRecord) (told, error) {
	c := converter{source: s}
	if err := c.set(); err != nil {
		return told{}, err
	}
	return c.convert(unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)))
}

func TestNATFacts(t *testing.T) {
	s := New(nil, Options{Node: "node-a", NATRung: "fexit"})
	end := func(text string) event.Endpoint {
		p := netip.MustParseAddrPort(text)
		return event.Endpoint{IP: p.Addr(), Port: p.Port()}
	}
	r := natRecord(bpf.KindNATCreated)
	got, err := convertOne(s, &r)
	if err != nil {
		t.Fatal(err)
	}
	want := &event.NATFact{
		NAT: event.NAT{
			Proto:    "tcp",
			Original: event.Tuple{Src: end("203.0.113.9:55618"), Dst: end("10.146.0.3:30080")},
			Reply:    event.Tuple{Src: end("10.48.1.7:8080"), Dst: end("10.146.0.3:41000")},
			Kinds:    []string{"snat", "dnat"}, Zone: 3, Mark: 7, Netns: 4026531840,
		},
		By: event.By{Node: "node-a"}, Rung: "fexit", State: "established",
	}
	if d := cmp.Diff(want, got.event.Body, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if got.event.Type != event.NATCreated || got.event.Flow != "203.0.113.9:55618-10.146.0.3:30080" {
		t.Errorf("%s %s", got.event.Type, got.event.Flow)
	}
	if h := (held{spaces: &fakeSpaces{}}); h.keeps(&got) {
		t.Error("a NAT entry waits for a census")
	}
}

func TestNATWhy(t *testing.T) {
	for want, change := range map[string]func(*bpf.NATRecord){
		"unknown": func(*bpf.NATRecord) {},
		"flushed": func(r *bpf.NATRecord) { r.PortID, r.TCPState = 4711, bpf.ConntrackTimeWait },
		"netns":   func(r *bpf.NATRecord) { r.NetnsGone = 1 },
		"closed":  func(r *bpf.NATRecord) { r.TCPState, r.LeftMS = bpf.ConntrackTimeWait, -3 },
		"timeout": func(r *bpf.NATRecord) { r.LeftMS = -3 },
	} {
		r := natRecord(bpf.KindNATDestroyed)
		change(&r)
		got, err := convertOne(New(nil, Options{}), &r)
		if err != nil {
			t.Fatal(err)
		}
		if f := got.event.Body.(*event.NATFact); f.Why != want || got.event.Type != event.NATDestroyed {
			t.Errorf("%s: %s because %q", got.event.Type, want, f.Why)
		}
	}
}

// A record that these probes do not write ends the source: the probes are not the ones that belong to this program.
func TestStrangeRecords(t *testing.T) {
	s := New(nil, Options{})
	r := natRecord(99)
	if _, err := convertOne(s, &r); err == nil {
		t.Error("an unknown kind was accepted")
	}
	r = natRecord(bpf.KindRetransmit)
	if _, err := convertOne(s, &r); err == nil {
		t.Error("a NAT record passes for a TCP record")
	}
}
