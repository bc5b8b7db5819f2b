package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/midhop/midhop/cmd/midhop/deploy"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/kubeaccess"
	"github.com/midhop/midhop/tracer/kubeaccess/apitest"
)

// deployed returns the objects that midhop deploy prints for a namespace.
func deployed(t *testing.T, namespace string) map[string][]byte {
	t.Helper()
	var b bytes.Buffer
	if err := writeSecret(&b, namespace); err != nil {
		t.Fatal(err)
	}
	values, err := deploy.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	if err := deploy.Write(&b, deploy.Options{Namespace: namespace, Values: values}); err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte)
	for doc := range strings.SplitSeq("\n"+b.String(), "\n---\n") {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		out[o.Kind+"/"+o.Metadata.Name] = []byte(doc)
	}
	return out
}

// hubPod is the pod that the printed StatefulSet would have.
func hubPod(t *testing.T, objects map[string][]byte, namespace string) corev1.Pod {
	t.Helper()
	var set struct {
		Spec struct{ Template corev1.PodTemplateSpec }
	}
	if err := yaml.Unmarshal(objects["StatefulSet/midhop-hub"], &set); err != nil {
		t.Fatal(err)
	}
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "midhop-hub-0", Labels: set.Spec.Template.Labels}, Spec: set.Spec.Template.Spec,
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
}

// TestFindHub looks for the hub in clusters that have none, one, or too many.
func TestFindHub(t *testing.T) {
	ours := hubPod(t, deployed(t, "midhop"), "midhop")
	theirs := hubPod(t, deployed(t, "shop"), "shop")
	leaving := ours
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	outside := ours
	outside.Spec = *ours.Spec.DeepCopy()
	outside.Spec.Containers[0].Args = append(outside.Spec.Containers[0].Args, "--nats=tls://nats.nats:4222")
	other := ours
	other.Labels = map[string]string{"app.kubernetes.io/name": "midhop", "app.kubernetes.io/component": "agent"}
	for name, c := range map[string]struct {
		pods   []corev1.Pod
		in     string // -n
		refuse bool   // to list the pods of all namespaces
		pod    string // found
		says   string // else
	}{
		"one":                   {pods: []corev1.Pod{other, ours}, pod: "midhop/midhop-hub-0"},
		"none":                  {pods: []corev1.Pod{other}, says: `no hub in the cluster of the context "here"`},
		"none there":            {pods: []corev1.Pod{ours}, in: "shop", says: `no hub in the namespace "shop"`},
		"one is leaving":        {pods: []corev1.Pod{leaving}, says: "no hub"},
		"two":                   {pods: []corev1.Pod{ours, theirs}, says: "hubs in 2 namespaces: midhop, shop"},
		"two, and one is named": {pods: []corev1.Pod{ours, theirs}, in: "shop", pod: "shop/midhop-hub-0"},
		"not everywhere":        {pods: []corev1.Pod{ours, theirs}, refuse: true, pod: "midhop/midhop-hub-0"},
		"not everywhere, none":  {pods: []corev1.Pod{theirs}, refuse: true, says: "cannot list resource"},
		"streams elsewhere":     {pods: []corev1.Pod{outside}, says: "keeps its streams in tls://nats.nats:4222"},
	} {
		t.Run(name, func(t *testing.T) {
			api := apitest.Start(t)
			api.Pods, api.Refuse["pods"] = c.pods, c.refuse
			h, err := openClusterHub(t.Context(), kubeOptions{access: kubeaccess.Options{Kubeconfig: api.Kubeconfig(t, "here"), Namespace: c.in}}, logTo(os.Stderr, false))
			var blind blindError
			switch {
			case c.says != "":
				if !errors.As(err, &blind) || !strings.Contains(err.Error(), c.says) || blind.remedy == "" {
					t.Errorf("%v, want %q with a remedy", err, c.says)
				}
			case err != nil:
				t.Error(err)
			case h.at.namespace+"/"+h.at.pod != c.pod || h.at.port != hubPort || h.at.secret != "midhop-hub-tls" || !h.at.ready:
				t.Errorf("found %+v, want %s", h.at, c.pod)
			}
		})
	}
}

