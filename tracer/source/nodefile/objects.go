package nodefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kubenode"
)

// object is what is read of any object of a list: a Node, and what stands beside one.
type object struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   kubenode.Metadata `json:"metadata"`
	Spec       spec              `json:"spec"`
	Status     status            `json:"status"`

	// Of a Status, the API's answer where it has nothing else to give.
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`

	// Of a watch's event, as kubectl get --output-watch-events prints it.
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// spec has the fields of the specs of several kinds.
type spec struct {
	kubenode.Spec
	// CiliumNode, and Node of Calico.
	Addresses []struct {
		kubenode.CiliumAddress
		Address string `json:"address"`
	} `json:"addresses"`
	IPAM struct {
		PodCIDRs []string `json:"podCIDRs"`
	} `json:"ipam"`
	// BlockAffinity.
	CIDR    string `json:"cidr"`
	Node    string `json:"node"`
	State   string `json:"state"`
	Deleted any    `json:"deleted"` // "true" in crd.projectcalico.org/v1, true in projectcalico.org/v3
	// Node of Calico (projectcalico.org/v3).
	BGP struct {
		IPv4Address, IPv6Address, IPv4IPIPTunnelAddr string
	} `json:"bgp"`
	IPv4VXLANTunnelAddr string `json:"ipv4VXLANTunnelAddr"`
	IPv6VXLANTunnelAddr string `json:"ipv6VXLANTunnelAddr"`
	OrchRefs            []struct {
		NodeName string `json:"nodeName"`
	} `json:"orchRefs"`
}

// status is a Node's; that of a Status is a text.
type status struct{ kubenode.Status }

// UnmarshalJSON implements json.Unmarshaler.
func (s *status) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return nil
	}
	return json.Unmarshal(b, &s.Status)
}

// kubeNode says whether the object is a Node of Kubernetes itself: of another group, a Node is something else. The items of a
// NodeList have no kind.
func (o *object) kubeNode() bool {
	return (o.Kind == "Node" || o.Kind == "" && (o.Metadata.Name != "" || len(o.Status.Addresses) > 0)) && (o.APIVersion == "v1" || o.APIVersion == "")
}

// take uses an object as far as it goes. where is its place in the file, empty for the only one.
func (l *list) take(o *object, where string) {
	switch {
	case o.Type != "" && o.Object != nil && o.Kind == "":
		var inner object
		if err := json.Unmarshal(o.Object, &inner); err != nil {
			l.wrong(join(where, "object"), err)
		}
		if o.Type == "DELETED" {
			l.forget(inner.Metadata.Name)
			return
		}
		l.take(&inner, join(where, "object"))
	case o.kubeNode():
		l.takeNode(o, where)
	case o.Kind == "Node" && strings.HasPrefix(o.APIVersion, "projectcalico.org/"), o.Kind == "Node" && strings.HasPrefix(o.APIVersion, "crd.projectcalico.org/"):
		l.takeCalico(o, where)
	case o.Kind == "Node":
		l.wrong(join(where, "apiVersion"), fmt.Errorf("a Node of %.60q is not one of Kubernetes' own (v1)", o.APIVersion))
	case o.Kind == "CiliumNode":
		var addresses []kubenode.CiliumAddress
		for _, a := range o.Spec.Addresses {
			addresses = append(addresses, a.CiliumAddress)
		}
		l.beside(o.Metadata.Name, kubenode.Cilium(addresses, o.Spec.IPAM.PodCIDRs), o)
	case o.Kind == "BlockAffinity":
		if name, b, ok := kubenode.Block(o.Spec.Node, o.Spec.CIDR, o.Spec.State, fmt.Sprint(o.Spec.Deleted)); ok {
			l.beside(name, b, o)
		}
	default:
		err := wrongKind(o)
		if where != "" {
			err = fmt.Errorf("%.40q is not a Node", o.Kind)
			where = join(where, "kind")
		}
		l.wrong(where, err)
	}
}

func (l *list) takeNode(o *object, where string) {
	n, err := (&kubenode.Object{Metadata: o.Metadata, Spec: o.Spec.Spec, Status: o.Status.Status}).Node()
	var bad *kubenode.FieldError
	if errors.As(err, &bad) {
		l.wrong(join(where, bad.Field), bad.Err)
	}
	if n.Name != "" {
		l.add(n, where)
	}
}

// takeCalico uses a Node as calicoctl prints it: it has addresses, and no state, labels of the cloud, or ranges.
func (l *list) takeCalico(o *object, where string) {
	n := event.Node{Name: o.Metadata.Name}
	for _, r := range o.Spec.OrchRefs {
		if r.NodeName != "" {
			n.Name = r.NodeName
		}
	}
	texts := []struct{ text, from string }{
		{o.Spec.BGP.IPv4Address, "bgp.ipv4Address"}, {o.Spec.BGP.IPv6Address, "bgp.ipv6Address"},
		{o.Spec.BGP.IPv4IPIPTunnelAddr, "bgp.ipv4IPIPTunnelAddr"}, {o.Spec.IPv4VXLANTunnelAddr, "ipv4VXLANTunnelAddr"}, {o.Spec.IPv6VXLANTunnelAddr, "ipv6VXLANTunnelAddr"},
	}
	for _, a := range o.Spec.Addresses {
		texts = append(texts, struct{ text, from string }{a.Address, "addresses"})
	}
	seen := make(map[netip.Addr]bool)
	for _, t := range texts {
		text, _, _ := strings.Cut(t.text, "/")
		if ip, err := netip.ParseAddr(text); err == nil && !seen[ip.Unmap()] {
			seen[ip.Unmap()] = true
			n.Addresses = append(n.Addresses, event.Address{IP: ip.Unmap(), From: "Calico's Node spec." + t.from})
		}
	}
	n.Plugin, n.PodCIDRsOwn = "calico", event.Known([]int{})
	if n.Name == "" {
		l.wrong(join(where, "metadata.name"), errors.New("missing"))
		return
	}
	l.calico++
	l.add(n, where)
}
