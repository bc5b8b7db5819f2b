package sockets

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// lateLister hands the rows of a walk on only after something has happened.
type lateLister struct {
	*bpf.Probes
	walks int
	then  func(walk int)
}

func (l *lateLister) Census(ctx context.Context, socket func(*bpf.SocketRow), netns func(*bpf.NetnsRow)) error {
	var sockets []bpf.SocketRow
	var spaces []bpf.NetnsRow
	err := l.Probes.Census(ctx, func(r *bpf.SocketRow) { sockets = append(sockets, *r) }, func(r *bpf.NetnsRow) { spaces = append(spaces, *r) })
	l.walks++
	l.then(l.walks)
	for i := range spaces {
		netns(&spaces[i])
	}
	for i := range sockets {
		socket(&sockets[i])
	}
	return err
}

// podCgroupOf makes a pod's cgroup in the hierarchy of version 2, with a container's in it, and returns the latter.
func podCgroupOf(t *testing.T, uid string) string {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		t.Skipf("no hierarchy of cgroups of version 2: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	at := root
	for _, name := range []string{"midhop-test-gone-" + strconv.Itoa(os.Getpid()), "pod" + uid, "container"} {
		at = filepath.Join(at, name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Skipf("no cgroup can be made: %v", err)
		}
		dir := at
		t.Cleanup(func() {
			// the process in it has been waited for, and may still be on its way out
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
				err := unix.Rmdir(dir)
				if err != nil && errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
					continue
				}
				if err != nil {
					t.Errorf("remove cgroup %s: %v", dir, err)
				}
				return
			}
		})
	}
	return at
}

// TestPodOfAProcessThatIsGone: when the rows of a walk are read, the process is gone, and with it its /proc/PID. Its cgroup's
// number came with the row, and its cgroup's name before. The look after tells that the socket is gone, of the same pod.
func TestPodOfAProcessThatIsGone(t *testing.T) {
	needRoot(t)
	probes := load(t)
	dir, err := os.Open(podCgroupOf(t, uidOne))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	held, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	cmd := exec.Command("cat")
	cmd.ExtraFiles = []*os.File{held}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { in.Close(); _ = cmd.Wait() }
	t.Cleanup(end)
	ln.Close()
	held.Close()

	s := New(&lateLister{Probes: probes, then: func(walk int) {
		if walk != 2 { // the first look walks twice
			return
		}
		end()
		if _, err := os.Stat("/proc/" + strconv.Itoa(cmd.Process.Pid)); err == nil {
			t.Error("it is still there")
		}
	}}, Options{})
	for _, want := range []event.Change{event.SocketSeen, event.SocketGone} {
		met := 0
		for _, r := range lookOnce(t, s, s.cgroups.netns) {
			switch {
			case r.Socket.Owner.PID == int32(cmd.Process.Pid) && r.Socket.Local.Port == port:
				if met++; r.Change != want || r.Socket.Owner.PodUID != uidOne {
					t.Errorf("it is told as %s, of pod %q", r.Change, r.Socket.Owner.PodUID)
				}
			case r.Socket.Owner.PodUID == uidOne:
				t.Errorf("%+v is not ours", r.Socket)
			}
		}
		if met != 1 {
			t.Errorf("it is told %d times as %s", met, want)
		}
	}
}
