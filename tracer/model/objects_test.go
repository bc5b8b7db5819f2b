package model

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

// clusters holds Node objects as each network plugin leaves them, by what its sources write: annotations, the reason of
// NetworkUnavailable, and spec.podCIDR as the controller manager gives it whether or not the plugin heeds it. Node "self" is the
// one that sockets are watched on.
var clusters = []struct {
	name  string
	nodes []string
	peers []objectPeer
}{
	{"flannel", []string{
		`{"metadata":{"name":"self","annotations":{"flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/backend-type":"vxlan","flannel.alpha.coreos.com/public-ip":"192.0.2.10"}},"spec":{"podCIDR":"10.244.0.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.10"}]}}`,
		`{"metadata":{"name":"two","annotations":{"flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/backend-type":"vxlan","flannel.alpha.coreos.com/public-ip":"192.0.2.12"}},"spec":{"podCIDR":"10.244.2.0/24","podCIDRs":["10.244.2.0/24","2001:db8:42:2::/64"]},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}],"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"FlannelIsUp"}]}}`,
	}, []objectPeer{
		{"10.244.2.0", KindNode, "two", "podCIDR .0 (flannel)", true},
		{"2001:db8:42:2::", KindNode, "two", "podCIDR .0 (flannel)", true},
		{"10.244.2.1", KindNode, "two", "podCIDR .1 (flannel)", true},
		{"10.244.2.2", KindPod, "two", "in podCIDR 10.244.2.0/24 of two (flannel)", false},
		{"192.0.2.12", KindNode, "two", "status InternalIP", false},
		{"10.244.0.1", KindLocal, "self", "podCIDR .1 (flannel) of this node: its bridge", false},
	}},
	{"canal, as RKE makes it", []string{
		`{"metadata":{"name":"two","annotations":{"flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/public-ip":"192.0.2.12","projectcalico.org/IPv4Address":"192.0.2.12/24","projectcalico.org/IPv4IPIPTunnelAddr":"10.42.2.1","rke.cattle.io/internal-ip":"192.0.2.12"}},"spec":{"podCIDR":"10.42.2.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}],"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"FlannelIsUp"}]}}`,
	}, []objectPeer{
		{"10.42.2.0", KindNode, "two", "podCIDR .0 (canal)", true},
		{"10.42.2.1", KindNode, "two", "projectcalico.org/IPv4IPIPTunnelAddr", false},
		{"10.42.2.9", KindPod, "two", "of two (canal)", false},
	}},
	{"Calico, with podCIDRs that it does not heed", []string{
		`{"metadata":{"name":"self","annotations":{"projectcalico.org/IPv4Address":"192.0.2.10/24","projectcalico.org/IPv4VXLANTunnelAddr":"10.244.1.1"}},"spec":{"podCIDR":"10.244.0.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.10"}]}}`,
		`{"metadata":{"name":"two","annotations":{"projectcalico.org/IPv4Address":"192.0.2.12/24","projectcalico.org/IPv4VXLANTunnelAddr":"10.244.77.64"}},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}],"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"CalicoIsUp"}]}}`,
		`{"metadata":{"name":"three","annotations":{"projectcalico.org/IPv4Address":"192.0.2.13/24","projectcalico.org/IPv4IPIPTunnelAddr":"10.244.9.128"}},"spec":{"podCIDR":"10.244.2.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.13"}]}}`,
	}, []objectPeer{
		{"10.244.1.0", KindPod, "", "in the pods' range 10.244.1.0/24 (calico)", false},
		{"10.244.2.1", KindPod, "", "which node it is on is not told", false},
		{"10.244.77.64", KindNode, "two", "projectcalico.org/IPv4VXLANTunnelAddr", false},
		{"10.244.9.128", KindNode, "three", "projectcalico.org/IPv4IPIPTunnelAddr", false},
		{"10.244.1.1", KindLocal, "self", "projectcalico.org/IPv4VXLANTunnelAddr of this node", false}, // a neighbour's podCIDR .1
	}},
	{"Calico where flannel was before", []string{
		`{"metadata":{"name":"two","annotations":{"flannel.alpha.coreos.com/kube-subnet-manager":"true","projectcalico.org/IPv4Address":"192.0.2.12/24"}},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}],"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"CalicoIsUp"}]}}`,
	}, []objectPeer{{"10.244.1.0", KindPod, "", "(calico)", false}, {"10.244.1.1", KindPod, "", "(calico)", false}, {"192.0.2.12", KindNode, "two", "status InternalIP", false}}},
	{"Calico for policy, on routes of the cloud", []string{
		`{"metadata":{"name":"two","labels":{"cloud.google.com/gke-nodepool":"a"},"annotations":{"projectcalico.org/IPv4Address":"10.128.0.12/32"}},"spec":{"podCIDR":"10.8.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"10.128.0.12"}],"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"RouteCreated"}]}}`,
	}, []objectPeer{{"10.8.1.1", KindNode, "two", "podCIDR .1 (calico, policy only)", true}, {"10.8.1.7", KindPod, "two", "in podCIDR", false}, {"10.128.0.12", KindNode, "two", "status InternalIP", false}}},
	{"Cilium, cluster pool, with annotations", []string{
		`{"metadata":{"name":"two","annotations":{"network.cilium.io/ipv4-pod-cidr":"10.0.1.0/24","network.cilium.io/ipv6-pod-cidr":"fd00:0:0:1::/64","network.cilium.io/ipv4-cilium-host":"10.0.1.13","network.cilium.io/ipv6-cilium-host":"fd00:0:0:1::99"}},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}],"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"CiliumIsUp"}]}}`,
	}, []objectPeer{
		{"10.0.1.13", KindNode, "two", "network.cilium.io/ipv4-cilium-host", false},
		{"10.0.1.1", KindPod, "two", "in network.cilium.io/ipv4-pod-cidr 10.0.1.0/24 of two (cilium)", false},
		{"10.0.1.0", KindPod, "two", "(cilium)", false},
		{"fd00:0:0:1::99", KindNode, "two", "network.cilium.io/ipv6-cilium-host", false},
		{"fd00:0:0:1::1", KindPod, "two", "(cilium)", false},
	}},
	{"Cilium that annotates nothing", []string{
		`{"metadata":{"name":"two"},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}],"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"CiliumIsUp"}]}}`,
	}, []objectPeer{{"10.244.1.1", KindPod, "", "(cilium)", false}, {"10.244.1.0", KindPod, "", "(cilium)", false}, {"192.0.2.12", KindNode, "two", "status InternalIP", false}}},
	{"OVN-Kubernetes, as OpenShift 4.13 makes it", []string{
		`{"metadata":{"name":"two","annotations":{"k8s.ovn.org/node-subnets":"{\"default\":\"10.129.2.0/23\"}","k8s.ovn.org/node-gateway-router-lrp-ifaddr":"{\"ipv4\":\"100.64.0.4/16\"}","k8s.ovn.org/host-addresses":"[\"10.192.125.177\"]","k8s.ovn.org/node-primary-ifaddr":"{\"ipv4\":\"10.192.125.177/24\"}"}},"spec":{"podCIDR":"10.128.4.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"10.192.125.177"}]}}`,
	}, []objectPeer{
		{"10.129.2.2", KindNode, "two", "k8s.ovn.org/node-subnets .2 (ovn-kubernetes)", true},
		{"10.129.2.1", KindNode, "two", "k8s.ovn.org/node-subnets .1 (ovn-kubernetes)", true},
		{"10.129.2.0", KindPod, "two", "in k8s.ovn.org/node-subnets 10.129.2.0/23 of two", false},
		{"100.64.0.4", KindNode, "two", "k8s.ovn.org/node-gateway-router-lrp-ifaddr", false},
		{"10.128.4.1", KindDirect, "", "outside every known range", false},
	}},
	{"OVN-Kubernetes with zones, whose join address is told by the node's id", []string{
		`{"metadata":{"name":"self","annotations":{"k8s.ovn.org/node-id":"2","k8s.ovn.org/node-subnets":"{\"default\":[\"10.244.1.0/24\"]}"}},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.2"}]}}`,
		`{"metadata":{"name":"two","annotations":{"k8s.ovn.org/node-id":"3","k8s.ovn.org/node-subnets":"{\"default\":[\"10.244.2.0/24\",\"fd00:10:244:3::/64\"],\"blue\":[\"10.50.0.0/24\"]}","k8s.ovn.org/node-transit-switch-port-ifaddr":"{\"ipv4\":\"100.88.0.3/16\"}","k8s.ovn.org/node-masquerade-subnet":"{\"ipv4\":\"169.254.0.0/17\"}","k8s.ovn.org/node-primary-ifaddr":"{\"ipv4\":\"172.18.0.3/16\"}"}},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.3"}]}}`,
	}, []objectPeer{
		{"100.64.0.3", KindNode, "two", "k8s.ovn.org/node-id in the default join subnet 100.64.0.0/16", false},
		{"100.88.0.3", KindNode, "two", "k8s.ovn.org/node-transit-switch-port-ifaddr", false},
		{"10.244.2.2", KindNode, "two", "node-subnets .2", true},
		{"fd00:10:244:3::2", KindNode, "two", "node-subnets .2", true},
		{"fd98::3", KindNode, "two", "default join subnet fd98::/64", false},
		{"10.244.1.2", KindLocal, "self", "of this node", false},
		{"10.50.0.2", KindDirect, "", "outside", false},
	}},
	{"Antrea", []string{
		`{"metadata":{"name":"two","annotations":{"node.antrea.io/mac-address":"aa:bb:cc:dd:ee:ff","node.antrea.io/transport-addresses":"198.51.100.12"}},"spec":{"podCIDR":"10.10.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}]}}`,
	}, []objectPeer{{"10.10.1.1", KindNode, "two", "podCIDR .1 (antrea)", true}, {"10.10.1.0", KindPod, "two", "in podCIDR", false}, {"198.51.100.12", KindNode, "two", "node.antrea.io/transport-addresses", false}}},
	{"kube-router with a range of its own", []string{
		`{"metadata":{"name":"two","annotations":{"kube-router.io/pod-cidrs":"10.20.1.0/24,fd20:0:0:1::/64"}},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}]}}`,
	}, []objectPeer{{"10.20.1.1", KindNode, "two", "kube-router.io/pod-cidrs .1 (kube-router)", true}, {"10.20.1.8", KindPod, "two", "in kube-router.io/pod-cidrs", false}, {"10.244.1.1", KindDirect, "", "outside", false}}},
	{"Kube-OVN", []string{
		`{"metadata":{"name":"two","annotations":{"ovn.kubernetes.io/allocated":"true","ovn.kubernetes.io/cidr":"100.64.0.0/16","ovn.kubernetes.io/gateway":"100.64.0.1","ovn.kubernetes.io/ip_address":"100.64.0.2"}},"spec":{"podCIDR":"10.16.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}]}}`,
	}, []objectPeer{{"100.64.0.2", KindNode, "two", "ovn.kubernetes.io/ip_address", false}, {"10.16.1.1", KindPod, "", "(kube-ovn)", false}, {"10.16.1.0", KindPod, "", "(kube-ovn)", false}}},
	{"no mark: kubenet, kindnet, bridge", []string{
		`{"metadata":{"name":"two"},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"},{"type":"Hostname","address":"two"}]}}`,
	}, []objectPeer{{"10.244.1.1", KindNode, "two", "podCIDR .1", true}, {"10.244.1.0", KindNode, "two", "podCIDR .0", true}, {"10.244.1.5", KindPod, "two", "in podCIDR 10.244.1.0/24 of two", false}}},
	{"two nodes with one range", []string{
		`{"metadata":{"name":"two"},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}]}}`,
		`{"metadata":{"name":"three"},"spec":{"podCIDR":"10.244.1.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.13"}]}}`,
	}, []objectPeer{{"10.244.1.1", KindUnknown, "", "ambiguous: two, three have the same pod range 10.244.1.0/24", false}, {"10.244.1.0", KindUnknown, "", "two, three", false}, {"10.244.1.9", KindUnknown, "", "two, three", false}}},
	{"Vagrant: the same address on every node", []string{
		`{"metadata":{"name":"two"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.2.15"}]}}`,
		`{"metadata":{"name":"three"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.2.15"}]}}`,
	}, []objectPeer{{"10.0.2.15", KindUnknown, "", "ambiguous: two, three hold this address", false}}},
	{"no machine behind it", []string{
		`{"metadata":{"name":"fargate-ip-10-1-2-3","labels":{"eks.amazonaws.com/compute-type":"fargate"}},"status":{"addresses":[{"type":"InternalIP","address":"10.1.2.3"}]}}`,
		`{"metadata":{"name":"virtual-node-aci-linux","labels":{"type":"virtual-kubelet"}},"spec":{"podCIDR":"10.244.7.0/24","taints":[{"key":"virtual-kubelet.io/provider","value":"azure","effect":"NoSchedule"}]},"status":{"addresses":[{"type":"InternalIP","address":"10.240.0.7"}]}}`,
		`{"metadata":{"name":"kwok-0","annotations":{"kwok.x-k8s.io/node":"fake"}},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.77"}]}}`,
	}, []objectPeer{
		{"10.1.2.3", KindPod, "fargate-ip-10-1-2-3", "which is no machine (fargate): the pod itself", false},
		{"10.240.0.7", KindPod, "virtual-node-aci-linux", "(virtual-kubelet)", false},
		{"10.244.7.1", KindPod, "virtual-node-aci-linux", "in podCIDR", false},
		{"10.0.0.77", KindPod, "kwok-0", "(kwok)", false},
	}},
}

