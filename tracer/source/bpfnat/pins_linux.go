package bpfnat

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// roots are where dataplanes pin their maps: below the host's own BPF file system, or below Cilium's where /sys/fs/bpf is
// of another kind (pkg/defaults, BPFFSRootFallback).
var roots = []string{"/sys/fs/bpf/tc/globals", "/run/cilium/bpffs/tc/globals"}

// pinned is a map that is open for one pass and no longer: its owner may replace it at any time, and a descriptor would keep
// the old one's memory.
type pinned struct {
	name string
	m    *ebpf.Map
}

// open opens a map by its pin for reading only. It returns nil where there is no such pin.
func open(root, name string, key, value int) (*pinned, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(root, name), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", filepath.Join(root, name), err)
	}
	if int(m.KeySize()) != key || int(m.ValueSize()) != value {
		defer m.Close()
		if int(m.KeySize()) != key {
			return nil, sizeError("key of "+name, int(m.KeySize()), key)
		}
		return nil, sizeError("value of "+name, int(m.ValueSize()), value)
	}
	return &pinned{name: name, m: m}, nil
}

func (p *pinned) close() {
	if p != nil {
		_ = p.m.Close()
	}
}

// batch is how many entries are asked for at a time: some 300 us of the kernel's time. A bucket that holds more than fit gives
// ENOSPC.
const batch = 4096

// Each calls f for every entry of the map. An entry that comes while others go may be told twice or, if it came after the
// beginning, not at all.
func (p *pinned) Each(f func(key, value []byte)) error {
	keySize, valueSize := int(p.m.KeySize()), int(p.m.ValueSize())
	size := batch
	keys, keyBytes := arrays(keySize, size)
	values, valueBytes := arrays(valueSize, size)
	var at ebpf.MapBatchCursor
	for {
		n, err := p.m.BatchLookup(&at, keys, values, nil)
		end := errors.Is(err, ebpf.ErrKeyNotExist)
		switch {
		case errors.Is(err, unix.ENOSPC) && size < int(p.m.MaxEntries()):
			// The next bucket holds more than fit, and nothing was read: the cursor stands where it was.
			size *= 2
			keys, keyBytes = arrays(keySize, size)
			values, valueBytes = arrays(valueSize, size)
			continue
		case err != nil && !end:
			return fmt.Errorf("reading %s: %w", p.name, err)
		}
		for i := range n {
			f(keyBytes[i*keySize:(i+1)*keySize], valueBytes[i*valueSize:(i+1)*valueSize])
		}
		if end {
			return nil
		}
	}
}

// Has reports whether there is an entry with this key now.
func (p *pinned) Has(key []byte) (bool, error) {
	value, err := p.m.LookupBytes(key)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", p.name, err)
	}
	return value != nil, nil
}

// arrays makes a slice of n arrays of so many bytes, which is what the library takes for a batch, and the same memory as bytes.
func arrays(size, n int) (any, []byte) {
	s := reflect.MakeSlice(reflect.SliceOf(reflect.ArrayOf(size, reflect.TypeFor[byte]())), n, n)
	return s.Interface(), unsafe.Slice((*byte)(s.UnsafePointer()), size*n)
}

// readRetries reads how often a masquerade port was found at the first, second, ... try, over all processors: a histogram
// whose last place counts those that found none. It returns nil where the version has no such map.
func readRetries(root, name string) ([]uint64, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(root, name), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	defer m.Close()
	if m.ValueSize() != retriesSize || m.Type() != ebpf.PerCPUArray {
		return nil, sizeError("value of "+name, int(m.ValueSize()), retriesSize)
	}
	out := make([]uint64, m.MaxEntries())
	for i := range out {
		var perCPU []uint32
		if err := m.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		for _, n := range perCPU {
			out[i] += uint64(n)
		}
	}
	return out, nil
}
