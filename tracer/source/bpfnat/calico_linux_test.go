package bpfnat

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// calicoSpec is the map of one version of Calico.
func calicoSpec(l *calicoLayout) ebpf.MapSpec {
	kind, flags := ebpf.Hash, uint32(unix.BPF_F_NO_PREALLOC)
	if l.name == "cali_v4_ct4" || l.name == "cali_v6_ct4" {
		kind, flags = ebpf.LRUHash, 0
	}
	return ebpf.MapSpec{Name: l.name, Type: kind, KeySize: uint32(l.key), ValueSize: uint32(l.value), MaxEntries: 512_000, Flags: flags}
}

// lower reports whether an end comes first in a key: by its address as words of little-endian numbers, then by its port.
func lower(a, b event.Endpoint) bool {
	x, y := a.IP.AsSlice(), b.IP.AsSlice()
	for i := 0; i < len(x); i += 4 {
		if v, w := binary.LittleEndian.Uint32(x[i:]), binary.LittleEndian.Uint32(y[i:]); v != w {
			return v < w
		}
	}
	return a.Port < b.Port
}

// calicoBytes is what Calico's datapath writes for an established connection from client to backend that was dialled as vip.
func calicoBytes(l *calicoLayout, client, backend, vip event.Endpoint, tun netip.Addr, flags uint32, seen uint64, byFlag bool) (key, value []byte) {
	a, b := client, backend
	fromB := !lower(a, b)
	if fromB {
		a, b = b, a
	}
	key = make([]byte, l.key)
	binary.LittleEndian.PutUint32(key, protoTCP)
	copy(key[4:], a.IP.AsSlice())
	copy(key[4+l.addr:], b.IP.AsSlice())
	binary.LittleEndian.PutUint16(key[4+2*l.addr:], a.Port)
	binary.LittleEndian.PutUint16(key[6+2*l.addr:], b.Port)
	value = make([]byte, l.value)
	binary.LittleEndian.PutUint64(value[8:], seen)
	value[16] = calicoReverse
	ab, ba := uint32(legSYN|legACK), uint32(legSYN|legACK)
	switch {
	case byFlag && fromB:
		flags |= calicoBA
	case byFlag:
	case fromB:
		ba |= legOpener
	default:
		ab |= legOpener
	}
	value[17] = byte(flags)
	if l.wide {
		value[23], value[18], value[19] = byte(flags>>8), byte(flags>>16), byte(flags>>24)
	}
	binary.LittleEndian.PutUint32(value[l.legs+l.legBits:], ab)
	binary.LittleEndian.PutUint32(value[l.legs+l.leg+l.legBits:], ba)
	if tun.IsValid() {
		copy(value[l.tun:], tun.AsSlice())
	}
	copy(value[l.dst:], vip.IP.AsSlice())
	binary.LittleEndian.PutUint16(value[l.port:], vip.Port)
	return key, value
}

