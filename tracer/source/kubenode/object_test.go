package kubenode

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/midhop/midhop/tracer/event"
)

// TestAnnotatedAddresses reads what each network plug-in publishes, in the form in which it does.
func TestAnnotatedAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []string // address, then the key
	}{
		"calico": {
			map[string]string{"projectcalico.org/IPv4Address": "192.0.2.11/24", "projectcalico.org/IPv4VXLANTunnelAddr": "10.244.77.64"},
			[]string{"10.244.77.64", "projectcalico.org/IPv4VXLANTunnelAddr"}, // the first is in the status already
		},
		"calico ipip":      {map[string]string{"projectcalico.org/IPv4IPIPTunnelAddr": "10.244.77.0"}, []string{"10.244.77.0", "projectcalico.org/IPv4IPIPTunnelAddr"}},
		"calico wireguard": {map[string]string{"projectcalico.org/IPv4WireguardInterfaceAddr": "10.244.77.9"}, []string{"10.244.77.9", "projectcalico.org/IPv4WireguardInterfaceAddr"}},
		"cilium":           {map[string]string{"network.cilium.io/ipv4-cilium-host": "10.0.1.13", "network.cilium.io/ipv4-pod-cidr": "10.0.1.0/24"}, []string{"10.0.1.13", "network.cilium.io/ipv4-cilium-host"}},
		"cilium of old":    {map[string]string{"io.cilium.network.ipv4-cilium-host": "10.0.1.13"}, []string{"10.0.1.13", "io.cilium.network.ipv4-cilium-host"}},
		"antrea":           {map[string]string{"node.antrea.io/transport-addresses": "198.51.100.7,2001:db8::7"}, []string{"198.51.100.7", "node.antrea.io/transport-addresses", "2001:db8::7", "node.antrea.io/transport-addresses"}},
		"ovn-kubernetes":   {map[string]string{"k8s.ovn.org/node-gateway-router-lrp-ifaddr": `{"ipv4":"100.64.0.3/16"}`}, []string{"100.64.0.3", "k8s.ovn.org/node-gateway-router-lrp-ifaddr"}},
		"ovn-kubernetes by network": {
			map[string]string{"k8s.ovn.org/node-gateway-router-lrp-ifaddrs": `{"default":{"ipv4":"100.64.0.4/16","ipv6":"fd98::4/64"},"blue":"100.65.0.4/16"}`},
			[]string{"100.65.0.4", "k8s.ovn.org/node-gateway-router-lrp-ifaddrs", "100.64.0.4", "k8s.ovn.org/node-gateway-router-lrp-ifaddrs", "fd98::4", "k8s.ovn.org/node-gateway-router-lrp-ifaddrs"},
		},
		"ovn-kubernetes host": {map[string]string{"k8s.ovn.org/host-cidrs": `["192.0.2.11/24","198.51.100.11/24","169.254.0.2/17"]`}, []string{"198.51.100.11", "k8s.ovn.org/host-cidrs"}},
		"kube-ovn":            {map[string]string{"ovn.kubernetes.io/ip_address": "100.64.0.2"}, []string{"100.64.0.2", "ovn.kubernetes.io/ip_address"}},
		"flannel":             {map[string]string{"flannel.alpha.coreos.com/kube-subnet-manager": "true", "flannel.alpha.coreos.com/public-ip": "198.51.100.11", "flannel.alpha.coreos.com/backend-data": `{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}`}, []string{"198.51.100.11", "flannel.alpha.coreos.com/public-ip"}},
		"flannel's own prefix": {
			map[string]string{"net.example/kube-subnet-manager": "true", "net.example/public-ip-overwrite": "198.51.100.12"},
			[]string{"198.51.100.12", "net.example/public-ip-overwrite"},
		},
		"somebody else's public-ip": {map[string]string{"example.com/public-ip": "198.51.100.12"}, nil},
		"not what it was":           {map[string]string{"k8s.ovn.org/host-cidrs": `{"broken`, "ovn.kubernetes.io/ip_address": "soon", "projectcalico.org/IPv4IPIPTunnelAddr": "127.0.0.1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := Object{Metadata: Metadata{Name: "node-a", Annotations: c.annotations}}
			o.Status.Addresses = []StatusAddress{{"InternalIP", "192.0.2.11"}}
			n, err := o.Node()
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range n.Addresses[1:] {
				got = append(got, a.IP.String(), a.From)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("want -, have +\n%s", d)
			}
		})
	}
}

