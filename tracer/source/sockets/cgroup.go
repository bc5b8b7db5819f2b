package sockets

import (
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
// The census tells process ids of the machine's own PID namespace. Where this process does not see that one, another
// process would be asked, so nobody is.
type cgroups struct {
	proc  string
	netns uint32 // 0: nobody is asked
	pass  uint32 // what is remembered is of this look: ids are used again
	known map[uint32]string
}

func newCgroups() *cgroups {
	c := &cgroups{proc: "/proc", known: make(map[uint32]string)}
	var pid, net unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &pid) != nil || unix.Stat("/proc/self/ns/net", &net) != nil || pid.Ino != initialPIDNamespace {
		return c
	}
	c.netns = uint32(net.Ino)
	return c
}

// pod returns the UID of the pod that a process belongs to, empty where it belongs to none, or to another network
// namespace, whose address tells it.
func (c *cgroups) pod(netns, pid, pass uint32) string {
	if netns != c.netns || netns == 0 || pid == 0 {
		return ""
	}
	if pass != c.pass {
		clear(c.known)
		c.pass = pass
	}
	uid, ok := c.known[pid]
	if !ok {
		uid = podOf(c.read(pid))
		c.known[pid] = uid
	}
	return uid
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

// podOf finds the UID of a pod in the lines of /proc/PID/cgroup.
func podOf(lines string) string {
	for line := range strings.Lines(lines) {
		if m := podCgroup.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			return strings.ReplaceAll(m[1], "_", "-")
		}
	}
	return ""
}
