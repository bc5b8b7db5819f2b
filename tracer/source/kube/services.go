package kube

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/midhop/midhop/tracer/event"
)

type serviceKey struct{ namespace, name string }

// serviceState joins a Service with its EndpointSlices.
type serviceState struct {
	service event.Service
	named   map[string]string // name of a port -> name of its target port, where that is a name
	there   bool
	slices  map[string]*sliceState
	told    *event.Service
	dirty   bool
}

type sliceKey struct{ namespace, name string }

// sliceState is what is kept of an EndpointSlice.
type sliceState struct {
	key     sliceKey
	service serviceKey
	ips     []netip.Addr
	ports   map[string]uint16 // by the name of the service's port
}

// service is what a look at a Service brings.
type service struct {
	event.Service
	named map[string]string
}

func (s *Source) service(k serviceKey) *serviceState {
	v := s.services[k]
	if v == nil {
		v = &serviceState{slices: make(map[string]*sliceState)}
		s.services[k] = v
	}
	return v
}

type serviceKeeper struct{ s *Source }

func (k serviceKeeper) key(obj any) any {
	switch o := obj.(type) {
	case *service:
		return serviceKey{o.Namespace, o.Name}
	case *corev1.Service:
		return serviceKey{o.Namespace, o.Name}
	}
	return nil
}

func (k serviceKeeper) keys() (all []any) {
	for key, v := range k.s.services {
		if v.there {
			all = append(all, key)
		}
	}
	return all
}

// read implements keeper.
func (k serviceKeeper) read(obj any) any {
	o, ok := obj.(*corev1.Service)
	if !ok {
		return obj
	}
	v := &service{
		Service: event.Service{
			Namespace: o.Namespace, Name: o.Name, Type: string(o.Spec.Type),
			Policy: string(o.Spec.ExternalTrafficPolicy), Direct: direct(o.Annotations),
		},
		named: make(map[string]string),
	}
	for _, p := range o.Spec.Ports {
		port := event.ServicePort{Name: p.Name, Port: uint16(p.Port), NodePort: uint16(p.NodePort)}
		switch {
		case p.TargetPort.Type == intstr.String:
			v.named[p.Name] = p.TargetPort.StrVal
		case p.TargetPort.IntVal != 0:
			port.TargetPort = uint16(p.TargetPort.IntVal)
		default:
			port.TargetPort = port.Port // as the API server defaults it
		}
		v.Ports = append(v.Ports, port)
		if port.NodePort != 0 {
			v.NodePorts = append(v.NodePorts, port.NodePort)
		}
	}
	ips := o.Spec.ClusterIPs
	if len(ips) == 0 && o.Spec.ClusterIP != "" {
		ips = []string{o.Spec.ClusterIP}
	}
	ips = slices.Concat(ips, o.Spec.ExternalIPs)
	for _, in := range o.Status.LoadBalancer.Ingress {
		ips = append(ips, in.IP)
	}
	for _, text := range ips { // "None" of a headless one is no address
		if n := appendAddr(nil, text); len(n) == 1 && !slices.Contains(v.VIPs, n[0]) {
			v.VIPs = append(v.VIPs, n[0])
		}
	}
	return v
}

// direct says whether a service's balancer is told to speak to pods and not to nodes.
func direct(annotations map[string]string) bool {
	switch annotations["service.beta.kubernetes.io/aws-load-balancer-type"] {
	case "nlb-ip":
		return true
	}
	if annotations["service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"] == "ip" {
		return true
	}
	// GKE: {"ingress": true} or {"exposed_ports": {"80": {}}}. The status annotation alone may also tell of groups of
	// nodes, which internal passthrough balancers use.
	var neg struct {
		Ingress bool                       `json:"ingress"`
		Exposed map[string]json.RawMessage `json:"exposed_ports"`
	}
	if text := annotations["cloud.google.com/neg"]; text == "" || json.Unmarshal([]byte(text), &neg) != nil {
		return false
	}
	return neg.Ingress || len(neg.Exposed) > 0
}

// put implements keeper.
func (k serviceKeeper) put(_ *batch, key, record any) {
	v := k.s.service(key.(serviceKey))
	r := record.(*service)
	v.service, v.named, v.there, v.dirty = r.Service, r.named, true, true
}

