package kubecluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/midhop/midhop/tracer/kubeaccess"
)

// bare is a control plane with one node and no machine behind it.
type bare struct {
	t           *testing.T
	plane       *ControlPlane
	api         kubernetes.Interface
	bin, midhop string
}

func startBare(t *testing.T) *bare {
	t.Helper()
	b := &bare{t: t}
	b.bin, b.midhop = binaries(t)
	if _, err := os.Stat(filepath.Join(b.bin, "kubectl")); err != nil {
		t.Fatalf("%v: run make kubecluster", err)
	}
	var err error
	if b.plane, err = Start(t.Context(), b.bin, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.plane.Close)
	if b.api, err = kubernetes.NewForConfig(b.plane.Config(Admin)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.api.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a program as a user, with our kubectl in its path, and returns what it wrote and its exit code.
func (b *bare) run(user, stdin string, argv ...string) (stdout, stderr string, code int) {
	b.t.Helper()
	config, err := b.plane.Kubeconfig(user, "https://"+b.plane.Address())
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.CommandContext(b.t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+config, "PATH="+b.bin+":"+filepath.Dir(b.midhop)+":"+os.Getenv("PATH"), "HOME="+b.t.TempDir())
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func (b *bare) pods() []corev1.Pod {
	b.t.Helper()
	list, err := b.api.CoreV1().Pods(metav1.NamespaceAll).List(b.t.Context(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return list.Items
}

// nothing fails where a probe has left something.
func (b *bare) nothing() {
	b.t.Helper()
	for _, p := range b.pods() {
		b.t.Errorf("pod %s/%s is left, deleted %v", p.Namespace, p.Name, p.DeletionTimestamp)
	}
	jobs, err := b.api.BatchV1().Jobs(metav1.NamespaceAll).List(b.t.Context(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, j := range jobs.Items {
		b.t.Errorf("job %s/%s is left", j.Namespace, j.Name)
	}
}

// setPhase plays the kubelet for a pod.
func (b *bare) setPhase(p *corev1.Pod, phase corev1.PodPhase) {
	b.t.Helper()
	p.Status.Phase = phase
	ready := corev1.ConditionFalse
	if phase == corev1.PodRunning {
		ready = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	if _, err := b.api.CoreV1().Pods(p.Namespace).UpdateStatus(b.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// TestProbe runs `midhop probe` against the real API server, as far as that goes without a kubelet: what the user's rights
// lack is told, the command that it names grants exactly what is needed, the API server takes the pod, and what was started
// is removed though no kubelet ever heard of it.
func TestProbe(t *testing.T) {
	b := startBare(t)
	probe := []string{b.midhop, "probe", "node/node-a", "--yes", "-o", "table", "--start-timeout", "2s"}
	_, said, code := b.run(Outsider, "", probe...)
	if code != 3 || !strings.Contains(said, "create pods in namespace default") || !strings.Contains(said, "create pods/attach in namespace default") {
		t.Fatalf("without rights it exits %d and says\n%s", code, said)
	}
	create := regexp.MustCompile(`kubectl create role midhop-probe [^;\n]+`).FindString(said)
	if create == "" {
		t.Fatalf("it names no command:\n%s", said)
	}
	bind := "kubectl create rolebinding midhop-probe --role=midhop-probe --user=outsider"
	if _, said, code := b.run(Admin, create+"\n"+bind+"\n", "bash", "-e"); code != 0 {
		t.Fatalf("%s: %s", create, said)
	}
	deadline := time.Now().Add(30 * time.Second)
	for { // rights reach the authorizer by a watch of its own
		_, said, code = b.run(Outsider, "", probe...)
		if !strings.Contains(said, "you may not: ") || time.Now().After(deadline) {
			break
		}
	}
	for _, want := range []string{"the kubelet has not started it", "you may not list nodes", "pods have no names"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if code != 3 {
		t.Errorf("exit code %d", code)
	}
	b.nothing()

	if _, err := b.api.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline"},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, said, code = b.run(Admin, "", append(probe, "--pod-namespace", "strict")...)
	if code != 3 || !strings.Contains(said, "violates PodSecurity") || !strings.Contains(said, "--pod-namespace") {
		t.Errorf("in a strict namespace it exits %d and says\n%s", code, said)
	}
	b.nothing()
}

// TestProbePrint runs what --print prints with kubectl itself, but for the attaching, which takes a kubelet.
func TestProbePrint(t *testing.T) {
	b := startBare(t)
	script, said, code := b.run(Admin, "", b.midhop, "probe", "node-a", "--print")
	if code != 0 {
		t.Fatal(said)
	}
	steps := strings.SplitN(script, "\n# ", 3)
	if len(steps) != 3 || !strings.Contains(steps[1], "kubectl -n default attach -i -q -c midhop ") {
		t.Fatalf("the script is\n%s", script)
	}
	ran := make(chan error, 1)
	go func() {
		_, said, code := b.run(Admin, steps[0], "bash", "-e")
		if code != 0 {
			ran <- errors.New(said)
		}
		close(ran)
	}()
	var pod *corev1.Pod
	for deadline := time.Now().Add(30 * time.Second); pod == nil && time.Now().Before(deadline); {
		if list := b.pods(); len(list) == 1 {
			pod = &list[0]
		}
	}
	if pod == nil {
		t.Fatalf("no pod; %v", <-ran)
	}
	if !pod.Spec.HostPID || !pod.Spec.Containers[0].StdinOnce || pod.Spec.NodeName != "node-a" {
		t.Errorf("the API server keeps %+v", pod.Spec)
	}
	b.setPhase(pod, corev1.PodRunning)
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	pod = &b.pods()[0]
	b.setPhase(pod, corev1.PodSucceeded) // as the kubelet says when the input has ended
	if _, said, code := b.run(Admin, "# "+steps[2], "bash", "-e"); code != 0 {
		t.Fatal(said)
	}
	b.nothing()
}

// TestProbeKeeper lets the real controllers remove what a killed probe left.
func TestProbeKeeper(t *testing.T) {
	b := startBare(t)
	if err := b.plane.RunControllers(time.Minute, "job-controller,ttl-after-finished-controller,garbage-collector-controller"); err != nil {
		t.Fatal(err)
	}
	d, err := kubeaccess.NewDebugger(&kubeaccess.Access{Config: b.plane.Config(Admin)})
	if err != nil {
		t.Fatal(err)
	}
	r := &kubeaccess.DebugRun{ID: kubeaccess.NewRunID(), Namespace: "default", Image: "example.org/midhop:1", Deadline: time.Minute,
		Args: func(string) []string { return []string{"agent"} }, Capable: []string{"BPF"}}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	owner, err := d.Keep(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(ctx, r, "node-a", owner); err != nil {
		t.Fatal(err)
	}
	pod := &b.pods()[0]
	b.setPhase(pod, corev1.PodFailed) // as the kubelet says at the deadline
	jobs := b.api.BatchV1().Jobs("default")
	soon := []byte(`{"spec":{"ttlSecondsAfterFinished":1}}`) // instead of a minute after the deadline
	if _, err := jobs.Patch(ctx, r.KeeperName(), types.MergePatchType, soon, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for {
		list, err := jobs.List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatalf("still there: %d pods; %v", len(b.pods()), err)
		}
		if len(list.Items) == 0 && len(b.pods()) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still there: jobs %+v, %d pods", list.Items, len(b.pods()))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// TestDeploy applies what `midhop deploy` prints with kubectl, which has the API server check every field, and applies it
// again.
func TestDeploy(t *testing.T) {
	b := startBare(t)
	for range 2 {
		manifests, said, code := b.run(Admin, "", b.midhop, "deploy")
		if code != 0 {
			t.Fatal(said)
		}
		if out, said, code := b.run(Admin, manifests, "kubectl", "apply", "-f", "-"); code != 0 || strings.Contains(said, "Warning") {
			t.Fatalf("kubectl apply exits %d\n%s%s", code, out, said)
		}
	}
	if _, err := b.api.AppsV1().DaemonSets("midhop").Get(t.Context(), "midhop-agent", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	sets, err := b.api.AppsV1().StatefulSets("midhop").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(sets.Items) != 1 {
		t.Errorf("StatefulSets %v, %v", sets.Items, err)
	}
	// The hub's pods in a namespace of its level, and the agents' too: admission judges pods, not what makes them.
	set, err := b.api.AppsV1().DaemonSets("midhop").Get(t.Context(), "midhop-agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]corev1.PodSpec{"agent": set.Spec.Template.Spec, "hub": sets.Items[0].Spec.Template.Spec} {
		spec.PriorityClassName = "" // the real API server makes these classes a while after its start
		for _, c := range sets.Items[0].Spec.VolumeClaimTemplates {
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: c.Name}) // what the controller puts there
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "midhop"}, Spec: spec}
		if _, err := b.api.CoreV1().Pods("midhop").Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
