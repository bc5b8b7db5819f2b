package sockets

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPodOfAHostProcess puts this process into a cgroup as the kubelet names them, and looks at its sockets in the machine's
// own network namespace with real probes.
func TestPodOfAHostProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	c := newCgroups()
	if c.netns == 0 {
		t.Skip("this is not the machine's own PID namespace")
	}
	root := cgroupRoot(t)
	dir := filepath.Join(root, "midhop-test-"+strconv.Itoa(os.Getpid()))
	pod := filepath.Join(dir, "pod"+uid)
	if err := os.MkdirAll(pod, 0o755); err != nil {
		t.Skipf("no cgroup can be made: %v", err)
	}
	enter := func(path string) error {
		return os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o600)
	}
	t.Cleanup(func() {
		if err := enter(root); err != nil {
			t.Error(err)
		}
		for _, d := range []string{pod, dir} {
			// a thread that was on its way out when the others left may still be
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				err := os.Remove(d)
				if err != nil && errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
					continue
				}
				if err != nil {
					t.Error(err)
				}
				break
			}
		}
	})
	if err := enter(pod); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	probes := load(t)
	met := 0
	for _, r := range lookOnce(t, New(probes, Options{}), c.netns) {
		if r.Socket.Owner.PID != int32(os.Getpid()) {
			if r.Socket.Owner.PodUID == uid {
				t.Errorf("%+v is not ours", r.Socket)
			}
			continue
		}
		met++
		if r.Socket.Owner.PodUID != uid {
			t.Errorf("%+v is of pod %q", r.Socket, r.Socket.Owner.PodUID)
		}
	}
	if met == 0 {
		t.Error("no socket of ours was met")
	}
}

// cgroupRoot is where this process stands in a hierarchy in which cgroups may be made: version 2, or the systemd one of
// version 1.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if b, err := os.ReadFile(filepath.Join(root, "cgroup.procs")); err == nil && len(b) > 0 {
			return root
		}
	}
	t.Skip("no hierarchy of cgroups whose root this process may enter")
	return ""
}
