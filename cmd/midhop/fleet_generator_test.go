package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
)

// What every simulated agent does.
const (
	simFlows    = 200 // live translated connections
	simRate     = 20  // of these made and ended in a second
	simBurst    = 200 // in a second, for 5 s, on 5 % of the agents
	simPeers    = 5   // nodes that its pod's connections cross
	simSockets  = 8   // through each of these
	simCrossing = 20  // agents whose pods hang on the node that dies
)

// maxBehind is how far behind its time a group of agents may fall before it goes on from there.
const maxBehind = time.Second

// simPlan is what a generator is to play, as JSON in MIDHOP_SCALE_GENERATOR.
type simPlan struct {
	URL    string
	Secret string // prefix of the files of tokens, one for each connection
	Agents int    // of the whole fleet
	Conns  int    // of the whole fleet; agents i, i+Conns, i+2*Conns, ... share connection i
	First  int    // connection of this generator, and the number of them
	Count  int
}

// simReport is what a generator says at its end.
type simReport struct {
	Acked, Dropped, Waiting uint64
	Sent                    uint64  // bytes written to the hub
	Late                    float64 // seconds that an agent was behind its time, at most
	LateThen                float64 // the same, from the node's death until the next report is due
	CPU                     float64
}

// nodesOf names the nodes whose agents share a connection.
func (p *simPlan) nodesOf(conn int) (names []string) {
	for i := conn; i < p.Agents; i += p.Conns {
		names = append(names, simNode(i))
	}
	return names
}

// sim is one generator's part of the fleet.
type sim struct {
	t    testing.TB
	n    int
	died atomic.Bool
}

func (s *sim) isDead() bool { return s.died.Load() }

func simNode(i int) string { return fmt.Sprintf("node-%d", i) }

func simAddr(net byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, net, byte(i >> 8), byte(i)})
}

// TestFleetGenerator is a process of generators: it plays agents until it reads "end", and lets the first node die at "die".
func TestFleetGenerator(t *testing.T) {
	text := os.Getenv("MIDHOP_SCALE_GENERATOR")
	if text == "" {
		t.Skip("a child of TestFleetScale")
	}
	var plan simPlan
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		t.Fatal(err)
	}
	s := &sim{t: t, n: plan.Agents}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	groups := make([]*simGroup, plan.Count)
	for i := range groups {
		groups[i] = &simGroup{sim: s, plan: &plan, conn: plan.First + i}
		wg.Go(func() { groups[i].run(ctx) })
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan() && in.Text() != "end"; {
		if in.Text() == "die" {
			s.died.Store(true)
		}
	}
	cancel()
	wg.Wait()
	var r simReport
	for _, g := range groups {
		r.Acked, r.Dropped, r.Waiting, r.Sent = r.Acked+g.report.Acked, r.Dropped+g.report.Dropped, r.Waiting+g.report.Waiting, r.Sent+g.report.Sent
		r.Late, r.LateThen = max(r.Late, g.report.Late), max(r.LateThen, g.report.LateThen)
	}
	r.CPU, _ = usageOf(os.Getpid())
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("report " + string(out))
}

// simGroup are the agents that share one connection.
type simGroup struct {
	*sim
	plan   *simPlan
	conn   int
	report simReport
}

