package fleet

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/event"
)

// Machine looks at the circumstances that decide what can be seen from here, without changing any of them.
func Machine() []event.Check {
	return []event.Check{
		capabilities(), lockdown(), types(), kprobes(), pidNamespace(), networkNamespace(), conntrack(), dataplane(), limits(),
	}
}

const unknown = "unknown"

// capabilityNames are those that anything here depends on. The first three are needed, and enough for all but one rung.
var capabilityNames = []struct {
	number uint
	name   string
	note   string // what is lost without it
}{
	{unix.CAP_BPF, "bpf", "without CAP_BPF no probe is loaded"},
	{unix.CAP_PERFMON, "perfmon", "without CAP_PERFMON no probe is loaded"},
	{unix.CAP_NET_ADMIN, "net_admin", "without CAP_NET_ADMIN the conntrack table cannot be read, nor sockets by sk_storage"},
	{unix.CAP_SYS_ADMIN, "sys_admin", ""},
	{unix.CAP_SYS_RESOURCE, "sys_resource", ""},
}

func capabilities() event.Check {
	c := event.Check{Name: "capabilities"}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		c.Is = unknown
		return c
	}
	var have, notes []string
	admin := data[0].Effective>>unix.CAP_SYS_ADMIN&1 == 1
	for _, want := range capabilityNames {
		switch {
		case data[want.number/32].Effective>>(want.number%32)&1 == 1:
			have = append(have, want.name)
		case want.note != "" && (!admin || want.number == unix.CAP_NET_ADMIN): // CAP_SYS_ADMIN stands for the two newer ones
			notes = append(notes, want.note)
		}
	}
	c.Is = strings.Join(have, " ")
	if c.Is == "" {
		c.Is = "none of those that matter"
	}
	c.Note = strings.Join(notes, "; ")
	return c
}

func lockdown() event.Check {
	c := event.Check{Name: "lockdown", Is: unknown}
	line := readLine("/sys/kernel/security/lockdown")
	if _, rest, ok := strings.Cut(line, "["); ok {
		c.Is, _, _ = strings.Cut(rest, "]")
	}
	if c.Is == "confidentiality" {
		c.Note = "programs may not read the kernel's memory (LOCKDOWN_BPF_READ_KERNEL): rungs that are not typed cannot work"
	}
	return c
}

func types() event.Check {
	c := event.Check{Name: "btf", Is: "kernel and modules"}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		c.Is, c.Note = "none", "no probe can find its fields: CONFIG_DEBUG_INFO_BTF is needed"
		return c
	}
	_, module := os.Stat("/sys/module/nf_conntrack/initstate") // only a module has it
	if _, err := os.Stat("/sys/kernel/btf/nf_conntrack"); err != nil && module == nil {
		c.Is, c.Note = "kernel only", "functions of modules can be probed by kprobe only"
	}
	return c
}

func kprobes() event.Check {
	c := event.Check{Name: "kprobes", Is: "yes"}
	if _, err := os.Stat("/sys/bus/event_source/devices/kprobe"); err != nil {
		c.Is, c.Note = "no", "where trampolines are not permitted either, no function can be probed"
	}
	return c
}

// initPIDNamespace is PROC_PID_INIT_INO (include/linux/proc_ns.h): the first pid namespace has it on every machine.
const initPIDNamespace = 0xEFFFFFFC

func pidNamespace() event.Check {
	c := event.Check{Name: "pid namespace", Is: unknown}
	switch inode := namespace("self", "pid"); {
	case inode == initPIDNamespace:
		c.Is = "the host's"
	case inode != 0:
		c.Is, c.Note = "not the host's", "the census sees the sockets of this namespace's processes only: hostPID is needed"
	}
	return c
}

// networkNamespace compares with the first process, which is the host's only in the host's pid namespace.
func networkNamespace() event.Check {
	c := event.Check{Name: "network namespace", Is: unknown}
	own, first := namespace("self", "net"), namespace("1", "net")
	if own == 0 || first == 0 || namespace("self", "pid") != initPIDNamespace {
		return c
	}
	c.Is = "the host's"
	if own != first {
		c.Is, c.Note = "not the host's", "the conntrack table is this namespace's, not the node's: hostNetwork is needed"
	}
	return c
}

func namespace(process, kind string) uint64 {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+process+"/ns/"+kind, &st); err != nil {
		return 0
	}
	return st.Ino
}

func conntrack() event.Check {
	c := event.Check{Name: "conntrack"}
	const dir = "/proc/sys/net/netfilter/nf_conntrack_"
	count, maximum, events := readLine(dir+"count"), readLine(dir+"max"), readLine(dir+"events")
	if maximum == "" {
		c.Is, c.Note = "not loaded", "nothing is tracked here, so nothing is translated by netfilter"
		return c
	}
	c.Is = fmt.Sprintf("%s of %s entries, nf_conntrack_events %s", count, maximum, events)
	switch events {
	case "0":
		c.Note = "on the rung ctnetlink nothing is announced: only dumps tell what comes and goes"
	case "2":
		c.Note = "on the rung ctnetlink the end of entries older than midhop is not announced: dumps find it"
	}
	return c
}

// dataplane says who is likely to translate here.
func dataplane() event.Check {
	c := event.Check{Name: "dataplane", Is: "no kube-proxy, no Cilium seen"}
	proxy := slices.ContainsFunc(processNames(), func(name string) bool { return name == "kube-proxy" })
	has := func(link string) bool {
		_, err := net.InterfaceByName(link)
		return err == nil
	}
	switch {
	case has("cilium_host") && !proxy:
		c.Is = "cilium_host, no kube-proxy"
		c.Note = "Cilium may translate in BPF, before conntrack: zero NAT events do not mean no NAT"
	case has("cilium_host"):
		c.Is = "cilium_host and kube-proxy"
	case has("kube-ipvs0"):
		c.Is = "kube-proxy with IPVS"
		c.Note = "IPVS enters conntrack only where net.ipv4.vs.conntrack is 1"
	case proxy:
		c.Is = "kube-proxy"
	}
	return c
}

// processNames lists the programs of this pid namespace, as far as they can be seen.
func processNames() (names []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			names = append(names, string(bytes.TrimSpace(b)))
		}
	}
	return names
}

func limits() event.Check {
	c := event.Check{Name: "limits"}
	text := func(resource int) string {
		var l unix.Rlimit
		if err := unix.Getrlimit(resource, &l); err != nil {
			return unknown
		}
		if l.Cur == unix.RLIM_INFINITY {
			return "unlimited"
		}
		return fmt.Sprint(l.Cur)
	}
	c.Is = "memlock " + text(unix.RLIMIT_MEMLOCK) + ", open files " + text(unix.RLIMIT_NOFILE)
	return c
}
