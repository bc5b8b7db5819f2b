package kubenode

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Object is what is read of a Node (k8s.io/api core/v1), in its JSON form.
type Object struct {
	Kind     string   `json:"kind"`
	Metadata Metadata `json:"metadata"`
	Spec     Spec     `json:"spec"`
	Status   Status   `json:"status"`
}

// Metadata is what is read of the object's metadata.
type Metadata struct {
	Name        string            `json:"name"`
	UID         string            `json:"uid"`
	Created     time.Time         `json:"creationTimestamp"`
	Deleted     *time.Time        `json:"deletionTimestamp"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Spec is what is read of the node's spec.
type Spec struct {
	PodCIDR       string   `json:"podCIDR"`
	PodCIDRs      []string `json:"podCIDRs"`
	ProviderID    string   `json:"providerID"`
	Unschedulable bool     `json:"unschedulable"`
	Taints        []Taint  `json:"taints"`
}

// Taint keeps pods away from a node.
type Taint struct {
	Key    string     `json:"key"`
	Value  string     `json:"value"`
	Effect string     `json:"effect"`
	Added  *time.Time `json:"timeAdded"`
}

// Status is what is read of the node's status.
type Status struct {
	Addresses  []StatusAddress `json:"addresses"`
	Conditions []Condition     `json:"conditions"`
	NodeInfo   NodeInfo        `json:"nodeInfo"`
}

// NodeInfo is what the kubelet says of its machine.
type NodeInfo struct {
	BootID         string `json:"bootID"`
	KubeletVersion string `json:"kubeletVersion"`
	OS             string `json:"operatingSystem"`
}

// StatusAddress is one address that the kubelet or the cloud's controller reports.
type StatusAddress struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

// Condition is one condition of the node, such as Ready.
type Condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Changed time.Time `json:"lastTransitionTime"`
}

// FieldError says which field of an object cannot be what it says.
type FieldError struct {
	Field string
	Err   error
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// dedupe keeps the first word on each address: the status comes before annotations.
func dedupe(list []event.Address) []event.Address {
	seen := make(map[netip.Addr]bool, len(list))
	return slices.DeleteFunc(list, func(a event.Address) bool {
		again := seen[a.IP]
		seen[a.IP] = true
		return again
	})
}

const cordonTaint = "node.kubernetes.io/unschedulable"

// Node returns what the object says. A field that cannot be read is left out; the first one is the error, always a
// [*FieldError].
func (o *Object) Node() (event.Node, error) {
	var first error
	bad := func(field string, err error) {
		if first == nil {
			first = &FieldError{field, err}
		}
	}
	n := event.Node{
		Name: o.Metadata.Name, UID: o.Metadata.UID, Created: o.Metadata.Created.UTC(), BootID: o.Status.NodeInfo.BootID,
	}
	if n.Name == "" {
		bad("metadata.name", errors.New("missing"))
	}
	for i, a := range o.Status.Addresses {
		if a.Type != "InternalIP" && a.Type != "ExternalIP" || a.Address == "" {
			continue // host and DNS names, which packets do not carry; an empty one says nothing
		}
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			bad(fmt.Sprintf("status.addresses[%d].address", i), fmt.Errorf("%.60q is not an IP address", a.Address))
			continue
		}
		if ip, ok := usable(ip); ok {
			n.Addresses = append(n.Addresses, event.Address{IP: ip, From: "status " + a.Type})
		}
	}
	n.Addresses = append(n.Addresses, annotated(o.Metadata.Annotations, n.Addresses)...)
	setRanges(&n, o, bad)
	for _, c := range o.Status.Conditions {
		if c.Type == "Ready" {
			n.Ready = strings.ToLower(c.Status)
		}
	}
	for _, t := range o.Spec.Taints {
		n.Taints = append(n.Taints, t.text())
	}
	if cordon := cordonTaint + ":NoSchedule"; o.Spec.Unschedulable && !slices.Contains(n.Taints, cordon) {
		n.Taints = append(n.Taints, cordon) // the control plane adds it within moments of a cordon
	}
	n.Addresses = dedupe(n.Addresses)
	Describe(&n, o)
	n.Causes = causes(o)
	return n, first
}

func (t *Taint) text() string {
	if t.Value == "" {
		return t.Key + ":" + t.Effect
	}
	return t.Key + "=" + t.Value + ":" + t.Effect
}

// Prefix parses a range of pod addresses.
func Prefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(strings.TrimSpace(text))
	if err != nil {
		return p, fmt.Errorf("%.60q is not a range such as 10.244.1.0/24", text)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