// pluginWorld is a cluster with a real hub in it, behind an API that forwards its port, and the plugin of kubectl.
type pluginWorld struct {
	t      *testing.T
	api    *apitest.API
	plugin string
	env    []string
	agent  *simAgent
}

func newPluginWorld(t *testing.T) *pluginWorld {
	if binary == "" {
		t.Skip("the program is built for root only")
	}
	dir := t.TempDir()
	file := filesIn(t, dir)
	objects := deployed(t, "midhop")
	var secret struct{ Data map[string][]byte }
	var public struct{ Data map[string]string }
	if err := errors.Join(yaml.Unmarshal(objects["Secret/midhop-hub-tls"], &secret), yaml.Unmarshal(objects["ConfigMap/"+hubCA], &public)); err != nil {
		t.Fatal(err)
	}
	cert, key := file("tls.crt", string(secret.Data["tls.crt"])), file("tls.key", string(secret.Data["tls.key"]))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	l.Close()
	hub := exec.Command(binary, "hub", "--listen", listen, "--tls-cert", cert, "--tls-key", key, "--metrics", "",
		"--tokens", file("tokens", "agent node-1 secret-1\nreader people secret-reader\n"), "--dir", filepath.Join(dir, "streams"))
	hub.Stderr = os.Stderr
	if err := hub.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hub.Process.Kill(); _ = hub.Wait() })

	w := &pluginWorld{t: t, api: apitest.Start(t), plugin: filepath.Join(dir, pluginName)}
	if err := os.Symlink(binary, w.plugin); err != nil {
		t.Fatal(err)
	}
	pod := hubPod(t, objects, "midhop")
	w.api.Pods = []corev1.Pod{pod}
	w.api.Backend["midhop/midhop-hub-0:"+strconv.Itoa(hubPort)] = listen
	w.api.Tokens["midhop/"+hubReader] = "secret-reader"
	w.api.Values["configmaps/midhop/"+hubCA+"/"+hubCAKey] = public.Data[hubCAKey]
	w.env = append(os.Environ(), "KUBECONFIG="+w.api.Kubeconfig(t, "prod"))

	conn, err := fleet.Dial(fleet.DialOptions{URL: "tls://midhop-hub.midhop.svc:4222", TokenFile: file("secret-1", "secret-1"), Node: "node-1", Roots: secret.Data["ca.crt"],
		Through: func() (net.Conn, error) { return net.Dial("tcp", listen) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	p, err := fleet.NewPublisher(conn, fleet.PublishOptions{Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	go p.Run(t.Context())
	w.agent = &simAgent{sim: &sim{t: t, n: 4}, i: 1, source: "agent/node-1", p: p}
	w.agent.open()
	go func() {
		tick := time.NewTicker(time.Second / 10)
		defer tick.Stop()
		for step := 0; ; step++ {
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
				w.agent.step(step)
			}
		}
	}()
	for deadline := time.Now().Add(hang); p.Stats().Facts.Acked == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the hub takes no facts")
		}
	}
	return w
}

// run runs the plugin and returns what it wrote and how it ended.
func (w *pluginWorld) run(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, text bytes.Buffer
	cmd := exec.CommandContext(w.t.Context(), w.plugin, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, &out, &text
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return out.String(), text.String(), cmd.ProcessState.ExitCode()
}

// TestPlugin is kubectl midhop from a machine that is no part of the cluster: the hub is found, its port forwarded, a token
// issued, and every command that reads a hub answers, without a word about where it is.
func TestPlugin(t *testing.T) {
	w := newPluginWorld(t)
	if out, text, code := w.run("via", "-o", "json"); code != exitOK || !strings.Contains(out, `"10.1.0.2"`) {
		t.Errorf("via ends with %d: %s%s", code, out, text)
	}
	if out, text, code := w.run("incidents", "-o", "json"); code != exitOK || !strings.Contains(out, `"incidents": []`) {
		t.Errorf("incidents ends with %d: %s%s", code, out, text)
	}
	if out, text, code := w.run("check", "--for", "1s", "--partial"); code != exitOK {
		t.Errorf("check ends with %d: %s%s", code, out, text)
	}
	cut := filepath.Join(t.TempDir(), "cut.jsonl")
	if _, text, code := w.run("record", "--since", "1h", cut); code != exitOK {
		t.Errorf("record ends with %d: %s", code, text)
	}
	if out, text, code := w.run("replay", cut, "--verify"); code != exitOK {
		t.Errorf("the recording does not prove itself, %d: %s%s", code, out, text)
	}
	if _, text, code := w.run("via", "--hub", "nats://127.0.0.1:1"); code != exitBlind || !strings.Contains(text, "127.0.0.1:1") {
		t.Errorf("a hub that is named is not the one that is asked: %d %s", code, text)
	}
	if out, _, code := w.run("watch", "--help"); code != exitOK || !strings.Contains(out, "kubectl midhop watch") {
		t.Errorf("help speaks of another program: %s", out)
	}
	if a := w.api.Audiences(); len(a) == 0 || a[0] != kubeaccess.Audience {
		t.Errorf("tokens are for %q", a)
	}
	w.outlivesACut()

	// What is missing is named, and what helps.
	say := func(words string, args ...string) {
		t.Helper()
		if _, text, code := w.run(args...); code != exitBlind || !strings.Contains(text, words) || !strings.Contains(text, "remedy:") {
			t.Errorf("%q ends with %d: %s, want %q", args, code, text, words)
		}
	}
	w.api.Cut()
	say("no hub in the namespace", "via", "-n", "shop")
	w.api.Change(func() { w.api.Refuse["token"] = true })
	say("serviceaccounts/token is forbidden", "via")
	w.api.Change(func() { w.api.Refuse["token"], w.api.Tokens["midhop/"+hubReader] = false, "wrong" })
	say("nats: Authorization Violation", "via")
	w.api.Change(func() { w.api.Tokens["midhop/"+hubReader] = "secret-reader" })
	key := "configmaps/midhop/" + hubCA + "/" + hubCAKey
	var other struct{ Data map[string]string }
	if err := yaml.Unmarshal(deployed(t, "midhop")["ConfigMap/"+hubCA], &other); err != nil {
		t.Fatal(err)
	}
	ours := w.api.Values[key]
	w.api.Change(func() { w.api.Values[key] = other.Data[hubCAKey] })
	say("certificate", "via")
	w.api.Change(func() {
		delete(w.api.Values, key)
		w.api.Values["secrets/midhop/midhop-hub-tls/"+hubCAKey] = ours
	})
	if out, text, code := w.run("via"); code != exitOK {
		t.Errorf("with the Secret in place of the ConfigMap via ends with %d: %s%s", code, out, text)
	}
	w.api.Change(func() { w.api.Refuse["secrets"] = true })
	say("secrets is forbidden", "via")
}

// outlivesACut breaks the port-forward under a watch, which goes on.
func (w *pluginWorld) outlivesACut() {
	t := w.t
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.plugin, "watch", "-o", "jsonl", "--complete")
	cmd.Env = w.env
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	late := time.AfterFunc(hang, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, event.MaxLine)
	var cut time.Time
	for lines.Scan() {
		var e struct {
			Type   string
			Source string
			Time   time.Time
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Type != "stream.heartbeat" || e.Source != "agent/node-1" {
			continue
		}
		switch {
		case cut.IsZero():
			w.api.Cut()
			cut = time.Now()
		case e.Time.After(cut):
			return
		}
	}
	t.Errorf("the watch does not outlive the cut at %s: %v", cut, lines.Err())
}
