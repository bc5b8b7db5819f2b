package kubenode

import (
	"strings"

	"github.com/midhop/midhop/tracer/event"
)

// Describe fills in zone, platform and whether the node may be taken away, from labels that the providers document.
func Describe(n *event.Node, labels map[string]string, providerID, kubelet string) {
	for _, key := range []string{"topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"} {
		if n.Zone == "" {
			n.Zone = labels[key]
		}
	}
	n.Spot = spot(labels)
	n.Platform = platform(labels, providerID, kubelet)
}

func spot(labels map[string]string) string {
	switch {
	case labels["cloud.google.com/gke-preemptible"] == "true":
		return "preemptible"
	case labels["cloud.google.com/gke-spot"] == "true",
		strings.EqualFold(labels["eks.amazonaws.com/capacityType"], "SPOT"),
		labels["karpenter.sh/capacity-type"] == "spot",
		labels["kubernetes.azure.com/scalesetpriority"] == "spot":
		return "spot"
	}
	return ""
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
	if !found {
		return ""
	}
	return scheme
}
