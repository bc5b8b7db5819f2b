package sockets

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"
)

func TestAnswer(t *testing.T) {
	const uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	for lines, want := range map[string]string{
		"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/cri-containerd-aa.scope\n": uid,
		"0::/kubepods/besteffort/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/aa\n":                                                                   uid,
		"0::/kubepods/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n":                                                                                 uid,
		"0::/../../kubepods-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/crio-aa.scope\n":                                                       uid, // from another cgroup namespace
		"9:name=systemd:/\n4:memory:/kubepods/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/aa\n0::/\n":                                                uid, // version 1
		"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8f9a0b1c2d3e4f5061728394a5b6c7d8.slice/x.scope\n":                     "8f9a0b1c2d3e4f5061728394a5b6c7d8",
		"0::/system.slice/kubelet.service\n":                                                                                                     "",
		"0::/user.slice/tripod-0f1e2d3c.slice\n":                                                                                                 "",
		"0::/x/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0x\n":                                                                                       "",
		"": "",
	} {
		a := answerOf(lines)
		if got := cmp.Or(a.v2, a.v1); got != want {
			t.Errorf("%q is of pod %q, want %q", lines, got, want)
		}
	}
}

// TestCgroupsOfTheOwnNamespaceOnly: other namespaces' processes have pods with addresses of their own, and a process id
// that is used again is another process's.
func TestCgroupsOfTheOwnNamespaceOnly(t *testing.T) {
	dir := t.TempDir()
	write := func(uid string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "7"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "7", "cgroup"), []byte("0::/kubepods/pod"+uid+"/aa\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const one, two = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", "1f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	write(one)
	c := &cgroups{proc: dir, netns: 99, asked: make(map[uint32]answer)}
	for _, q := range []struct {
		netns, pid uint32
		want       string
	}{{99, 7, one}, {98, 7, ""}, {99, 8, ""}, {99, 0, ""}} {
		if got := c.pod(&holder{netns: q.netns, pid: q.pid}, 1); got != q.want {
			t.Errorf("process %d of namespace %d is of pod %q, want %q", q.pid, q.netns, got, q.want)
		}
	}
	write(two)
	if got := c.pod(&holder{netns: 99, pid: 7}, 1); got != one {
		t.Errorf("in the same look it is %q", got)
	}
	if got := c.pod(&holder{netns: 99, pid: 7}, 2); got != two {
		t.Errorf("in the next look it is %q", got)
	}
	if got := (&cgroups{netns: 99}).pod(&holder{netns: 99, pid: 7}, 1); got != "" {
		t.Errorf("where the machine's process ids are not seen it is %q", got)
	}
	if got := (&cgroups{proc: dir}).pod(&holder{pid: 7}, 1); got != "" {
		t.Errorf("where the own namespace is not known it is %q", got)
	}
}