// drop implements keeper.
func (k serviceKeeper) drop(b *batch, key any) {
	id := key.(serviceKey)
	v := k.s.services[id]
	if v == nil || !v.there {
		return
	}
	b.add(event.ServiceChanged, &event.ServiceFact{What: "removed", Service: event.Service{Namespace: id.namespace, Name: id.name}})
	v.there, v.told, v.dirty = false, nil, false
	if len(v.slices) == 0 {
		delete(k.s.services, id)
	}
}

func (k serviceKeeper) settle(b *batch) { k.s.tellServices(b) }

type sliceKeeper struct{ s *Source }

func (k sliceKeeper) key(obj any) any {
	switch o := obj.(type) {
	case *sliceState:
		return o.key
	case *discoveryv1.EndpointSlice:
		return sliceKey{o.Namespace, o.Name}
	}
	return nil
}

func (k sliceKeeper) keys() (all []any) {
	for key := range k.s.slices {
		all = append(all, key)
	}
	return all
}

// read implements keeper. Endpoints that are not ready, or terminating, keep the connections that they have.
func (k sliceKeeper) read(obj any) any {
	o, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj
	}
	of := o.Labels[discoveryv1.LabelServiceName]
	if of == "" || o.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	r := &sliceState{
		key: sliceKey{intern(o.Namespace), o.Name}, service: serviceKey{intern(o.Namespace), intern(of)},
		ports: make(map[string]uint16, len(o.Ports)),
	}
	for i := range o.Endpoints {
		for _, text := range o.Endpoints[i].Addresses {
			r.ips = appendAddr(r.ips, text)
		}
	}
	for _, p := range o.Ports {
		if p.Port == nil {
			continue
		}
		var of string
		if p.Name != nil {
			of = intern(*p.Name)
		}
		r.ports[of] = uint16(*p.Port)
	}
	return r
}

// put implements keeper.
func (k sliceKeeper) put(b *batch, key, record any) {
	r := record.(*sliceState)
	if before := k.s.slices[r.key]; before != nil && before.service != r.service {
		k.drop(b, key)
	}
	k.s.slices[r.key] = r
	v := k.s.service(r.service)
	v.slices[r.key.name], v.dirty = r, true
}

// drop implements keeper.
func (k sliceKeeper) drop(_ *batch, key any) {
	id := key.(sliceKey)
	r := k.s.slices[id]
	if r == nil {
		return
	}
	delete(k.s.slices, id)
	v := k.s.services[r.service]
	if v == nil {
		return
	}
	delete(v.slices, id.name)
	v.dirty = true
	if !v.there && len(v.slices) == 0 {
		delete(k.s.services, r.service)
	}
}

func (k sliceKeeper) settle(b *batch) { k.s.tellServices(b) }

// maxBackends keeps a service's line below the limit of the stream, with addresses of either family.
const maxBackends = 1200

// tellServices tells the services that have changed: none before their endpoints are known too, as far as they can be.
func (s *Source) tellServices(b *batch) {
	if !s.health.settled("services") {
		return
	}
	var changed []serviceKey
	for key, v := range s.services {
		if v.dirty && v.there {
			changed = append(changed, key)
		}
		v.dirty = false
	}
	slices.SortFunc(changed, func(a, b serviceKey) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	for _, key := range changed {
		v := s.services[key]
		now, over := v.whole()
		if over > 0 {
			b.add(event.StreamLost, &event.Lost{Stage: "kube.backends", Count: uint64(over), Since: b.now})
		}
		what := "changed"
		switch {
		case v.told == nil:
			what = "added"
		case reflect.DeepEqual(now, *v.told):
			continue
		}
		v.told = &now
		b.add(event.ServiceChanged, &event.ServiceFact{What: what, Service: now})
	}
}

// whole joins a service with its endpoints, and says how many of these there is no room for.
func (v *serviceState) whole() (event.Service, int) {
	w := v.service
	w.Ports = slices.Clone(w.Ports)
	for _, name := range slices.Sorted(maps.Keys(v.slices)) {
		sl := v.slices[name]
		w.Backends = append(w.Backends, sl.ips...)
		for i := range w.Ports {
			if p := &w.Ports[i]; v.named[p.Name] != "" && p.TargetPort == 0 {
				p.TargetPort = sl.ports[p.Name]
			}
		}
	}
	slices.SortFunc(w.Backends, netip.Addr.Compare)
	w.Backends = slices.Compact(w.Backends)
	over := len(w.Backends) - maxBackends
	if over > 0 {
		w.Backends = slices.Clip(w.Backends[:maxBackends])
	}
	return w, max(over, 0)
}
