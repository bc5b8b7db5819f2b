package fleet

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// bootStamp tells runs of one source apart: the start in milliseconds, base 36.
func bootStamp(now time.Time) string { return strconv.FormatInt(now.UnixMilli(), 36) }

// ThisHost describes the machine that this process runs on. Node is the host's name unless one is given. What the
// system does not tell stays empty.
func ThisHost(node string) event.Host {
	if node == "" {
		node, _ = os.Hostname()
	}
	return event.Host{
		Node:   node,
		Kernel: readLine("/proc/sys/kernel/osrelease"),
		BootID: readLine("/proc/sys/kernel/random/boot_id"),
		Arch:   runtime.GOARCH,
	}
}

// ClockSettings reads the sysctls of this network namespace that decide when the kernel gives sockets up.
func ClockSettings() map[string]int64 {
	settings := make(map[string]int64)
	for _, name := range []string{
		"tcp_retries2", "tcp_syn_retries", "tcp_orphan_retries",
		"tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes",
	} {
		if v, err := strconv.ParseInt(readLine("/proc/sys/net/ipv4/"+name), 10, 64); err == nil {
			settings[name] = v
		}
	}
	return settings
}

func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// OwnAddresses are those of this network namespace's interfaces; nil where they cannot be listed.
func OwnAddresses() (out []netip.Addr) {
	fact, _ := ownAddresses("", "")
	for _, a := range fact.Node.Addresses {
		out = append(out, a.IP)
	}
	return out
}

// ownAddresses lists the addresses of this network namespace's interfaces: the surest word on which node holds an
// address, with any network plug-in. Loopback and link-local ones name no node and are left out.
func ownAddresses(node, bootID string) (event.NodeFact, bool) {
	fact := event.NodeFact{What: "agent", Node: event.Node{Name: node, BootID: bootID}}
	links, err := net.Interfaces()
	if err != nil {
		return fact, false
	}
	for _, link := range links {
		if link.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := link.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || prefix.Addr().IsLinkLocalUnicast() {
				continue
			}
			fact.Node.Addresses = append(fact.Node.Addresses,
				event.Address{IP: prefix.Addr().Unmap(), From: "agent " + link.Name})
		}
	}
	return fact, len(fact.Node.Addresses) > 0
}
