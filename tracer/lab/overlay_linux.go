package lab

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The VXLAN overlay is flannel's: device, port and id as it chooses them, and on the device the network address of the
// node's pod range, so that this is what masquerade gives to connections on their way to another node's pods.
const (
	tunnel     = "flannel.1"
	tunnelPort = 8472 // Linux' own VXLAN port, not IANA's 4789
	tunnelID   = 1
	// tunnelCost is what VXLAN adds to a packet: outer IPv4 or IPv6, UDP, VXLAN and inner Ethernet headers.
	tunnelCost4, tunnelCost6 = 50, 70
	etherMTU                 = 1500
)

// podMTU is the MTU of pods' links and the tunnel, 0 for the default.
func (c *Cluster) podMTU() int {
	switch {
	case c.opts.Overlay == "":
		return 0
	case c.plan.V6:
		return etherMTU - tunnelCost6
	}
	return etherMTU - tunnelCost4
}

// tunnelAddr is the address of a node's end of the overlay: its pod range's network address.
func (n nodePlan) tunnelAddr() netip.Addr { return n.CIDR.Masked().Addr() }

// plugOverlay makes node k's end of the overlay and its ways to the other nodes' pods.
func (c *Cluster) plugOverlay(k int, h *host) error {
	n := c.plan.Nodes[k]
	eth, err := h.net.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("find link %s: %w", uplink, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = tunnel, n.Tunnel, c.podMTU()
	vx := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: tunnelID, Port: tunnelPort, VtepDevIndex: eth.Attrs().Index, SrcAddr: n.Addr.AsSlice()}
	if err := h.net.LinkAdd(vx); err != nil {
		return fmt.Errorf("add %s: %w", tunnel, err)
	}
	if err := h.net.addr(tunnel, whole(n.tunnelAddr())); err != nil {
		return err
	}
	if err := h.net.up(tunnel); err != nil {
		return err
	}
	for j, other := range c.plan.Nodes {
		if j == k {
			continue
		}
		if err := h.net.neighbour(tunnel, other.tunnelAddr(), other.Tunnel); err != nil {
			return err
		}
		fdb := &netlink.Neigh{
			LinkIndex: vx.Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
			Flags: netlink.NTF_SELF, IP: other.Addr.AsSlice(), HardwareAddr: other.Tunnel,
		}
		if err := h.net.NeighSet(fdb); err != nil {
			return fmt.Errorf("add the tunnel to %s: %w", other.Name, err)
		}
		r := &netlink.Route{
			LinkIndex: vx.Attrs().Index, Dst: ipNet(other.CIDR), Gw: other.tunnelAddr().AsSlice(), Flags: int(netlink.FLAG_ONLINK),
		}
		if err := h.net.RouteReplace(r); err != nil {
			return fmt.Errorf("route %s through the overlay: %w", other.CIDR, err)
		}
	}
	return c.masqueradePods(h)
}

// masqueradePods hides pods behind their node when they speak to anything but pods, as flannel does: their addresses mean
// nothing outside the overlay.
func (c *Cluster) masqueradePods(h *host) error {
	conn, err := nftables.New(nftables.WithNetNSFd(h.net.fd()))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	tableFamily := nftables.TableFamilyIPv4
	if c.plan.V6 {
		tableFamily = nftables.TableFamilyIPv6
	}
	r := &proxyRules{conn: conn, v6: c.plan.V6}
	r.table = conn.AddTable(&nftables.Table{Family: tableFamily, Name: "flannel"})
	post := conn.AddChain(&nftables.Chain{
		Table: r.table, Name: "postrtg", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	rule := append(r.within(true, c.plan.PodNet, expr.CmpOpEq), r.within(false, c.plan.PodNet, expr.CmpOpNeq)...)
	r.rule(post, append(rule, &expr.Masq{FullyRandom: true})...)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write the rules of the overlay: %w", err)
	}
	return nil
}
