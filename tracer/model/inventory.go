package model

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/midhop/midhop/tracer/event"
)

// inventory is what is known of nodes, pods and services, on the word of facts.
type inventory struct {
	nodes map[string]*node
	order []string // nodes in the order in which they were met

	forgetful []string        // nodes that have forgotten open connections
	refusing  map[string]bool // nodes whose conntrack has refused entries
	pods      map[string]*event.Pod
	services  map[string]*event.Service

	podByIP      map[netip.Addr]string // pods with addresses of their own
	hostPods     map[string]string     // those of the host's network, by UID, as their cgroups know it
	podGone      map[netip.Addr]PodEnd // those that held an address last and were removed
	serviceByVIP map[netip.Addr]string
	backends     map[netip.Addr][]string // pod address -> services
	nodePorts    map[uint16]string       // node port -> service
	served       map[netip.Addr]string   // pod address -> the service that named it last, also when it does not any more

	behind map[string]string // fact -> why its source cannot follow it at the moment
}

// node joins what several sources say of one node.
type node struct {
	name   string
	inc    uint32        // how many machines had the name before this one
	facts  []nodeFact    // one per source, in the order of their first word
	boots  []string      // its boot ids in the order in which they were first told
	bootAt int64         // when the newest was told, where it is not the first
	bootIs string        // the fact that told it
	losses []losses      // of open connections, oldest first
	gone   bool          // removed from the inventory
	was    event.Node    // what was known of it then, with what its source says of the end
	tables [][]tableLook // conntrack, and the maps of dataplanes, in the order in which they were told; each newest last
}

type nodeFact struct {
	said string
	node event.Node
}

func newInventory() *inventory {
	return &inventory{
		nodes:        make(map[string]*node),
		pods:         make(map[string]*event.Pod),
		services:     make(map[string]*event.Service),
		podByIP:      make(map[netip.Addr]string),
		hostPods:     make(map[string]string),
		podGone:      make(map[netip.Addr]PodEnd),
		refusing:     make(map[string]bool),
		serviceByVIP: make(map[netip.Addr]string),
		backends:     make(map[netip.Addr][]string),
		nodePorts:    make(map[uint16]string),
		served:       make(map[netip.Addr]string),
		behind:       make(map[string]string),
	}
}

func (inv *inventory) node(name string) *node {
	n := inv.nodes[name]
	if n == nil {
		n = &node{name: name}
		inv.nodes[name] = n
		inv.order = append(inv.order, name)
	}
	return n
}

// merged returns all that is known of a node as one value: the API's word before an agent's, addresses of all.
func (n *node) merged() event.Node {
	if n.gone {
		return n.was
	}
	out := event.Node{Name: n.name}
	for pass := range 2 {
		for i := range n.facts {
			f := &n.facts[i]
			if fromAgent(f.said) != (pass == 1) {
				continue
			}
			for _, a := range f.node.Addresses {
				if !slices.ContainsFunc(out.Addresses, func(o event.Address) bool { return o.IP == a.IP }) {
					out.Addresses = append(out.Addresses, a)
				}
			}
			fill(&out, &f.node)
		}
	}
	return out
}

func fill(out, from *event.Node) {
	or := func(s *string, other string) {
		if *s == "" {
			*s = other
		}
	}
	or(&out.UID, from.UID)
	or(&out.Zone, from.Zone)
	or(&out.Platform, from.Platform)
	or(&out.Spot, from.Spot)
	or(&out.Plugin, from.Plugin)
	or(&out.OS, from.OS)
	or(&out.Virtual, from.Virtual)
	or(&out.BootID, from.BootID)
	or(&out.Ready, from.Ready)
	if out.Created.IsZero() {
		out.Created = from.Created
	}
	if out.PodCIDRs == nil && out.PodNets == nil { // what is said of ranges is said by one voice
		out.PodCIDRs, out.PodCIDRsFrom, out.PodCIDRsOwn, out.PodNets = from.PodCIDRs, from.PodCIDRsFrom, from.PodCIDRsOwn, from.PodNets
	}
	if out.Taints == nil {
		out.Taints = from.Taints
	}
	if out.Causes == nil {
		out.Causes = from.Causes
	}
}

// fallBehind notes whether a source can follow a fact, by what it says of that.
func (inv *inventory) fallBehind(b *event.Synced) {
	if b.Behind == "" {
		delete(inv.behind, b.Fact)
		return
	}
	inv.behind[b.Fact] = b.Behind
}

