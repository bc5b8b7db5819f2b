package tracer

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// sim is a small cluster on paper: connections with the kernel's clocks, agents that look at them as real ones do, and
// faults. It gives the facts of a run, in the order in which they would arrive.
type sim struct {
	rng   *rand.Rand
	epoch time.Time
	now   time.Duration // since epoch
	nodes []*simNode
	pods  []*simPod
	conns []*simConn
	todo  []simFault
	facts []simFact

	attach    time.Duration // agents start then
	inventory bool
	ledger    bool
	podless   bool
	cookies   uint64
	died      time.Time     // the newest death of a node, or the start of the watch after it
	churn     time.Duration // a healthy connection closes and another opens this often
	churned   time.Duration
	vanish    time.Duration // a client vanishes this often
	vanished  time.Duration
}

type simNode struct {
	name        string
	ip          netip.Addr
	cidr        netip.Prefix
	agent       bool
	dead        bool
	agentDead   bool
	front       bool // everything before it is gone
	uplink      bool // its own uplink is gone
	narrow      bool // it drops full-size segments
	loss        float64
	boot        int
	phase       time.Duration
	delay       time.Duration // of its facts on their way, beside up to 30 ms of chance
	n           uint64
	pass        uint64
	seen        map[uint64]*simConn
	lastArrival time.Duration
	started     bool
	synced      bool
	censusAt    time.Duration
	beatAt      time.Duration
}

type simPod struct {
	name, svc string
	node      *simNode
	ip        netip.Addr
	dead      bool
}

type simConn struct {
	cookie      uint64
	pod         *simPod
	hop         *simNode // nil: nobody in the middle
	far         *simPod  // of a socket that dialled: the pod behind the hop
	local, peer event.Endpoint
	client      event.Endpoint
	dialled     bool
	out         bool // it leaves by its hop, which masquerades it
	gone        bool // its client
	lost        bool // its hop has forgotten how to translate it
	large       bool // what it sends is too large for its hop
	hung        bool // its client does not read
	closed      bool
	every       time.Duration // between messages, 0 idle
	nextTalk    time.Duration
	limits      event.Limits

	received time.Duration
	unacked  bool
	sent     time.Duration
	retrans  int
	segments int // sent since the last look
	resent   int // of these again
	stalled  time.Duration
	rto      time.Duration
	nextRTO  time.Duration
	probes   int
	probeAt  time.Duration
	signed   [3]int // retransmissions, probes and, in trouble, the newest receive as the census told them last
	toldSeen bool
}

type simFault struct {
	at   time.Duration
	what func()
}

type simFact struct {
	arrival time.Duration
	ev      event.Event
}

const simStep = 10 * time.Millisecond

func newSim(seed uint64) *sim {
	return &sim{
		rng: rand.New(rand.NewPCG(seed, 7)), epoch: time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC),
		inventory: true, ledger: true,
	}
}

func (s *sim) node(name string) *simNode {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	panic("no node " + name)
}

func (s *sim) pod(name string) *simPod {
	for _, p := range s.pods {
		if p.name == name {
			return p
		}
	}
	panic("no pod " + name)
}

// connect opens n connections to a pod. Through nobody ("direct") they come from balancer addresses; through the pod's
// own node from its bridge; through another node from that node's address.
func (s *sim) connect(n int, via string, pod *simPod, talkers int, every time.Duration) {
	for i := range n {
		s.cookies++
		c := &simConn{cookie: s.cookies, pod: pod, local: event.Endpoint{IP: pod.ip, Port: 8080}, rto: 200 * time.Millisecond}
		port := uint16(20000 + s.cookies%40000)
		c.client = event.Endpoint{IP: netip.AddrFrom4([4]byte{35, 191, byte(s.cookies % 4), byte(1 + s.cookies%250)}), Port: port}
		switch via {
		case "direct":
			c.peer = c.client
		case "host": // a bare address outside
			c.peer = event.Endpoint{IP: netip.MustParseAddr("192.0.2.9"), Port: 443}
		default:
			c.hop = s.node(via)
			c.peer = event.Endpoint{IP: c.hop.ip, Port: port}
			if c.hop == pod.node {
				c.peer.IP = c.hop.cidr.Addr().Next()
			}
		}
		if i < talkers {
			c.every = every
			c.nextTalk = s.now + time.Duration(s.rng.Int64N(int64(every)))
		}
		c.limits = event.Limits{
			Keepalive: true, KeepaliveTime: event.Seconds(15 * time.Second), KeepaliveInterval: event.Seconds(15 * time.Second),
			KeepaliveProbes: 9, Retries2: 15, SynRetries: 6,
		}
		c.received = s.now + time.Duration(s.rng.Int64N(int64(2*time.Second)))
		s.conns = append(s.conns, c)
	}
}

