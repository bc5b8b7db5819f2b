package kubenode

import (
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// Describe fills in zone, platform, whether the node may be taken away, and whether there is a machine behind it, from what
// providers and autoscalers document. docs/compatibility.md has the sources.
func Describe(n *event.Node, o *Object) {
	for _, key := range []string{"topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"} {
		if n.Zone == "" {
			n.Zone = o.Metadata.Labels[key]
		}
	}
	n.Spot = spot(o)
	n.Platform = platform(o.Metadata.Labels, o.Spec.ProviderID, o.Status.NodeInfo.KubeletVersion)
	n.Virtual = virtual(o)
	if system(o) == "windows" {
		n.OS = "windows"
	}
}

// spotMark is a label, or a taint where taint is set, by which a provider or an autoscaler tells that a node may be taken away
// at any time.
type spotMark struct {
	key    string
	values []string // compared without regard to case; empty: whatever the value, unless it says no
	taint  bool
	is     string // preemptible, spot
}

// spotMarks is in the order in which they are looked for: where two tell, the first one's word is used.
var spotMarks = []spotMark{
	{"cloud.google.com/gke-preemptible", []string{"true"}, false, "preemptible"},
	{"cloud.google.com/gke-provisioning", []string{"preemptible"}, false, "preemptible"},
	{"cloud.google.com/gke-spot", []string{"true"}, false, "spot"},
	{"cloud.google.com/gke-provisioning", []string{"spot"}, false, "spot"},
	{"eks.amazonaws.com/capacityType", []string{"spot"}, false, "spot"},
	{"karpenter.sh/capacity-type", []string{"spot"}, false, "spot"},
	{"kubernetes.azure.com/scalesetpriority", []string{"spot"}, true, "spot"},
	{"kubernetes.azure.com/priority", []string{"spot"}, false, "spot"},
	{"machine.openshift.io/interruptible-instance", nil, false, "spot"},
	{"oci.oraclecloud.com/oke-is-preemptible", nil, true, "preemptible"},
	{"spotinst.io/node-lifecycle", []string{"spot"}, false, "spot"},
	{"scheduling.cast.ai/spot", nil, true, "spot"},
	{"yandex.cloud/preemptible", []string{"true"}, false, "preemptible"},
	{"node.alibabacloud.com/spot-strategy", []string{"spotwithpricelimit", "spotaspricego"}, false, "spot"},
	{"node-role.kubernetes.io/spot-worker", nil, false, "spot"},
	{"node.kubernetes.io/lifecycle", []string{"spot"}, false, "spot"},
}

// castOnDemand are labels of CAST AI for on-demand nodes that stand in for spot ones, whose label they carry too.
var castOnDemand = []string{"scheduling.cast.ai/spot-fallback", "scheduling.cast.ai/fake-spot"}

func spot(o *Object) string {
	labels := o.Metadata.Labels
	for _, m := range spotMarks {
		if strings.HasPrefix(m.key, "scheduling.cast.ai/") && (yes(labels, castOnDemand[0]) || yes(labels, castOnDemand[1])) {
			continue
		}
		if value, ok := labels[m.key]; ok && m.means(value) {
			return m.is
		}
		for _, t := range o.Spec.Taints {
			if m.taint && t.Key == m.key && m.means(t.Value) {
				return m.is
			}
		}
	}
	return ""
}

func (m *spotMark) means(value string) bool {
	if len(m.values) == 0 {
		return !strings.EqualFold(value, "false")
	}
	for _, v := range m.values {
		if strings.EqualFold(value, v) {
			return true
		}
	}
	return false
}

func yes(labels map[string]string, key string) bool {
	value, ok := labels[key]
	return ok && !strings.EqualFold(value, "false")
}

// virtual names what stands behind a node that is no machine: nothing can run beside its pods, and its address is a pod's, or
// nobody's.
func virtual(o *Object) string {
	labels := o.Metadata.Labels
	has := func(key string) bool {
		_, label := labels[key]
		_, annotation := o.Metadata.Annotations[key]
		return label || annotation
	}
	switch {
	case strings.EqualFold(labels["eks.amazonaws.com/compute-type"], "fargate"):
		return "fargate"
	case has("kwok.x-k8s.io/node"):
		return "kwok"
	case yes(labels, "vcluster.loft.sh/fake-node"):
		return "vcluster"
	case labels["liqo.io/type"] == "virtual-node":
		return "liqo"
	case labels["node.kubernetes.io/instance-type"] == "eklet":
		return "eklet" // Tencent's super nodes
	case has("node-role.kubernetes.io/virtual-node"): // Oracle's virtual nodes
		return "virtual node"
	case labels["type"] == "virtual-kubelet", strings.Contains(o.Status.NodeInfo.KubeletVersion, "-vk-"):
		return "virtual-kubelet"
	}
	for _, t := range o.Spec.Taints {
		if strings.HasPrefix(t.Key, "virtual-kubelet.io/") {
			return "virtual-kubelet"
		}
	}
	return ""
}

// system is the node's operating system as the kubelet names it.
func system(o *Object) string {
	if os := o.Status.NodeInfo.OS; os != "" {
		return os
	}
	return o.Metadata.Labels["kubernetes.io/os"]
}

// platform is the managed offering where a label or the kubelet's version shows it, else the cloud of the provider id.
func platform(labels map[string]string, providerID, kubelet string) string {
	for _, offering := range []struct{ name, prefix string }{
		{"gke", "cloud.google.com/gke-"}, {"eks", "eks.amazonaws.com/"}, {"aks", "kubernetes.azure.com/"},
	} {
		for key := range labels {
			if strings.HasPrefix(key, offering.prefix) {
				return offering.name
			}
		}
	}
	switch {
	case strings.Contains(kubelet, "-gke."):
		return "gke"
	case strings.Contains(kubelet, "-eks-"):
		return "eks"
	}
	scheme, _, found := strings.Cut(providerID, "://")
	switch {
	case found:
		return scheme
	case strings.HasPrefix(providerID, "ocid1."): // Oracle's ids have no scheme
		return "oci"
	}
	return ""
}
