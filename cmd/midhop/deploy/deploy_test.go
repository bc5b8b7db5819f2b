package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// documents renders the chart and returns its objects by kind and name.
func documents(t *testing.T, set ...string) map[string]map[string]any {
	t.Helper()
	return parse(t, render(t, set...))
}

func render(t *testing.T, set ...string) string {
	t.Helper()
	values, err := Defaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range set {
		name, value, _ := strings.Cut(s, "=")
		if err := Set(values, name, value); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	if err := Write(&b, Options{Namespace: "midhop", Values: values}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parse(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	out := make(map[string]map[string]any)
	for _, doc := range strings.Split("\n"+text, "\n---\n") {
		var o map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		if len(o) == 0 {
			continue
		}
		out[o["kind"].(string)+"/"+o["metadata"].(map[string]any)["name"].(string)] = o
	}
	return out
}

// dig follows a path of names and list indexes.
func dig(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("no %v in %v", p, v)
			}
			v = m[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

// TestTheAgentHasThreeCapabilities holds the agent's pod to what docs/threat-model.md says of it.
func TestTheAgentHasThreeCapabilities(t *testing.T) {
	all := documents(t)
	pod := dig(t, all["DaemonSet/midhop-agent"], "spec", "template", "spec")
	security := dig(t, pod, "containers", 0, "securityContext")
	want := map[string]any{
		"runAsUser": 0.0, "runAsGroup": 0.0, "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
		"capabilities": map[string]any{"drop": []any{"ALL"}, "add": []any{"BPF", "PERFMON", "NET_ADMIN"}},
	}
	if d := cmp.Diff(any(want), security); d != "" {
		t.Error(d)
	}
	if dig(t, pod, "hostPID") != true || dig(t, pod, "hostNetwork") != true || dig(t, pod, "hostIPC") != nil || dig(t, pod, "automountServiceAccountToken") != false {
		t.Error("the agent's namespaces are not those that are written down")
	}
	for _, v := range dig(t, pod, "volumes").([]any) {
		if v.(map[string]any)["hostPath"] != nil {
			t.Errorf("the agent mounts the host's files: %v", v)
		}
	}
	hub := dig(t, all["StatefulSet/midhop-hub"], "spec", "template", "spec")
	if dig(t, hub, "securityContext", "runAsNonRoot") != true || dig(t, hub, "hostNetwork") != nil || dig(t, hub, "hostPID") != nil ||
		len(dig(t, hub, "containers", 0, "securityContext", "capabilities").(map[string]any)) != 1 {
		t.Error("the hub has more rights than it needs")
	}
	for name, o := range all {
		if !strings.HasPrefix(name, "ClusterRole/") && !strings.HasPrefix(name, "Role/") {
			continue
		}
		if name == "Role/midhop-reader" { // people's: no part of the chart holds it, see below
			continue
		}
		for _, rule := range o["rules"].([]any) {
			for _, verb := range dig(t, rule, "verbs").([]any) {
				review := cmp.Equal(dig(t, rule, "resources"), any([]any{"tokenreviews"}))
				if verb != "get" && verb != "list" && verb != "watch" && !(verb == "create" && review) {
					t.Errorf("%s may %v %v", name, verb, dig(t, rule, "resources"))
				}
			}
		}
	}
}

// TestReadersAreBoundToNobody holds the role of people who read to being theirs to hand out, and to what kubectl midhop does.
func TestReadersAreBoundToNobody(t *testing.T) {
	all := documents(t)
	for name, o := range all {
		if strings.HasSuffix(strings.SplitN(name, "/", 2)[0], "Binding") && dig(t, o, "roleRef", "name") == "midhop-reader" {
			t.Errorf("%s hands the readers' role out", name)
		}
	}
	may := make(map[string]bool)
	for _, rule := range dig(t, all["Role/midhop-reader"], "rules").([]any) {
		names := dig(t, rule, "resourceNames")
		for _, resource := range dig(t, rule, "resources").([]any) {
			for _, verb := range dig(t, rule, "verbs").([]any) {
				may[fmt.Sprint(verb, " ", resource, " ", names)] = true
			}
		}
	}
	want := map[string]bool{
		"get pods <nil>": true, "list pods <nil>": true, "get pods/portforward <nil>": true, "create pods/portforward <nil>": true,
		"create serviceaccounts/token [midhop-reader]": true, "get configmaps [midhop-hub-ca]": true,
	}
	if d := cmp.Diff(want, may); d != "" {
		t.Error(d)
	}
}

func TestSet(t *testing.T) {
	for set, ok := range map[string]bool{
		"hub.storage=50Gi": true, "monitoring.podMonitor=true": true, "monitoring.podMonitor=maybe": false, "hub=x": false, "no.such=x": false, "hub.resources.cpu=1": true,
	} {
		values, err := Defaults()
		if err != nil {
			t.Fatal(err)
		}
		name, value, _ := strings.Cut(set, "=")
		if err := Set(values, name, value); (err == nil) != ok {
			t.Errorf("%s: %v", set, err)
		}
	}
	if n := len(documents(t, "monitoring.prometheusRule=true")) - len(documents(t)); n != 1 {
		t.Errorf("a PrometheusRule makes %d more objects", n)
	}
	if n := len(documents(t, "monitoring.podMonitor=true")) - len(documents(t)); n != 1 {
		t.Errorf("a PodMonitor makes %d more objects", n)
	}
	if text := render(t, "hub.nats=tls://nats.nats:4222"); !strings.Contains(text, "--nats=tls://nats.nats:4222") || strings.Contains(text, "--listen") {
		t.Error("a cluster of one's own does not replace the server inside")
	}
}

// TestHelmAgrees lets Helm itself lint and render the chart, where HELM names it: .ci/tools builds it.
func TestHelmAgrees(t *testing.T) {
	helm := os.Getenv("HELM")
	if helm == "" {
		t.Skip("HELM does not name a helm: make test-chart builds one")
	}
	dir := filepath.Join(t.TempDir(), "midhop")
	if err := os.CopyFS(dir, Chart()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(helm, "lint", "--strict", dir).CombinedOutput(); err != nil {
		t.Errorf("helm lint: %v\n%s", err, out)
	}
	for _, set := range [][]string{nil, {"monitoring.podMonitor=true", "monitoring.prometheusRule=true"}, {"hub.nats=tls://nats.nats:4222", "hub.storageClass=fast"}, {"agent.metrics=0.0.0.0:9440", "hub.metrics=0.0.0.0:9441"}} {
		args := []string{"template", "midhop", dir, "--namespace", "midhop", "--kube-version", "1.30.0"}
		for _, s := range set {
			args = append(args, "--set", s)
		}
		var stderr strings.Builder
		cmd := exec.Command(helm, args...)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("helm template: %v\n%s", err, stderr.String())
		}
		if d := cmp.Diff(parse(t, string(out)), documents(t, set...)); d != "" {
			t.Errorf("%q: midhop deploy and helm differ (-helm +midhop):\n%s", set, d)
		}
	}
}
