package lab

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// plan is a cluster on paper: every name, address and port, drawn from the options alone, so that equal options and
// seeds give equal labs.
type plan struct {
	Nodes    []nodePlan
	NodeNet  netip.Prefix
	PodNet   netip.Prefix // of all nodes
	Gateway  netip.Addr   // the fabric's address in NodeNet
	GateMAC  net.HardwareAddr
	Victim   int       // index into Nodes
	Home     int       // where the service's pods live; never the victim
	Pods     []podPlan // behind the service
	Caller   podPlan   // the client pod inside the cluster
	Service  servicePlan
	Balancer clientNet
	External clientNet
	Hub      clientNet // the machine of a fleet's hub
	V6       bool
	Message  int // bytes of a chat message
	Push     int // bytes of every other talking connection's messages from the service, 0 where they are like the rest
	Second   int // index into Nodes of what else is hit, where the scenario hits two; neither Victim nor Home

	surroundings
}

type nodePlan struct {
	Name string
	UID  string
	Addr netip.Addr
	CIDR netip.Prefix // of its pods
	MAC  net.HardwareAddr
	Port net.HardwareAddr // MAC address of the fabric's end of the node's cable
	Pods net.HardwareAddr // of the node's pod bridge

	Tunnel net.HardwareAddr // of the node's end of the overlay
	Zone   string
	Spot   bool
	Age    time.Duration // since it was created, when the lab is up
}

// podGateway is the first address of the node's pod range: its bridge.
func (n nodePlan) podGateway() netip.Addr { return nth(n.CIDR, 1) }

type podPlan struct {
	Namespace, Name, UID, Workload string

	Node int // index into Nodes
	Addr netip.Addr
	MAC  net.HardwareAddr
}

type servicePlan struct {
	Namespace, Name, PortName string

	ClusterIP  netip.Addr
	VIP        netip.Addr // the load balancer's ingress address
	Port       uint16
	NodePort   uint16
	TargetPort uint16
}

// clientNet is a network outside the cluster with a few clients in it.
type clientNet struct {
	Name    string
	Prefix  netip.Prefix
	Gateway netip.Addr // the fabric's address in it
	Addrs   []netip.Addr
	MAC     net.HardwareAddr
	GateMAC net.HardwareAddr
}

// Where things stand. The node and pod ranges are those of the incident that midhop exists for, the balancer's is one of
// the two that Google's load balancers speak from, mobile clients come from carriers' shared space (RFC 6598), the others are set aside for documentation (RFC 5737, RFC 3849).
type ranges struct {
	nodes, pods, services, vips, balancer, external, mobile, hub string

	podBits int // prefix length of one node's pod range, and of one mobile client's network
}

var (
	rangesV4 = ranges{
		nodes: "10.146.0.0/20", pods: "10.48.0.0/14", services: "10.96.0.0/16", vips: "203.0.113.0/24",
		balancer: "35.191.0.0/16", external: "198.51.100.0/24", mobile: "100.64.0.0/10", hub: "192.0.2.0/24", podBits: 24,
	}
	rangesV6 = ranges{
		nodes: "2001:db8:146::/64", pods: "fd00:48::/48", services: "fd00:96::/112", vips: "2001:db8:113::/112",
		balancer: "2600:2d00:1:b029::/64", external: "2001:db8:51::/64", mobile: "2001:db8:4000::/36", hub: "2001:db8:52::/64", podBits: 64,
	}
)

// chatMessage is what a line of chat with its envelope takes.
const chatMessage = 60

const (
	balancerClients = 6 // addresses that the balancer's proxies use
	externalClients = 8
	mobileAddresses = 96
	hubHost         = 2 // of its network
)

