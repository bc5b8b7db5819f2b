package sockets

import (
	"bytes"

	"github.com/midhop/midhop/bpf"
)

// grouper tells the cgroups of version 2 in which the processes of a census are; [bpf.Probes] is one, sock_diag is none.
type grouper interface {
	TellCgroups(f func(*bpf.CgroupRow))
}

const (
	// maxGroups bounds what is remembered: a node has at most some hundreds of pods with a few cgroups each, but whoever may
	// make cgroups may make many.
	maxGroups = 8192
	// maxLevels is more than what is told of one process (LEVELS in bpf/census.bpf.c).
	maxLevels = 64
)

// groups are the cgroups that the census has told, by the inode number of their directory, which none gets again while the
// machine runs. So a process's pod is known when the process is gone, and also where the hierarchy is not to be seen: in a
// container's own cgroup namespace.
type groups struct {
	byID  map[uint64]group
	pass  uint32 // of the look under way
	swept uint32 // the newest look that found no room and made some
}

// group is one directory of the hierarchy.
type group struct {
	parent uint64 // 0: the root
	pod    string // UID, where the directory is a pod's
	cut    bool   // its name is too long to tell whether it is one
	pass   uint32 // the newest look that told it
}

// tell notes a cgroup. Nothing of its name is kept but a pod's UID, which is hexadecimal.
func (g *groups) tell(r *bpf.CgroupRow) {
	if known, ok := g.byID[r.ID]; ok {
		known.pass = g.pass
		g.byID[r.ID] = known
		return
	}
	if len(g.byID) >= maxGroups {
		g.sweep()
		if len(g.byID) >= maxGroups {
			return // /proc is asked for its processes
		}
	}
	name, _, _ := bytes.Cut(r.Name[:], []byte{0})
	next := group{parent: r.Parent, pass: g.pass, cut: len(name) >= len(r.Name)-1}
	if !next.cut {
		next.pod = podIn("/" + string(name))
	}
	if g.byID == nil {
		g.byID = make(map[uint64]group)
	}
	g.byID[r.ID] = next
}

// sweep makes room, once in a look: what has ended since the look before is yet to be told as gone, what has ended earlier
// is not missed.
func (g *groups) sweep() {
	if g.swept == g.pass {
		return
	}
	g.swept = g.pass
	for id, old := range g.byID {
		if g.pass-old.pass > 1 {
			delete(g.byID, id)
		}
	}
}

// pod returns the UID of the pod to which a cgroup belongs, empty for none; ok is false where that is not known. A container
// may make cgroups and give them names, so the pod is the one nearest to the root.
func (g *groups) pod(id uint64) (uid string, ok bool) {
	for range maxLevels {
		at, told := g.byID[id]
		if !told || at.cut {
			return "", false
		}
		if at.pod != "" {
			uid = at.pod
		}
		if at.parent == 0 {
			return uid, true
		}
		id = at.parent
	}
	return "", false
}
