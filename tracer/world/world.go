package world

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Epoch is the moment of a world's instant zero: an ordinary day.
var Epoch = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

// warmUp is how long before instant zero connections begin to be set up.
const warmUp = 3 * time.Second

// World is a plan that runs.
type World struct {
	plan *Plan
	rng  *rand.Rand
	now  instant
	queue
	free    []*packet
	cookies uint64

	nodes     []*node
	pods      []*pod
	clients   []*clients
	svcs      []*service
	loads     []*load
	conns     []*conn
	holders   map[addr]*node
	vips      map[addr]*service
	services  map[endpoint]*service
	nodePorts map[uint16]*service
	routes    map[addr]*route // by /24
	vacant    map[addr]int    // which fault took the pod that had an address

	facts  []fact
	truth  Truth
	resets []int // by fault: sockets that agents see and a reset ended because of it
}

type route struct {
	node *node
	by   int // the fault that withdrew it
}

type fact struct {
	arrival instant
	ev      event.Event
}

// Outcome is what came of a world.
type Outcome struct {
	Facts    []event.Event   // in the order in which they reach the Engine; each call of [Run] gives fresh ones
	Arrivals []time.Duration // when each does
	Truth    Truth
}

// Run lets a plan happen.
func Run(p *Plan) (*Outcome, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	w := build(p)
	w.live()
	w.truth.Resets = w.resets
	slices.SortStableFunc(w.facts, func(a, b fact) int { return cmp.Compare(a.arrival, b.arrival) })
	out := &Outcome{Facts: make([]event.Event, len(w.facts)), Arrivals: make([]time.Duration, len(w.facts)), Truth: w.truth}
	for i := range w.facts {
		out.Facts[i], out.Arrivals[i] = w.facts[i].ev, time.Duration(w.facts[i].arrival)
	}
	return out, nil
}

func toAddr(ip netip.Addr) addr {
	b := ip.As4()
	return addr(binary.BigEndian.Uint32(b[:]))
}

// ip is an address as it is told.
func (w *World) ip(a addr) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(a))
	if w.plan.Family != 6 {
		return netip.AddrFrom4(b)
	}
	six := [16]byte{0: 0xfd, 1: 0x42}
	copy(six[12:], b[:])
	return netip.AddrFrom16(six)
}

func (w *World) end(e endpoint) event.Endpoint { return event.Endpoint{IP: w.ip(e.ip), Port: e.port} }

func (w *World) prefix(p netip.Prefix) netip.Prefix {
	bits := p.Bits()
	if w.plan.Family == 6 {
		bits += 96
	}
	return netip.PrefixFrom(w.ip(toAddr(p.Addr())), bits)
}

func build(p *Plan) *World {
	w := &World{
		plan: p, rng: rand.New(rand.NewPCG(p.Seed, 16)), now: -int64(warmUp),
		holders: make(map[addr]*node), vips: make(map[addr]*service), services: make(map[endpoint]*service),
		nodePorts: make(map[uint16]*service), routes: make(map[addr]*route), vacant: make(map[addr]int),
	}
	netns := uint32(4026531840)
	newPlace := func() *place {
		netns++
		return &place{netns: netns, socks: make(map[tuple]*end), listeners: make(map[uint16]*listener)}
	}
	for i := range p.Nodes {
		n := &node{Node: &p.Nodes[i], id: i, up: true, uplink: true, rules: true, host: newPlace(), pods: make(map[addr]*pod)}
		n.ip, n.bridge = toAddr(n.IP), toAddr(n.Pods.Addr())+1
		n.host.node = n
		n.table = table{node: n, by: make(map[tuple]*entry), lostPart: make(map[tuple]int)}
		w.nodes = append(w.nodes, n)
		w.holders[n.ip] = n
		w.routes[n.bridge>>8] = &route{node: n}
		if n.Agent {
			n.agent = newAgent(w, n)
		}
	}
	for i := range p.Pods {
		w.addPod(&p.Pods[i], newPlace())
	}
	for i := range p.Clients {
		c := &clients{Clients: &p.Clients[i], place: newPlace()}
		c.base, c.bits = toAddr(c.Net.Addr()), c.Net.Bits()
		c.place.clients = c
		c.place.listeners[443] = &listener{}
		w.clients = append(w.clients, c)
	}
	for i := range p.Services {
		w.addService(&p.Services[i])
	}
	for i := range p.Loads {
		w.loads = append(w.loads, w.newLoad(&p.Loads[i]))
	}
	return w
}

func (w *World) addPod(p *Pod, at *place) *pod {
	o := &pod{Pod: p, ip: toAddr(p.IP), node: w.nodeOf(p.Node), place: at}
	at.node, at.pod = o.node, o
	at.listeners[appPort] = &listener{}
	w.pods = append(w.pods, o)
	o.uid = len(w.pods)
	o.node.pods[o.ip] = o
	return o
}