type objectPeer struct {
	peer    string
	kind    ViaKind
	node    string
	because string // is contained
	guess   bool
}

// TestObjects: a peer's address in, the node and the field that names it out.
func TestObjects(t *testing.T) {
	for _, c := range clusters {
		t.Run(c.name, func(t *testing.T) {
			f := newFacts(Options{})
			for _, text := range c.nodes {
				var o kubenode.Object
				if err := json.Unmarshal([]byte(text), &o); err != nil {
					t.Fatal(err)
				}
				n, err := o.Node()
				if err != nil {
					t.Fatal(err)
				}
				line := event.AppendJSON(nil, &event.Event{Type: event.NodeChanged, Source: "kube", Body: &event.NodeFact{What: "added", Node: n}})
				back, err := event.Decode(line) // as a recording has it
				if err != nil {
					t.Fatal(err)
				}
				f.fold("kube", event.NodeChanged, back.Body)
			}
			for _, p := range c.peers {
				r := f.addrs.resolve(question{ip: ip(p.peer), own: "self"}, f.inv)
				if r.Kind != p.kind || r.Node != p.node || r.Guess != p.guess || !strings.Contains(r.Because, p.because) {
					t.Errorf("%s: %s %q guess %v because %q; want %s %q guess %v because ...%q...", p.peer, r.Kind, r.Node, r.Guess, r.Because, p.kind, p.node, p.guess, p.because)
				}
			}
		})
	}
}

