package sockets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

const (
	uidOne = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
	uidTwo = "1f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
)

func groupRow(id, parent uint64, name string) *bpf.CgroupRow {
	r := &bpf.CgroupRow{ID: id, Parent: parent}
	copy(r.Name[:len(r.Name)-1], name) // the kernel ends it with a zero
	return r
}

// TestPodOfGroup: the pod is the one nearest to the root, and what is not told up to the root is not known.
func TestPodOfGroup(t *testing.T) {
	var g groups
	for _, r := range []*bpf.CgroupRow{
		groupRow(2, 0, "kubepods.slice"),
		groupRow(3, 2, "kubepods-burstable.slice"),
		groupRow(4, 3, "kubepods-burstable-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice"),
		groupRow(5, 4, "cri-containerd-aa.scope"),
		groupRow(6, 5, "pod"+uidTwo), // what a container calls its own
		groupRow(7, 6, "x"),
		groupRow(10, 0, "system.slice"),
		groupRow(11, 10, "kubelet.service"),
		groupRow(12, 10, "\x1b[2J\npod"+uidTwo), // no slash before it, and nothing of it is kept
		groupRow(20, 0, "kubepods"),
		groupRow(21, 20, "pod8f9a0b1c2d3e4f5061728394a5b6c7d8"),
		groupRow(30, 29, "pod"+uidTwo), // what is above was not told
		groupRow(40, 0, strings.Repeat("n", 300)),
		groupRow(41, 40, "pod"+uidTwo),
		groupRow(50, 51, "pod"+uidTwo),
		groupRow(51, 50, "round and round"),
	} {
		g.tell(r)
	}
	for id, want := range map[uint64]struct {
		uid   string
		known bool
	}{
		0: {}, 2: {"", true}, 3: {"", true}, 4: {uidOne, true}, 5: {uidOne, true}, 6: {uidOne, true}, 7: {uidOne, true},
		10: {"", true}, 11: {"", true}, 12: {"", true}, 20: {"", true}, 21: {"8f9a0b1c2d3e4f5061728394a5b6c7d8", true},
		29: {}, 30: {}, 40: {}, 41: {}, 50: {}, 51: {}, 99: {},
	} {
		if uid, known := g.pod(id); uid != want.uid || known != want.known {
			t.Errorf("cgroup %d is of pod %q (known: %t), want %q (%t)", id, uid, known, want.uid, want.known)
		}
	}
}

// TestGroupsAreBounded: whoever makes cgroups without end pushes out what no look meets any more, and nothing that this one
// or the one before has met.
func TestGroupsAreBounded(t *testing.T) {
	g := groups{pass: 1}
	g.tell(groupRow(2, 0, "ended long ago"))
	g.pass = 2
	g.tell(groupRow(3, 0, "pod"+uidOne))
	g.pass = 3
	for id := uint64(100); id < 100+2*maxGroups; id++ {
		g.tell(groupRow(id, 0, "pod"+uidTwo))
	}
	if len(g.byID) != maxGroups {
		t.Errorf("%d are remembered, want %d", len(g.byID), maxGroups)
	}
	if _, known := g.pod(2); known {
		t.Error("what ended long ago is still known")
	}
	if uid, _ := g.pod(3); uid != uidOne {
		t.Errorf("what the look before has met is of pod %q", uid)
	}
	if uid, _ := g.pod(100); uid != uidTwo {
		t.Errorf("what this look met first is of pod %q", uid)
	}
	g.pass = 5
	g.tell(groupRow(4, 0, "pod"+uidOne))
	if uid, _ := g.pod(4); uid != uidOne || len(g.byID) != 1 {
		t.Errorf("two looks later a new one is of pod %q, beside %d others", uid, len(g.byID)-1)
	}
}

// TestGroupBeforeProc: what came with the census goes before what /proc says later, of a process that may be another one.
// Where it does not tell a pod, /proc is asked.
func TestGroupBeforeProc(t *testing.T) {
	dir := t.TempDir()
	for pid, lines := range map[string]string{
		"7": "0::/kubepods/pod" + uidTwo + "/aa\n",
		"8": "9:name=systemd:/\n4:memory:/kubepods/pod" + uidTwo + "/aa\n0::/system.slice/containerd.service\n",
		"9": "0::/system.slice/sshd.service\n",
	} {
		if err := os.Mkdir(filepath.Join(dir, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, pid, "cgroup"), []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &cgroups{proc: dir, netns: 99, asked: make(map[uint32]answer)}
	c.groups.tell(groupRow(2, 0, "pod"+uidOne))
	c.groups.tell(groupRow(3, 0, "system.slice"))
	for _, q := range []struct {
		cgroup uint64
		pid    uint32
		want   string
	}{
		{2, 6, uidOne}, // gone
		{2, 0, uidOne},
		{2, 7, uidOne}, // its id is another pod's by now
		{2, 9, uidOne},
		{3, 7, ""}, // its id is a pod's by now
		{3, 8, uidTwo},
		{3, 9, ""},
		{0, 7, uidTwo}, // the root
		{0, 8, uidTwo},
		{4, 7, uidTwo}, // was not told
		{0, 6, ""},
	} {
		if got := c.pod(&holder{netns: 99, pid: q.pid, cgroup: q.cgroup}, 1); got != q.want {
			t.Errorf("process %d, met in cgroup %d, is of pod %q, want %q", q.pid, q.cgroup, got, q.want)
		}
	}
	blind := &cgroups{netns: 99, groups: c.groups}
	if got := blind.pod(&holder{netns: 99, pid: 7, cgroup: 2}, 1); got != uidOne {
		t.Errorf("where the machine's process ids are not seen it is %q", got)
	}
	if got := blind.pod(&holder{netns: 98, pid: 7, cgroup: 2}, 1); got != "" {
		t.Errorf("in another namespace it is %q", got)
	}
}

// TestMovedProcess: a process that was met before its runtime put it into the pod's cgroup is told again, once.
func TestMovedProcess(t *testing.T) {
	f := newFixture(t)
	f.cgroups.proc, f.cgroups.netns = "", 99
	f.cgroups.groups.tell(groupRow(2, 0, "system.slice"))
	f.cgroups.groups.tell(groupRow(3, 0, "pod"+uidOne))
	row := connection(1, "10.0.0.1:8080", "10.0.0.2:40000")
	row.Sock.Netns = 99
	for i, want := range []struct {
		cgroup uint64
		change event.Change
		pod    string
	}{{2, event.SocketSeen, ""}, {2, "", ""}, {3, event.SocketChanged, uidOne}, {3, "", ""}} {
		row.Cgroup = want.cgroup
		rows, _ := socketRows(t, f.look(t, row))
		if want.change == "" {
			if len(rows) != 0 {
				t.Errorf("look %d tells %+v", i, rows)
			}
			continue
		}
		if len(rows) != 1 || rows[0].Change != want.change || rows[0].Socket.Owner.PodUID != want.pod {
			t.Errorf("look %d tells %+v, want %s of pod %q", i, rows, want.change, want.pod)
		}
	}
}
