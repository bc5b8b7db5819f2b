package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// rowsBuffer is room for what one read of the iterator returns: bpf_seq_read fills 8 pages at most (kernel/bpf/bpf_iter.c).
const rowsBuffer = 64 << 10

// Census walks all open TCP sockets of all processes of this process's pid namespace, in every network namespace, and
// calls socket for each file that holds one: a socket that several files hold comes several times, under one cookie.
// It calls netns for the namespaces of the processes and sockets, each at least once. Rows are valid during the call only.
// It enters no namespace. Sockets without a file (closed by their application, not yet accepted) do not appear.
func (p *Probes) Census(ctx context.Context, socket func(*SocketRow), netns func(*NetnsRow)) error {
	if p.census == nil {
		return errors.New("census: no rung of fact sockets is loaded")
	}
	return p.walk(ctx, p.census, socket, netns)
}

// TellCgroups has Census call f for the version 2 cgroups that owners of sockets of this process's own network namespace
// are in, and for those above them: before the rows of these sockets, each at least once. The hierarchy need not be mounted,
// and the processes may be gone by then. Rows are valid during the call only.
func (p *Probes) TellCgroups(f func(*CgroupRow)) { p.cgroups = f }

// Troubled walks the sockets that the probes have marked as in trouble, until they have been well for 10 s: of all network
// namespaces of the machine, and also those that no process holds any more. Rows say nothing of an owner. It does nothing
// where the fact "recovery" stands on the census. It may not run at the same time as Census.
func (p *Probes) Troubled(ctx context.Context, socket func(*SocketRow)) error {
	if p.marks != nil {
		return p.marks.walk(ctx, socket)
	}
	if p.troubled == nil {
		return nil
	}
	return p.walk(ctx, p.troubled, socket, func(*NetnsRow) {})
}

// walk reads an iterator to its end.
func (p *Probes) walk(ctx context.Context, it *link.Iter, socket func(*SocketRow), netns func(*NetnsRow)) error {
	rd, err := it.Open()
	if err != nil {
		return fmt.Errorf("open an iterator of sockets: %w", err)
	}
	defer rd.Close()
	if p.rows == nil {
		p.rows = make([]uint64, rowsBuffer/8)
	}
	// Records are multiples of 8 bytes, so that each lies in the buffer as its Go twin would.
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&p.rows[0])), rowsBuffer)
	have := 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := rd.Read(buf[have:])
		used, perr := walkRows(buf[:have+n], socket, netns, p.cgroups)
		if perr != nil {
			return fmt.Errorf("walk sockets: %w", perr)
		}
		have = copy(buf, buf[used:have+n])
		switch {
		case errors.Is(err, io.EOF):
			if have != 0 {
				return fmt.Errorf("walk sockets: %d bytes of a row at the end", have)
			}
			return nil
		case errors.Is(err, unix.EAGAIN):
			// The kernel pauses after a million files that wrote nothing (MAX_ITER_OBJECTS).
		case err != nil:
			return fmt.Errorf("read an iterator of sockets: %w", err)
		}
	}
}

// walkRows hands the whole rows of b on and returns how many bytes they had. b is aligned for uint64.
func walkRows(b []byte, socket func(*SocketRow), netns func(*NetnsRow), cgroup func(*CgroupRow)) (used int, err error) {
	for len(b)-used >= headerSize {
		at := unsafe.Pointer(&b[used])
		h := (*Header)(at)
		want := 0
		switch h.Kind {
		case KindSocket:
			want = int(unsafe.Sizeof(SocketRow{}))
		case KindNetns:
			want = int(unsafe.Sizeof(NetnsRow{}))
		case KindCgroup:
			want = int(unsafe.Sizeof(CgroupRow{}))
		}
		if want == 0 || int(h.Len) != want {
			return used, fmt.Errorf("a row of kind %d has %d bytes, want %d", h.Kind, h.Len, want)
		}
		if len(b)-used < want {
			break
		}
		switch h.Kind {
		case KindSocket:
			socket((*SocketRow)(at))
		case KindNetns:
			netns((*NetnsRow)(at))
		case KindCgroup:
			if cgroup != nil {
				cgroup((*CgroupRow)(at))
			}
		}
		used += want
	}
	return used, nil
}