// up says whether a segment sent now gets an answer.
func (s *sim) up(c *simConn) bool {
	if c.gone || c.lost || c.pod.dead || c.pod.node.dead || (c.far != nil && (c.far.dead || c.far.node.dead)) {
		return false
	}
	if c.hop == nil {
		return !c.pod.node.uplink
	}
	if c.hop.dead || c.hop.front || (c.hop != c.pod.node && c.pod.node.uplink) || (c.hop != c.pod.node && c.hop.uplink) {
		return false
	}
	return c.hop.loss == 0 || s.rng.Float64() >= c.hop.loss
}

// run lets the cluster live until the end and returns the facts in the order of their arrival.
func (s *sim) run(until time.Duration) []event.Event {
	for _, n := range s.nodes {
		n.phase = time.Duration(s.rng.Int64N(int64(time.Second)))
		n.seen = make(map[uint64]*simConn)
	}
	s.tellInventory()
	for ; s.now < until; s.now += simStep {
		for len(s.todo) > 0 && s.todo[0].at <= s.now {
			s.todo[0].what()
			s.todo = s.todo[1:]
		}
		s.stir()
		for _, c := range s.conns {
			if !c.closed {
				s.step(c)
			}
		}
		for _, n := range s.nodes {
			s.watch(n)
		}
		s.conns = slices.DeleteFunc(s.conns, func(c *simConn) bool { return c.closed && !c.toldSeen })
	}
	slices.SortStableFunc(s.facts, func(a, b simFact) int { return cmp.Compare(a.arrival, b.arrival) })
	out := make([]event.Event, len(s.facts))
	for i, f := range s.facts {
		out[i] = f.ev
	}
	return out
}

// stir opens and closes healthy connections and lets single clients vanish.
func (s *sim) stir() {
	pick := func() *simConn {
		for range 50 {
			if c := s.conns[s.rng.IntN(len(s.conns))]; !c.closed && !c.gone && c.hop != nil {
				return c
			}
		}
		return nil
	}
	if s.churn > 0 && s.now-s.churned >= s.churn {
		s.churned = s.now
		if c := pick(); c != nil && c.retrans == 0 && c.probes == 0 && s.up(c) {
			c.closed = true
			talkers := 0
			if c.every > 0 {
				talkers = 1
			}
			s.connect(1, c.hop.name, c.pod, talkers, max(c.every, simStep))
			s.conns[len(s.conns)-1].received = s.now
		}
	}
	if s.vanish > 0 && s.now-s.vanished >= s.vanish {
		s.vanished = s.now
		if c := pick(); c != nil {
			c.gone = true
		}
	}
}

// step lets one socket's clocks run.
func (s *sim) step(c *simConn) {
	if c.pod.node.dead || c.pod.dead {
		return
	}
	if c.lost && !c.hop.dead && s.speaks(c) {
		s.reset(c)
		return
	}
	if c.every > 0 && s.now >= c.nextTalk {
		c.nextTalk += c.every
		if s.up(c) { // what the peer says
			c.received = s.now
		}
		if !c.unacked && !c.hung {
			c.sent = s.now
			c.segments++
			if s.up(c) && !(c.large && c.hop.narrow) {
				c.received = s.now
			} else {
				c.unacked, c.rto, c.nextRTO = true, 200*time.Millisecond, s.now+204*time.Millisecond
			}
		}
	}
	if c.unacked && s.now >= c.nextRTO {
		if c.retrans == 0 {
			c.stalled = s.now
		}
		if c.retrans > 0 && s.now-c.stalled >= model.ModelTimeout(15, 200*time.Millisecond, 120*time.Second) {
			s.giveUp(c)
			return
		}
		c.retrans++
		c.segments++
		c.resent++
		s.tellTCP(c, event.TCPRetransmit, "rto", "")
		c.rto = min(2*c.rto, 120*time.Second)
		c.nextRTO = s.now + c.rto
		if s.up(c) && !(c.large && c.hop.narrow) {
			c.unacked, c.retrans, c.received = false, 0, s.now
		}
		return
	}
	if c.unacked {
		return
	}
	if idle := s.now - c.received; idle >= 15*time.Second*time.Duration(1+c.probes) {
		switch {
		case s.up(c):
			c.received, c.probes = s.now, 0
		case c.probes >= 9:
			s.giveUp(c)
		default:
			c.probes++
			c.probeAt = s.now
		}
	}
}