// newPlan draws a cluster. It does not judge the options beyond clamping the victim; [Options.check] does.
func newPlan(o Options, s Scenario) *plan {
	d := newDraw(o.Seed)
	r := rangesV4
	if o.Family == 6 {
		r = rangesV6
	}
	nodeNet, podNet, vips := netip.MustParsePrefix(r.nodes), netip.MustParsePrefix(r.pods), netip.MustParsePrefix(r.vips)
	p := &plan{NodeNet: nodeNet, PodNet: podNet, Gateway: nth(nodeNet, 1), V6: o.Family == 6, GateMAC: d.mac(), Message: s.message, Push: s.push}
	if p.Message == 0 {
		p.Message = chatMessage
	}

	count := d.number(3, 3, 6)
	hosts := d.distinct(count, 11, 2, 1000)
	blocks := d.distinct(count, 1, 1, 900)
	names := d.nodeNames(count)
	for k := range count {
		p.Nodes = append(p.Nodes, nodePlan{
			Name: names[k], UID: d.uuid(), MAC: d.mac(), Port: d.mac(), Pods: d.mac(), Tunnel: d.mac(),
			Addr: nth(nodeNet, hosts[k]),
			CIDR: block(podNet, r.podBits, blocks[k]),
			Zone: fmt.Sprintf("europe-west3-%c", 'a'+k%3),
			Spot: d.spot(k),
			Age:  time.Duration(d.rng.IntN(24*3600)+3600) * time.Second,
		})
	}

	p.Victim = min(max(o.Victim-1, 0), count-1)
	p.Home, p.Caller.Node = homes(count, p.Victim)
	if s.Second != "" || s.second {
		p.Second = (p.Victim + 1) % count
		p.Home, p.Caller.Node = homes(count, p.Victim, p.Second)
	}
	ns, name := d.serviceName()
	p.Service = servicePlan{
		Namespace: ns, Name: name, PortName: "ws",
		ClusterIP: nth(netip.MustParsePrefix(r.services), d.number(50, 2, 60000)),
		VIP:       nth(vips, d.number(10, 2, 250)),
		Port:      uint16(d.number(80, 80, 9000)), NodePort: uint16(d.number(30080, 30000, 32767)), TargetPort: uint16(d.number(8080, 3000, 9999)),
	}
	template := d.hash(9)
	pods := max(o.Pods, 1)
	podHosts := d.distinct(pods+1, 5, 2, 250)
	for i := range pods {
		p.Pods = append(p.Pods, podPlan{
			Namespace: ns, Name: fmt.Sprintf("%s-%s-%s", name, template, d.hash(5)), UID: d.uuid(), MAC: d.mac(),
			Workload: "deployment/" + name, Node: p.Home, Addr: nth(p.Nodes[p.Home].CIDR, podHosts[i]),
		})
		if s.spread && i%2 == 1 {
			p.Pods[i].Node, p.Pods[i].Addr = p.Victim, nth(p.Nodes[p.Victim].CIDR, podHosts[i])
		}
	}
	p.Caller = podPlan{
		Namespace: ns, Name: fmt.Sprintf("caller-%s-%s", d.hash(9), d.hash(5)), UID: d.uuid(), MAC: d.mac(),
		Workload: "deployment/caller", Node: p.Caller.Node, Addr: nth(p.Nodes[p.Caller.Node].CIDR, podHosts[len(podHosts)-1]),
	}
	p.Balancer = d.clientNet("balancer", r.balancer, balancerClients, 416, 65000) // from 35.191.1.160 on
	p.External = d.clientNet("clients", r.external, externalClients, 20, 250)
	if s.mobile {
		p.External = d.mobileNet("clients", r.mobile, r.podBits)
	}
	p.Hub = d.clientNet("hub", r.hub, 1, hubHost, hubHost)
	p.surround(d, s, hosts)
	return p
}

// homes picks the node of the service's pods (the second node, or the next one that is not hit) and the node of the
// calling pod (another one that is not hit, where there are enough nodes).
func homes(count int, hit ...int) (home, caller int) {
	home = 1 % count
	for slices.Contains(hit, home) {
		home = (home + 1) % count
	}
	for k := count - 1; k >= 0; k-- {
		if k != home && !slices.Contains(hit, k) {
			return home, k
		}
	}
	return home, home
}

// nth returns the n-th address of a prefix, counted from its network address.
func nth(p netip.Prefix, n int) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	tail := b[len(b)-4:]
	binary.BigEndian.PutUint32(tail, binary.BigEndian.Uint32(tail)+uint32(n))
	a, _ := netip.AddrFromSlice(b)
	return a
}

