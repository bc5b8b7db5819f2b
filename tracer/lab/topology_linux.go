package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The links have the names that they have on real nodes (eth0, cni0), each in a namespace of its own; only in the fabric,
// where the cables of the whole lab meet, do names carry the run's id.
const (
	uplink    = "eth0"
	podBridge = "cni0"
)

// entryTable is the routing table of the fabric for connections that enter by node k.
func entryTable(k int) int { return 100 + k }

func (c *Cluster) fabricLink(what string) string { return c.id + "-" + what }

func nodeLink(k int) string { return fmt.Sprintf("n%d", k) }

// podLink is the node's end of a pod's cable: 0 is the calling pod, then the service's in order.
func podLink(index int) string { return fmt.Sprintf("veth%d", index) }

// layFabric makes the switch and router between everything, without cables yet.
func (c *Cluster) layFabric() error {
	var err error
	if c.fabric, err = newSpace(); err != nil {
		return err
	}
	p, f := c.plan, c.fabric
	if err := f.sysctls(routerSysctls(p.V6)...); err != nil {
		return err
	}
	bridge := c.fabricLink("br")
	if err := f.bridge(bridge, p.GateMAC); err != nil {
		return err
	}
	if err := f.addr(bridge, netip.PrefixFrom(p.Gateway, p.NodeNet.Bits())); err != nil {
		return err
	}
	for _, n := range p.Nodes {
		if err := f.neighbour(bridge, n.Addr, n.MAC); err != nil {
			return err
		}
	}
	if p.Floating.IsValid() {
		return f.neighbour(bridge, p.Floating, p.Nodes[p.Victim].MAC)
	}
	return nil
}

// routeFabric sends pod ranges to their nodes and the service address where the client's port says.
func (c *Cluster) routeFabric() error {
	p, f := c.plan, c.fabric
	for k, n := range p.Nodes {
		if err := f.route(n.CIDR, n.Addr, 0); err != nil {
			return err
		}
		if err := f.route(netip.Prefix{}, n.Addr, entryTable(k)); err != nil {
			return err
		}
		low, high := entryPorts(k, len(p.Nodes))
		r := netlink.NewRule()
		r.Family = family(p.V6)
		r.Priority, r.Table = entryTable(k), entryTable(k)
		r.Dst, r.IPProto, r.Sport = ipNet(whole(p.Service.VIP)), unix.IPPROTO_TCP, netlink.NewRulePortRange(low, high)
		if err := f.RuleAdd(r); err != nil {
			return fmt.Errorf("route the service by node %d: %w", k+1, err)
		}
	}
	return nil
}

// plugNode connects a freshly booted host as node k.
func (c *Cluster) plugNode(k int, h *host) error {
	if err := c.plugAs(k, c.plan.Nodes[k], h); err != nil {
		return err
	}
	return c.plugSurroundings(k, h)
}

// plugAs connects a freshly booted host by node k's cable as the given node: addresses, routes, settings, pod bridge and
// kube-proxy's rules.
func (c *Cluster) plugAs(k int, n nodePlan, h *host) error {
	p := c.plan
	if err := h.net.sysctls(routerSysctls(p.V6)...); err != nil {
		return err
	}
	// After a reboot the cable of the former life may still hang there: the kernel clears namespaces up in its own time.
	if old, err := c.fabric.LinkByName(c.fabricLink(nodeLink(k))); err == nil {
		if err := c.fabric.LinkDel(old); err != nil {
			return fmt.Errorf("remove the old cable of node %d: %w", k+1, err)
		}
	}
	err := c.fabric.connect(cable{
		name: c.fabricLink(nodeLink(k)), mac: n.Port, master: c.fabricLink("br"),
		peer: h.net, peerEnd: uplink, peerMAC: n.MAC,
	})
	if err != nil {
		return err
	}
	if err := h.net.addr(uplink, netip.PrefixFrom(n.Addr, p.NodeNet.Bits())); err != nil {
		return err
	}
	if err := h.net.neighbour(uplink, p.Gateway, p.GateMAC); err != nil {
		return err
	}
	if err := h.net.route(netip.Prefix{}, p.Gateway, 0); err != nil {
		return err
	}
	for j, other := range p.Nodes {
		if j == k || other.Addr == n.Addr {
			continue
		}
		if err := h.net.neighbour(uplink, other.Addr, other.MAC); err != nil {
			return err
		}
		if c.opts.Overlay != "" {
			continue
		}
		if err := h.net.route(other.CIDR, other.Addr, 0); err != nil {
			return err
		}
	}
	if c.opts.Overlay != "" {
		if err := c.plugOverlay(k, h); err != nil {
			return err
		}
	}
	if err := h.net.bridge(podBridge, n.Pods); err != nil {
		return err
	}
	if err := h.net.addr(podBridge, netip.PrefixFrom(n.podGateway(), n.CIDR.Bits())); err != nil {
		return err
	}
	return c.writeRulesOf(n, h)
}