// speaks says whether a socket sends something now: a message, a retransmission, a keepalive probe.
func (s *sim) speaks(c *simConn) bool {
	if c.unacked {
		return s.now >= c.nextRTO
	}
	return (c.every > 0 && s.now >= c.nextTalk) || s.now-c.received >= 15*time.Second*time.Duration(1+c.probes)
}

// reset ends a socket whose hop has answered it with a reset.
func (s *sim) reset(c *simConn) {
	s.tellTCP(c, event.TCPReset, "", "")
	s.tellTCP(c, event.TCPClosed, "", "rst")
	s.tellTCP(c, event.TCPError, "", "")
	c.closed = true
}

// forget takes the entries of a node's connections, the first n that are left, from its table; why is empty where nobody
// can tell.
func (s *sim) forget(n *simNode, most int, why string) {
	for _, c := range s.conns {
		if c.hop != n || c.lost || c.closed || most == 0 || (why == "timeout" && c.every > 0) {
			continue
		}
		c.lost = true
		most--
		if why != "" && s.ledger {
			body := s.entry(c)
			body.Rung, body.Why, body.State = "ctnetlink", why, "established"
			s.tell(n, event.NATDestroyed, body)
		}
	}
}

func (s *sim) giveUp(c *simConn) {
	s.tellTCP(c, event.TCPClosed, "", "abort")
	s.tellTCP(c, event.TCPError, "", "")
	c.closed = true
}

func (s *sim) progress(c *simConn, kind string) event.Progress {
	p := event.Progress{
		State: "established", Kind: kind, Retransmits: uint8(c.retrans), ProbesOut: uint8(c.probes),
		RTO: event.Seconds(c.rto), ReceivedAge: event.Known(event.Seconds(max(0, s.now-c.received))),
	}
	if c.hung {
		p.Unsent, p.SendWindow = 5000, event.Known(uint32(0))
		p.Timer, p.TimerIn = event.TimerProbe0, event.Known(event.Seconds(time.Second))
		return p
	}
	if c.unacked {
		p.Unacked = 100
		if c.large {
			p.Unacked = 4100
		}
		p.Timer, p.TimerIn = event.TimerRetransmit, event.Known(event.Seconds(c.nextRTO-s.now))
		if c.retrans > 0 {
			p.StalledAge = event.Known(event.Seconds(s.now - c.stalled))
		}
	} else {
		p.Timer = event.TimerKeepalive
		p.TimerIn = event.Known(event.Seconds(15*time.Second*time.Duration(1+c.probes) - (s.now - c.received)))
	}
	return p
}

func (s *sim) socket(c *simConn) event.Socket {
	f := event.IPv4
	if c.peer.IP.Is6() {
		f = event.IPv6
	}
	return event.Socket{Cookie: c.cookie, Netns: uint32(c.pod.ip.As16()[15]), Local: c.local, Peer: c.peer, Family: f}
}

func (s *sim) tellTCP(c *simConn, typ event.Type, kind, how string) {
	l := c.limits
	b := &event.TCPFact{Socket: s.socket(c), TCP: s.progress(c, kind), Limits: &l, How: how}
	switch {
	case typ == event.TCPReset:
		b.Reset = &event.Reset{By: "peer"}
	case typ == event.TCPError && c.lost:
		b.Errno = "ECONNRESET"
	case typ == event.TCPError:
		b.Errno = "ETIMEDOUT"
	}
	s.tell(c.pod.node, typ, b)
}

// tell sends a fact of a node's agent on its way. It arrives up to 30 ms later, in the order of the agent.
func (s *sim) tell(n *simNode, typ event.Type, b event.Body) {
	if !n.agent || n.agentDead || n.dead || s.now < s.attach || (!n.started && typ != event.StreamStarted) {
		return
	}
	n.n++
	arrival := max(n.lastArrival, s.now+n.delay+time.Duration(s.rng.Int64N(int64(30*time.Millisecond))))
	n.lastArrival = arrival
	source := "agent/" + n.name
	s.facts = append(s.facts, simFact{arrival, event.Event{
		Type: typ, Time: s.epoch.Add(s.now), Source: source,
		ID: event.ID{Origin: fmt.Sprintf("%s-b%d", source, n.boot), N: n.n}, Body: b,
	}})
}