// run plays the group's agents, each a tenth of a second after the other's turn has come, until ctx ends.
func (g *simGroup) run(ctx context.Context) {
	nodes := g.plan.nodesOf(g.conn)
	conn, err := fleet.Dial(fleet.DialOptions{URL: g.plan.URL, TokenFile: g.plan.Secret + fmt.Sprint(g.conn), Node: nodes[0]})
	if err != nil {
		g.t.Error(err)
		return
	}
	defer conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dying, die := context.WithCancel(ctx) // the first agent's
	defer die()
	agents := make([]*simAgent, len(nodes))
	for k := range agents {
		p, err := fleet.NewPublisher(conn, fleet.PublishOptions{Node: nodes[k]})
		if err != nil {
			g.t.Error(err)
			return
		}
		i := g.conn + k*g.plan.Conns
		agents[k] = &simAgent{sim: g.sim, i: i, source: "agent/" + nodes[k], p: p}
		of := ctx
		if i == 0 {
			of = dying
		}
		wg.Go(func() { p.Run(of) })
		agents[k].open()
	}
	const step = time.Second / 10
	begin := time.Now()
	var death time.Time
	for turn := 0; ctx.Err() == nil; turn++ {
		k := turn % len(agents)
		at := begin.Add(time.Duration(turn) * step / time.Duration(len(agents)))
		if wait := time.Until(at); wait > time.Millisecond {
			time.Sleep(wait)
		} else {
			g.report.Late = max(g.report.Late, -wait.Seconds())
			if -wait > maxBehind { // what a slow start left undone is not made up for: the rate is the load
				begin = begin.Add(-wait)
			}
			if death.IsZero() && g.isDead() {
				death = time.Now()
			}
			if !death.IsZero() && time.Since(death) < 2*time.Second {
				g.report.LateThen = max(g.report.LateThen, -wait.Seconds())
			}
		}
		if agents[k].i == 0 && g.isDead() {
			die()
			continue
		}
		agents[k].step(turn / len(agents))
	}
	for _, a := range agents {
		st := a.p.Stats()
		g.report.Acked += st.Facts.Acked + st.Ledger.Acked
		g.report.Dropped += st.Facts.Dropped + st.Ledger.Dropped
		g.report.Waiting += st.Facts.Waiting + st.Ledger.Waiting
	}
	g.report.Sent, _ = conn.Traffic()
}

// writeTokens writes the hub's list of tokens and each connection's own.
func (p *simPlan) writeTokens(dir string) (list string, err error) {
	p.Secret = filepath.Join(dir, "secret-")
	var b strings.Builder
	for c := range p.Conns {
		fmt.Fprintf(&b, "agent %s secret-%d\n", strings.Join(p.nodesOf(c), ","), c)
		if err := os.WriteFile(p.Secret+fmt.Sprint(c), fmt.Appendf(nil, "secret-%d", c), 0o600); err != nil {
			return "", err
		}
	}
	list = filepath.Join(dir, "tokens")
	return list, os.WriteFile(list, []byte(b.String()), 0o600)
}

type simAgent struct {
	sim     *sim
	i       int
	source  string
	p       *fleet.Publisher
	n       uint64
	batch   []event.Event
	flow    int
	pass    uint64
	silent  time.Time // when what crosses the dead node was heard last
	retrans uint8
}

func (a *simAgent) add(t event.Type, b event.Body) {
	a.n++
	a.batch = append(a.batch, event.Event{Type: t, Time: time.Now().UTC(), Source: a.source, ID: event.ID{Origin: a.source + "-1", N: a.n}, Body: b})
}

func (a *simAgent) flush() { a.p.Write(a.batch); a.batch = nil }

func (a *simAgent) open() {
	node := simNode(a.i)
	a.add(event.StreamStarted, &event.Started{Host: event.Host{Node: node, BootID: node}, Complete: true})
	a.add(event.NodeChanged, &event.NodeFact{What: "agent", Node: event.Node{Name: node, BootID: node, Addresses: []event.Address{{IP: simAddr(1, a.i), From: "agent eth0"}}}})
	var rows []event.SocketRow
	for k := range simPeers {
		for n := range simSockets {
			rows = append(rows, event.SocketRow{Change: event.SocketSeen, Role: event.RoleAccepted, Socket: a.socket(k, n), TCP: event.Progress{State: "established", RTO: event.Seconds(200 * time.Millisecond), ReceivedAge: event.Known(event.Seconds(0))}})
		}
	}
	limits := []event.Limits{{Keepalive: true, KeepaliveTime: event.Seconds(15 * time.Second), KeepaliveInterval: event.Seconds(15 * time.Second), KeepaliveProbes: 9, Retries2: 15}}
	for len(rows) > 0 {
		m := min(len(rows), 24)
		a.add(event.PathSockets, &event.Sockets{Pass: 1, Limits: limits, Rows: rows[:m:m]})
		rows = rows[m:]
	}
	a.add(event.StreamSynced, &event.Synced{Fact: "sockets"})
	for range simFlows {
		a.nat(event.NATFound, a.flow)
		a.flow++
	}
	a.flush()
}

