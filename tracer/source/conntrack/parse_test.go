package conntrack

import (
	"net/netip"
	"testing"
)

func attr(kind uint16, value ...byte) []byte { return appendAttribute(nil, kind, value) }

func nest(kind uint16, children ...[]byte) []byte {
	var b []byte
	for _, c := range children {
		b = append(b, c...)
	}
	return attr(kind|nested, b...)
}

func tupleAttr(kind uint16, src, dst string, proto byte) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	from, to := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
	if s.Addr().Is6() {
		from, to = ctaIPv6Src, ctaIPv6Dst
	}
	return nest(kind,
		nest(ctaTupleIP, attr(from, s.Addr().AsSlice()...), attr(to, d.Addr().AsSlice()...)),
		nest(ctaTupleProto, attr(ctaProtoNum, proto), attr(ctaProtoSrcPort, byte(s.Port()>>8), byte(s.Port())),
			attr(ctaProtoDstPort, byte(d.Port()>>8), byte(d.Port()))))
}

func sample(status byte, proto byte) []byte {
	var b []byte
	b = append(b, tupleAttr(ctaTupleOrig, "192.0.2.100:52110", "203.0.113.10:80", proto)...)
	b = append(b, tupleAttr(ctaTupleReply, "10.244.2.5:8080", "192.0.2.11:40112", proto)...)
	b = append(b, attr(ctaStatus, 0, 0, 1, status)...)
	b = append(b, nest(ctaProtoInfo, nest(ctaProtoInfoTCP, attr(ctaProtoInfoTCPState, stateEstablished)))...)
	b = append(b, attr(ctaTimeout, 0, 6, 0x97, 0x80)...)
	b = append(b, attr(ctaMark, 0, 0, 0x40, 0)...)
	b = append(b, attr(ctaID, 1, 2, 3, 4)...)
	b = append(b, attr(ctaZone, 0, 7)...)
	b = append(b, nest(ctaTimestamp, attr(ctaTimestampStart, 0, 0, 0, 0, 0, 0, 0, 9))...)
	return append(b, attr(99, 1)...) // of a later kernel
}

func TestParse(t *testing.T) {
	got, ok := parse(sample(0x8e|statusNAT, protoTCP))
	want := entry{
		key:   key{original: testTuple("192.0.2.100:52110", "203.0.113.10:80"), zone: 7},
		reply: testTuple("10.244.2.5:8080", "192.0.2.11:40112"),
		id:    0x01020304, mark: 0x4000, timeout: 432000, started: 9, nat: statusNAT, state: stateEstablished,
	}
	if !ok || got != want {
		t.Fatalf("%v\n got %+v\nwant %+v", ok, got, want)
	}
	if _, ok := parse(sample(0x8e, protoTCP)); ok {
		t.Error("an entry that is not translated was read")
	}
	if _, ok := parse(sample(0x8e|statusNAT, 17)); ok {
		t.Error("an entry of UDP was read")
	}
	if _, ok := parse(nil); ok {
		t.Error("an empty message was read")
	}
	v6 := append(tupleAttr(ctaTupleOrig, "[2001:db8::100]:52110", "[2001:db8::11]:30080", protoTCP),
		tupleAttr(ctaTupleReply, "[2001:db8:244:2::5]:8080", "[2001:db8::11]:40112", protoTCP)...)
	v6 = append(v6, attr(ctaStatus, 0, 0, 1, statusDstNAT)...)
	e, ok := parse(v6)
	if !ok || e.reply.endpoints().Src.String() != "[2001:db8:244:2::5]:8080" || kinds(e.nat)[0] != "dnat" {
		t.Errorf("got %v, %v", e, ok)
	}
}

func TestAppendKey(t *testing.T) {
	for _, name := range []key{
		{original: testTuple("192.0.2.100:52110", "203.0.113.10:80"), zone: 7},
		{original: testTuple("[2001:db8::100]:52110", "[2001:db8::11]:30080")},
	} {
		b := appendKey(nil, name)
		b = append(b, tupleAttr(ctaTupleReply, "10.244.2.5:8080", "192.0.2.11:40112", protoTCP)...)
		b = append(b, attr(ctaStatus, 0, 0, 1, statusDstNAT)...)
		if e, ok := parse(b); !ok || e.key != name {
			t.Errorf("%v came back as %v, %v", name, e.key, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(statusNAT, protoTCP))
	f.Add(sample(0, 17))
	f.Add(attr(ctaTupleOrig, 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parse(b)
		if ok && e.nat&statusNAT == 0 {
			t.Fatal("an entry that is not translated was read")
		}
		l := newLedger("n", 1)
		if ok {
			l.seen(&e, noon)
			l.destroyed(&e, noon)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	translated, plain := sample(statusNAT, protoTCP), sample(0, protoTCP)
	b.Run("translated", func(b *testing.B) {
		for b.Loop() {
			parse(translated)
		}
	})
	b.Run("skipped", func(b *testing.B) {
		for b.Loop() {
			parse(plain)
		}
	})
}
