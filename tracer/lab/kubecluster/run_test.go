package kubecluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/lab"
	"github.com/midhop/midhop/tracer/source/kube"
	"github.com/midhop/midhop/tracer/source/stream"
)

// binaries are where make puts them.
func binaries(t *testing.T) (bin, midhop string) {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	bin, midhop = filepath.Join(root, "bin", "kubecluster"), filepath.Join(root, "bin", "midhop")
	for _, path := range []string{midhop, filepath.Join(bin, "apiserver"), filepath.Join(bin, "proxy"), filepath.Join(bin, "controllers")} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: run make test-e2e, which builds it", err)
		}
	}
	return bin, midhop
}

// trial is one lab over one control plane, with midhop looking on.
type trial struct {
	t       *testing.T
	plane   *ControlPlane
	world   *world
	cluster *lab.Cluster
	kube    *kube.Source
	seen    *seen
	log     *bytes.Buffer

	mu       sync.Mutex
	machines map[string]lab.Machine
}

type setup struct {
	mode, scenario string
	grace          time.Duration // run the node lifecycle controller with this grace period; 0: do not run it
}

// start builds all of it and returns when every connection stands and midhop looks on. The fault is the test's to make.
func start(t *testing.T, s setup) *trial {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("it makes network namespaces: run it as root")
	}
	bin, midhop := binaries(t)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	tr := &trial{t: t, machines: make(map[string]lab.Machine), seen: newSeen()}
	var err error
	if tr.plane, err = Start(ctx, bin, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.plane.Close)
	api, err := kubernetes.NewForConfig(tr.plane.Config(Admin))
	if err != nil {
		t.Fatal(err)
	}
	tr.world = &world{api: api, boots: make(map[string]string), alive: tr.alive}
	if err := tr.plane.Grant(ctx); err != nil {
		t.Fatal(err)
	}
	proxies := &proxies{plane: tr.plane, mode: s.mode, running: make(map[int]bool)}
	t.Cleanup(proxies.close)
	var once sync.Once
	var built error
	o := lab.Defaults()
	o.Scenario, o.Mode, o.Duration, o.Connections = s.scenario, s.mode, 10*time.Minute, 100
	o.Child = []string{midhop, "lab-node"}
	o.AgentArgv = func(node string) []string { return []string{midhop, "agent", "--node", node, "-o", "jsonl"} }
	o.Proxy = func(m lab.Machine, facts []event.Event) error {
		once.Do(func() { built = tr.world.build(ctx, facts) })
		if built != nil {
			return built
		}
		tr.mu.Lock()
		tr.machines[m.Name] = m
		tr.mu.Unlock()
		return proxies.run(m, tr.world.VIP)
	}
	tr.log = &bytes.Buffer{}
	log := slog.New(slog.NewTextHandler(&locked{w: tr.log}, nil))
	if tr.cluster, err = lab.Start(ctx, o, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	go tr.world.kubelets(ctx)
	if s.grace > 0 {
		if err := tr.plane.RunControllers(s.grace, "node-lifecycle-controller"); err != nil {
			t.Fatal(err)
		}
	}
	tr.kube, err = kube.New(kube.Options{Config: tr.plane.Config(Hub), Log: log, BackoffMax: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tr.seen.suspect = tr.kube.Suspect
	engine := tracer.New(tracer.Options{Live: true, Source: "e2e", Log: log, Started: &event.Started{Complete: true}})
	engine.AddSource("kubernetes", tr.kube)
	engine.AddSource("agents", agents{tr.cluster})
	engine.AddSink("seen", tr.seen, tracer.Policy{})
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", tr.log)
		}
	})
	for _, fact := range []string{"nodes", "pods", "services", "sockets"} {
		tr.wait("first look at "+fact, 30*time.Second, func(s *seen) bool { return s.synced[fact] > 0 })
	}
	nodes := 0
	for name := range tr.alive() {
		tr.wait("heartbeat of "+name, 30*time.Second, func(s *seen) bool { return s.beats["agent/"+name] > 0 })
		tr.wait("boot id of "+name+" in the API", 30*time.Second, func(s *seen) bool { return s.boots[name] != "" })
		nodes++
	}
	if nodes < 3 {
		t.Fatalf("the lab has %d nodes", nodes)
	}
	return tr
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// alive are the machines that have power, with their boot ids.
func (tr *trial) alive() map[string]string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	out := make(map[string]string)
	for name, m := range tr.machines {
		if syscall.Kill(m.PID, 0) == nil {
			out[name] = m.BootID
		}
	}
	return out
}

// agents reads the pipes of the nodes' agents.
type agents struct{ cluster *lab.Cluster }