// behindList names the facts that cannot be followed, each with the reason.
func (inv *inventory) behindList() (out []string) {
	for _, fact := range slices.Sorted(maps.Keys(inv.behind)) {
		out = append(out, fact+" ("+inv.behind[fact]+")")
	}
	return out
}

// told counts the nodes that a fact describes: a machine that only speaks, such as one that merges others' streams, is none.
// Those on which nothing can watch are counted apart, by what they are.
func (inv *inventory) told() (n int, unwatched map[string]int64) {
	for _, nd := range inv.nodes {
		switch what := nd.unwatchable(); {
		case len(nd.facts) == 0:
		case what != "":
			if unwatched == nil {
				unwatched = make(map[string]int64)
			}
			unwatched[what]++
		default:
			n++
		}
	}
	return n, unwatched
}

// unwatchable says why no agent can run on a node, empty where one can, or does.
func (n *node) unwatchable() string {
	what := ""
	for i := range n.facts {
		f := &n.facts[i]
		if fromAgent(f.said) {
			return ""
		}
		if f.node.Virtual != "" {
			what = f.node.Virtual
		} else if what == "" {
			what = f.node.OS
		}
	}
	return what
}

// virtual names what stands behind a node that is no machine, empty for any other.
func (inv *inventory) virtual(name string) string {
	n := inv.nodes[name]
	if n == nil {
		return ""
	}
	for i := range n.facts {
		if v := n.facts[i].node.Virtual; v != "" {
			return v
		}
	}
	return n.was.Virtual
}

// sayer is who says a fact about a node. An agent that also reads the API of its own node speaks with two voices: what
// the Node object says must not replace what the agent knows of its interfaces.
func sayer(source, what string) string {
	if what != "agent" && fromAgent(source) {
		return "api by " + source
	}
	return source
}

func fromAgent(source string) bool { return len(source) > 6 && source[:6] == "agent/" }

// incOf numbers the machine that a node's name stands for now.
func (m *Model) incOf(node uint32) uint32 {
	if n := m.inv.nodes[m.strs.text[node]]; n != nil {
		return n.inc
	}
	return 0
}

// applyNode folds one source's word on a node: it replaces what the same source said of it before.
func (m *Model) applyNode(ev *event.Event, b *event.NodeFact, t int64) {
	name := b.Node.Name
	if name == "" {
		return
	}
	n := m.inv.node(name)
	said := sayer(ev.Source, b.What)
	if b.What != "removed" && n.replaced(&b.Node, said) {
		m.replace(n, t)
	}
	m.boot(n, b.Node.BootID, ev)
	i := slices.IndexFunc(n.facts, func(f nodeFact) bool { return f.said == said })
	var before event.Node
	first := i < 0
	if !first {
		before = n.facts[i].node
	}
	if b.What == "removed" {
		if !n.gone {
			n.was = n.merged()
			if b.Node.Causes != nil {
				n.was.Causes = b.Node.Causes
			}
		}
		n.gone = true
		for _, f := range n.facts {
			m.releaseNode(&f.node, f.said, t)
		}
		n.facts = nil
		return
	}
	n.gone = false
	// An agent knows its own node and nobody else's: an address that it does not know may be any node's.
	if !m.addrs.inventory && b.What != "agent" && !fromAgent(ev.Source) {
		m.addrs.inventory = true
		m.addrs.touchAll()
	}
	if first {
		n.facts = append(n.facts, nodeFact{said: said})
		i = len(n.facts) - 1
	}
	n.facts[i].node = b.Node
	if before.Virtual != b.Node.Virtual {
		m.addrs.touchAll()
	}
	for _, a := range before.Addresses {
		if !slices.ContainsFunc(b.Node.Addresses, func(o event.Address) bool { return o.IP == a.IP }) {
			m.addrs.release(a.IP, name, said, t)
		}
	}
	for _, a := range b.Node.Addresses {
		if a.IP.IsValid() && !a.IP.IsLoopback() && !a.IP.IsUnspecified() {
			h := holding{node: name, from: a.From, said: said, inc: n.inc, since: t}
			if first {
				h.made = int64(InstantOf(b.Node.Created))
				h.ever = m.coexists(a.IP.Unmap(), &h)
			}
			m.addrs.hold(a.IP.Unmap(), h)
		}
	}
	m.addrs.replaceRanges(&before, &b.Node, said, t)
}

