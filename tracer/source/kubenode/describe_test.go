package kubenode

import (
	"encoding/json"
	"testing"
)

// TestSpotMarks reads what each provider and autoscaler puts on a node that may be taken away, and on one that may not.
func TestSpotMarks(t *testing.T) {
	for name, c := range map[string]struct{ object, want string }{
		"gke preemptible":        {`{"metadata":{"labels":{"cloud.google.com/gke-preemptible":"true"}}}`, "preemptible"},
		"gke spot":               {`{"metadata":{"labels":{"cloud.google.com/gke-spot":"true"}}}`, "spot"},
		"gke provisioning alone": {`{"metadata":{"labels":{"cloud.google.com/gke-provisioning":"spot"}}}`, "spot"},
		"gke standard":           {`{"metadata":{"labels":{"cloud.google.com/gke-provisioning":"standard"}}}`, ""},
		"eks":                    {`{"metadata":{"labels":{"eks.amazonaws.com/capacityType":"SPOT"}}}`, "spot"},
		"eks on demand":          {`{"metadata":{"labels":{"eks.amazonaws.com/capacityType":"ON_DEMAND"}}}`, ""},
		"karpenter":              {`{"metadata":{"labels":{"karpenter.sh/capacity-type":"spot"}}}`, "spot"},
		"karpenter on demand":    {`{"metadata":{"labels":{"karpenter.sh/capacity-type":"on-demand"}}}`, ""},
		"aks":                    {`{"metadata":{"labels":{"kubernetes.azure.com/scalesetpriority":"spot"}}}`, "spot"},
		"aks, its taint alone":   {`{"spec":{"taints":[{"key":"kubernetes.azure.com/scalesetpriority","value":"spot","effect":"NoSchedule"}]}}`, "spot"},
		"aks, newer":             {`{"metadata":{"labels":{"kubernetes.azure.com/priority":"spot"}}}`, "spot"},
		"aks regular":            {`{"metadata":{"labels":{"kubernetes.azure.com/scalesetpriority":"regular"}}}`, ""},
		"openshift":              {`{"metadata":{"labels":{"machine.openshift.io/interruptible-instance":""}}}`, "spot"},
		"oke":                    {`{"metadata":{"labels":{"oci.oraclecloud.com/oke-is-preemptible":"true"}}}`, "preemptible"},
		"oke, its bare taint":    {`{"spec":{"taints":[{"key":"oci.oraclecloud.com/oke-is-preemptible","effect":"NoSchedule"}]}}`, "preemptible"},
		"oke, as karpenter's":    {`{"spec":{"taints":[{"key":"oci.oraclecloud.com/oke-is-preemptible","value":"present","effect":"NoSchedule"}]}}`, "preemptible"},
		"oke, not":               {`{"metadata":{"labels":{"oci.oraclecloud.com/oke-is-preemptible":"false"}}}`, ""},
		"spotinst":               {`{"metadata":{"labels":{"spotinst.io/node-lifecycle":"spot"}}}`, "spot"},
		"spotinst on demand":     {`{"metadata":{"labels":{"spotinst.io/node-lifecycle":"od"}}}`, ""},
		"cast ai":                {`{"metadata":{"labels":{"scheduling.cast.ai/spot":"true"}}}`, "spot"},
		"cast ai, its taint":     {`{"spec":{"taints":[{"key":"scheduling.cast.ai/spot","effect":"NoSchedule"}]}}`, "spot"},
		"cast ai, fallback":      {`{"metadata":{"labels":{"scheduling.cast.ai/spot":"true","scheduling.cast.ai/spot-fallback":"true"}}}`, ""},
		"yandex":                 {`{"metadata":{"labels":{"yandex.cloud/preemptible":"true"}}}`, "preemptible"},
		"yandex standard":        {`{"metadata":{"labels":{"yandex.cloud/preemptible":"false"}}}`, ""},
		"alibaba":                {`{"metadata":{"labels":{"node.alibabacloud.com/spot-strategy":"SpotAsPriceGo"}}}`, "spot"},
		"alibaba, price limit":   {`{"metadata":{"labels":{"node.alibabacloud.com/spot-strategy":"SpotWithPriceLimit"}}}`, "spot"},
		"alibaba, none":          {`{"metadata":{"labels":{"node.alibabacloud.com/spot-strategy":"NoSpot"}}}`, ""},
		"kops":                   {`{"metadata":{"labels":{"node-role.kubernetes.io/spot-worker":"true"}}}`, "spot"},
		"self-managed on aws":    {`{"metadata":{"labels":{"node.kubernetes.io/lifecycle":"spot"}}}`, "spot"},
		"self-managed, normal":   {`{"metadata":{"labels":{"node.kubernetes.io/lifecycle":"normal"}}}`, ""},
		"nothing":                {`{}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if n := nodeOf(t, c.object); n.Spot != c.want {
				t.Errorf("spot is %q, want %q", n.Spot, c.want)
			}
		})
	}
}

// TestNoMachine reads what stands behind a node.
func TestNoMachine(t *testing.T) {
	for name, c := range map[string]struct{ object, virtual, os, platform string }{
		"fargate":                 {`{"metadata":{"labels":{"eks.amazonaws.com/compute-type":"fargate"}}}`, "fargate", "", "eks"},
		"eks on ec2":              {`{"metadata":{"labels":{"eks.amazonaws.com/compute-type":"ec2"}}}`, "", "", "eks"},
		"aks virtual":             {`{"metadata":{"labels":{"type":"virtual-kubelet","kubernetes.azure.com/cluster":"x"}}}`, "virtual-kubelet", "", "aks"},
		"virtual, taint":          {`{"spec":{"taints":[{"key":"virtual-kubelet.io/provider","value":"alibabacloud","effect":"NoSchedule"}]}}`, "virtual-kubelet", "", ""},
		"virtual, by its version": {`{"status":{"nodeInfo":{"kubeletVersion":"v1.25.0-vk-azure-aci-1.6.2"}}}`, "virtual-kubelet", "", ""},
		"kwok":                    {`{"metadata":{"annotations":{"kwok.x-k8s.io/node":"fake"}}}`, "kwok", "", ""},
		"oke virtual":             {`{"metadata":{"labels":{"node-role.kubernetes.io/virtual-node":""}}}`, "virtual node", "", ""},
		"windows":                 {`{"metadata":{"labels":{"kubernetes.io/os":"windows"}}}`, "", "windows", ""},
		"windows, by its kubelet": {`{"status":{"nodeInfo":{"operatingSystem":"windows"}}}`, "", "windows", ""},
		"linux":                   {`{"status":{"nodeInfo":{"operatingSystem":"linux"}},"spec":{"providerID":"ocid1.instance.oc1.x"}}`, "", "", "oci"},
	} {
		t.Run(name, func(t *testing.T) {
			if n := nodeOf(t, c.object); n.Virtual != c.virtual || n.OS != c.os || n.Platform != c.platform {
				t.Errorf("%q, %q, %q; want %q, %q, %q", n.Virtual, n.OS, n.Platform, c.virtual, c.os, c.platform)
			}
		})
	}
}

func nodeOf(t *testing.T, text string) (n struct{ Spot, Virtual, OS, Platform string }) {
	t.Helper()
	var o Object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	o.Metadata.Name = "node-a"
	got, err := o.Node()
	if err != nil {
		t.Fatal(err)
	}
	n.Spot, n.Virtual, n.OS, n.Platform = got.Spot, got.Virtual, got.OS, got.Platform
	return n
}
