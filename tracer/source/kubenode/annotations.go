package kubenode

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// addressKeys are the annotations in which network plug-ins publish addresses of a node that its pods may see as the
// peer. What a key holds is an address, a CIDR, a list with commas, or JSON with any of them inside.
var addressKeys = []string{
	// Calico (libcalico-go, lib/backend/k8s/resources): tunnel addresses come from an IPAM block and not from podCIDRs.
	"projectcalico.org/IPv4Address",
	"projectcalico.org/IPv6Address",
	"projectcalico.org/IPv4IPIPTunnelAddr",
	"projectcalico.org/IPv4VXLANTunnelAddr",
	"projectcalico.org/IPv6VXLANTunnelAddr",
	"projectcalico.org/IPv4WireguardInterfaceAddr",
	"projectcalico.org/IPv6WireguardInterfaceAddr",
	// Cilium, with annotate-k8s-node; CiliumNode objects say the same, and more often.
	"network.cilium.io/ipv4-cilium-host",
	"network.cilium.io/ipv6-cilium-host",
	"io.cilium.network.ipv4-cilium-host",
	"io.cilium.network.ipv6-cilium-host",
	// Antrea (pkg/agent/types): the device that carries the pods' traffic.
	"node.antrea.io/transport-addresses",
	// OVN-Kubernetes (go-controller/pkg/util): the gateway router's address in the join subnet, {"ipv4":"100.64.0.4/16"} or
	// the same by network.
	"k8s.ovn.org/node-gateway-router-lrp-ifaddr",
	"k8s.ovn.org/node-gateway-router-lrp-ifaddrs",
	"k8s.ovn.org/node-transit-switch-port-ifaddr",
	"k8s.ovn.org/node-primary-ifaddr",
	"k8s.ovn.org/host-cidrs",
	"k8s.ovn.org/host-addresses",
	// Kube-OVN (pkg/util): the node's port in the join subnet.
	"ovn.kubernetes.io/ip_address",
}

// flannelKeys are what flannel publishes below a prefix that its users may choose. No key names the address of its tunnel
// device: that is the network address of the podCIDR.
var flannelKeys = []string{"/public-ip", "/node-public-ip", "/public-ip-overwrite", "/public-ipv6"}

// annotated returns the addresses that annotations name beyond those already known, in an order that does not depend on
// the map's.
func annotated(annotations map[string]string, known []event.Address) []event.Address {
	var out []event.Address
	add := func(key string) {
		for _, ip := range addressesIn(annotations[key]) {
			same := func(a event.Address) bool { return a.IP == ip }
			if !slices.ContainsFunc(known, same) && !slices.ContainsFunc(out, same) {
				out = append(out, event.Address{IP: ip, From: key})
			}
		}
	}
	for _, key := range addressKeys {
		add(key)
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if prefix, ok := strings.CutSuffix(key, "/kube-subnet-manager"); ok { // flannel's own mark
			for _, key := range flannelKeys {
				add(prefix + key)
			}
		}
	}
	return out
}

// addressesIn finds every address that a value names. What is no address is passed over: a plug-in's key may come to hold
// more than it does today.
func addressesIn(value string) []netip.Addr {
	value = strings.TrimSpace(value)
	if strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[") {
		var inside any
		if json.Unmarshal([]byte(value), &inside) == nil {
			return walk(inside)
		}
	}
	var out []netip.Addr
	for part := range strings.SplitSeq(value, ",") {
		if ip, ok := address(part); ok {
			out = append(out, ip)
		}
	}
	return out
}

func walk(v any) (out []netip.Addr) {
	switch v := v.(type) {
	case string:
		if ip, ok := address(v); ok {
			out = append(out, ip)
		}
	case []any:
		for _, e := range v {
			out = append(out, walk(e)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			out = append(out, walk(v[key])...)
		}
	}
	return out
}

// address parses an address or a CIDR's. Loopback and link-local ones name no node: every node has the same.
func address(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	ip, err := netip.ParseAddr(text)
	if err != nil {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return netip.Addr{}, false
		}
		ip = p.Addr()
	}
	return usable(ip)
}

// usable says whether an address can name a node, and brings it into its plain form.
func usable(ip netip.Addr) (netip.Addr, bool) {
	ip = ip.Unmap()
	if ip.Zone() != "" || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast() {
		return netip.Addr{}, false
	}
	return ip, true
}
