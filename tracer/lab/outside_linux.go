package lab

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// startOutside starts the service outside the cluster, where the scenario has one: on the machine of the outside clients.
func (c *Cluster) startOutside() error {
	p := c.plan
	if len(p.Outside) == 0 {
		return nil
	}
	if len(p.Servers) > 0 {
		if err := c.balanceOutside(); err != nil {
			return err
		}
	}
	w, err := c.employ(c.external, "outside", false)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.outside = w
	c.mu.Unlock()
	_, err = w.do(order{Serve: &serveSpec{Port: outsidePort, Ping: c.opts.Ping}}, orderWait)
	return err
}

// outsideForgets is how long the balancer outside remembers a silent connection.
const outsideForgets = 6 * time.Second

// balanceOutside makes the outside machine a balancer with servers behind one address. One that forgets does not pick up a
// connection in mid-stream either, and says nothing.
func (c *Cluster) balanceOutside() error {
	p, ns := c.plan, c.external.net
	r, err := ns.rules(p.V6, "balancer")
	if err != nil {
		return err
	}
	var servers []string
	for i, a := range p.Servers {
		chain := r.chain(fmt.Sprintf("server-%d", i))
		to := p.Outside[0]
		r.rule(chain, r.dnat(netip.AddrPortFrom(a, to.Port()))...)
		servers = append(servers, chain.Name)
	}
	pick := r.chain("pick")
	r.rule(pick, r.pick(servers)...)
	in := r.conn.AddChain(&nftables.Chain{
		Table: r.table, Name: "prerouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	r.rule(in, append(append(r.addr(false, p.Outside[0].Addr()), loadPort(unix.NFT_REG_1),
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: portKey(p.Outside[0].Port())}), jump(pick.Name))...)
	if c.scenario.forgets {
		for _, hook := range []struct {
			name string
			at   *nftables.ChainHook
		}{{"unknown-in", nftables.ChainHookPrerouting}, {"unknown-out", nftables.ChainHookOutput}} {
			unknown := r.conn.AddChain(&nftables.Chain{Table: r.table, Name: hook.name, Type: nftables.ChainTypeFilter, Hooknum: hook.at, Priority: nftables.ChainPriorityMangle})
			r.rule(unknown,
				&expr.Ct{Register: unix.NFT_REG_1, Key: expr.CtKeySTATE},
				&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitINVALID), Xor: make([]byte, 4)},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: make([]byte, 4)},
				&expr.Verdict{Kind: expr.VerdictDrop})
		}
	}
	if err := r.flush("the balancer outside"); err != nil || !c.scenario.forgets {
		return err
	}
	return ns.sysctls("netfilter/nf_conntrack_tcp_loose=0", fmt.Sprintf("netfilter/nf_conntrack_tcp_timeout_established=%d", outsideForgets/time.Second))
}

// partialBackend: one of the servers behind the address outside falls silent, in both directions.
func partialBackend(c *Cluster) (time.Time, error) {
	server := c.plan.Servers[c.spare.rng.IntN(len(c.plan.Servers))]
	r, err := c.external.net.rules(c.plan.V6, "fault")
	if err != nil {
		return time.Time{}, err
	}
	for _, hook := range []struct {
		name   string
		at     *nftables.ChainHook
		source bool
	}{{"input", nftables.ChainHookInput, false}, {"output", nftables.ChainHookOutput, true}} {
		chain := r.conn.AddChain(&nftables.Chain{Table: r.table, Name: hook.name, Type: nftables.ChainTypeFilter, Hooknum: hook.at, Priority: nftables.ChainPriorityFilter})
		r.rule(chain, append(r.addr(hook.source, server), &expr.Verdict{Kind: expr.VerdictDrop})...)
	}
	at := time.Now()
	return at, r.flush("the server that falls silent")
}

// outsideIdle: the silent connections to outside speak, when the balancer there has forgotten them for some time.
func outsideIdle(c *Cluster) (time.Time, error) {
	at := time.Now()
	if wait := outsideForgets + 2*time.Second - at.Sub(c.up); wait > 0 {
		if !c.pause(wait) {
			return at, errClosed
		}
		at = time.Now()
	}
	_, err := c.caller.do(order{Speak: speakWithin}, orderWait)
	return at, err
}

// peersGone: the peered cluster's network vanishes.
func peersGone(c *Cluster) (time.Time, error) {
	at, err := c.fabric.cut(c.fabricLink(c.plan.Peers.Name[:1]))
	c.peers.strike()
	c.drains.Go(c.peers.bury)
	return at, err
}