func (m *Model) releaseNode(n *event.Node, said string, t int64) {
	for _, a := range n.Addresses {
		m.addrs.release(a.IP.Unmap(), n.Name, said, t)
	}
	m.addrs.buryRanges(n, said, t)
}

// applyPod folds a pod. Pods of the host's network hold no address of their own.
func (m *Model) applyPod(ev *event.Event, b *event.PodFact) {
	key := b.Pod.Namespace + "/" + b.Pod.Name
	m.urgent++
	if old := m.inv.pods[key]; old != nil {
		if old.HostNetwork {
			delete(m.inv.hostPods, cgroupUID(old))
			for _, ip := range old.IPs {
				m.nameEnds(ip)
			}
		}
		for _, ip := range old.IPs {
			if m.inv.podByIP[ip] == key {
				delete(m.inv.podByIP, ip)
				if b.What == "removed" {
					m.inv.bury(ip, PodEnd{Name: key, Node: old.Node, At: InstantOf(ev.Time), Fact: idText(ev.ID)})
				}
				m.nameEnds(ip)
			}
		}
		delete(m.inv.pods, key)
		m.addrs.touch(old.IPs...)
	}
	if b.What == "removed" {
		return
	}
	pod := b.Pod
	m.inv.pods[key] = &pod
	m.addrs.touch(pod.IPs...)
	if pod.HostNetwork {
		if uid := cgroupUID(&pod); uid != "" {
			m.inv.hostPods[uid] = key
		}
		for _, ip := range pod.IPs { // the node's: what listens there may be its
			m.nameEnds(ip)
		}
		return
	}
	for _, ip := range pod.IPs {
		m.inv.podByIP[ip] = key
		delete(m.inv.podGone, ip)
		m.nameEnds(ip)
	}
}

// cgroupUID is the UID that stands in a pod's cgroups.
func cgroupUID(p *event.Pod) string {
	if p.KubeletUID != "" {
		return p.KubeletUID
	}
	return p.UID
}

// applyService folds a service.
func (m *Model) applyService(b *event.ServiceFact) {
	key := b.Service.Namespace + "/" + b.Service.Name
	if old := m.inv.services[key]; old != nil {
		m.unlinkService(key, old)
	}
	if b.What == "removed" {
		return
	}
	svc := b.Service
	m.inv.services[key] = &svc
	m.addrs.touch(svc.VIPs...)
	for _, ip := range svc.VIPs {
		m.inv.serviceByVIP[ip] = key
	}
	for _, port := range svc.NodePorts {
		m.inv.nodePorts[port] = key
	}
	for _, p := range svc.Ports {
		if p.NodePort != 0 {
			m.inv.nodePorts[p.NodePort] = key
		}
	}
	for _, ip := range svc.Backends {
		if !slices.Contains(m.inv.backends[ip], key) {
			m.inv.backends[ip] = append(m.inv.backends[ip], key)
		}
		if _, known := m.inv.served[ip]; known || len(m.inv.served) < maxServed {
			m.inv.served[ip] = key
		}
		m.nameEnds(ip)
	}
}

func (m *Model) unlinkService(key string, old *event.Service) {
	delete(m.inv.services, key)
	m.addrs.touch(old.VIPs...)
	for _, ip := range old.VIPs {
		if m.inv.serviceByVIP[ip] == key {
			delete(m.inv.serviceByVIP, ip)
		}
	}
	for port, k := range m.inv.nodePorts {
		if k == key {
			delete(m.inv.nodePorts, port)
		}
	}
	for _, ip := range old.Backends {
		list := slices.DeleteFunc(slices.Clone(m.inv.backends[ip]), func(k string) bool { return k == key })
		if len(list) == 0 {
			delete(m.inv.backends, ip)
		} else {
			m.inv.backends[ip] = list
		}
		m.nameEnds(ip)
	}
}

// serviceOf names the service that a pod's own port serves: the one whose backends hold the address and whose target port
// is this one. Where target ports are named and so unknown here, the only service of the address is it.
func (inv *inventory) serviceOf(ip netip.Addr, port uint16) string {
	list := inv.backends[ip]
	open := len(list) == 1 && len(inv.services[list[0]].Ports) == 0
	for _, key := range list {
		for _, p := range inv.services[key].Ports {
			if p.TargetPort == port {
				return key
			}
			open = open || p.TargetPort == 0
		}
	}
	if open && len(list) == 1 {
		return list[0]
	}
	return ""
}