// TestCauses reads what is told of a node's fate, in the words of those who tell it.
func TestCauses(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 20, 11, 0, time.UTC)
	none := time.Time{}
	for name, c := range map[string]struct {
		object string
		want   []event.Cause
	}{
		"healthy":   {`{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}]}}`, nil},
		"dead":      {`{"status":{"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown","lastTransitionTime":"2026-11-22T14:20:11Z"}]},"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"2026-11-22T14:20:12Z"}]}}`, []event.Cause{{What: event.CauseUnknown, From: "condition Ready=Unknown (NodeStatusUnknown)", Since: at}}},
		"sick":      {`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"container runtime is down","lastTransitionTime":"2026-11-22T14:20:11Z"}]}}`, []event.Cause{{What: event.CauseNotReady, From: "condition Ready=False (KubeletNotReady)", Since: at}}},
		"going":     {`{"status":{"conditions":[{"type":"Ready","status":"False","reason":"KubeletNotReady","message":"node is shutting down","lastTransitionTime":"2026-11-22T14:20:11Z"}]}}`, []event.Cause{{What: event.CauseShutdown, From: "condition Ready=False (KubeletNotReady)", Since: at}}},
		"recovered": {`{"status":{"conditions":[{"type":"Ready","status":"True"}]},"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"2026-11-22T14:20:11Z"}]}}`, nil},
		"no status": {`{"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"2026-11-22T14:20:11Z"}]}}`, []event.Cause{{What: event.CauseUnknown, From: "taint node.kubernetes.io/unreachable", Since: at}}},
		"deleted":   {`{"metadata":{"deletionTimestamp":"2026-11-22T14:20:11Z"}}`, []event.Cause{{What: event.CauseDeleted, From: "metadata.deletionTimestamp", Since: at}}},
		"cordoned":  {`{"spec":{"unschedulable":true,"taints":[{"key":"node.kubernetes.io/unschedulable","effect":"NoSchedule"}]}}`, []event.Cause{{What: event.CauseCordoned, From: "taint node.kubernetes.io/unschedulable", Since: none}}},
		"scaled down": {`{"spec":{"taints":[{"key":"ToBeDeletedByClusterAutoscaler","value":"1763821211","effect":"NoSchedule"},{"key":"DeletionCandidateOfClusterAutoscaler","effect":"PreferNoSchedule"}]}}`,
			[]event.Cause{{What: event.CauseScaleDown, From: "taint ToBeDeletedByClusterAutoscaler"}, {What: event.CauseScaleDownCandidate, From: "taint DeletionCandidateOfClusterAutoscaler"}}},
		"karpenter":      {`{"spec":{"taints":[{"key":"karpenter.sh/disrupted","effect":"NoSchedule"}]}}`, []event.Cause{{What: event.CauseScaleDown, From: "taint karpenter.sh/disrupted"}}},
		"gke preemption": {`{"spec":{"taints":[{"key":"cloud.google.com/impending-node-termination","effect":"NoSchedule"}]}}`, []event.Cause{{What: event.CausePreempted, From: "taint cloud.google.com/impending-node-termination"}}},
		"eks spot":       {`{"spec":{"taints":[{"key":"aws-node-termination-handler/spot-itn","value":"x","effect":"NoSchedule"}]}}`, []event.Cause{{What: event.CausePreempted, From: "taint aws-node-termination-handler/spot-itn"}}},
		"aks spot":       {`{"status":{"conditions":[{"type":"VMEventScheduled","status":"True","reason":"PreemptScheduled","lastTransitionTime":"2026-11-22T14:20:11Z"}]}}`, []event.Cause{{What: event.CausePreempted, From: "condition VMEventScheduled=True (PreemptScheduled)", Since: at}}},
		"aks freeze":     {`{"status":{"conditions":[{"type":"VMEventScheduled","status":"True","reason":"FreezeScheduled","lastTransitionTime":"2026-11-22T14:20:11Z"}]}}`, []event.Cause{{What: event.CauseMaintenance, From: "condition VMEventScheduled=True (FreezeScheduled)", Since: at}}},
		"aks quiet":      {`{"status":{"conditions":[{"type":"VMEventScheduled","status":"False","reason":"NoVMEventScheduled"}]}}`, nil},
		"stopped":        {`{"spec":{"taints":[{"key":"node.cloudprovider.kubernetes.io/shutdown","effect":"NoSchedule"}]}}`, []event.Cause{{What: event.CauseShutdown, From: "taint node.cloudprovider.kubernetes.io/shutdown"}}},
		"left out":       {`{"metadata":{"labels":{"node.kubernetes.io/exclude-from-external-load-balancers":""}}}`, []event.Cause{{What: event.CauseOutOfBalancer, From: "label node.kubernetes.io/exclude-from-external-load-balancers"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var o Object
			if err := json.Unmarshal([]byte(c.object), &o); err != nil {
				t.Fatal(err)
			}
			o.Metadata.Name = "node-a"
			n, err := o.Node()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, n.Causes); d != "" {
				t.Errorf("want -, have +\n%s", d)
			}
		})
	}
}

// TestWrongFields: one field that cannot be read costs that field.
func TestWrongFields(t *testing.T) {
	o := Object{Metadata: Metadata{Name: "node-a"}, Spec: Spec{PodCIDRs: []string{"soon", "10.244.1.0/24"}}}
	o.Status.Addresses = []StatusAddress{{"InternalIP", "192.0.2.11"}}
	n, err := o.Node()
	var wrong *FieldError
	if !errors.As(err, &wrong) || wrong.Field != "spec.podCIDRs[0]" {
		t.Errorf("the error is %v", err)
	}
	if len(n.PodCIDRs) != 1 || len(n.Addresses) != 1 || n.Addresses[0].IP != netip.MustParseAddr("192.0.2.11") {
		t.Errorf("what is left is %+v", n)
	}
}
