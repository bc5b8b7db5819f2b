package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// writeIPTables fills a node's tables with the service and its endpoints, as kube-proxy does in iptables mode; where it has
// none, connections to it are refused: through the nft flavour of the command, all of it in one go, so that what was there is gone when
// the new rules stand.
func writeIPTables(ns *space, pods netip.Prefix, s servicePlan, endpoints []netip.AddrPort) error {
	command := iptablesCommand(pods.Addr().Is6())
	var said bytes.Buffer
	err := ns.do(func() error {
		cmd := exec.Command(command)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(iptablesText(pods, s, endpoints)), &said, &said
		return cmd.Run()
	})
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return usage("--mode iptables: there is no command %s: install the package iptables", command)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(said.String()))
	}
	return nil
}

func iptablesCommand(v6 bool) string {
	if v6 {
		return "ip6tables-nft-restore"
	}
	return "iptables-nft-restore"
}

// iptablesText is what kube-proxy writes, rule by rule, less its canary, its health check port and its firewall for
// loadBalancerSourceRanges, which the service has none of.
func iptablesText(pods netip.Prefix, s servicePlan, endpoints []netip.AddrPort) string {
	name := fmt.Sprintf("%s/%s:%s", s.Namespace, s.Name, s.PortName)
	svc, ext := chainName("KUBE-SVC-", name), chainName("KUBE-EXT-", name)
	var chains, rules strings.Builder
	chain := func(names ...string) {
		for _, n := range names {
			fmt.Fprintf(&chains, ":%s - [0:0]\n", n)
		}
	}
	rule := func(format string, args ...any) { fmt.Fprintf(&rules, "-A "+format+"\n", args...) }

	chain("KUBE-NODEPORTS", "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD")
	rule(`INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS`)
	rule(`INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES`)
	rule(`FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD`)
	rule(`FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`)
	rule(`FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES`)
	rule(`OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`)
	rule(`KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP`)
	rule(`KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark %[1]s/%[1]s -j ACCEPT`, masqueradeBit)
	rule(`KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`)
	if len(endpoints) == 0 {
		rule(`KUBE-SERVICES -m comment --comment "%s has no endpoints" -m tcp -p tcp -d %s --dport %d -j REJECT`, name, whole(s.ClusterIP), s.Port)
		rule(`KUBE-EXTERNAL-SERVICES -m comment --comment "%s has no endpoints" -m tcp -p tcp -d %s --dport %d -j REJECT`, name, whole(s.VIP), s.Port)
		rule(`KUBE-EXTERNAL-SERVICES -m comment --comment "%s has no endpoints" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport %d -j REJECT`, name, s.NodePort)
	}
	filter := table("filter", "INPUT FORWARD OUTPUT", &chains, &rules)

	chain("KUBE-NODEPORTS", "KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", ext, svc)
	rule(`PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`)
	rule(`OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`)
	rule(`POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING`)
	rule(`KUBE-POSTROUTING -m mark ! --mark %[1]s/%[1]s -j RETURN`, masqueradeBit)
	rule(`KUBE-POSTROUTING -j MARK --xor-mark %s`, masqueradeBit)
	rule(`KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully`)
	rule(`KUBE-MARK-MASQ -j MARK --or-mark %s`, masqueradeBit)
	if len(endpoints) == 0 {
		return filter + table("nat", "PREROUTING INPUT OUTPUT POSTROUTING", &chains, &rules)
	}
	rule(`KUBE-SERVICES -m comment --comment "%s cluster IP" -m tcp -p tcp -d %s --dport %d -j %s`, name, whole(s.ClusterIP), s.Port, svc)
	rule(`KUBE-SERVICES -m comment --comment "%s loadbalancer IP" -m tcp -p tcp -d %s --dport %d -j %s`, name, whole(s.VIP), s.Port, ext)
	rule(`KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`)
	rule(`KUBE-NODEPORTS -m comment --comment %s -m tcp -p tcp --dport %d -j %s`, name, s.NodePort, ext)
	rule(`%s -m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, ext, name)
	rule(`%s -j %s`, ext, svc)
	rule(`%s -m comment --comment "%s cluster IP" -m tcp -p tcp -d %s --dport %d ! -s %s -j KUBE-MARK-MASQ`, svc, name, whole(s.ClusterIP), s.Port, pods)
	for i, e := range endpoints {
		sep := chainName("KUBE-SEP-", name, e.String())
		chain(sep)
		chance := ""
		if left := len(endpoints) - i; left > 1 {
			chance = fmt.Sprintf(" -m statistic --mode random --probability %0.10f", 1/float64(left))
		}
		rule(`%s -m comment --comment "%s -> %s"%s -j %s`, svc, name, e, chance, sep)
		rule(`%s -m comment --comment %s -s %s -j KUBE-MARK-MASQ`, sep, name, whole(e.Addr()))
		rule(`%s -m comment --comment %s -m tcp -p tcp -j DNAT --to-destination %s`, sep, name, e)
	}
	return filter + table("nat", "PREROUTING INPUT OUTPUT POSTROUTING", &chains, &rules)
}

var masqueradeBit = fmt.Sprintf("%#08x", masqueradeMark)

// table is a table's text in the form of iptables-save. It empties what it was made of.
func table(name, builtin string, chains, rules *strings.Builder) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", name)
	for _, c := range strings.Fields(builtin) {
		fmt.Fprintf(&b, ":%s ACCEPT [0:0]\n", c)
	}
	b.WriteString(chains.String() + rules.String() + "COMMIT\n")
	chains.Reset()
	rules.Reset()
	return b.String()
}

// chainName is kube-proxy's name of a chain for a service port, or for one of its endpoints: a hash of the port's name,
// the protocol and the endpoint (portProtoHash, servicePortEndpointChainName).
func chainName(prefix, port string, endpoint ...string) string {
	sum := sha256.Sum256([]byte(port + "tcp" + strings.Join(endpoint, "")))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:16]
}
