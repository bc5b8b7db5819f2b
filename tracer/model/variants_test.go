package model

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// TestPathVariants has a row for every way in which connections cross nodes, by the network that makes it so: what a pod on
// node-b sees as its peer, and what has to be said of it. Facts are those that the inventory and agents bring.
func TestPathVariants(t *testing.T) {
	annotation := func(key, address string) []event.Address { return addrs(key, address) }
	for _, test := range []struct {
		name    string
		nodeA   []event.Address // of node-a, the hop, beside its InternalIP, by the inventory
		agentA  []event.Address // the same by its agent
		agentB  []event.Address // of node-b, the pod's own
		agentC  []event.Address // of another node
		peer    string
		dialled bool
		kind    ViaKind
		node    string
		role    event.ViaRole
		because string
	}{
		{name: "kube-proxy, routed pod network; IPVS; flannel host-gw; Cilium with native routing; MetalLB L2", peer: "10.146.0.11",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "status InternalIP"},
		{name: "multi-homed: masquerade takes the egress device's first address", agentA: addrs("agent eth1", "172.20.0.11"), peer: "172.20.0.11",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "agent eth1"},
		{name: "multi-homed, and no agent there", peer: "10.146.0.200",
			kind: KindUnknown, role: event.ViaUnknown, because: "no node holds it"},
		{name: "the same NAT address on every node", agentA: addrs("agent eth0", "10.0.2.15"), agentC: addrs("agent eth0", "10.0.2.15"), peer: "10.0.2.15",
			kind: KindUnknown, role: event.ViaUnknown, because: "ambiguous: node-a, node-c hold this address"},
		{name: "flannel VXLAN: flannel.1 of the hop", peer: "10.48.1.0", kind: KindNode, node: "node-a", role: event.ViaEntry, because: "podCIDR .0"},
		{name: "bridge CNI: .1 of the own node", peer: "10.48.2.1", kind: KindLocal, node: "node-b", role: event.ViaLocal, because: "podCIDR .1 of this node"},
		{name: "bridge CNI: every agent tells its bridge", agentA: addrs("agent cni0", "10.48.1.1"), agentB: addrs("agent cni0", "10.48.2.1"), peer: "10.48.2.1",
			kind: KindLocal, node: "node-b", role: event.ViaLocal, because: "of this node"},
		{name: "Calico IPIP: the hop's tunnel, in its own block of pod addresses", nodeA: annotation("projectcalico.org/IPv4IPIPTunnelAddr", "10.48.1.64"), peer: "10.48.1.64",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "IPv4IPIPTunnelAddr"},
		{name: "Calico VXLAN", nodeA: annotation("projectcalico.org/IPv4VXLANTunnelAddr", "10.48.1.65"), peer: "10.48.1.65",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "IPv4VXLANTunnelAddr"},
		{name: "Calico WireGuard", nodeA: annotation("projectcalico.org/IPv4WireguardInterfaceAddr", "10.48.1.66"), peer: "10.48.1.66",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "IPv4WireguardInterfaceAddr"},
		{name: "Calico eBPF; Cilium DSR; externalTrafficPolicy Local: the client itself", peer: "203.0.113.77",
			kind: KindDirect, role: event.ViaDirect, because: "outside every known range"},
		{name: "container-native: the balancer itself", peer: "35.191.12.1", kind: KindDirect, role: event.ViaDirect, because: "balancer range 35.191.0.0/16"},
		{name: "Cilium with a tunnel: CiliumInternalIP of the hop", nodeA: annotation("CiliumNode CiliumInternalIP", "10.48.1.188"), peer: "10.48.1.188",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "CiliumInternalIP"},
		{name: "Cilium and kube-proxy: cilium_host of the hop", agentA: addrs("agent cilium_host", "10.48.1.189"), peer: "10.48.1.189",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "agent cilium_host"},
		{name: "OVN-Kubernetes: join subnet", nodeA: annotation("k8s.ovn.org/node-gateway-router-lrp-ifaddrs", "100.64.0.4"), peer: "100.64.0.4",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "k8s.ovn.org"},
		{name: "OVN-Kubernetes: management port", agentA: addrs("agent ovn-k8s-mp0", "10.48.1.2"), peer: "10.48.1.2",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "agent ovn-k8s-mp0"},
		{name: "Kube-OVN: join subnet", nodeA: annotation("ovn.kubernetes.io/ip_address", "100.64.0.9"), peer: "100.64.0.9",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "ovn.kubernetes.io/ip_address"},
		{name: "Antrea: .1 of the hop", peer: "10.48.1.1", kind: KindNode, node: "node-a", role: event.ViaEntry, because: "podCIDR .1"},
		{name: "Weave Net: the hop's bridge", agentA: addrs("agent weave", "10.32.0.1"), peer: "10.32.0.1",
			kind: KindNode, node: "node-a", role: event.ViaEntry, because: "agent weave"},
		{name: "pod to ClusterIP, at the caller", peer: "10.52.0.9", dialled: true, kind: KindLocal, node: "node-b", role: event.ViaLocal, because: "address of service ws/chat"},
		{name: "pod to ClusterIP, at the server: the caller's pod", peer: "10.48.1.7", kind: KindPod, node: "node-a", role: event.ViaPod, because: "address of pod ws/caller"},
		{name: "hairpin, masquerade-all: the caller's node", peer: "10.146.0.11", kind: KindNode, node: "node-a", role: event.ViaEntry, because: "status InternalIP"},
		{name: "egress gateway, NAT instance: nothing shows", peer: "198.18.5.5", dialled: true, kind: KindAddress, role: event.ViaUnknown, because: "dialled, outside every known range"},
		{name: "a sidecar's leg to its application", peer: "127.0.0.6", kind: KindLocal, node: "node-b", role: event.ViaLocal, because: "loopback"},
		{name: "IPv6", peer: "2001:db8:1::1", kind: KindNode, node: "node-a", role: event.ViaEntry, because: "podCIDR .1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFacts(Options{})
			f.node("kube", "added", event.Node{Name: "node-a", Addresses: append(addrs("status InternalIP", "10.146.0.11"), test.nodeA...),
				PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")}})
			f.node("kube", "added", event.Node{Name: "node-b", Addresses: addrs("status InternalIP", "10.146.0.12"),
				PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.48.2.0/24")}})
			f.node("kube", "added", event.Node{Name: "node-c", Addresses: addrs("status InternalIP", "10.146.0.13")})
			for name, list := range map[string][]event.Address{"node-a": test.agentA, "node-b": test.agentB, "node-c": test.agentC} {
				if len(list) > 0 {
					f.node("agent/"+name, "agent", event.Node{Name: name, Addresses: list})
				}
			}
			f.fold("kube", event.PodChanged, &event.PodFact{What: "added", Pod: event.Pod{
				Namespace: "ws", Name: "caller", Node: "node-a", IPs: []netip.Addr{ip("10.48.1.7")}}})
			f.fold("kube", event.ServiceChanged, &event.ServiceFact{What: "added", Service: event.Service{
				Namespace: "ws", Name: "chat", VIPs: []netip.Addr{ip("10.52.0.9")}, Backends: []netip.Addr{ip("10.48.2.5")}}})
			r := f.addrs.resolve(question{ip: ip(test.peer), own: "node-b", dialled: test.dialled}, f.inv)
			if test.kind == KindUnknown && len(r.Candidates) > 1 {
				r.Because = strings.NewReplacer("node-c, node-a", "node-a, node-c").Replace(r.Because) // in the order of their words
			}
			if r.Kind != test.kind || r.Node != test.node || r.Role != test.role || !strings.Contains(r.Because, test.because) {
				t.Errorf("%s %q %s because %q; want %s %q %s because ...%q...", r.Kind, r.Node, r.Role, r.Because, test.kind, test.node, test.role, test.because)
			}
		})
	}
}

// TestSidecarLegs: a REDIRECT in the pod's own namespace leaves the application's socket at the service's address and the
// proxy's at the pod's own; neither crosses anything.
func TestSidecarLegs(t *testing.T) {
	f := cluster()
	for i, leg := range []struct{ local, peer string }{
		{"127.0.0.1:15001", "10.48.2.5:41000"}, // the proxy's end of what the application dialled
		{"10.48.2.5:8080", "127.0.0.6:51000"},  // the application's end of what the proxy dialled
	} {
		f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, uint64(i+1), leg.local, leg.peer, event.Progress{State: "established"})
		id := f.byCookie.Get(cookieKey{f.watcherOf["agent/node-b"], uint64(i + 1)})
		if v := f.viaOf(f.socks.At(id)); id == 0 || v.Role != event.ViaLocal {
			t.Errorf("%s from %s: via %+v, want local", leg.local, leg.peer, v)
		}
	}
	f.seen("agent/node-b", event.SocketSeen, event.RoleAccepted, 9, "10.48.2.5:15006", "10.146.0.11:40000", event.Progress{State: "established"})
	for k, want := range map[HopKey]int{{Kind: KindLocal, Name: "node-b"}: 0, {Kind: KindNode, Name: "node-a"}: 1} {
		if h, _ := f.Hop(k); h.Sockets != want {
			t.Errorf("%d sockets are counted at %v, want %d", h.Sockets, k, want)
		}
	}
}

// TestRecreatedNode: a node that is deleted and made anew under its name keeps nothing of its former self, though nobody saw
// it go; who held its address before is said.
func TestRecreatedNode(t *testing.T) {
	f := newFacts(Options{})
	f.node("kube", "added", event.Node{Name: "spot", UID: "1", Addresses: addrs("status InternalIP", "10.0.0.5")})
	f.node("kube", "changed", event.Node{Name: "spot", UID: "2", Addresses: addrs("status InternalIP", "10.0.0.5", "10.0.0.6")})
	ask := func(peer string) Resolution { return f.addrs.resolve(question{ip: ip(peer), own: "x"}, f.inv) }
	if r := ask("10.0.0.5"); r.Node != "spot" || r.Because != "status InternalIP; an earlier spot held it from 2026-11-01T10:00:01Z until 2026-11-01T10:00:02Z" {
		t.Errorf("%+v", r)
	}
	if r := ask("10.0.0.6"); r.Because != "status InternalIP" {
		t.Errorf("%+v", r)
	}
}

// TestLocalDNAT: what a pod dialled at a service's address is translated on its own node; that node's ledger names the
// backend. Another node's entry for the same addresses proves nothing here.
func TestLocalDNAT(t *testing.T) {
	const caller, vip = "10.48.2.9:41000", "10.52.0.9:80"
	for by, want := range map[string]event.Via{
		"node-b": {Node: "node-b", IP: ip("10.52.0.9"), Role: event.ViaLocal, Sure: event.Proved,
			Because: "address of service ws/chat, translated on this node, to ws/far at 10.48.1.7 on node-a"},
		"node-a": {Node: "node-b", IP: ip("10.52.0.9"), Role: event.ViaLocal, Sure: event.Inferred,
			Because: "address of service ws/chat, translated on this node"},
	} {
		f := cluster()
		f.fold("kube", event.PodChanged, &event.PodFact{What: "added", Pod: event.Pod{
			Namespace: "ws", Name: "far", Node: "node-a", IPs: []netip.Addr{ip("10.48.1.7")}}})
		f.seen("agent/node-b", event.SocketSeen, event.RoleDialled, 1, caller, vip, event.Progress{})
		f.fold("agent/"+by, event.NATFound, natFact(by, caller, vip, "10.48.1.7:8080", caller))
		if v := f.view(t, 0); v.Via != want {
			t.Errorf("entry at %s: via %+v, want %+v", by, v.Via, want)
		}
	}
}
