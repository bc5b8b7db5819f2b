package lab

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// vanishEvery is how often a single client is heard of for the last time: in a tunnel, out of battery, on to another
// network.
const vanishEvery = time.Second

// mobileClients: one outside client after another vanishes without a word, and comes back as another one.
func mobileClients(c *Cluster) (time.Time, error) {
	v, err := c.newVoid()
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	c.again(vanishEvery, "the clients that vanish", func() {}, func() error {
		for _, w := range c.crowd() {
			if w.host != c.external {
				continue
			}
			r, err := w.do(order{Vanish: 1}, orderWait)
			if err != nil {
				return err
			}
			if err := v.swallow(r.Vanished); err != nil {
				return err
			}
			if _, err := w.do(order{Forget: true}, orderWait); err != nil {
				return err
			}
		}
		return nil
	})
	return at, nil
}

// void is where packets of clients that have vanished end, in both directions.
type void struct {
	conn *nftables.Conn
	set  *nftables.Set
	r    *proxyRules
}

// newVoid makes it in the fabric.
func (c *Cluster) newVoid() (*void, error) {
	r, err := c.fabric.rules(c.plan.V6, "void")
	if err != nil {
		return nil, err
	}
	conn := r.conn
	v := &void{conn: conn, r: r, set: &nftables.Set{
		Table: r.table, ID: r.setID(), Name: "vanished", Concatenation: true,
		KeyType: nftables.MustConcatSetType(r.addrType(), nftables.TypeInetService),
	}}
	r.keep(conn.AddSet(v.set, nil))
	forward := conn.AddChain(&nftables.Chain{
		Table: r.table, Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	for _, source := range []bool{true, false} {
		key := r.endpoint(source)
		r.rule(forward, append(key, &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetID: v.set.ID, SetName: v.set.Name}, &expr.Verdict{Kind: expr.VerdictDrop})...)
	}
	if r.err == nil {
		r.err = conn.Flush()
	}
	if r.err != nil {
		return nil, fmt.Errorf("make the place where clients vanish: %w", r.err)
	}
	return v, nil
}

// swallow lets nothing from or to these clients through any more.
func (v *void) swallow(clients []netip.AddrPort) error {
	var elements []nftables.SetElement
	for _, a := range clients {
		e := v.r.element(nil, a.Addr().Unmap().AsSlice(), portKey(a.Port()))
		elements = append(elements, e)
	}
	if err := v.conn.SetAddElements(v.set, elements); err != nil {
		return fmt.Errorf("let a client vanish: %w", err)
	}
	if err := v.conn.Flush(); err != nil {
		return fmt.Errorf("let a client vanish: %w", err)
	}
	return nil
}
