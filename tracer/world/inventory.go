package world

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// tellInventory is what a nodes file or an API says before anything else.
func (w *World) tellInventory() {
	source := map[string]string{"file": "nodefile", "api": "kube"}[w.plan.Inventory.By]
	if source == "" {
		return
	}
	for _, n := range w.nodes {
		w.say(source, 0, event.NodeChanged, &event.NodeFact{What: "added", Node: w.nodeObject(n)})
	}
	w.say(source, 0, event.StreamSynced, &event.Synced{Fact: "nodes"})
	if source != "kube" {
		return
	}
	for _, o := range w.pods {
		w.say(source, 0, event.PodChanged, &event.PodFact{What: "added", Pod: w.podObject(o)})
	}
	for _, s := range w.svcs {
		w.say(source, 0, event.ServiceChanged, &event.ServiceFact{What: "added", Service: w.serviceObject(s)})
	}
	for _, f := range []string{"pods", "services"} {
		w.say(source, 0, event.StreamSynced, &event.Synced{Fact: f})
	}
}

// say tells a fact of the inventory, which reaches the Engine later by delay.
func (w *World) say(source string, delay time.Duration, t event.Type, b event.Body) {
	at := max(0, w.now) + int64(delay)
	w.facts = append(w.facts, fact{at, event.Event{Type: t, Time: w.time(at), Source: source, Body: b}})
}

// change tells what an API tells of a change, after its delay, where there is one.
func (w *World) change(t event.Type, b event.Body) {
	if w.plan.Inventory.By == "api" {
		w.say("kube", w.plan.Inventory.Delay+w.chance(0, 20*time.Millisecond), t, b)
	}
}

func (w *World) nodeObject(n *node) event.Node {
	from := "status InternalIP"
	if w.plan.Inventory.By == "file" {
		from = "nodes file"
	}
	o := event.Node{
		Name: n.Name, Zone: n.Zone, Addresses: []event.Address{{IP: w.ip(n.ip), From: from}}, PodCIDRs: []netip.Prefix{w.prefix(n.Pods)},
	}
	if w.plan.Inventory.By == "api" {
		o.Ready, o.BootID, o.UID = "true", n.bootID(), "uid-"+n.Name+"-"+strconv.Itoa(n.id)
	}
	return o
}

func (w *World) podObject(o *pod) event.Pod {
	ns, name, _ := strings.Cut(o.Name, "/")
	return event.Pod{
		Namespace: ns, Name: name, UID: "uid-" + name + "-" + strconv.Itoa(o.uid), Node: o.node.Name, IPs: []netip.Addr{w.ip(o.ip)},
	}
}

func (w *World) serviceObject(s *service) event.Service {
	ns, name, _ := strings.Cut(s.Name, "/")
	o := event.Service{
		Namespace: ns, Name: name, Type: s.Type, VIPs: []netip.Addr{w.ip(s.ip)},
		Ports: []event.ServicePort{{Port: s.Port, TargetPort: appPort, NodePort: s.NodePort}},
	}
	if s.Type != "ClusterIP" {
		o.Policy = "Cluster"
	}
	if s.vip != 0 {
		o.VIPs = append(o.VIPs, w.ip(s.vip))
	}
	if s.NodePort != 0 {
		o.NodePorts = []uint16{s.NodePort}
	}
	for _, b := range s.backends {
		o.Backends = append(o.Backends, w.ip(b.ip))
	}
	return o
}

// withdraw takes a pod out of its services, as its end, or its node's, makes the API do.
func (w *World) withdraw(o *pod) {
	for _, s := range w.svcs {
		if k := slices.Index(s.backends, o); k >= 0 {
			s.backends = slices.Delete(slices.Clone(s.backends), k, k+1)
			w.change(event.ServiceChanged, &event.ServiceFact{What: "changed", Service: w.serviceObject(s)})
		}
	}
}
