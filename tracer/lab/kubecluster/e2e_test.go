package kubecluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/lab"
)

const grace = 8 * time.Second

// scenario is what happens to the cluster, and what midhop must make of it.
type scenario struct {
	name string
	lab  string // the lab's scenario
	lost bool   // run the node lifecycle controller: the API notices
	// also is what happens in the API beside the fault, or because of it.
	also  func(t *testing.T, tr *trial, f lab.FaultInfo)
	cause event.CauseKind // that must stand in the API's word on the node, if any
	once  bool            // in the first mode only: the proxies have no part in it
}

var scenarios = []scenario{
	{name: "node-gone", lab: "node-gone", lost: true, cause: event.CauseUnknown},
	{name: "node-rebooted", lab: "node-rebooted", cause: event.CauseRebooted},
	{name: "node-deleted", lab: "node-gone", also: deleteNode, cause: event.CauseDeleted},
	{name: "node-recreated", lab: "node-gone", also: recreateNode, cause: event.CauseRecreated},
	{name: "vip-moved", lab: "vip-moved"},
	{name: "kubelet-silent", lab: "node-gone", cause: event.CauseLeaseStale, once: true},
	{name: "drain", lab: "drain", also: drain, cause: event.CauseDraining},
}

func deleteNode(t *testing.T, tr *trial, f lab.FaultInfo) {
	if err := tr.world.api.CoreV1().Nodes().Delete(context.Background(), f.Target, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func recreateNode(t *testing.T, tr *trial, f lab.FaultInfo) {
	ctx := context.Background()
	old, err := tr.world.api.CoreV1().Nodes().Get(ctx, f.Target, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	deleteNode(t, tr, f)
	fresh := old.DeepCopy()
	fresh.ObjectMeta = metav1.ObjectMeta{Name: old.Name, Labels: old.Labels}
	if _, err := tr.world.api.CoreV1().Nodes().Create(ctx, fresh, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func cordon(t *testing.T, tr *trial, f lab.FaultInfo) {
	_, err := tr.world.api.CoreV1().Nodes().Patch(context.Background(), f.Target, types.MergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// drain cordons the node and evicts a pod from it through the API, as kubectl drain does.
func drain(t *testing.T, tr *trial, f lab.FaultInfo) {
	ctx := context.Background()
	pod := event.Pod{Namespace: "ws", Name: "bystander", Node: f.Target, IPs: []netip.Addr{netip.MustParseAddr("10.255.255.9")}}
	if err := tr.world.makePod(ctx, pod); err != nil {
		t.Fatal(err)
	}
	cordon(t, tr, f)
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := tr.world.api.CoreV1().Pods(pod.Namespace).EvictV1(ctx, eviction); err != nil {
		t.Fatal(err)
	}
}

// TestScenarios lets real kube-proxies write the rules of the lab's nodes, in both of their modes, and a real API server
// name what is seen.
func TestScenarios(t *testing.T) {
	modes := strings.Fields(os.Getenv("KUBECLUSTER_MODES"))
	if len(modes) == 0 {
		modes = []string{"nftables", "iptables"}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-15s %-9s %-15s %-22s %-14s %7s  %s\n", "SCENARIO", "MODE", "VERDICT", "CULPRIT", "CAUSE", "AFTER", "VICTIMS: POD WORKLOAD SERVICE")
	for _, mode := range modes {
		for _, s := range scenarios {
			if s.once && mode != modes[0] {
				continue
			}
			t.Run(mode+"/"+s.name, func(t *testing.T) {
				row := s.run(t, mode)
				table.WriteString(row)
				fmt.Fprintf(os.Stderr, "  %s", row) // progress: the whole takes minutes
			})
		}
	}
	fmt.Print(table.String())
}

func (s scenario) run(t *testing.T, mode string) string {
	set := setup{mode: mode, scenario: s.lab}
	if s.lost {
		set.grace = grace
	}
	tr := start(t, set)
	want := tr.cluster.Expected()
	f := tr.breakIt()
	if s.also != nil {
		s.also(t, tr, f)
	}
	rule, culprit, after := "none", "", ""
	victims := ""
	if len(want) > 0 {
		w := want[0]
		rule, culprit = w.Rule, w.Kind+" "+w.Name
		tr.wait("verdict "+w.Rule+" "+w.Name, 2*time.Minute, func(s *seen) bool { _, ok := s.says(w.Rule, w.Name); return ok })
		after = fmt.Sprintf("%.1f s", tr.firstNamed(culprit).Sub(f.Time).Seconds())
	} else {
		select {
		case <-tr.cluster.Settled():
		case <-time.After(60 * time.Second):
			t.Fatal("the lab's story does not end")
		}
	}
	if s.cause != "" {
		tr.wait(fmt.Sprintf("cause %s of %s", s.cause, f.Target), 45*time.Second, func(seen *seen) bool { return seen.cause(f.Target, s.cause) })
	}
	tr.innocent(want)
	if len(want) > 0 && s.lab != "vip-moved" {
		tr.wait("name of a victim", 30*time.Second, func(seen *seen) bool { return len(seen.stalls) > 0 })
		victims = tr.victims()
	}
	return fmt.Sprintf("%-15s %-9s %-15s %-22s %-14s %7s  %s\n", s.name, mode, rule, culprit, s.cause, after, victims)
}

func (tr *trial) firstNamed(culprit string) time.Time {
	tr.seen.mu.Lock()
	defer tr.seen.mu.Unlock()
	return tr.seen.first[culprit]
}

// innocent fails where anybody was named who did nothing.
func (tr *trial) innocent(want []lab.Verdict) {
	tr.t.Helper()
	tr.seen.mu.Lock()
	defer tr.seen.mu.Unlock()
	for key := range tr.seen.named {
		kind, name, _ := strings.Cut(key, " ")
		if kind == string(event.CulpritUnknown) && len(want) > 0 {
			continue
		}
		if !slices.ContainsFunc(want, func(w lab.Verdict) bool { return w.Kind == kind && w.Name == name }) {
			tr.t.Errorf("%s was blamed", key)
		}
	}
}

// victims names whose sockets stalled, by the API's names, and fails where these are not the lab's.
func (tr *trial) victims() string {
	tr.t.Helper()
	tr.seen.mu.Lock()
	defer tr.seen.mu.Unlock()
	var out []string
	for who := range tr.seen.stalls {
		out = append(out, who)
		f := strings.Fields(who)
		if len(f) == 2 && f[1] == "deployment/caller" {
			continue // a client inside the cluster: it serves nothing
		}
		if len(f) != 3 || !strings.HasPrefix(f[1], "deployment/") {
			tr.t.Errorf("a victim is called %q: want pod, deployment and service", who)
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		tr.t.Error("no victim has a name")
	}
	return strings.Join(out, ", ")
}

// TestAPIOutage stops the API server in the middle of an incident and starts it again: the verdict stands and so do the
// names, it is said that the API is away, and nothing leaks.
func TestAPIOutage(t *testing.T) {
	tr := start(t, setup{mode: "nftables", scenario: "node-gone"})
	want := tr.cluster.Expected()[0]
	tr.breakIt()
	tr.wait("verdict", 60*time.Second, func(s *seen) bool { _, ok := s.says(want.Rule, want.Name); return ok })
	tr.plane.Down()
	tr.wait("word that the API is away", 30*time.Second, func(s *seen) bool { return len(s.behind) == 3 })
	tr.seen.mu.Lock()
	before := tr.seen.synced["pods"]
	tr.seen.mu.Unlock()
	if err := tr.plane.Up(context.Background()); err != nil {
		t.Fatal(err)
	}
	tr.wait("return of the API", 60*time.Second, func(s *seen) bool { return len(s.behind) == 0 && s.synced["pods"] > before })
	tr.seen.mu.Lock()
	in, ok := tr.seen.says(want.Rule, want.Name)
	removed := len(tr.seen.removed)
	tr.seen.mu.Unlock()
	if !ok || len(in.Pods) == 0 || len(in.Services) == 0 {
		t.Errorf("after the outage the incident is %+v", in)
	}
	if removed > 0 {
		t.Errorf("%d pods were removed by an outage", removed)
	}
	tr.innocent(tr.cluster.Expected())
	tr.victims()
}
