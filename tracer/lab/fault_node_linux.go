package lab

import (
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"
)

// nodeGone: the victim loses power.
func nodeGone(c *Cluster) (time.Time, error) {
	k := c.plan.Victim
	at, err := c.powerOff(k)
	if err == nil && c.opts.Reconnect {
		c.later(checkedAfter, "the health check", func() error { return c.tell(order{Avoid: &[]int{k}}, orderWait) })
	}
	return at, err
}

// checkedAfter is when whoever connects anew keeps off a node that is gone: a balancer's health check has failed by then.
const checkedAfter = time.Second

// nodeRebooted: the victim loses power and comes back a while later with the same addresses and an empty conntrack.
func nodeRebooted(c *Cluster) (time.Time, error) {
	k := c.plan.Victim
	at, err := c.powerOff(k)
	if err != nil {
		return at, err
	}
	c.later(c.opts.downFor, "the reboot", func() error {
		if err := c.bootNode(k); err != nil {
			return err
		}
		c.nodeBack(k, time.Now())
		if !c.opts.hasAgent(k) {
			return nil
		}
		return c.startAgent(c.node(k))
	})
	return at, nil
}

// powerOff cuts node k's power: nothing is said, and the API notices in its time.
func (c *Cluster) powerOff(k int) (time.Time, error) {
	at, err := c.cutPower(k)
	if err != nil {
		return at, err
	}
	c.nodeLost(k, at)
	return at, nil
}

// cutPower stops what runs on node k, takes its links down and kills its first process, in this order and at once: nothing
// that its sockets would say on their way out gets anywhere, and its agent does not go on beating while the kernel takes the
// links down, which is half a second on a loaded machine, after the first packet was lost.
func (c *Cluster) cutPower(k int) (time.Time, error) {
	c.mu.Lock()
	h := c.nodes[k]
	c.nodes[k] = nil
	c.mu.Unlock()
	if h == nil {
		return time.Time{}, fmt.Errorf("%s has no power already", c.plan.Nodes[k].Name)
	}
	for _, w := range c.workers() {
		if w.host == h {
			w.wanted.Store(true)
		}
	}
	stopped := time.Now()
	h.freeze()
	at, err := c.fabric.cut(c.fabricLink(nodeLink(k)))
	if late := time.Since(stopped); late > lateCut {
		c.log.Warn("a node's links went down late: its agent seems to have ended before it", "node", h.name, "after", late)
	}
	h.strike()
	c.drains.Go(h.bury)
	return at, err
}

// lateCut is how long after its processes the links of a node may go before that looks like something else than a power cut: an
// agent beats twice a second, and while a busy kernel takes links down they still carry what the node forwards.
const lateCut = time.Second

// natLost: the victim's conntrack table is emptied, its rules stay.
func natLost(c *Cluster) (time.Time, error) {
	h := c.node(c.plan.Victim)
	conn, err := conntrack.Dial(&netlink.Config{NetNS: h.net.fd()})
	if err != nil {
		return time.Time{}, fmt.Errorf("conntrack of %s: %w", h.name, err)
	}
	defer conn.Close()
	at := time.Now()
	if err := conn.Flush(); err != nil {
		return at, fmt.Errorf("empty the conntrack of %s: %w", h.name, err)
	}
	return at, nil
}

// twoNodes: the victim loses power, and another node begins to lose packets.
func twoNodes(c *Cluster) (time.Time, error) {
	at, err := c.powerOff(c.plan.Victim)
	if err != nil {
		return at, err
	}
	return at, c.lose(c.plan.Second)
}

// nodeLossy: the victim drops a share of the packets that it forwards, in both directions.
func nodeLossy(c *Cluster) (time.Time, error) {
	at := time.Now()
	return at, c.lose(c.plan.Victim)
}

func (c *Cluster) lose(k int) error {
	const steps = 10000 // a loss of one hundredth of a percent is the least there is
	return c.dropForwarded(k,
		&expr.Numgen{Register: unix.NFT_REG_1, Modulus: steps, Type: unix.NFT_NG_RANDOM},
		// Comparisons are of bytes, so the number has to stand in their order.
		&expr.Byteorder{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: unix.NFT_REG_1, Data: bigEndian32(uint32(c.opts.Loss * steps / 100))},
	)
}

// smallPacket is what still passes a path whose MTU is not what its ends believe: more than a chat message takes, less
// than a full-size segment of any of the lab's networks.
const smallPacket = 1280

// pathMTU: the victim drops what is larger than its way allows, in both directions, and nobody is told.
func pathMTU(c *Cluster) (time.Time, error) {
	at := time.Now()
	return at, c.dropForwarded(c.plan.Victim,
		&expr.Meta{Key: expr.MetaKeyLEN, Register: unix.NFT_REG_1},
		&expr.Byteorder{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpGt, Register: unix.NFT_REG_1, Data: bigEndian32(smallPacket)},
	)
}

// goneLater is when a node that is broken already loses power: the first trouble has a name by then.
const goneLater = 8 * time.Second

// pathMTUThenGone: full-size segments vanish through the victim, and later it loses power.
func pathMTUThenGone(c *Cluster) (time.Time, error) {
	at, err := pathMTU(c)
	if err == nil {
		ripe := func() bool { return c.pause(goneLater) }
		if c.opts.goneWhen != nil {
			ripe = func() bool { return c.awaited(c.opts.goneWhen) }
		}
		c.when(ripe, "the power cut", func() error {
			_, err := c.powerOff(c.plan.Victim)
			return err
		})
	}
	return at, err
}

// dropForwarded drops what matches of the packets that node k forwards.
func (c *Cluster) dropForwarded(k int, match ...expr.Any) error {
	h := c.node(k)
	conn, err := nftables.New(nftables.WithNetNSFd(h.net.fd()))
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "fault"})
	chain := conn.AddChain(&nftables.Chain{
		Table: table, Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(match, &expr.Verdict{Kind: expr.VerdictDrop})})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("let %s drop packets: %w", h.name, err)
	}
	return nil
}
