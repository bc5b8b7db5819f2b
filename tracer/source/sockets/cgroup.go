package sockets

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// initialPIDNamespace is the inode of the machine's own PID namespace: PROC_PID_INIT_INO in include/linux/proc_ns.h.
const initialPIDNamespace = 0xEFFFFFFC

// cgroups tells which pod a process of this network namespace belongs to, by its cgroups. On a node that is the host's:
// there all pods of the host's network share the node's address, and only their processes tell them apart.
//
// The number of a process's cgroup of version 2 comes with the census, and so do the names that lead there. Where these name
// no pod (the kubelet uses version 1, or it stands too deep), /proc/PID/cgroup is read, if the process still runs.
//
// The census tells process ids of the machine's own PID namespace. Where this process does not see that one, another
// process would be asked, so nobody is.
type cgroups struct {
	netns  uint32 // 0: nothing is known of any
	groups groups
	proc   string // empty: nobody is asked
	pass   uint32 // what is remembered of answers is of this look: ids are used again
	asked  map[uint32]answer
}

func newCgroups() *cgroups {
	c := &cgroups{asked: make(map[uint32]answer)}
	var pid, net unix.Stat_t
	if unix.Stat("/proc/thread-self/ns/net", &net) == nil {
		c.netns = uint32(net.Ino)
	}
	if unix.Stat("/proc/self/ns/pid", &pid) == nil && pid.Ino == initialPIDNamespace {
		c.proc = "/proc"
	}
	return c
}

// pod returns the UID of the pod that a process belongs to, empty where it belongs to none, or to another network
// namespace, whose address tells it.
func (c *cgroups) pod(h *holder, pass uint32) string {
	if h.netns != c.netns || h.netns == 0 {
		return ""
	}
	uid, known := c.groups.pod(h.cgroup)
	if uid != "" || h.pid == 0 || c.proc == "" {
		return uid
	}
	if pass != c.pass {
		clear(c.asked)
		c.pass = pass
	}
	a, ok := c.asked[h.pid]
	if !ok {
		a = answerOf(c.read(h.pid))
		c.asked[h.pid] = a
	}
	if known && a.v2 != "" {
		return "" // the process that was met is in no pod of that hierarchy: another one has its id now
	}
	return cmp.Or(a.v2, a.v1)
}

// maxCgroups bounds what is read: version 1 has a line for each of its dozen hierarchies.
const maxCgroups = 16 << 10

func (c *cgroups) read(pid uint32) string {
	f, err := os.Open(filepath.Join(c.proc, strconv.FormatUint(uint64(pid), 10), "cgroup"))
	if err != nil {
		return "" // it has ended
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCgroups))
	if err != nil {
		return ""
	}
	return string(b)
}

// podCgroup is how the kubelet names a pod's cgroup (pkg/kubelet/cm/pod_container_manager_linux.go): .../pod<UID> with its
// cgroupfs driver, and ...-pod<UID>.slice with systemd's, which wants underscores in the place of hyphens. The UID of a
// static pod is a hash without any.
var podCgroup = regexp.MustCompile(`[/-]pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?:/|$)`)

// podIn finds the UID of a pod in the path of a cgroup, or in a directory's name with a slash before it.
func podIn(path string) string {
	m := podCgroup.FindStringSubmatch(path)
	if m == nil {
		return ""
	}
	return strings.ReplaceAll(m[1], "_", "-")
}

// answer is what /proc/PID/cgroup says: the UID of the process's pod in the hierarchy of version 2, and in those of
// version 1.
type answer struct {
	v2, v1 string
}

func answerOf(lines string) (a answer) {
	for line := range strings.Lines(lines) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "0::") {
			a.v2 = podIn(line)
		} else if a.v1 == "" {
			a.v1 = podIn(line)
		}
	}
	return a
}
