package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/midhop/midhop/tracer/source/kubenode"
)

var ciliumVersion = schema.GroupVersion{Group: "cilium.io", Version: "v2"}

// CiliumNode is what is read of Cilium's object per node: with a tunnel, pods see its CiliumInternalIP as the peer.
type CiliumNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              CiliumSpec `json:"spec"`
}

// CiliumSpec is what is read of its spec.
type CiliumSpec struct {
	Addresses []kubenode.CiliumAddress `json:"addresses"`
	IPAM      CiliumIPAM               `json:"ipam"`
}

// CiliumIPAM says from which ranges the agent gives pods addresses.
type CiliumIPAM struct {
	PodCIDRs []string `json:"podCIDRs"`
}

// CiliumNodeList is a list of them.
type CiliumNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CiliumNode `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (n *CiliumNode) DeepCopyObject() runtime.Object {
	out := &CiliumNode{TypeMeta: n.TypeMeta, ObjectMeta: *n.ObjectMeta.DeepCopy()}
	out.Spec.Addresses = append(out.Spec.Addresses, n.Spec.Addresses...)
	out.Spec.IPAM.PodCIDRs = append(out.Spec.IPAM.PodCIDRs, n.Spec.IPAM.PodCIDRs...)
	return out
}

// DeepCopyObject implements runtime.Object.
func (l *CiliumNodeList) DeepCopyObject() runtime.Object {
	out := &CiliumNodeList{TypeMeta: l.TypeMeta, ListMeta: *l.ListMeta.DeepCopy()}
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*CiliumNode))
	}
	return out
}

func addCilium(s *runtime.Scheme) error {
	s.AddKnownTypes(ciliumVersion, &CiliumNode{}, &CiliumNodeList{})
	metav1.AddToGroupVersion(s, ciliumVersion)
	return nil
}
