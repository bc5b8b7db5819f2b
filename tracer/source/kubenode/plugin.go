package kubenode

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// Names of network plugins, as event.Node.Plugin has them.
const (
	pluginAntrea  = "antrea"
	pluginCalico  = "calico"
	pluginCanal   = "canal"
	pluginCilium  = "cilium"
	pluginFlannel = "flannel"
	pluginKubeOVN = "kube-ovn"
	pluginOVN     = "ovn-kubernetes"
	pluginRouter  = "kube-router"
	pluginWeave   = "weave"
	calicoPolicy  = "calico, policy only"
)

// plugin is what the rules of one network plugin say of the addresses in a node's ranges.
type plugin struct {
	// own tells which addresses of a range are the node, see event.Node.PodCIDRsOwn.
	own []int
	// keys are the annotations that name the node's ranges in place of spec.podCIDRs: a CIDR, a list with commas, or JSON.
	keys []string
	// manages says that spec.podCIDRs names no node: the plugin gives addresses by a table of its own.
	manages bool
}

var plugins = map[string]plugin{
	// flannel.1 has the first address of the range, cni0 the second (flannel backend/vxlan; CNI's bridge and host-local).
	pluginFlannel: {own: []int{0, 1}},
	// Calico for policy only, flannel for addresses and the tunnel.
	pluginCanal: {own: []int{0, 1}},
	// Calico enforces policy, and the cloud routes the podCIDR to a bridge of the kubelet's.
	calicoPolicy: {own: []int{0, 1}},
	// antrea-gw0 has the second address (antrea pkg/agent, the node's gateway); there is no other device.
	pluginAntrea: {own: []int{1}},
	// kube-bridge has the second address; the annotations come before spec.podCIDRs (kube-router pkg/utils/pod_cidr.go).
	pluginRouter: {own: []int{1}, keys: []string{"kube-router.io/pod-cidr", "kube-router.io/pod-cidrs"}},
	// The second address is the gateway of the node's switch, the third its management port, by which the node's own network
	// speaks to pods (ovn-kubernetes go-controller/pkg/util, GetNodeGatewayIfAddr and GetNodeManagementIfAddr).
	pluginOVN: {own: []int{1, 2}, keys: []string{ovnSubnets}, manages: true},
	// Blocks of the node's are told by BlockAffinity objects only; an address of another node's podCIDR is anybody's.
	pluginCalico: {manages: true},
	// The agent takes any address of the range for itself, and says which (ipv4-cilium-host, CiliumInternalIP).
	pluginCilium: {manages: true, keys: []string{
		"network.cilium.io/ipv4-pod-cidr", "network.cilium.io/ipv6-pod-cidr",
		"io.cilium.network.ipv4-pod-cidr", "io.cilium.network.ipv6-pod-cidr",
	}},
	// Subnets belong to namespaces, not to nodes.
	pluginKubeOVN: {manages: true},
	pluginWeave:   {manages: true},
}

const ovnSubnets = "k8s.ovn.org/node-subnets"

// pluginOf tells by which marks which network plugin a node has; empty where there is no mark. Where a plugin took another's
// place, the marks of the old one stay on the object: the condition that plugins write when they start decides then.
func pluginOf(o *Object) string {
	marked := func(prefixes ...string) bool {
		for key := range o.Metadata.Annotations {
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
				return true
			}
		}
		return false
	}
	up := ""
	for _, c := range o.Status.Conditions {
		if c.Type == "NetworkUnavailable" && c.Status == "False" {
			up = c.Reason
		}
	}
	flannel := up == "FlannelIsUp"
	for key := range o.Metadata.Annotations {
		flannel = flannel || strings.HasSuffix(key, "/kube-subnet-manager")
	}
	calico := marked("projectcalico.org/")
	switch {
	case marked("k8s.ovn.org/"):
		return pluginOVN
	case up == "CiliumIsUp":
		return pluginCilium
	case up == "CalicoIsUp":
		return pluginCalico
	case up == "WeaveIsUp":
		return pluginWeave
	case flannel && calico:
		return pluginCanal
	case flannel:
		return pluginFlannel
	case marked("network.cilium.io/", "io.cilium.network."):
		return pluginCilium
	case calico && up == "RouteCreated": // by the cloud's route controller, for every podCIDR
		return calicoPolicy
	case calico:
		return pluginCalico
	case marked("node.antrea.io/"):
		return pluginAntrea
	case marked("kube-router.io/"):
		return pluginRouter
	case marked("ovn.kubernetes.io/"):
		return pluginKubeOVN
	}
	return ""
}