// Run implements tracer.Source.
func (a agents) Run(ctx context.Context, emit func([]event.Event)) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-a.cluster.Agents():
			wg.Go(func() {
				defer p.R.Close()
				defer context.AfterFunc(ctx, func() { p.R.Close() })()
				_ = stream.New(p.R, stream.Options{}).Run(ctx, func(batch []event.Event) { // it ends when the pipe is closed above
					mu.Lock()
					defer mu.Unlock()
					emit(batch)
				})
			})
		}
	}
}

// seen is what came out of the Engine.
type seen struct {
	mu      sync.Mutex
	beats   map[string]int    // heartbeats of agents
	synced  map[string]int    // first looks, and returns from being behind
	behind  map[string]string // why a fact is behind now
	open    map[string]event.Incident
	closed  []event.Incident
	named   map[string]bool // culprits that were ever named: kind and name
	first   map[string]time.Time
	nodes   map[string][]event.Cause
	boots   map[string]string // of nodes, as the API says
	removed []event.Pod
	stalls  map[string]int // victims as pod, workload and service
	more    chan struct{}
	suspect func(node string)
}

func newSeen() *seen {
	return &seen{
		beats: make(map[string]int), synced: make(map[string]int), behind: make(map[string]string), open: make(map[string]event.Incident), named: make(map[string]bool),
		first: make(map[string]time.Time), nodes: make(map[string][]event.Cause), boots: make(map[string]string), stalls: make(map[string]int), more: make(chan struct{}, 1),
	}
}

// Write implements tracer.Sink.
func (s *seen) Write(batch []event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		switch b := batch[i].Body.(type) {
		case *event.Heartbeat:
			s.beats[batch[i].Source]++
		case *event.Synced:
			if b.Behind != "" {
				s.behind[b.Fact] = b.Behind
				continue
			}
			s.synced[b.Fact]++
			delete(s.behind, b.Fact)
		case *event.NodeFact:
			if b.What != "agent" {
				s.nodes[b.Node.Name] = b.Node.Causes
				s.boots[b.Node.Name] = b.Node.BootID
			}
		case *event.PodFact:
			if b.What == "removed" {
				s.removed = append(s.removed, b.Pod)
			}
		case *event.Stall:
			if k := b.Socket.K8s; k != nil {
				s.stalls[fmt.Sprintf("%s/%s %s %s", k.Namespace, k.Pod, k.Workload, k.Service)]++
			}
		case *event.IncidentFinding:
			in := b.Incident
			key := string(in.Culprit.Kind) + " " + in.Culprit.Name
			s.named[key] = true
			if s.first[key].IsZero() {
				s.first[key] = batch[i].Time
			}
			if in.Culprit.Kind == event.CulpritNode && batch[i].Type != event.IncidentClosed {
				s.suspect(in.Culprit.Name) // as the program does: its Lease is read then
			}
			if batch[i].Type == event.IncidentClosed {
				delete(s.open, in.ID)
				s.closed = append(s.closed, in)
			} else {
				s.open[in.ID] = in
			}
		}
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

// wait returns when something was seen.
func (tr *trial) wait(what string, long time.Duration, is func(*seen) bool) {
	tr.t.Helper()
	deadline := time.After(long)
	for {
		tr.seen.mu.Lock()
		ok := is(tr.seen)
		tr.seen.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-tr.seen.more:
		case <-deadline:
			tr.t.Fatalf("after %s no %s; %s", long, what, tr.seen)
		}
	}
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, in := range s.open {
		fmt.Fprintf(&b, "open: %s %s %s; ", in.Rule, in.Culprit.Kind, in.Culprit.Name)
		for _, e := range in.Evidence {
			fmt.Fprintf(&b, "%q ", e.Text)
		}
	}
	fmt.Fprintf(&b, "named: %v; nodes: %v; behind: %v; stalls: %v", s.named, s.nodes, s.behind, s.stalls)
	return b.String()
}

// says finds the open incident of a rule and a culprit.
func (s *seen) says(rule, culprit string) (event.Incident, bool) {
	for _, in := range s.open {
		if in.Rule == rule && in.Culprit.Name == culprit {
			return in, true
		}
	}
	return event.Incident{}, false
}

func (s *seen) cause(node string, what event.CauseKind) bool {
	return slices.ContainsFunc(s.nodes[node], func(c event.Cause) bool { return c.What == what })
}

// break_ makes the fault and returns when that was.
func (tr *trial) breakIt() lab.FaultInfo {
	tr.t.Helper()
	f, err := tr.cluster.Fault(context.Background())
	if err != nil {
		tr.t.Fatal(err)
	}
	return f
}
