package lab

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// masqueradeMark is the packet mark that asks for masquerade: bit 14, kube-proxy's default (iptablesMasqueradeBit).
const masqueradeMark = 0x4000

// proxyRules is one node's table as kube-proxy writes it in nftables mode: verdict maps by address and port, a chain per
// service with and without masquerade, a chain per endpoint.
type proxyRules struct {
	conn  *nftables.Conn
	table *nftables.Table
	v6    bool
	sets  uint32 // how many there are
	err   error  // the first that occurred
}

// writeProxyRules fills a node's table with the service and its endpoints; where it has none, connections to it are refused.
func writeProxyRules(ns *space, node netip.Addr, pods netip.Prefix, s servicePlan, endpoints []netip.AddrPort) error {
	r, err := ns.rules(node.Is6(), "kube-proxy")
	if err != nil {
		return err
	}
	// In one transaction: what was there is gone when the new rules stand. A table has to be there to be deleted.
	r.conn.DelTable(r.table)
	r.conn.AddTable(r.table)
	if len(endpoints) > 0 {
		r.write(node, pods, s, endpoints)
	} else {
		r.refuse(node, s)
	}
	return r.flush("kube-proxy")
}

// rules opens a table of the namespace to write into.
func (s *space) rules(v6 bool, table string) (*proxyRules, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(s.fd()))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	family := nftables.TableFamilyIPv4
	if v6 {
		family = nftables.TableFamilyIPv6
	}
	return &proxyRules{conn: conn, v6: v6, table: conn.AddTable(&nftables.Table{Family: family, Name: table})}, nil
}

// flush writes what was said since the last time.
func (r *proxyRules) flush(what string) error {
	if r.err == nil {
		r.err = r.conn.Flush()
	}
	if r.err != nil {
		return fmt.Errorf("write the rules of %s: %w", what, r.err)
	}
	return nil
}

func (r *proxyRules) write(node netip.Addr, pods netip.Prefix, s servicePlan, endpoints []netip.AddrPort) {
	mark := r.chain("mark-for-masquerade")
	r.rule(mark, markOr(masqueradeMark)...)

	masquerading := r.chain("masquerading")
	r.rule(masquerading, append(markBitClear(masqueradeMark), &expr.Verdict{Kind: expr.VerdictReturn})...)
	r.rule(masquerading, append(markXor(masqueradeMark), &expr.Masq{FullyRandom: true})...)

	title := serviceTitle(s)
	var chains []string
	for _, e := range endpoints {
		c := r.chain(fmt.Sprintf("endpoint-%s__%s/%d", title, e.Addr(), e.Port()))
		r.rule(c, append(r.addr(true, e.Addr()), jump(mark.Name))...) // a pod that meets itself
		r.rule(c, r.dnat(e)...)
		chains = append(chains, c.Name)
	}
	service := r.chain("service-" + title)
	r.rule(service, append(append(r.addr(false, s.ClusterIP), r.within(true, pods, expr.CmpOpNeq)...), jump(mark.Name))...)
	r.rule(service, r.pick(chains)...)
	external := r.chain("external-" + title)
	r.rule(external, jump(mark.Name))
	r.rule(external, gotoChain(service.Name))

	ips := r.verdicts("service-ips", []nftables.SetDatatype{r.addrType(), nftables.TypeInetProto, nftables.TypeInetService},
		r.element(gotoChain(service.Name), s.ClusterIP.AsSlice(), tcpKey, portKey(s.Port)),
		r.element(gotoChain(external.Name), s.VIP.AsSlice(), tcpKey, portKey(s.Port)))
	nodePorts := r.verdicts("service-nodeports", []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService},
		r.element(gotoChain(external.Name), tcpKey, portKey(s.NodePort)))
	nodeIPs := &nftables.Set{Table: r.table, ID: r.setID(), Name: "nodeport-ips", KeyType: r.addrType()}
	r.keep(r.conn.AddSet(nodeIPs, []nftables.SetElement{{Key: node.AsSlice()}}))

	services := r.chain("services")
	key := r.concat(r.addrSize(), r.loadAddr(false), loadProtocol, loadPort)
	r.rule(services, append(key, lookup(ips))...)
	match := []expr.Any{r.loadAddr(false)(unix.NFT_REG_1), &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetID: nodeIPs.ID, SetName: nodeIPs.Name}}
	r.rule(services, append(append(match, r.concat(4, loadProtocol, loadPort)...), lookup(nodePorts))...)

	for _, hook := range []struct {
		name     string
		at       *nftables.ChainHook
		priority *nftables.ChainPriority
		to       *nftables.Chain
	}{
		{"nat-prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, services},
		{"nat-output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest, services},
		{"nat-postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, masquerading},
	} {
		c := r.conn.AddChain(&nftables.Chain{Table: r.table, Name: hook.name, Type: nftables.ChainTypeNAT, Hooknum: hook.at, Priority: hook.priority})
		r.rule(c, jump(hook.to.Name))
	}
}

// refuse answers for a service without endpoints. What was translated before carries other addresses here.
func (r *proxyRules) refuse(node netip.Addr, s servicePlan) {
	code := uint8(3) // ICMP_PORT_UNREACH
	if r.v6 {
		code = 4 // ICMPV6_PORT_UNREACH
	}
	for _, hook := range []struct {
		name string
		at   *nftables.ChainHook
	}{
		{"filter-input", nftables.ChainHookInput}, {"filter-forward", nftables.ChainHookForward}, {"filter-output", nftables.ChainHookOutput},
	} {
		c := r.conn.AddChain(&nftables.Chain{Table: r.table, Name: hook.name, Type: nftables.ChainTypeFilter, Hooknum: hook.at, Priority: nftables.ChainPriorityFilter})
		for _, to := range []netip.AddrPort{
			netip.AddrPortFrom(s.ClusterIP, s.Port), netip.AddrPortFrom(s.VIP, s.Port), netip.AddrPortFrom(node, s.NodePort),
		} {
			r.rule(c, append(r.addr(false, to.Addr()),
				loadProtocol(unix.NFT_REG_1), &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: tcpKey},
				loadPort(unix.NFT_REG_1), &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: portKey(to.Port())},
				&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code})...)
		}
	}
}

