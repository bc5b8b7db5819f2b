package main

import (
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// limitShare is how much of the memory that the process may have the Go heap may grow to: the rest is for the program's
// pages, for BPF maps and for stacks.
const limitShare = 0.7

// heedMemoryLimit has the collector work harder as the limit of the process's control group comes near, before the kernel
// ends it. GOMEMLIMIT goes before.
func heedMemoryLimit() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	if limit, ok := memoryLimit(string(groups), func(file string) (string, bool) {
		text, err := os.ReadFile("/sys/fs/cgroup" + file)
		return string(text), err == nil
	}); ok {
		debug.SetMemoryLimit(int64(float64(limit) * limitShare))
	}
}

// memoryLimit finds the least limit of a process's groups and of those above them, by /proc/PID/cgroup; read returns a file
// below /sys/fs/cgroup. Both hierarchies are looked at: v2 has memory.max, v1 memory.limit_in_bytes. In a container the
// group's own path may not be there, as its root is mounted in its place.
func memoryLimit(groups string, read func(string) (string, bool)) (limit int64, ok bool) {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		root, name := "", "memory.max"
		switch {
		case strings.Contains(","+f[1]+",", ",memory,"):
			root, name = "/memory", "memory.limit_in_bytes"
		case f[1] != "":
			continue
		}
		for at := path.Clean("/" + f[2]); ; at = path.Dir(at) {
			if text, there := read(path.Join(root, at, name)); there {
				n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64) // "max" is no number
				if err == nil && n > 0 && n < 1<<50 && (!ok || n < limit) { // v1 says PAGE_COUNTER_MAX for none
					limit, ok = n, true
				}
			}
			if at == "/" {
				break
			}
		}
	}
	return limit, ok
}
