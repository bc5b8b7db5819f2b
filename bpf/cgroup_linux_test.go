package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountCgroups shows the hierarchy of version 2, which every kernel has whether or not something uses it.
func mountCgroups(t *testing.T) string {
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
	return root
}

// makeCgroup makes a cgroup and those above it, and takes them away at the end.
func makeCgroup(t *testing.T, root, path string) {
	t.Helper()
	names := strings.Split(path, "/")
	for i := range names {
		dir := filepath.Join(root, filepath.Join(names[:i+1]...))
		if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			t.Skipf("no cgroup can be made: %v", err)
		}
		t.Cleanup(func() {
			// the last process of it may have been waited for, and still be on its way out
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
				err := unix.Rmdir(dir)
				if err == nil {
					return
				}
				if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
					t.Errorf("remove cgroup %s: %v", dir, err)
					return
				}
			}
		})
	}
}

// holdIn starts a process that is born in a cgroup, holds a socket, and does nothing.
func holdIn(t *testing.T, cgroup string, socket *net.TCPListener) (pid uint32) {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("cat")
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return uint32(cmd.Process.Pid)
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// TestCensusCgroups: what the census calls a process's cgroup is the inode number of its directory, and it tells the names
// of the directories on the way there. It is so on both rungs of the census.
func TestCensusCgroups(t *testing.T) {
	needRoot(t)
	for _, rung := range Rungs(FactSockets) {
		t.Run(rung, func(t *testing.T) {
			probes, report := mustLoad(t, Options{NoNAT: true, Rungs: map[Fact]string{FactSockets: rung}, VerifierText: true})
			defer probes.Close()
			if f := report.Fact(FactSockets); f.Rung != rung {
				unavailable(t, f, rung)
			}
			testCensusCgroups(t, probes)
			testFullBuffer(t, probes)
		})
	}
}

func testCensusCgroups(t *testing.T, probes *Probes) {
	root := mountCgroups(t)
	top := fmt.Sprintf("midhop-test-%d", os.Getpid())
	long := strings.Repeat("n", 95)
	deep := top + "/deep" + strings.Repeat("/d", 16)
	for _, path := range []string{top + "/pod/container", top + "/" + long, deep} {
		makeCgroup(t, root, path)
	}
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	owners := make(map[uint32]string)
	for _, path := range []string{"", top + "/pod", top + "/pod/container", top + "/" + long, deep} {
		owners[holdIn(t, filepath.Join(root, path), ln)] = path
	}

	groups := make(map[uint64]CgroupRow)
	probes.TellCgroups(func(r *CgroupRow) { groups[r.ID] = *r })
	met := make(map[string]uint64)
	err = probes.Census(t.Context(), func(r *SocketRow) {
		path, ok := owners[r.PID]
		if !ok {
			return
		}
		met[path] = r.Cgroup
		if _, told := groups[r.Cgroup]; !told && r.Cgroup != 0 {
			t.Errorf("the cgroup of %q was not told before its row", path)
		}
	}, func(*NetnsRow) {})
	if err != nil {
		t.Fatal(err)
	}
	own := inodeOf(t, root)
	if own == 1 { // else this process is in a cgroup namespace, and what looks like the root is none
		own = 0
	}
	for _, path := range owners {
		want := own
		if path != "" {
			want = inodeOf(t, filepath.Join(root, path))
		}
		if got, ok := met[path]; !ok || got != want {
			t.Errorf("the process in %q is in cgroup %d (met: %t), want %d", path, got, ok, want)
		}
	}
	for path, parent := range map[string]uint64{
		top:                    own,
		top + "/pod":           inodeOf(t, filepath.Join(root, top)),
		top + "/pod/container": inodeOf(t, filepath.Join(root, top, "pod")),
		top + "/" + long:       inodeOf(t, filepath.Join(root, top)),
		deep:                   inodeOf(t, filepath.Join(root, filepath.Dir(deep))),
		top + "/deep" + "/d":   inodeOf(t, filepath.Join(root, top, "deep")), // the 16th from below
	} {
		id := inodeOf(t, filepath.Join(root, path))
		row, ok := groups[id]
		name, _, _ := bytes.Cut(row.Name[:], []byte{0})
		if !ok || row.Parent != parent || string(name) != filepath.Base(path) {
			t.Errorf("%s (%d) is told as %q below %d (told: %t), want below %d", path, id, name, row.Parent, ok, parent)
		}
	}
	if _, ok := groups[inodeOf(t, filepath.Join(root, top, "deep"))]; ok {
		t.Error("more is told than what there is room for: the bound was not tried")
	}
}

// testFullBuffer: the kernel drops what it has written of a file where that does not fit, and asks for it again. What a walk
// tells once for all that follow is told again then. Two buffers' worth of cgroups are walked, a process in each.
func testFullBuffer(t *testing.T, probes *Probes) {
	const processes = 40
	root := mountCgroups(t)
	above := fmt.Sprintf("midhop-test-full-%d", os.Getpid()) + strings.Repeat("/d", 14)
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	owners := make(map[uint32]bool)
	for i := range processes {
		path := fmt.Sprintf("%s/%d", above, i)
		makeCgroup(t, root, path)
		owners[holdIn(t, filepath.Join(root, path), ln)] = true
	}
	told := make(map[uint64]bool)
	bytes, met := 0, 0
	probes.TellCgroups(func(r *CgroupRow) { told[r.ID] = true; bytes += int(r.Header.Len) })
	err = probes.Census(t.Context(), func(r *SocketRow) {
		if !owners[r.PID] {
			return
		}
		met++
		if !told[r.Cgroup] {
			t.Errorf("cgroup %d of process %d was not told", r.Cgroup, r.PID)
		}
	}, func(*NetnsRow) {})
	if err != nil {
		t.Fatal(err)
	}
	if buffer := 8 * os.Getpagesize(); met != processes || bytes < 2*buffer {
		t.Errorf("%d processes and %d bytes of cgroups were met, want %d and at least %d", met, bytes, processes, 2*buffer)
	}
}
