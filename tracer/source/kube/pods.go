package kube

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/midhop/midhop/tracer/event"
)

type podKey struct{ namespace, name string }

// podState is what is kept of a pod: enough to know whether it changed. The rest lives in the model.
type podState struct{ print uint64 }

// pod is what a look at a pod brings.
type pod struct {
	event.Pod
	evicted time.Time // it is evicted through the API: its node is being drained
}

type podKeeper struct{ s *Source }

func (k podKeeper) key(obj any) any {
	switch o := obj.(type) {
	case *pod:
		return podKey{o.Namespace, o.Name}
	case *corev1.Pod:
		return podKey{o.Namespace, o.Name}
	}
	return nil
}

func (k podKeeper) keys() (all []any) {
	for key := range k.s.pods {
		all = append(all, key)
	}
	return all
}

// read implements keeper. Pods that have ended keep their addresses in the API though others may have them by now.
func (k podKeeper) read(obj any) any {
	o, ok := obj.(*corev1.Pod)
	if !ok {
		return obj
	}
	if o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return nil
	}
	p := &pod{Pod: event.Pod{
		Namespace: intern(o.Namespace), Name: o.Name, UID: string(o.UID), Workload: intern(workload(o)),
		Node: intern(o.Spec.NodeName), HostNetwork: o.Spec.HostNetwork,
	}}
	if hash := o.Annotations[corev1.MirrorPodAnnotationKey]; hash != string(o.UID) {
		p.KubeletUID = hash
	}
	for _, ip := range o.Status.PodIPs {
		p.IPs = appendAddr(p.IPs, ip.IP)
	}
	if len(p.IPs) == 0 && o.Status.PodIP != "" {
		p.IPs = appendAddr(p.IPs, o.Status.PodIP)
	}
	for _, c := range o.Status.Conditions {
		// PodReasonEvictionByEvictionAPI has no constant in k8s.io/api; pkg/registry/core/pod/storage/eviction.go sets it.
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "EvictionByEvictionAPI" {
			p.evicted = c.LastTransitionTime.UTC()
		}
	}
	return p
}

func appendAddr(list []netip.Addr, text string) []netip.Addr {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return list
	}
	return append(list, ip.Unmap())
}

// intern keeps one copy of texts that thousands of objects share.
func intern(text string) string { return unique.Make(text).Value() }

// workload names what made a pod: its controller, or the controller's controller where the name tells it.
func workload(o *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(o)
	if owner == nil || owner.Kind == "Node" { // a static pod's owner is its node
		return ""
	}
	if hash := o.Labels["pod-template-hash"]; owner.Kind == "ReplicaSet" && hash != "" {
		if deployment, ok := strings.CutSuffix(owner.Name, "-"+hash); ok {
			return "deployment/" + deployment
		}
	}
	return strings.ToLower(owner.Kind) + "/" + owner.Name
}

var seed = maphash.MakeSeed()

// print is equal for pods of which the same is to be told.
func (p *pod) print() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, text := range []string{p.UID, p.Workload, p.Node, p.KubeletUID} {
		h.WriteString(text)
		h.WriteByte(0)
	}
	for _, ip := range p.IPs {
		a := ip.As16()
		h.Write(a[:])
	}
	if p.HostNetwork {
		h.WriteByte(1)
	}
	return h.Sum64()
}

// put implements keeper.
func (k podKeeper) put(b *batch, key, record any) {
	p := record.(*pod)
	if !p.evicted.IsZero() {
		k.evicted(b, p)
	}
	print := p.print()
	before, known := k.s.pods[key.(podKey)]
	if known && before.print == print {
		return
	}
	k.s.pods[key.(podKey)] = podState{print}
	what := "changed"
	if !known {
		what = "added"
	}
	b.add(event.PodChanged, &event.PodFact{What: what, Pod: p.Pod})
}

// evicted notes that a node loses pods by eviction: with a cordon, that is a drain.
func (k podKeeper) evicted(b *batch, p *pod) {
	n := k.s.nodes[p.Node]
	if n == nil || (!n.drain.IsZero() && !p.evicted.Before(n.drain)) {
		return
	}
	n.drain = p.evicted
	k.s.tellNode(b, n)
}

// drop implements keeper.
func (k podKeeper) drop(b *batch, key any) {
	id := key.(podKey)
	if _, known := k.s.pods[id]; !known {
		return
	}
	delete(k.s.pods, id)
	b.add(event.PodChanged, &event.PodFact{What: "removed", Pod: event.Pod{Namespace: id.namespace, Name: id.name}})
}

func (k podKeeper) settle(*batch) {}