// serviceTitle is the part of chain names that kube-proxy gives a service port: a short hash, then its name in clear.
func serviceTitle(s servicePlan) string {
	name := fmt.Sprintf("%s/%s/tcp/%s", s.Namespace, s.Name, s.PortName)
	sum := sha256.Sum256([]byte(name))
	return base32.StdEncoding.EncodeToString(sum[:])[:8] + "-" + name
}

func (r *proxyRules) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *proxyRules) chain(name string) *nftables.Chain {
	return r.conn.AddChain(&nftables.Chain{Table: r.table, Name: name})
}

func (r *proxyRules) rule(c *nftables.Chain, exprs ...expr.Any) {
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: c, Exprs: exprs})
}

func (r *proxyRules) addrType() nftables.SetDatatype {
	if r.v6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

func (r *proxyRules) addrSize() uint32 {
	if r.v6 {
		return 16
	}
	return 4
}

// setID numbers sets within the transaction. The library would number them from a variable that all its connections
// share, and nodes are written at the same time.
func (r *proxyRules) setID() uint32 {
	r.sets++
	return r.sets
}

// verdicts adds a verdict map whose key is the concatenation of the given types.
func (r *proxyRules) verdicts(name string, key []nftables.SetDatatype, elements ...nftables.SetElement) *nftables.Set {
	s := &nftables.Set{
		Table: r.table, ID: r.setID(), Name: name, IsMap: true, Concatenation: true,
		KeyType: nftables.MustConcatSetType(key...), DataType: nftables.TypeVerdict,
	}
	r.keep(r.conn.AddSet(s, elements))
	return s
}

// element maps a key, each part of it padded to whole registers, to a verdict.
func (r *proxyRules) element(v *expr.Verdict, parts ...[]byte) nftables.SetElement {
	var key []byte
	for _, p := range parts {
		key = append(key, p...)
		for len(key)%4 != 0 {
			key = append(key, 0)
		}
	}
	return nftables.SetElement{Key: key, VerdictData: v}
}

var tcpKey = []byte{unix.IPPROTO_TCP}

func portKey(port uint16) []byte { return binaryutil.BigEndian.PutUint16(port) }

// loader loads a field into a register.
type loader func(reg uint32) expr.Any

// concat loads fields into adjacent registers from NFT_REG_1 on. The first takes so many bytes, the others four each.
func (r *proxyRules) concat(first uint32, fields ...loader) []expr.Any {
	exprs := []expr.Any{fields[0](unix.NFT_REG_1)}
	next := unix.NFT_REG32_00 + first/4
	for i, f := range fields[1:] {
		exprs = append(exprs, f(next+uint32(i)))
	}
	return exprs
}

// loadAddr loads the source or destination address of the IP header (RFC 791, RFC 8200).
func (r *proxyRules) loadAddr(source bool) loader {
	offset, size := uint32(16), uint32(4)
	switch {
	case r.v6 && source:
		offset, size = 8, 16
	case r.v6:
		offset, size = 24, 16
	case source:
		offset = 12
	}
	return func(reg uint32) expr.Any {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
	}
}

func loadProtocol(reg uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg} }

