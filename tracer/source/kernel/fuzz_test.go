package kernel

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// Whatever a record says, the fact has a line that reads back as the same type, and a record of another kind or size is
// refused.
func FuzzConvert(f *testing.F) {
	tcp, nat := int(unsafe.Sizeof(bpf.TCPRecord{})), int(unsafe.Sizeof(bpf.NATRecord{}))
	f.Add(uint16(bpf.KindRetransmit), make([]byte, tcp))
	f.Add(uint16(bpf.KindNATDestroyed), make([]byte, nat))
	f.Add(uint16(bpf.KindSocket), make([]byte, tcp))
	f.Add(uint16(bpf.KindClosed), make([]byte, tcp-8))
	f.Fuzz(func(t *testing.T, kind uint16, raw []byte) {
		if len(raw) < 8 || len(raw) > 1<<12 {
			return
		}
		binary.NativeEndian.PutUint16(raw, kind)
		binary.NativeEndian.PutUint16(raw[2:], uint16(len(raw)))
		c := converter{source: New(nil, Options{Node: "node-a"})}
		if err := c.set(); err != nil {
			t.Fatal(err)
		}
		got, err := c.convert(raw)
		size := 0
		switch k := bpf.Kind(kind); {
		case k >= bpf.KindRetransmit && k <= bpf.KindResetSent:
			size = tcp
		case k == bpf.KindNATCreated || k == bpf.KindNATDestroyed:
			size = nat
		}
		if (err == nil) != (len(raw) == size) {
			t.Fatalf("kind %d in %d bytes: %v", kind, len(raw), err)
		}
		if err != nil {
			return
		}
		e := got.event
		e.Source, e.ID = "agent/node-a", event.ID{Origin: "agent/node-a-1", N: 1}
		line := event.AppendJSON(nil, &e)
		back, err := event.Decode(line)
		if err != nil || back.Type != e.Type {
			t.Fatalf("%s: read back as %s: %v", line, back.Type, err)
		}
	})
}
