package bpf

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// marks looks at the sockets whose addresses the programs have listed.
type marks struct {
	program   *ebpf.Program
	at        *ebpf.Map // troubled_at
	asked     *ebpf.Map
	found     *ebpf.Map
	addresses marksAsked
	values    []markValue
	rows      marksFound
}

// markValue is struct trouble, of which nothing is read here.
type markValue [32]byte

// walk calls socket for every marked socket that is still there. Its row is valid during the call only.
func (m *marks) walk(ctx context.Context, socket func(*SocketRow)) error {
	var cursor ebpf.MapBatchCursor
	if m.values == nil {
		m.values = make([]markValue, marksAtOnce)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := m.at.BatchLookup(&cursor, m.addresses.At[:], m.values, nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return fmt.Errorf("read the addresses of marked sockets: %w", err)
		}
		if n > 0 {
			if err := m.look(n, socket); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// look looks at the first n addresses.
func (m *marks) look(n int, socket func(*SocketRow)) error {
	m.addresses.N = uint64(n)
	if err := m.asked.Put(uint32(0), bytesOf(&m.addresses)); err != nil {
		return fmt.Errorf("hand in the addresses of marked sockets: %w", err)
	}
	if _, err := m.program.Run(&ebpf.RunOptions{}); err != nil {
		return fmt.Errorf("look at marked sockets: %w", err)
	}
	if err := m.found.Lookup(uint32(0), bytesOf(&m.rows)); err != nil {
		return fmt.Errorf("read what marked sockets are like: %w", err)
	}
	for i := range min(m.rows.N, marksAtOnce) {
		socket(&m.rows.Rows[i])
	}
	return nil
}

// bytesOf is a struct of the wire as the kernel sees it.
func bytesOf[T marksAsked | marksFound](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