// writeRules does kube-proxy's work on node k.
func (c *Cluster) writeRules(k int, h *host) error { return c.writeRulesOf(c.plan.Nodes[k], h) }

func (c *Cluster) writeRulesOf(n nodePlan, h *host) error {
	if c.opts.Proxy != nil {
		return c.opts.Proxy(Machine{Name: h.name, PID: h.cmd.Process.Pid, BootID: h.bootID}, c.Inventory())
	}
	var endpoints []netip.AddrPort
	for _, pod := range c.endpoints() {
		endpoints = append(endpoints, netip.AddrPortFrom(pod.Addr, c.plan.Service.TargetPort))
	}
	if c.opts.Mode == "iptables" {
		return writeIPTables(h.net, n.CIDR, c.plan.Service, endpoints)
	}
	return writeProxyRules(h.net, n.Addr, n.CIDR, c.plan.Service, endpoints)
}

// masqueradeAddr is what node k gives to connections on their way to another node's pods.
func (c *Cluster) masqueradeAddr(k int) netip.Addr {
	if c.opts.Overlay != "" {
		return c.plan.Nodes[k].tunnelAddr()
	}
	return c.plan.Nodes[k].Addr
}

// plugPod connects a pod's namespace to its node's bridge.
func (c *Cluster) plugPod(h *host, pod podPlan, index int, ns *space) error {
	n := c.plan.Nodes[pod.Node]
	err := h.net.connect(cable{name: podLink(index), master: podBridge, mtu: c.podMTU(), peer: ns, peerEnd: uplink, peerMAC: pod.MAC})
	if err != nil {
		return err
	}
	if err := ns.addr(uplink, netip.PrefixFrom(pod.Addr, n.CIDR.Bits())); err != nil {
		return err
	}
	if err := h.net.neighbour(podBridge, pod.Addr, pod.MAC); err != nil {
		return err
	}
	if err := ns.neighbour(uplink, n.podGateway(), n.Pods); err != nil {
		return err
	}
	return ns.route(netip.Prefix{}, n.podGateway(), 0)
}

// plugClients connects a host as a client network of its own.
func (c *Cluster) plugClients(h *host, net clientNet) error {
	link := c.fabricLink(net.Name[:1]) // b, c
	if err := c.fabric.connect(cable{name: link, mac: net.GateMAC, peer: h.net, peerEnd: uplink, peerMAC: net.MAC}); err != nil {
		return err
	}
	if err := c.fabric.addr(link, netip.PrefixFrom(net.Gateway, net.Prefix.Bits())); err != nil {
		return err
	}
	for _, a := range net.Addrs {
		if err := h.net.addr(uplink, netip.PrefixFrom(a, net.Prefix.Bits())); err != nil {
			return err
		}
		if err := c.fabric.neighbour(link, a, net.MAC); err != nil {
			return err
		}
	}
	if err := h.net.neighbour(uplink, net.Gateway, net.GateMAC); err != nil {
		return err
	}
	return h.net.route(netip.Prefix{}, net.Gateway, 0)
}

func family(v6 bool) int {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// routerSysctls are the settings of whatever forwards packets: strict reverse path filter as distributions have it, and
// no redirects, since a service's way in and out of a node is the same link.
func routerSysctls(v6 bool) []string {
	s := []string{
		"ipv4/ip_forward=1",
		"ipv4/conf/all/rp_filter=1", "ipv4/conf/default/rp_filter=1",
		"ipv4/conf/all/send_redirects=0", "ipv4/conf/default/send_redirects=0",
	}
	if v6 {
		s = append(s, "ipv6/conf/all/forwarding=1", "ipv6/conf/default/forwarding=1")
	}
	return s
}
