package bpf

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// waker waits for a ring's wake-ups by the poller of the Go runtime. A reader that blocks in a system call of its own
// keeps the runtime's monitor thread awake (sysmon, which polls every 20 us at first to take its processor back), and that
// costs more than all that is read on a quiet machine.
type waker struct {
	file *os.File
	raw  syscall.RawConn
}

func newWaker(m *ebpf.Map) (*waker, error) {
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a descriptor: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // which is how [os.NewFile] knows that it may be polled
		unix.Close(fd)
		return nil, fmt.Errorf("make a descriptor non-blocking: %w", err)
	}
	w := &waker{file: os.NewFile(uintptr(fd), "ring")}
	if w.raw, err = w.file.SyscallConn(); err == nil {
		err = w.file.SetReadDeadline(time.Time{}) // fails where the runtime does not poll it
	}
	if err != nil {
		w.file.Close()
		return nil, fmt.Errorf("poll a descriptor: %w", err)
	}
	return w, nil
}

// until sets when wait returns at the latest. A time that is past ends a wait that has begun.
func (w *waker) until(t time.Time) error { return w.file.SetReadDeadline(t) }

// wait returns with the next wake-up of the ring, at the deadline, or at once where there is something to be read: asked
// after earlier wake-ups were forgotten, so that none is lost.
func (w *waker) wait(there func() bool) error {
	asked := false
	err := w.raw.Read(func(uintptr) bool {
		if asked {
			return true
		}
		asked = true
		return there()
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func (w *waker) close() error { return w.file.Close() }
