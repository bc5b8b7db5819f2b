package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vipMoved: the balancer hands the victim's share of the service to another node while the victim lives.
func vipMoved(c *Cluster) (time.Time, error) {
	p := c.plan
	at := time.Now()
	return at, c.fabric.route(netip.Prefix{}, p.Nodes[p.Home].Addr, entryTable(p.Victim))
}

// uplinkLost: the cable of the pods' own node is pulled.
func uplinkLost(c *Cluster) (time.Time, error) {
	return c.fabric.cut(c.fabricLink(nodeLink(c.plan.Home)))
}

// uplinkReturns: the cable of the pods' own node is pulled, and put back.
func uplinkReturns(c *Cluster) (time.Time, error) {
	at, err := uplinkLost(c)
	if err == nil {
		c.later(c.opts.downFor, "the uplink", func() error { return c.fabric.up(c.fabricLink(nodeLink(c.plan.Home))) })
	}
	return at, err
}

// oneWay: what the service's pods send to the victim is lost on their own node, what comes from there arrives.
func oneWay(c *Cluster) (time.Time, error) {
	p := c.plan
	r := &proxyRules{v6: p.V6}
	match := append(r.addr(false, p.Nodes[p.Victim].Addr), r.within(true, p.Nodes[p.Home].CIDR, expr.CmpOpEq)...)
	at := time.Now()
	return at, c.dropForwarded(p.Home, match...)
}

// frontGone: whatever came to the victim vanishes, clients outside and callers inside alike, in both directions and
// without a word. The victim and its agent live, and so does its way to the pods.
func frontGone(c *Cluster) (time.Time, error) {
	p := c.plan
	victim := p.Nodes[p.Victim]
	caller := c.node(p.Caller.Node)
	if caller == nil {
		return time.Time{}, errors.New("the calling pod's node has no power")
	}
	low, high := entryPorts(p.Victim, len(p.Nodes))
	ports, nodePort := netlink.NewRulePortRange(low, high), netlink.NewRulePortRange(p.Service.NodePort, p.Service.NodePort)
	at := time.Now()
	for _, cut := range []struct {
		where    *space
		from, to netip.Addr
		source   *netlink.RulePortRange
		dest     *netlink.RulePortRange
	}{
		{where: c.fabric, to: p.Service.VIP, source: ports},
		{where: c.fabric, from: p.Service.VIP, dest: ports},
		{where: caller.net, to: victim.Addr, dest: nodePort},
		{where: caller.net, from: victim.Addr, source: nodePort},
	} {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Type = family(p.V6), 1, unix.FR_ACT_BLACKHOLE
		r.IPProto, r.Sport, r.Dport = unix.IPPROTO_TCP, cut.source, cut.dest
		if cut.from.IsValid() {
			r.Src = ipNet(whole(cut.from))
		}
		if cut.to.IsValid() {
			r.Dst = ipNet(whole(cut.to))
		}
		if err := cut.where.RuleAdd(r); err != nil {
			return at, fmt.Errorf("cut off what stands before %s: %w", victim.Name, err)
		}
	}
	return at, nil
}

func bigEndian32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