func loadPort(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// endpoint loads an address and a TCP port for a lookup.
func (r *proxyRules) endpoint(source bool) []expr.Any {
	offset := uint32(2)
	if source {
		offset = 0
	}
	return r.concat(r.addrSize(), r.loadAddr(source), func(reg uint32) expr.Any {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
	})
}

func lookup(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: unix.NFT_REG_1, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT, SetID: s.ID, SetName: s.Name}
}

func jump(chain string) *expr.Verdict { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

func gotoChain(chain string) *expr.Verdict {
	return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}
}

// addr matches an address.
func (r *proxyRules) addr(source bool, a netip.Addr) []expr.Any {
	return []expr.Any{
		r.loadAddr(source)(unix.NFT_REG_1),
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: a.AsSlice()},
	}
}

// within matches packets from, or to, a prefix; with op CmpOpNeq all others.
func (r *proxyRules) within(source bool, p netip.Prefix, op expr.CmpOp) []expr.Any {
	n := ipNet(p.Masked())
	return []expr.Any{
		r.loadAddr(source)(unix.NFT_REG_1),
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: uint32(len(n.Mask)), Mask: n.Mask, Xor: make([]byte, len(n.Mask))},
		&expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: n.IP},
	}
}

// pick goes to one of the chains at random.
func (r *proxyRules) pick(chains []string) []expr.Any {
	s := &nftables.Set{
		Table: r.table, ID: r.setID(), Name: "__map%d", Anonymous: true, Constant: true, IsMap: true,
		KeyType: nftables.TypeInteger, DataType: nftables.TypeVerdict,
	}
	var elements []nftables.SetElement
	for i, c := range chains {
		elements = append(elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), VerdictData: gotoChain(c)})
	}
	r.keep(r.conn.AddSet(s, elements))
	return []expr.Any{
		&expr.Numgen{Register: unix.NFT_REG_1, Modulus: uint32(len(chains)), Type: unix.NFT_NG_RANDOM},
		lookup(s),
	}
}

// dnat rewrites the destination of TCP.
func (r *proxyRules) dnat(to netip.AddrPort) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if r.v6 {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		loadProtocol(unix.NFT_REG_1),
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: tcpKey},
		&expr.Immediate{Register: unix.NFT_REG_1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: unix.NFT_REG_2, Data: portKey(to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: unix.NFT_REG_1, RegProtoMin: unix.NFT_REG_2, Specified: true},
	}
}

// The packet mark is a number of the host's byte order.

func markOr(bit uint32) []expr.Any { return markBits(^bit, bit) }

func markXor(bit uint32) []expr.Any { return markBits(^uint32(0), bit) }

// markBits sets the mark to (mark & mask) ^ xor.
func markBits(mask, xor uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG_1},
		&expr.Bitwise{
			SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG_1, SourceRegister: true},
	}
}

// markBitClear matches packets without the bit.
func markBitClear(bit uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: unix.NFT_REG_1},
		&expr.Bitwise{
			SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: make([]byte, 4)},
	}
}
