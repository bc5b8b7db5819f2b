package kubecluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/midhop/midhop/tracer/event"
)

// world is the lab's cluster as API objects, with the kubelets' part played: Leases and the status of nodes.
type world struct {
	api kubernetes.Interface

	mu    sync.Mutex
	boots map[string]string // the boot id that a node's kubelet reports last
	alive func() map[string]string
	VIP   string
}

// build makes the objects that facts tell of.
func (w *world) build(ctx context.Context, facts []event.Event) error {
	for i := range facts {
		var err error
		switch b := facts[i].Body.(type) {
		case *event.NodeFact:
			err = w.makeNode(ctx, b.Node)
		case *event.PodFact:
			err = w.makePod(ctx, b.Pod)
		case *event.ServiceFact:
			err = w.makeService(ctx, b.Service)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) makeNode(ctx context.Context, n event.Node) error {
	labels := map[string]string{"kubernetes.io/hostname": n.Name, "topology.kubernetes.io/zone": n.Zone}
	if n.Spot != "" {
		labels["cloud.google.com/gke-"+n.Spot] = "true"
	}
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: labels}}
	for _, p := range n.PodCIDRs {
		o.Spec.PodCIDRs = append(o.Spec.PodCIDRs, p.String())
	}
	o.Spec.PodCIDR = o.Spec.PodCIDRs[0]
	o, err := w.api.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make node %s: %w", n.Name, err)
	}
	for _, a := range n.Addresses {
		o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.IP.String()})
	}
	o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.Name})
	o.Status.NodeInfo.BootID = n.BootID
	ready(o)
	if _, err := w.api.CoreV1().Nodes().UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("status of node %s: %w", n.Name, err)
	}
	return w.renew(ctx, n.Name)
}

func ready(o *corev1.Node) {
	o.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}
}

// ensureNamespace makes a namespace where there is none.
func (w *world) ensureNamespace(ctx context.Context, name string) error {
	_, err := w.api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func (w *world) makePod(ctx context.Context, p event.Pod) error {
	if err := w.ensureNamespace(ctx, p.Namespace); err != nil {
		return err
	}
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
		Spec:       corev1.PodSpec{NodeName: p.Node, Containers: []corev1.Container{{Name: "chat", Image: "chat:1"}}},
	}
	if kind, name, ok := strings.Cut(p.Workload, "/"); ok && kind == "deployment" {
		if rest, ok := strings.CutPrefix(p.Name, name+"-"); ok {
			hash, _, _ := strings.Cut(rest, "-")
			yes := true
			o.Labels = map[string]string{"pod-template-hash": hash}
			o.OwnerReferences = []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name + "-" + hash, UID: types.UID("rs-" + name), Controller: &yes,
			}}
		}
	}
	o, err := w.api.CoreV1().Pods(p.Namespace).Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make pod %s: %w", p.Name, err)
	}
	o.Status.Phase = corev1.PodRunning
	for _, ip := range p.IPs {
		o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	o.Status.PodIP = o.Status.PodIPs[0].IP
	if _, err := w.api.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("status of pod %s: %w", p.Name, err)
	}
	return nil
}

func (w *world) makeService(ctx context.Context, s event.Service) error {
	if err := w.ensureNamespace(ctx, s.Namespace); err != nil {
		return err
	}
	clusterRange := netip.MustParsePrefix(ServiceRange)
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicy(s.Policy)},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name + "-lab",
			Labels: map[string]string{discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: "midhop-lab"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	var vips []corev1.LoadBalancerIngress
	for _, ip := range s.VIPs {
		if clusterRange.Contains(ip) {
			o.Spec.ClusterIP, o.Spec.ClusterIPs = ip.String(), []string{ip.String()}
			continue
		}
		w.VIP = ip.String()
		vips = append(vips, corev1.LoadBalancerIngress{IP: ip.String()})
	}
	for _, p := range s.Ports {
		name, port := p.Name, int32(p.TargetPort)
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{
			Name: p.Name, Port: int32(p.Port), TargetPort: intstr.FromInt32(port), NodePort: int32(p.NodePort), Protocol: corev1.ProtocolTCP,
		})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port})
	}
	yes := true
	for _, ip := range s.Backends {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}})
	}
	o, err := w.api.CoreV1().Services(s.Namespace).Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make service %s: %w", s.Name, err)
	}
	o.Status.LoadBalancer.Ingress = vips
	if _, err := w.api.CoreV1().Services(s.Namespace).UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("status of service %s: %w", s.Name, err)
	}
	_, err = w.api.DiscoveryV1().EndpointSlices(s.Namespace).Create(ctx, slice, metav1.CreateOptions{})
	return err
}

// renew renews a node's Lease, as its kubelet does.
func (w *world) renew(ctx context.Context, node string) error {
	if err := w.ensureNamespace(ctx, corev1.NamespaceNodeLease); err != nil {
		return err
	}
	leases := w.api.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now, seconds := metav1.NewMicroTime(time.Now()), int32(40)
	l, err := leases.Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: node},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: &seconds, RenewTime: &now},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	l.Spec.RenewTime = &now
	_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
	return err
}

// kubelets plays the kubelets of all machines that have power until ctx ends: a Lease every second, and a status where the
// boot id has changed.
func (w *world) kubelets(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for node, boot := range w.alive() {
			_ = w.renew(ctx, node) // an API server that is away is what a test wanted
			w.mu.Lock()
			same := w.boots[node] == boot
			w.mu.Unlock()
			if same {
				continue
			}
			if err := w.report(ctx, node, boot); err == nil {
				w.mu.Lock()
				w.boots[node] = boot
				w.mu.Unlock()
			}
		}
	}
}

func (w *world) report(ctx context.Context, node, boot string) error {
	o, err := w.api.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return err
	}
	o.Status.NodeInfo.BootID = boot
	ready(o)
	_, err = w.api.CoreV1().Nodes().UpdateStatus(ctx, o, metav1.UpdateOptions{})
	return err
}
