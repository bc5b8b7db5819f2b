package jsonl

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// pipeBuf is how many bytes a pipe takes at once or not at all (PIPE_BUF, limits.h; pipe(7)).
const pipeBuf = 4096

// emptyPoll is how often a pipe is looked at until it is empty. There is nothing to wait on: a pipe is writable as soon
// as one page of it is free.
const emptyPoll = time.Millisecond

// pipe writes lines into a pipe so that none stands there in part, whenever midhop ends: a reader that has stopped while
// its pipe was full and goes on when midhop is gone must not find half a line. Lines go in as many at a time as the pipe
// takes at once; a longer one waits until the pipe is empty, and so has room.
type pipe struct {
	file *os.File
	raw  syscall.RawConn
}

// wholeLines returns w, or a writer to it that keeps lines whole where w is a pipe.
func wholeLines(w io.Writer) io.Writer {
	file, ok := w.(*os.File)
	if !ok {
		return w
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return w
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return w
	}
	p := &pipe{file: file, raw: raw}
	if !p.holds(event.MaxLine) {
		return w // a user with too many pipes gets small ones, and no right to more
	}
	return p
}

// holds says whether an empty pipe has room for n bytes, after it was asked to.
func (p *pipe) holds(n int) bool {
	enough := false
	err := p.raw.Control(func(fd uintptr) {
		size, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0)
		if err == nil && size < n {
			size, err = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, n)
		}
		enough = err == nil && size >= n
	})
	return err == nil && enough
}

// Write writes whole lines.
func (p *pipe) Write(b []byte) (int, error) {
	written := 0
	for len(b) > 0 {
		n := atOnce(b)
		if n > pipeBuf {
			if err := p.awaitEmpty(); err != nil {
				return written, err
			}
		}
		done, err := p.file.Write(b[:n])
		written += done
		if err != nil {
			return written, err
		}
		b = b[n:]
	}
	return written, nil
}

// atOnce is how many bytes of b to write in one call: as many lines as fit into pipeBuf, at least one.
func atOnce(b []byte) int {
	if len(b) <= pipeBuf {
		return len(b)
	}
	if end := bytes.LastIndexByte(b[:pipeBuf], '\n'); end >= 0 {
		return end + 1
	}
	if end := bytes.IndexByte(b, '\n'); end >= 0 {
		return end + 1
	}
	return len(b)
}

// awaitEmpty returns when everything in the pipe was read, or nobody will read it: then a write says so.
func (p *pipe) awaitEmpty() error {
	for {
		waiting := 0
		var inner error
		err := p.raw.Control(func(fd uintptr) {
			waiting, inner = unix.IoctlGetInt(int(fd), unix.TIOCINQ) // FIONREAD
			if polled := []unix.PollFd{{Fd: int32(fd)}}; inner == nil && waiting > 0 {
				if n, _ := unix.Poll(polled, 0); n > 0 && polled[0].Revents&unix.POLLERR != 0 {
					waiting = 0 // no reader is left
				}
			}
		})
		if err != nil {
			return err
		}
		if inner != nil || waiting == 0 {
			return inner
		}
		time.Sleep(emptyPoll)
	}
}