// peer is the node that the k-th bundle of connections crosses: the one that dies is among those of the first agents.
func (a *simAgent) peer(k int) int {
	if k == 0 && a.i > 0 && a.i <= simCrossing {
		return 0
	}
	p := 1 + (a.i*7+k*13)%(a.sim.n-1)
	if p == a.i {
		p = 1 + p%(a.sim.n-1)
	}
	return p
}

func (a *simAgent) socket(k, n int) event.Socket {
	return event.Socket{
		Cookie: uint64(a.i)<<20 | uint64(k)<<10 | uint64(n) + 1, Netns: 1, Family: event.IPv4,
		Local: event.Endpoint{IP: simAddr(2, a.i), Port: 8080}, Peer: event.Endpoint{IP: simAddr(1, a.peer(k)), Port: uint16(20000 + k*100 + n)},
	}
}

func (a *simAgent) nat(t event.Type, flow int) {
	port := uint16(1024 + flow%60000)
	a.add(t, &event.NATFact{Rung: "ctnetlink", By: event.By{Node: simNode(a.i)}, Why: map[bool]string{true: "closed"}[t == event.NATDestroyed], NAT: event.NAT{
		Proto: "tcp", Kinds: []string{"snat", "dnat"},
		Original: event.Tuple{Src: event.Endpoint{IP: simAddr(200, flow), Port: port}, Dst: event.Endpoint{IP: simAddr(96, 1), Port: 80}},
		Reply:    event.Tuple{Src: event.Endpoint{IP: simAddr(2, a.peer(flow%simPeers)), Port: 8080}, Dst: event.Endpoint{IP: simAddr(1, a.i), Port: port}},
	}})
}

// step is a tenth of a second.
func (a *simAgent) step(step int) {
	rate := simRate / 10
	if a.i%20 == 3 && step >= 100 && step < 150 {
		rate = simBurst / 10
	}
	for range rate {
		a.nat(event.NATCreated, a.flow)
		a.nat(event.NATDestroyed, a.flow-simFlows)
		a.flow++
	}
	dead := a.sim.isDead()
	hangs := dead && a.i > 0 && a.i <= simCrossing
	if hangs && a.silent.IsZero() {
		a.silent = time.Now()
	}
	// Every other connection through the dead node speaks: 200, 600 and 1,400 ms later its segments go out again.
	if since := time.Since(a.silent); hangs && int(a.retrans) < 3 && since >= []time.Duration{200, 600, 1400}[a.retrans]*time.Millisecond {
		a.retrans++
		for n := 0; n < simSockets; n += 2 {
			a.add(event.TCPRetransmit, &event.TCPFact{Socket: a.socket(0, n), TCP: event.Progress{
				State: "established", Kind: "rto", Retransmits: a.retrans, Backoff: a.retrans - 1, RTO: event.Seconds(200*time.Millisecond) << a.retrans,
				Unacked: 60, ReceivedAge: event.Known(event.Seconds(since)), StalledAge: event.Known(event.Seconds(since - 200*time.Millisecond)),
			}})
		}
	}
	if (step+a.i)%10 == 0 {
		a.add(event.StreamHeartbeat, &event.Heartbeat{})
		a.pass++
		var rows []event.TrafficRow
		for k := range simPeers {
			age := 20 * time.Millisecond
			if k == 0 && hangs {
				age = time.Since(a.silent)
			}
			rows = append(rows, event.TrafficRow{
				Netns: 1, Local: event.Endpoint{IP: simAddr(2, a.i), Port: 8080}, Peer: event.Endpoint{IP: simAddr(1, a.peer(k))},
				Sockets: simSockets, Active: simSockets / 2, Sent: 100, ReceivedAge: event.Known(event.Seconds(age)),
			})
		}
		a.add(event.PathTraffic, &event.Traffic{Pass: a.pass + 1, Span: event.Seconds(time.Second), Took: event.Seconds(time.Millisecond), Total: simPeers * simSockets, Rows: rows})
	}
	if (step+a.i)%50 == 0 {
		a.add(event.NATTable, &event.Table{Node: simNode(a.i), Entries: simFlows, Max: 262144})
	}
	if len(a.batch) > 0 {
		a.flush()
	}
}
