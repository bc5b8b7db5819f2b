package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// space is a network namespace with a thread in it that does what it is told.
type space struct {
	t    *testing.T
	do   chan func()
	tid  int
	inum uint32
}

func newSpace(t *testing.T) *space {
	s := &space{t: t, do: make(chan func())}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and the namespace with it, ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		s.tid = unix.Gettid()
		var st unix.Stat_t
		ready <- errors.Join(err, unix.Stat("/proc/thread-self/ns/net", &st))
		s.inum = uint32(st.Ino)
		for f := range s.do {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(s.do) })
	return s
}

// in runs f in the namespace and waits for it.
func (s *space) in(f func()) {
	done := make(chan struct{})
	s.do <- func() { defer close(done); f() }
	<-done
}

func (s *space) run(command string) {
	ip, err := exec.LookPath("ip")
	if err != nil {
		s.t.Fatal(err)
	}
	// A guest's shell would take its own lesser ip for the one that is asked for.
	whole := fmt.Sprintf("ip() { %s \"$@\"; }\n%s", ip, command)
	s.in(func() {
		if out, err := exec.Command("sh", "-ec", whole).CombinedOutput(); err != nil {
			s.t.Errorf("%s: %v: %s", command, err, out)
		}
	})
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// watchLag measures by how much threads wake up too late; the function it returns ends that and tells the worst. Deaths are
// seen by a thread that has to wake up.
func watchLag() func() time.Duration {
	stop, worst := make(chan struct{}), make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		most := time.Duration(0)
		for {
			select {
			case <-stop:
				worst <- most
				return
			default:
			}
			const nap = 5 * time.Millisecond
			start := time.Now()
			ts := unix.NsecToTimespec(int64(nap))
			unix.Nanosleep(&ts, nil)
			most = max(most, time.Since(start)-nap)
		}
	}()
	return func() time.Duration { close(stop); return <-worst }
}

func listen(t *testing.T, at netip.AddrPort) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}), unix.Listen(fd, 64)); err != nil {
		t.Fatal(err)
	}
	return fd
}