// TestCalico reads real maps of each version: the backend's own entry names the node that handed the connection on, whichever
// of the two ends sorts first, and whether the opener or a flag tells the direction.
func TestCalico(t *testing.T) {
	for i := range calicoLayouts {
		l := &calicoLayouts[i]
		t.Run(l.name, func(t *testing.T) {
			w := newWorld(t, []ebpf.MapSpec{calicoSpec(l)})
			ends := [][2]string{{"192.0.2.100:40000", "10.244.2.5:8080"}, {"9.0.0.9:40001", "10.244.2.1:8080"}}
			vip, tun, hop := ep("203.0.113.10:80"), netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12")
			if l.addr == 16 {
				ends = [][2]string{{"[2001:db8:c::100]:40000", "[2001:db8:2::5]:8080"}, {"[2001:db8:2::1]:40001", "[2001:db8:c::5]:8080"}}
				vip, tun, hop = ep("[2001:db8:f::10]:80"), netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("2001:db8::12")
			}
			seen := uint64(New(Options{}).moment().mono)
			want := []string{}
			for n, e := range ends {
				for _, byFlag := range []bool{false, l.wide} {
					client, backend := ep(e[0]), ep(e[1])
					client.Port += uint16(10 * n)
					if byFlag {
						client.Port++
					}
					for _, forward := range []bool{false, true} {
						client.Port += 2
						to, flags, through := tun, uint32(0), fmt.Sprintf("address %s", tun)
						if forward { // this node is the one in the middle
							to, flags, through = hop, calicoNPForward, "node here"
						}
						key, value := calicoBytes(l, client, backend, vip, to, flags, seen, byFlag)
						w.put(l.name, key, value)
						want = append(want, fmt.Sprintf("%s -> %s, backend %s sees %s, crosses %s", client, vip, backend, client, through))
					}
				}
			}
			// None of these was translated, or lives: a plain connection, one whose time is over, one of another protocol.
			key, value := calicoBytes(l, ep(ends[0][0]), ep(ends[0][1]), vip, tun, 0, seen, false)
			value[16] = calicoNormal
			w.put(l.name, key, value)
			key, value = calicoBytes(l, event.Endpoint{IP: ep(ends[0][0]).IP, Port: 7}, ep(ends[0][1]), vip, tun, 0, 0, false)
			if seen > uint64(calicoTimeout) { // a machine that was started less than an hour ago knows no such connection
				w.put(l.name, key, value)
			}
			key, value = calicoBytes(l, event.Endpoint{IP: ep(ends[0][0]).IP, Port: 9}, ep(ends[0][1]), vip, tun, 0, seen, false)
			binary.LittleEndian.PutUint32(key, unix.IPPROTO_UDP)
			w.put(l.name, key, value)

			slices.Sort(want)
			want = slices.Compact(want)
			opts := often
			opts.Root, opts.Node = w.dir, "here"
			facts := runSource(t, opts)
			var got []string
			for range want {
				kind, f := next(t, facts)
				if kind != event.NATFound || f.Rung != "calico" || f.State != "established" || !slices.Equal(f.NAT.Kinds, []string{"dnat"}) || f.Hop == nil {
					t.Fatalf("%v %+v", kind, f)
				}
				through := "node " + f.Hop.Node
				if f.Hop.IP.IsValid() {
					through = "address " + f.Hop.IP.String()
				}
				got = append(got, fmt.Sprintf("%s -> %s, backend %s sees %s, crosses %s", f.NAT.Original.Src, f.NAT.Original.Dst, f.NAT.Reply.Src, f.NAT.Reply.Dst, through))
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got\n  %v\nwant\n  %v", got, want)
			}
		})
	}
}

// TestChurn: while thousands of connections come and go, none that stands all the time is told as gone, none is invented, and in
// the end the source knows what stands in the maps.
func TestChurn(t *testing.T) {
	w := newWorld(t, ciliumTypes)
	now, _ := uptimes(t, 0)
	const standing, coming = 2000, 4000
	w.name(nth(0))
	for i := range standing {
		w.open(nth(i), now)
	}
	opts := often
	opts.Root = w.dir
	facts := runSource(t, opts)
	known := map[event.Endpoint]bool{}
	take := func(e event.Event) {
		f, ok := e.Body.(*event.NATFact)
		if !ok {
			return
		}
		who := f.NAT.Original.Src
		if known[who] = e.Type != event.NATDestroyed; !known[who] {
			delete(known, who)
		}
		if f.NAT.Original.Dst != nth(0).vip {
			t.Errorf("a connection that never was: %+v", f.NAT)
		}
		if e.Type == event.NATDestroyed {
			for i := range standing {
				if nth(i).client == who {
					t.Fatalf("%s stands all the time, and was told as gone: %s", who, f.Why)
				}
			}
		}
	}
	for i := range coming {
		w.open(nth(standing+i), now)
		if i >= 100 {
			w.close(nth(standing + i - 100))
		}
		for len(facts) > 0 {
			take(<-facts)
		}
	}
	for limit := time.After(time.Minute); len(known) != standing+100; {
		select {
		case e := <-facts:
			take(e)
		case <-limit:
			t.Fatalf("%d connections are known, and there are %d", len(known), standing+100)
		}
	}
}