// TestAGoneNodesRanges: when a node is gone, the addresses that were its by its plugin's rule still name it, and no others do.
func TestAGoneNodesRanges(t *testing.T) {
	f := newFacts(Options{})
	add := func(text string) {
		var o kubenode.Object
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		n, _ := o.Node()
		f.node("kube", "added", n)
	}
	add(`{"metadata":{"name":"ovn","annotations":{"k8s.ovn.org/node-subnets":"{\"default\":[\"10.244.2.0/24\"]}"}},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.12"}]}}`)
	add(`{"metadata":{"name":"cal","annotations":{"projectcalico.org/IPv4VXLANTunnelAddr":"10.245.9.64"}},"spec":{"podCIDR":"10.245.9.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.13"}]}}`)
	add(`{"metadata":{"name":"other","annotations":{"projectcalico.org/IPv4Address":"192.0.2.14/24"}},"spec":{"podCIDR":"10.245.9.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.14"}]}}`)
	f.node("kube", "removed", event.Node{Name: "ovn"})
	f.node("kube", "removed", event.Node{Name: "cal"})
	for _, p := range []objectPeer{
		{"10.244.2.2", KindNode, "ovn", "node-subnets .2 (ovn-kubernetes), held from", true},
		{"10.244.2.0", KindDirect, "", "", false},
		{"10.245.9.64", KindNode, "cal", "projectcalico.org/IPv4VXLANTunnelAddr, held from", false}, // though another's podCIDR has it
		{"10.245.9.1", KindPod, "", "(calico)", false},
	} {
		if r := f.addrs.resolve(question{ip: ip(p.peer), own: "self"}, f.inv); r.Kind != p.kind || r.Node != p.node || r.Guess != p.guess || !strings.Contains(r.Because, p.because) {
			t.Errorf("%s: %s %q guess %v because %q", p.peer, r.Kind, r.Node, r.Guess, r.Because)
		}
	}
}
