package lab

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// plugSurroundings gives node k what only some scenarios' nodes have.
func (c *Cluster) plugSurroundings(k int, h *host) error {
	p := c.plan
	victim := p.Nodes[p.Victim]
	if len(p.Peers.Addrs) > 0 {
		if err := h.net.route(p.Peers.Prefix, p.Gateway, 0); err != nil {
			return err
		}
	}
	if p.Floating.IsValid() {
		if err := c.hearOf(h, p.Floating, victim); err != nil {
			return err
		}
	}
	if c.scenario.egress && k != p.Victim {
		if err := h.net.route(p.External.Prefix, victim.Addr, 0); err != nil {
			return err
		}
	}
	if k != p.Victim {
		return nil
	}
	switch {
	case c.scenario.egress:
		return c.masqueradeWayOut(h)
	case c.scenario.keeps:
		return c.masqueradeBy(h, &expr.Masq{})
	case p.Floating.IsValid():
		if err := h.net.addr(uplink, whole(p.Floating)); err != nil {
			return err
		}
		family := uint32(unix.NFPROTO_IPV4)
		if p.V6 {
			family = unix.NFPROTO_IPV6
		}
		return c.masqueradeBy(h,
			&expr.Immediate{Register: unix.NFT_REG_1, Data: p.Floating.AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: unix.NFT_REG_1, FullyRandom: true})
	}
	return nil
}

// hearOf lets a host know at which node an address is, unless it is that node.
func (c *Cluster) hearOf(h *host, a netip.Addr, at nodePlan) error {
	if h.name == at.Name {
		return nil
	}
	return h.net.neighbour(uplink, a, at.MAC)
}

// masqueradeBy translates what kube-proxy marks for masquerade in another way, before kube-proxy does: a connection's source is
// translated once.
func (c *Cluster) masqueradeBy(h *host, how ...expr.Any) error {
	r, err := h.net.rules(c.plan.V6, "masquerade")
	if err != nil {
		return err
	}
	marked := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG_1},
		&expr.Bitwise{
			SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(masqueradeMark), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: make([]byte, 4)},
	}
	r.rule(r.postrouting(), append(marked, how...)...)
	return r.flush("the masquerade of " + h.name)
}

// masqueradeWayOut makes a node the one by which pods leave the cluster.
func (c *Cluster) masqueradeWayOut(h *host) error {
	r, err := h.net.rules(c.plan.V6, "masquerade")
	if err != nil {
		return err
	}
	match := append(r.within(true, c.plan.PodNet, expr.CmpOpEq), r.within(false, c.plan.External.Prefix, expr.CmpOpEq)...)
	r.rule(r.postrouting(), append(match, &expr.Masq{FullyRandom: true})...)
	return r.flush("the way out by " + h.name)
}

// postrouting is a chain in which sources are translated before kube-proxy translates them.
func (r *proxyRules) postrouting() *nftables.Chain {
	return r.conn.AddChain(&nftables.Chain{
		Table: r.table, Name: "postrouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource - 1),
	})
}

// learn lets all who have power know at which node an address is, and its pod range where it has one.
func (c *Cluster) learn(a netip.Addr, pods netip.Prefix, at nodePlan) error {
	if err := c.fabric.neighbour(c.fabricLink("br"), a, at.MAC); err != nil {
		return err
	}
	if pods.IsValid() {
		if err := c.fabric.route(pods, a, 0); err != nil {
			return err
		}
	}
	for k := range c.plan.Nodes {
		h := c.node(k)
		if h == nil || h.name == at.Name {
			continue
		}
		if err := c.hearOf(h, a, at); err != nil {
			return err
		}
		if !pods.IsValid() {
			continue
		}
		if err := h.net.route(pods, a, 0); err != nil {
			return fmt.Errorf("tell %s of %s: %w", h.name, at.Name, err)
		}
	}
	return nil
}

// arrive boots a node at node k's cable, as it stands in the plan or not, and lets all others know where it is.
func (c *Cluster) arrive(k int, n nodePlan) (*host, error) {
	h, err := c.boot(n.Name)
	if err != nil {
		return nil, err
	}
	if err := c.plugAs(k, n, h); err != nil {
		h.kill()
		return nil, err
	}
	return h, c.learn(n.Addr, n.CIDR, n)
}