// setRanges says which ranges of pod addresses are the node's, by the rules of its plugin. bad is told of what cannot be read.
func setRanges(n *event.Node, o *Object, bad func(field string, err error)) {
	n.Plugin = pluginOf(o)
	cidrs := podCIDRs(o, bad)
	rules, known := plugins[n.Plugin]
	if virtual(o) != "" {
		rules.own, known = nil, true // it has no device
	}
	if !known {
		n.PodCIDRs = cidrs // most plugins' rule is guessed
		return
	}
	n.PodCIDRsOwn = event.Known(append([]int{}, rules.own...))
	for _, key := range rules.keys {
		ranges, err := rangesIn(o.Metadata.Annotations[key])
		if err != nil {
			bad("metadata.annotations["+key+"]", err)
		}
		if len(ranges) > 0 && n.PodCIDRsFrom == "" {
			n.PodCIDRsFrom = key
		}
		for _, p := range ranges {
			if !slices.Contains(n.PodCIDRs, p) {
				n.PodCIDRs = append(n.PodCIDRs, p)
			}
		}
	}
	switch {
	case len(n.PodCIDRs) > 0:
	case rules.manages:
		n.PodNets = cidrs
	default:
		n.PodCIDRs = cidrs
	}
	if n.Plugin == pluginOVN {
		n.Addresses = append(n.Addresses, joinAddresses(o, n.Addresses)...)
	}
}

func podCIDRs(o *Object, bad func(field string, err error)) (out []netip.Prefix) {
	texts, field := o.Spec.PodCIDRs, "spec.podCIDRs[%d]"
	if len(texts) == 0 && o.Spec.PodCIDR != "" {
		texts, field = []string{o.Spec.PodCIDR}, "spec.podCIDR"
	}
	for i, text := range texts {
		p, err := Prefix(text)
		if err != nil {
			if strings.Contains(field, "%") {
				field = fmt.Sprintf(field, i)
			}
			bad(field, err)
			continue
		}
		out = append(out, p)
	}
	return out
}

// rangesIn reads the ranges of an annotation: {"default":["10.128.2.0/23","fd01::/64"]}, {"default":"10.128.2.0/23"}, or CIDRs with
// commas. Of JSON only the default network counts: the others are networks beside it, which may overlap.
func rangesIn(value string) (out []netip.Prefix, err error) {
	if value = strings.TrimSpace(value); value == "" {
		return nil, nil
	}
	var texts []string
	if strings.HasPrefix(value, "{") {
		var networks map[string]json.RawMessage
		if err := json.Unmarshal([]byte(value), &networks); err != nil {
			return nil, fmt.Errorf("%.60q is not JSON", value)
		}
		var one string
		if json.Unmarshal(networks["default"], &one) == nil {
			texts = []string{one}
		} else if len(networks["default"]) > 0 && json.Unmarshal(networks["default"], &texts) != nil {
			return nil, fmt.Errorf("%.60q names no ranges", value)
		}
	} else {
		texts = strings.Split(value, ",")
	}
	for _, text := range texts {
		p, bad := Prefix(text)
		if bad != nil {
			err = bad
			continue
		}
		out = append(out, p)
	}
	return out, err
}

// ovnJoin are the join subnets that OVN-Kubernetes has unless it is told others (go-controller/pkg/config, Gateway).
var ovnJoin = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/16"), netip.MustParsePrefix("fd98::/64")}

// joinAddresses are those of the node's gateway router in the join subnet, by which pods see what comes in through the node.
// Where the annotation that names them is retired, they are the subnet's first address plus the node's id; the subnet is known
// only where the default is in use, so they are given only in the families that the node's ranges have.
func joinAddresses(o *Object, known []event.Address) (out []event.Address) {
	const idKey = "k8s.ovn.org/node-id"
	for _, a := range known {
		if strings.HasPrefix(a.From, "k8s.ovn.org/node-gateway-router-lrp-ifaddr") {
			return nil
		}
	}
	id, err := strconv.ParseUint(o.Metadata.Annotations[idKey], 10, 15)
	ranges, _ := rangesIn(o.Metadata.Annotations[ovnSubnets])
	if err != nil || id == 0 {
		return nil
	}
	for _, join := range ovnJoin {
		is4 := join.Addr().Is4()
		if !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Addr().Is4() == is4 }) {
			continue
		}
		ip := plus(join.Addr(), uint16(id))
		if !slices.ContainsFunc(known, func(a event.Address) bool { return a.IP == ip }) {
			out = append(out, event.Address{IP: ip, From: idKey + " in the default join subnet " + join.String()})
		}
	}
	return out
}

// plus returns an address that is n further; the last 16 bits of ip are zero.
func plus(ip netip.Addr, n uint16) netip.Addr {
	b := ip.AsSlice()
	b[len(b)-2], b[len(b)-1] = byte(n>>8), byte(n)
	out, _ := netip.AddrFromSlice(b)
	return out
}

// PluginsOf counts nodes by network plugin, in the order of names; "" counts those without a mark.
func PluginsOf(nodes []event.Node) (names []string, count map[string]int) {
	count = make(map[string]int)
	for i := range nodes {
		count[nodes[i].Plugin]++
	}
	return slices.Sorted(maps.Keys(count)), count
}
