package bpfnat

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// pins is a directory in a BPF file system of its own.
func pins(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// world is what a dataplane has in its maps, and writes there as its datapath would.
type world struct {
	t    testing.TB
	dir  string
	maps map[string]*ebpf.Map
}

var ciliumTypes = []ebpf.MapSpec{
	{Name: ciliumCT4, Type: ebpf.LRUHash, KeySize: 14, ValueSize: 56, MaxEntries: 524288},
	{Name: ciliumSNAT4, Type: ebpf.LRUHash, KeySize: 14, ValueSize: 40, MaxEntries: 524288},
	{Name: ciliumRevNAT4, Type: ebpf.Hash, KeySize: 2, ValueSize: 6, MaxEntries: 65536, Flags: unix.BPF_F_NO_PREALLOC},
	{Name: ciliumBackend4, Type: ebpf.Hash, KeySize: 4, ValueSize: 12, MaxEntries: 65536, Flags: unix.BPF_F_NO_PREALLOC},
	{Name: ciliumRetries4, Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 4, MaxEntries: 33},
}

func newWorld(t testing.TB, specs []ebpf.MapSpec) *world {
	w := &world{t: t, dir: pins(t), maps: make(map[string]*ebpf.Map)}
	for _, spec := range specs {
		w.make(spec)
	}
	return w
}

// make makes a map and its pin, in place of the one that there is.
func (w *world) make(spec ebpf.MapSpec) {
	w.t.Helper()
	name := spec.Name
	spec.Name = name[:min(len(name), 15)]
	m, err := ebpf.NewMap(&spec)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	path := filepath.Join(w.dir, name)
	_ = os.Remove(path)
	if err := m.Pin(path); err != nil {
		w.t.Fatal(err)
	}
	w.maps[name] = m
}

func (w *world) put(name string, key, value []byte) {
	w.t.Helper()
	if err := w.maps[name].Put(key, value); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) drop(name string, key []byte) {
	w.t.Helper()
	if err := w.maps[name].Delete(key); err != nil {
		w.t.Fatal(err)
	}
}

// connection is one that the node translates.
type connection struct {
	client, vip, backend, peer event.Endpoint
	service                    [2]byte
}

func ep(s string) event.Endpoint {
	a := netip.MustParseAddrPort(s)
	return event.Endpoint{IP: a.Addr(), Port: a.Port()}
}

// nth is the n-th of many connections.
func nth(n int) connection {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0xc6120000+uint32(n/60000)) // 198.18.0.0 and after
	return connection{
		client: endpoint(netip.AddrFrom4(b), uint16(n%60000+1024)), vip: ep("203.0.113.10:80"), backend: ep("10.244.2.5:8080"),
		peer: endpoint(netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + n/30000)}), uint16(32768+n%30000)), service: [2]byte{0, 5},
	}
}

func (c connection) ctKey() []byte {
	return family4.put(ctKey(event.Tuple{Src: c.client, Dst: c.backend}, tupleOut))
}

func (c connection) natKeys() (forward, reverse []byte) {
	return family4.put(snatKey(event.Tuple{Src: c.client, Dst: c.backend}, tupleOut)), family4.put(snatKey(event.Tuple{Src: c.backend, Dst: c.peer}, tupleIn))
}

func natValue(to event.Endpoint, created uint64) []byte {
	v := make([]byte, 40)
	binary.LittleEndian.PutUint64(v, created)
	copy(v[32:], to.IP.AsSlice())
	binary.BigEndian.PutUint16(v[36:], to.Port)
	return v
}

// ctValue is an established connection's, in which a packet has just moved.
func ctValue(c connection, bits uint16, now, lifetime uint32) []byte {
	v := make([]byte, 56)
	binary.LittleEndian.PutUint32(v[32:], now+lifetime)
	binary.LittleEndian.PutUint16(v[36:], bits)
	copy(v[38:], c.service[:])
	v[42], v[43] = 0x12, 0x12
	binary.LittleEndian.PutUint32(v[48:], now)
	binary.LittleEndian.PutUint32(v[52:], now)
	return v
}

// open has a connection go through the node.
func (w *world) open(c connection, now uint32) {
	w.t.Helper()
	w.put(ciliumCT4, c.ctKey(), ctValue(c, ctNodePort|ctSeenNonSYN, now, 8000))
	forward, reverse := c.natKeys()
	w.put(ciliumSNAT4, reverse, natValue(c.client, uint64(now)))
	w.put(ciliumSNAT4, forward, natValue(c.peer, uint64(now)))
}

func (w *world) close(c connection) {
	w.t.Helper()
	forward, reverse := c.natKeys()
	w.drop(ciliumCT4, c.ctKey())
	w.drop(ciliumSNAT4, forward)
	w.drop(ciliumSNAT4, reverse)
}

func (w *world) name(c connection) {
	w.t.Helper()
	v := append(c.vip.IP.AsSlice(), byte(c.vip.Port>>8), byte(c.vip.Port))
	w.put(ciliumRevNAT4, c.service[:], v)
}

// uptimes are what Cilium's two clocks say now.
func uptimes(t testing.TB, hz uint32) (seconds, jiffies uint32) {
	m := New(Options{HZ: hz}).moment()
	return uint32(m.mono / time.Second), uint32(m.jiffies >> 8)
}

