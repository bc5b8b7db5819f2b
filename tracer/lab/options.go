package lab

import (
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Options say which cluster to build and what to do to it. Start from [Defaults].
type Options struct {
	Scenario    string        // a name of [Scenarios]
	Connections int           // long-lived connections, over all clients
	Duration    time.Duration // from the moment the lab is up
	FaultAfter  time.Duration // when the fault comes, from the moment the lab is up; 0: at a third of Duration
	AttachAfter time.Duration // start the agents this long after the fault; 0: before everything else
	Talk        float64       // messages a second and direction on every fifth connection; 0: all are idle
	Ping        time.Duration // the server pings every connection this often; 0: never
	Pods        int           // pods behind the service
	Loss        float64       // percent, for the scenarios that lose packets
	Victim      int           // the node that the fault hits, counted from 1
	Seed        int64         // varies names, addresses, ports and the number of nodes; 0: node-a, node-b, node-c
	Agents      []int         // the nodes that run an agent, counted from 1; nil: all
	AgentsOf    []string      // beside Agents, the nodes that run one by what they are: "victim", "pods" (the service's) or "caller"
	NoFault     bool          // everything but the fault
	Reconnect   bool          // clients whose connection ends make another, by a node that takes new ones
	Mode        string        // how kube-proxy writes its rules: nftables or iptables
	Family      int           // 4 or 6
	Overlay     string        // vxlan, or empty: routed between nodes

	Hub bool // a machine for a fleet's hub, see [Cluster.StartHub]

	// AgentArgv is the command line of the agent on a node, which writes NDJSON facts to its standard output.
	// Nil: this binary as `agent --node NODE -o jsonl`.
	AgentArgv func(node string) []string
	// AgentEnv is the agents' environment; nil: this process's.
	AgentEnv []string
	// Child is the command line prefix that reaches [ChildMain]. Nil: this binary as `lab-node`.
	Child []string
	// Proxy writes the service rules of a machine in the lab's place: tests let a real kube-proxy do it. It is called when a
	// node has come up and when endpoints have changed, for several nodes at once, and returns when the rules stand. The
	// facts are what the API server has to say by then.
	Proxy func(Machine, []event.Event) error
	// StateDir holds the locks of runs; empty: /run/midhop-lab, or the temporary directory where that is not possible.
	StateDir string

	// Watched lets the fault wait until it is closed, as long as [watchedWithin] at most: where agents take minutes to come up,
	// nobody would see the beginning. Nil: it waits for nobody.
	Watched <-chan struct{}

	downFor  time.Duration   // how long what goes and comes back is away; 0: as the scenario says
	drainFor time.Duration   // over which the connections of a drained node end; 0: 4 s
	patience time.Duration   // how long the proxy waits for an answer; 0: 1 s
	goneWhen <-chan struct{} // when a node that is broken already loses power; nil: when its time has come
}

// Machine is a node of the lab as seen from outside: its first process, whose namespaces are the node's.
type Machine struct {
	Name   string
	PID    int
	BootID string
}

// Defaults returns the options of a plain `midhop lab`.
func Defaults() Options {
	return Options{
		Scenario:    "node-gone",
		Connections: 200,
		Duration:    30 * time.Second,
		Talk:        20,
		Pods:        1,
		Loss:        10,
		Victim:      1,
		Mode:        "nftables",
		Family:      4,
	}
}

// UsageError is a mistake in the options, or a wish that this build does not fulfil yet. Its text names both and needs no
// prefix.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func usage(format string, args ...any) error { return &UsageError{Text: fmt.Sprintf(format, args...)} }

// Limits of one lab. Above maxConnections the sockets of one service process would not fit under this machine's limit of
// open files; maxPods keeps pod addresses inside one /24.
const (
	maxConnections = 15000
	maxPods        = 100
	maxTalk        = 1000
)

// afterAttach is how long the lab goes on after agents that start late: two keepalive intervals of the service's sockets.
const afterAttach = 2 * keepaliveTime

// The keepalive of the service's accepted sockets: idle 15 s, then every 15 s, given up after 9 unanswered probes. These
// were Go's defaults in the incident that midhop exists for, and still are.
const (
	keepaliveTime   = 15 * time.Second
	keepaliveProbes = 9
)

// proxyPatience is how long a balancer waits for a connection, or an answer, before it gives up.
const proxyPatience = time.Second

// check refuses what cannot be built and returns the options with defaults filled in.
func (o Options) check() (Options, Scenario, error) {
	s, err := findScenario(o.Scenario)
	if err != nil {
		return o, s, err
	}
	switch {
	case o.Connections < 1 || o.Connections > maxConnections:
		return o, s, usage("--connections %d: from 1 to %d", o.Connections, maxConnections)
	case o.Duration < 3*time.Second:
		return o, s, usage("--duration %s: at least 3s", o.Duration)
	case o.FaultAfter < 0 || o.FaultAfter >= o.Duration:
		return o, s, usage("--fault-after %s: less than --duration, which is %s", o.FaultAfter, o.Duration)
	case o.AttachAfter < 0:
		return o, s, usage("--attach-after %s: not negative", o.AttachAfter)
	case !(o.Talk >= 0 && o.Talk <= maxTalk):
		return o, s, usage("--talk %g: from 0 to %d messages a second", o.Talk, maxTalk)
	case o.Ping < 0 || (o.Ping > 0 && o.Ping < 10*time.Millisecond):
		return o, s, usage("--ping %s: at least 10ms, or 0 for none", o.Ping)
	case o.Pods < 1 || o.Pods > maxPods:
		return o, s, usage("--pods %d: from 1 to %d", o.Pods, maxPods)
	case !(o.Loss > 0 && o.Loss <= 100):
		return o, s, usage("--loss %g: a percentage above 0", o.Loss)
	case o.Mode != "nftables" && o.Mode != "iptables":
		return o, s, usage("--mode %q: nftables or iptables", o.Mode)
	case o.Family != 4 && o.Family != 6:
		return o, s, usage("--family %d: 4 or 6", o.Family)
	case o.Overlay == "vxlan" && s.direct:
		return o, s, usage("--overlay vxlan: a balancer cannot speak to pods inside an overlay, which scenario %s wants", s.Name)
	case o.Overlay == "vxlan" && s.routed:
		return o, s, usage("--overlay vxlan: scenario %s wants nodes that are routed to each other", s.Name)
	case o.Overlay != "" && o.Overlay != "vxlan":
		return o, s, usage("--overlay %q: vxlan, or leave it out", o.Overlay)
	}
	o.Pods = max(o.Pods, s.pods)
	p := newPlan(o, s)
	nodes := len(p.Nodes)
	if o.Victim < 1 || o.Victim > nodes {
		return o, s, usage("--victim %d: this lab has nodes 1 to %d", o.Victim, nodes)
	}
	for _, k := range o.Agents {
		if k < 1 || k > nodes {
			return o, s, usage("--agents %d: this lab has nodes 1 to %d", k, nodes)
		}
	}
	for _, of := range o.AgentsOf {
		k, ok := map[string]int{"victim": p.Victim, "pods": p.Home, "caller": p.Caller.Node}[of]
		if !ok {
			return o, s, usage("--agents %q: numbers of nodes, or victim, pods or caller", of)
		}
		o.Agents = append(slices.Clone(o.Agents), k+1)
	}
	if o.FaultAfter == 0 {
		o.FaultAfter = o.Duration / 3
		if s.Kind == "" {
			o.FaultAfter = min(o.FaultAfter, Defaults().Duration/3) // nobody waits for what is no fault
		}
	}
	if o.downFor == 0 {
		o.downFor = 5 * time.Second
		if s.downFor > 0 {
			o.downFor = s.downFor
		}
	}
	if o.drainFor == 0 {
		o.drainFor = 4 * time.Second
	}
	if o.patience == 0 {
		o.patience = proxyPatience
	}
	if o.AttachAfter > 0 {
		o.Duration = max(o.Duration, o.FaultAfter+o.AttachAfter+afterAttach)
	}
	if o.AgentArgv == nil || o.Child == nil {
		self, err := os.Executable()
		if err != nil {
			return o, s, fmt.Errorf("find the path of this program: %w", err)
		}
		if o.Child == nil {
			o.Child = []string{self, "lab-node"}
		}
		if o.AgentArgv == nil {
			o.AgentArgv = func(node string) []string { return []string{self, "agent", "--node", node, "-o", "jsonl"} }
		}
	}
	return o, s, nil
}

// watchedWithin is how long a fault that is due waits for [Options.Watched].
const watchedWithin = 4 * time.Minute

// hasAgent says whether node k, counted from 0, runs an agent.
func (o Options) hasAgent(k int) bool { return o.Agents == nil || slices.Contains(o.Agents, k+1) }

// talkEvery is the time between two messages in one direction of a talking connection, 0 for none.
func (o Options) talkEvery() time.Duration {
	if o.Talk == 0 {
		return 0
	}
	return time.Duration(math.Round(float64(time.Second) / o.Talk))
}