func (w *World) addService(s *Service) {
	v := &service{Service: s, ip: toAddr(s.IP), flows: make(map[tuple]*flow)}
	w.services[endpoint{v.ip, s.Port}] = v
	if s.VIP.IsValid() {
		v.vip = toAddr(s.VIP)
		w.vips[v.vip] = v
		w.services[endpoint{v.vip, s.Port}] = v
	}
	if s.NodePort != 0 {
		w.nodePorts[s.NodePort] = v
	}
	for _, name := range s.Backends {
		v.backends = append(v.backends, w.podOf(name))
	}
	for _, name := range s.Entries {
		v.entries = append(v.entries, w.nodeOf(name))
	}
	w.svcs = append(w.svcs, v)
}

func (w *World) nodeOf(name string) *node {
	for _, n := range w.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// podOf is the newest pod of a name.
func (w *World) podOf(name string) *pod {
	for _, o := range slices.Backward(w.pods) {
		if o.Name == name {
			return o
		}
	}
	return nil
}

func (w *World) serviceOf(name string) *service {
	for _, s := range w.svcs {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func (w *World) clientsOf(name string) *clients {
	for _, c := range w.clients {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// live lets everything happen until the end.
func (w *World) live() {
	for _, l := range w.loads {
		w.start(l)
	}
	w.tellInventory()
	for _, n := range w.nodes {
		if n.agent != nil {
			w.at(int64(n.Attach), n.agent.start)
		}
	}
	w.clockLines()
	for i := range w.plan.Faults {
		w.plant(i)
	}
	w.measure()
	w.at(0, w.sweep)
	until := int64(w.plan.Until)
	for len(w.heap) > 0 && w.heap[0].at <= until {
		d := w.pop()
		w.now = d.at
		switch d.kind {
		case doArrive:
			w.arrive(d.pack)
		case doXmit:
			d.end.fire(w, d.at)
		case doKeep:
			d.end.keepalive(w)
		case doTalk:
			d.end.talk(w)
		case doCall:
			d.call()
		}
	}
}

// sweep lets the collectors of all tables run once a second.
func (w *World) sweep() {
	for _, n := range w.nodes {
		if n.runs() {
			n.table.sweep(w)
		}
	}
	w.after(time.Second, w.sweep)
}

// clockLines are what a hub writes twice a second, so that time goes on where nobody speaks.
func (w *World) clockLines() {
	at := instant(0)
	var beat func()
	beat = func() {
		w.facts = append(w.facts, fact{w.now, event.Event{
			Type: event.StreamHeartbeat, Time: w.time(w.now), Source: "engine", Body: &event.Heartbeat{},
		}})
		w.after(time.Second/2, beat)
	}
	w.at(at, beat)
}

func (w *World) time(at instant) time.Time { return Epoch.Add(time.Duration(at)) }

// chance is a duration between low and high.
func (w *World) chance(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(w.rng.Int64N(int64(high-low)))
}

func (p *Plan) check() error {
	ranges := make(map[netip.Prefix]string)
	for i := range p.Nodes {
		n := &p.Nodes[i]
		if !n.IP.Is4() || !n.Pods.Addr().Is4() || n.Pods.Bits() != 24 {
			return fmt.Errorf("node %s: IPv4 addresses and a /24 for pods are wanted", n.Name)
		}
		if other, ok := ranges[n.Pods]; ok {
			return fmt.Errorf("nodes %s and %s have one range of pods", other, n.Name)
		}
		ranges[n.Pods] = n.Name
		if n.Agent && n.Rung != "best" && n.Rung != "census" && n.Rung != "bare" {
			return fmt.Errorf("node %s: unknown rung %q", n.Name, n.Rung)
		}
	}
	for i := range p.Pods {
		o := &p.Pods[i]
		n := p.node(o.Node)
		if n == nil || !n.Pods.Contains(o.IP) {
			return fmt.Errorf("pod %s: its node is not declared, or has another range", o.Name)
		}
	}
	for i := range p.Services {
		for _, name := range p.Services[i].Backends {
			if p.pod(name) == nil {
				return fmt.Errorf("service %s: no pod %s", p.Services[i].Name, name)
			}
		}
		for _, name := range p.Services[i].Entries {
			if p.node(name) == nil {
				return fmt.Errorf("service %s: no node %s", p.Services[i].Name, name)
			}
		}
	}
	for i := range p.Loads {
		if err := p.checkLoad(&p.Loads[i]); err != nil {
			return fmt.Errorf("load %d: %w", i+1, err)
		}
	}
	for i := range p.Faults {
		if err := p.checkFault(&p.Faults[i]); err != nil {
			return fmt.Errorf("fault %d: %w", i+1, err)
		}
	}
	return nil
}
