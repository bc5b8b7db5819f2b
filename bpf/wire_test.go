package bpf

import (
	"encoding/binary"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"unsafe"
)

// readHeader returns the enumerators of event.h, which no object's BTF carries: enumerators that are only used as numbers
// leave no trace.
func readHeader(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("event.h")
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]int)
	for _, m := range regexp.MustCompile(`(?m)^\t([A-Z0-9_]+) = (\d+),`).FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(m[2]))
		if err != nil {
			t.Fatal(err)
		}
		values[string(m[1])] = n
	}
	return values
}

// The other enumerators of event.h.
func TestEnumerators(t *testing.T) {
	header := readHeader(t)
	for name, want := range map[string]uint8{
		"SOCK_FLAG_KEEPALIVE":   FlagKeepalive,
		"SOCK_FLAG_ORPHAN":      FlagOrphan,
		"SOCK_FLAG_MPTCP":       FlagMPTCP,
		"SOCK_TIMER_NONE":       TimerNone,
		"SOCK_TIMER_RETRANSMIT": TimerRetransmit,
		"SOCK_TIMER_PROBE0":     TimerProbe0,
		"SOCK_TIMER_TAIL_LOSS":  TimerTailLoss,
		"SOCK_TIMER_REORDER":    TimerReorder,
		"SOCK_TIMER_KEEPALIVE":  TimerKeepalive,
	} {
		if got, ok := header[name]; !ok || got != int(want) {
			t.Errorf("%s is %d in C (there: %v) and %d in Go", name, got, ok, want)
		}
	}
}

// record builds the bytes of a TCP record by hand, at the offsets that TestLayout proves.
func record(kind Kind, size int) []byte {
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b[0:], uint16(kind))
	binary.NativeEndian.PutUint16(b[2:], uint16(size))
	binary.NativeEndian.PutUint32(b[4:], 3)
	binary.NativeEndian.PutUint64(b[8:], 12345)
	return b
}

func TestDecode(t *testing.T) {
	size := int(unsafe.Sizeof(TCPRecord{}))
	raw := record(KindRetransmit, size)
	var r TCPRecord
	sock := raw[unsafe.Offsetof(r.Sock):]
	binary.NativeEndian.PutUint64(sock[unsafe.Offsetof(r.Sock.Cookie):], 77)
	copy(sock[unsafe.Offsetof(r.Sock.Local):], netip.MustParseAddr("::ffff:10.0.0.1").AsSlice())
	copy(sock[unsafe.Offsetof(r.Sock.Peer):], netip.MustParseAddr("2001:db8::2").AsSlice())
	binary.NativeEndian.PutUint16(sock[unsafe.Offsetof(r.Sock.LocalPort):], 8080)
	binary.NativeEndian.PutUint16(sock[unsafe.Offsetof(r.Sock.PeerPort):], 40000)
	if err := Decode(raw, &r); err != nil {
		t.Fatal(err)
	}
	if r.Header.Kind != KindRetransmit || r.Header.CPU != 3 || r.Header.KTime != 12345 || r.Sock.Cookie != 77 {
		t.Errorf("decoded %+v", r)
	}
	if got := r.Sock.LocalAddr().String(); got != "10.0.0.1:8080" {
		t.Errorf("local end %s, want it unmapped", got)
	}
	if got := r.Sock.PeerAddr().String(); got != "[2001:db8::2]:40000" {
		t.Errorf("peer %s", got)
	}
}

// A record of another length comes from other probes; it is refused and not read halfway.
func TestDecodeRefuses(t *testing.T) {
	size := int(unsafe.Sizeof(TCPRecord{}))
	lying := record(KindRetransmit, size)
	binary.NativeEndian.PutUint16(lying[2:], uint16(size-8))
	for name, raw := range map[string][]byte{
		"empty":           nil,
		"half a header":   make([]byte, 7),
		"only a header":   record(KindRetransmit, headerSize),
		"short":           record(KindRetransmit, size-8),
		"long":            record(KindRetransmit, size+8),
		"another length":  lying,
		"a census's row":  record(KindSocket, int(unsafe.Sizeof(SocketRow{}))+8),
		"one byte short":  record(KindRetransmit, size)[:size-1],
		"one byte longer": append(record(KindRetransmit, size), 0),
	} {
		var r TCPRecord
		if err := Decode(raw, &r); err == nil {
			t.Errorf("%s: decoded", name)
		} else if r != (TCPRecord{}) {
			t.Errorf("%s: refused and yet written to", name)
		}
	}
}

// Whatever the bytes, decoding neither panics nor accepts a record whose length is wrong.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(record(KindRetransmit, int(unsafe.Sizeof(TCPRecord{}))))
	f.Add(record(KindNATCreated, int(unsafe.Sizeof(NATRecord{}))))
	f.Add(record(KindSocket, int(unsafe.Sizeof(SocketRow{}))))
	f.Add(record(KindNetns, 20))
	f.Add(record(KindCgroup, int(unsafe.Sizeof(CgroupRow{}))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, err := KindOf(raw)
		if err == nil && int(binary.NativeEndian.Uint16(raw[2:])) != len(raw) {
			t.Fatalf("kind %d of a record that lies about its length", kind)
		}
		fuzzOne[TCPRecord](t, raw)
		fuzzOne[SocketRow](t, raw)
		fuzzOne[NetnsRow](t, raw)
		fuzzOne[CgroupRow](t, raw)
		fuzzOne[NATRecord](t, raw)
	})
}

func fuzzOne[T wire](t *testing.T, raw []byte) {
	var to T
	err := Decode(raw, &to)
	if size := int(unsafe.Sizeof(to)); err == nil && len(raw) != size {
		t.Fatalf("%T of %d bytes from %d", to, size, len(raw))
	}
	if err != nil {
		return
	}
	back := unsafe.Slice((*byte)(unsafe.Pointer(&to)), unsafe.Sizeof(to))
	if string(back) != string(raw) {
		t.Fatalf("%T differs from its record", to)
	}
}
