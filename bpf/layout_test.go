package bpf

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// objects are the compiled probes and the wire structs that each of them writes.
var objects = []struct {
	name    string
	elf     []byte
	structs map[string]reflect.Type
}{
	{"clock", _ClockBytes, map[string]reflect.Type{
		"clocks": reflect.TypeFor[clocksReading](),
	}},
	{"tcp", _TcpBytes, map[string]reflect.Type{
		"tcp_event":    reflect.TypeFor[TCPRecord](),
		"ring_count":   reflect.TypeFor[ringCount](),
		"repair_key":   reflect.TypeFor[repairKey](),
		"repair_count": reflect.TypeFor[repairCount](),
	}},
	{"rawtcp", _RawtcpBytes, map[string]reflect.Type{
		"tcp_event":    reflect.TypeFor[TCPRecord](),
		"ring_count":   reflect.TypeFor[ringCount](),
		"repair_key":   reflect.TypeFor[repairKey](),
		"repair_count": reflect.TypeFor[repairCount](),
	}},
	{"reset", _ResetBytes, map[string]reflect.Type{
		"tcp_event":  reflect.TypeFor[TCPRecord](),
		"ring_count": reflect.TypeFor[ringCount](),
	}},
	{"kprobe", _KprobeBytes, map[string]reflect.Type{
		"tcp_event":  reflect.TypeFor[TCPRecord](),
		"nat_event":  reflect.TypeFor[NATRecord](),
		"ring_count": reflect.TypeFor[ringCount](),
	}},
	{"probe", _ProbeBytes, map[string]reflect.Type{
		"tcp_event":  reflect.TypeFor[TCPRecord](),
		"ring_count": reflect.TypeFor[ringCount](),
	}},
	{"nat", _NatBytes, map[string]reflect.Type{
		"nat_event":  reflect.TypeFor[NATRecord](),
		"ring_count": reflect.TypeFor[ringCount](),
	}},
	{"troubled", _TroubledBytes, map[string]reflect.Type{
		"socket_row": reflect.TypeFor[SocketRow](),
	}},
	{"marks", _MarksBytes, map[string]reflect.Type{
		"socket_row":  reflect.TypeFor[SocketRow](),
		"marks_asked": reflect.TypeFor[marksAsked](),
		"marks_found": reflect.TypeFor[marksFound](),
	}},
	{"census", _CensusBytes, map[string]reflect.Type{
		"socket_row": reflect.TypeFor[SocketRow](),
		"netns_row":  reflect.TypeFor[NetnsRow](),
		"cgroup_row": reflect.TypeFor[CgroupRow](),
	}},
}

// Every struct that C writes and Go reads has the same size and the same members at the same places in both.
func TestLayout(t *testing.T) {
	for _, o := range objects {
		t.Run(o.name, func(t *testing.T) {
			spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(o.elf))
			if err != nil {
				t.Fatal(err)
			}
			for name, goType := range o.structs {
				var c *btf.Struct
				if err := spec.Types.TypeByName(name, &c); err != nil {
					t.Fatalf("struct %s: %v", name, err)
				}
				compare(t, name, c, goType)
			}
		})
	}
}

func compare(t *testing.T, path string, c *btf.Struct, g reflect.Type) {
	t.Helper()
	if uintptr(c.Size) != g.Size() {
		t.Errorf("%s has %d bytes in C and %d in Go", path, c.Size, g.Size())
	}
	var fields []reflect.StructField
	for f := range fieldsOf(g) {
		fields = append(fields, f)
	}
	members := slices.DeleteFunc(slices.Clone(c.Members), func(m btf.Member) bool { return m.Name == "pad" })
	if len(members) != len(fields) {
		t.Fatalf("%s has %d members in C and %d in Go", path, len(members), len(fields))
	}
	for i, m := range members {
		f := fields[i]
		at := path + "." + m.Name
		if m.BitfieldSize != 0 {
			t.Errorf("%s is a bitfield", at)
		}
		if uintptr(m.Offset.Bytes()) != f.Offset {
			t.Errorf("%s is at %d in C, %s at %d in Go", at, m.Offset.Bytes(), f.Name, f.Offset)
		}
		if plain(m.Name) != plain(f.Name) {
			t.Errorf("%s is called %s in Go", at, f.Name)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if uintptr(size) != f.Type.Size() {
			t.Errorf("%s has %d bytes in C and %d in Go", at, size, f.Type.Size())
		}
		if inner, ok := btf.UnderlyingType(m.Type).(*btf.Struct); ok {
			compare(t, at, inner, f.Type)
		}
	}
}

// fieldsOf walks the fields that carry something: not the layout marker, not padding.
func fieldsOf(g reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range g.NumField() {
			if f := g.Field(i); f.Name != "_" && !yield(f) {
				return
			}
		}
	}
}

// plain makes the names of both languages comparable: h and Header, snd_wnd and SndWnd.
func plain(name string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", ""))
	if name == "h" {
		return "header"
	}
	return name
}

// A record must not have padding that nobody wrote: it would hand kernel memory to user space. Explicit padding is
// called pad, so members must follow each other without holes.
func TestNoHoles(t *testing.T) {
	for _, o := range objects {
		spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(o.elf))
		if err != nil {
			t.Fatal(err)
		}
		for name := range o.structs {
			var c *btf.Struct
			if err := spec.Types.TypeByName(name, &c); err != nil {
				t.Fatal(err)
			}
			noHoles(t, name, c)
		}
	}
}

func noHoles(t *testing.T, path string, c *btf.Struct) {
	t.Helper()
	end := uint32(0)
	for _, m := range c.Members {
		if got := m.Offset.Bytes(); got != end {
			t.Errorf("%s.%s is at %d, the member before ends at %d", path, m.Name, got, end)
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		end = m.Offset.Bytes() + uint32(size)
		if inner, ok := btf.UnderlyingType(m.Type).(*btf.Struct); ok {
			noHoles(t, path+"."+m.Name, inner)
		}
	}
	if end != c.Size {
		t.Errorf("%s has %d bytes, its last member ends at %d", path, c.Size, end)
	}
}

// The record kinds of event.h are the ones that Go knows.
func TestKinds(t *testing.T) {
	want := map[string]Kind{
		"KIND_RETRANSMIT":     KindRetransmit,
		"KIND_PROBE":          KindProbe,
		"KIND_RESET_RECEIVED": KindResetReceived,
		"KIND_ERROR":          KindError,
		"KIND_CLOSED":         KindClosed,
		"KIND_RESET_SENT":     KindResetSent,
		"KIND_SOCKET":         KindSocket,
		"KIND_NETNS":          KindNetns,
		"KIND_CGROUP":         KindCgroup,
		"KIND_NAT_CREATED":    KindNATCreated,
		"KIND_NAT_DESTROYED":  KindNATDestroyed,
	}
	header := readHeader(t)
	for name, kind := range want {
		if got, ok := header[name]; !ok || got != int(kind) {
			t.Errorf("%s is %d in C (there: %v) and %d in Go", name, got, ok, kind)
		}
	}
	for name := range header {
		if _, ok := want[name]; strings.HasPrefix(name, "KIND_") && !ok {
			t.Errorf("%s is not known in Go", name)
		}
	}
}