// block returns the n-th subnet of the given length inside a prefix.
func block(p netip.Prefix, bits, n int) netip.Prefix {
	b := p.Masked().Addr().AsSlice()
	end := bits / 8 // podBits are whole bytes
	lead := b[end-2 : end]
	binary.BigEndian.PutUint16(lead, binary.BigEndian.Uint16(lead)+uint16(n))
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits)
}

// draw is the source of everything that a seed varies. Without a seed names and addresses are the plain ones; what
// nobody looks at (UIDs, MAC addresses) is drawn all the same.
type draw struct {
	rng    *rand.Rand
	seeded bool
}

func newDraw(seed int64) *draw {
	return &draw{rng: rand.New(rand.NewPCG(uint64(seed), 0x6d6964686f70)), seeded: seed != 0}
}

// number returns plain without a seed, else a number from low to high.
func (d *draw) number(plain, low, high int) int {
	if !d.seeded {
		return plain
	}
	return low + d.rng.IntN(high-low+1)
}

// distinct returns n numbers: first, first+1, ... without a seed, else different ones from low to high.
func (d *draw) distinct(n, first, low, high int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = first + i
		for d.seeded {
			out[i] = low + d.rng.IntN(high-low+1)
			if !slices.Contains(out[:i], out[i]) {
				break
			}
		}
	}
	return out
}

// nodeNames returns names in one of the styles that clusters have.
func (d *draw) nodeNames(n int) []string {
	style := d.number(-1, 0, 2)
	numbers := d.distinct(n, 0, 1, 99)
	pool, group := d.hash(8), d.hash(4)
	names := make([]string, n)
	for i := range names {
		switch style {
		case 0:
			names[i] = fmt.Sprintf("gke-%s-pool-1-%s-%s", group, pool, d.hash(4))
		case 1:
			names[i] = fmt.Sprintf("worker-%d", numbers[i])
		case 2:
			names[i] = fmt.Sprintf("ip-10-146-%d-%d.ec2.internal", d.rng.IntN(16), numbers[i])
		default:
			names[i] = fmt.Sprintf("node-%c", 'a'+i)
		}
	}
	return names
}

func (d *draw) serviceName() (namespace, name string) {
	if !d.seeded {
		return "ws", "chat"
	}
	pick := func(of ...string) string { return of[d.rng.IntN(len(of))] }
	return pick("ws", "prod", "live", "games"), pick("chat", "push", "presence", "feed")
}

// spot makes some nodes preemptible, whichever of them the fault is going to hit.
func (d *draw) spot(k int) bool {
	if !d.seeded {
		return k == 0 || k == 2
	}
	return d.rng.IntN(2) == 0
}

func (d *draw) clientNet(name, prefix string, n, low, high int) clientNet {
	p := netip.MustParsePrefix(prefix)
	c := clientNet{Name: name, Prefix: p, Gateway: nth(p, 1), MAC: d.mac(), GateMAC: d.mac()}
	for _, h := range d.distinct(n, low, low, high) {
		c.Addrs = append(c.Addrs, nth(p, h))
	}
	return c
}

// mobileNet draws clients that have nothing in common but the way to them.
func (d *draw) mobileNet(name, prefix string, bits int) clientNet {
	p := netip.MustParsePrefix(prefix)
	c := clientNet{Name: name, Prefix: p, Gateway: nth(p, 1), MAC: d.mac(), GateMAC: d.mac()}
	for _, n := range d.distinct(mobileAddresses, 1, 1, 4000) {
		c.Addrs = append(c.Addrs, nth(block(p, bits, n), 2+d.rng.IntN(250)))
	}
	return c
}

func (d *draw) uuid() string {
	a, b := d.rng.Uint64(), d.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
}

// mac returns a locally administered unicast address.
func (d *draw) mac() net.HardwareAddr {
	b := binary.BigEndian.AppendUint64(nil, d.rng.Uint64())[:6]
	b[0] = b[0]&^3 | 2
	return b
}

// hash returns n characters of the alphabet that Kubernetes draws generated names from.
func (d *draw) hash(n int) string {
	const safe = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = safe[d.rng.IntN(len(safe))]
	}
	return string(b)
}