// runSource runs a source until the test ends, and returns what it tells.
func runSource(t testing.TB, opts Options) <-chan event.Event {
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan event.Event, 1<<20)
	done := make(chan struct{})
	s := New(opts)
	go func() {
		defer close(done)
		_ = s.Run(ctx, func(batch []event.Event) {
			for _, e := range batch {
				out <- e
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return out
}

// next returns the next fact about a translation.
func next(t testing.TB, facts <-chan event.Event) (event.Type, *event.NATFact) {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		select {
		case e := <-facts:
			if b, ok := e.Body.(*event.NATFact); ok {
				return e.Type, b
			}
		case <-limit:
			t.Fatal("no fact for a minute")
		}
	}
}

var often = Options{Node: "hop", Every: 20 * time.Millisecond, Look: 20 * time.Millisecond, Budget: 1, HZ: 250}

// TestCilium follows a connection through real maps, by both clocks that an agent may have written.
func TestCilium(t *testing.T) {
	for _, clock := range []string{"seconds", "jiffies"} {
		t.Run(clock, func(t *testing.T) {
			w := newWorld(t, ciliumTypes)
			seconds, jiffies := uptimes(t, often.HZ)
			now := seconds
			if clock == "jiffies" {
				now = jiffies
			}
			first, second := nth(1), nth(2)
			w.name(first)
			w.open(first, now)
			opts := often
			opts.Root = w.dir
			facts := runSource(t, opts)
			kind, fact := next(t, facts)
			if kind != event.NATFound || fact.NAT.Original.Dst != first.vip || fact.NAT.Original.Src != first.client ||
				fact.NAT.Reply.Src != first.backend || fact.NAT.Reply.Dst != first.peer || !slices.Equal(fact.NAT.Kinds, []string{"snat", "dnat"}) ||
				fact.Rung != "cilium" || fact.State != "established" {
				t.Fatalf("%v %+v", kind, fact)
			}
			w.open(second, now)
			if kind, fact = next(t, facts); kind != event.NATCreated || fact.NAT.Reply.Dst != second.peer {
				t.Fatalf("%v %+v", kind, fact)
			}
			w.close(first)
			if kind, fact = next(t, facts); kind != event.NATDestroyed || fact.NAT.Reply.Dst != first.peer || fact.Why != "flushed" || !fact.Since.OK {
				t.Fatalf("%v %+v", kind, fact)
			}
			// Both ends have closed it: what is left of it expires in a moment.
			w.put(ciliumCT4, second.ctKey(), ctValue(second, ctNodePort|ctSeenNonSYN|ctRxClosing|ctTxClosing, now-100, 10))
			if kind, fact = next(t, facts); kind != event.NATDestroyed || fact.NAT.Reply.Dst != second.peer {
				t.Fatalf("%v %+v", kind, fact)
			}
		})
	}
}

// TestMapsReplaced: an agent that was upgraded makes its maps anew under the same names. What the source says goes on with the
// new ones, and the old ones are not held.
func TestMapsReplaced(t *testing.T) {
	w := newWorld(t, ciliumTypes)
	seconds, _ := uptimes(t, 0)
	w.name(nth(1))
	w.open(nth(1), seconds)
	opts := often
	opts.Root = w.dir
	facts := runSource(t, opts)
	if kind, _ := next(t, facts); kind != event.NATFound {
		t.Fatal(kind)
	}
	old, err := w.maps[ciliumSNAT4].Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := old.ID()
	w.maps[ciliumSNAT4].Close()
	w.make(ciliumTypes[1])
	w.open(nth(2), seconds)
	seen := map[event.Type]event.Endpoint{}
	for len(seen) < 2 {
		kind, fact := next(t, facts)
		seen[kind] = fact.NAT.Original.Src
	}
	if seen[event.NATCreated] != nth(2).client || seen[event.NATDestroyed] != nth(1).client {
		t.Errorf("%v", seen)
	}
	for limit := time.Now().Add(time.Minute); ; {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			break // gone
		}
		m.Close()
		if time.Now().After(limit) {
			t.Fatal("the replaced map is still held")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestPinGone: with the pins the translations go, and nobody says that they were flushed.
func TestPinGone(t *testing.T) {
	w := newWorld(t, ciliumTypes)
	seconds, _ := uptimes(t, 0)
	w.open(nth(1), seconds)
	opts := often
	opts.Root = w.dir
	facts := runSource(t, opts)
	if kind, _ := next(t, facts); kind != event.NATFound {
		t.Fatal(kind)
	}
	for name := range w.maps {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if kind, fact := next(t, facts); kind != event.NATDestroyed || fact.Why != "unknown" {
		t.Fatalf("%v %+v", kind, fact)
	}
}

// TestUnknownSize: a map of a layout that nobody knows is refused by its name.
func TestUnknownSize(t *testing.T) {
	specs := slices.Clone(ciliumTypes)
	specs[0].ValueSize = 64
	w := newWorld(t, specs)
	_, err := New(Options{Root: w.dir}).readers[0].pass(w.dir, moment{wall: time.Now()})
	if err == nil || err.Error() != "a value of cilium_ct4_global has 64 bytes, and 56 in every version that is known" {
		t.Errorf("%v", err)
	}
}
