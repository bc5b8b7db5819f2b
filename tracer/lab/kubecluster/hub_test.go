package kubecluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/midhop/midhop/tracer/kubeaccess"
)

const hubNamespace = "midhop"

// lines are what a process has said so far.
type lines struct {
	mu   sync.Mutex
	all  []string
	more chan struct{}
}

// read takes lines until the process ends.
func (l *lines) read(r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		l.mu.Lock()
		l.all = append(l.all, in.Text())
		l.mu.Unlock()
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
}

// has says whether a line holds all of some words.
func (l *lines) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
}

func (l *lines) count(word string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, word) {
			n++
		}
	}
	return n
}

// await waits until a line holds all of some words.
func (l *lines) await(t *testing.T, words ...string) {
	t.Helper()
	for deadline := time.After(time.Minute); !l.has(words...); {
		select {
		case <-l.more:
		case <-deadline:
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("no line with %q in\n%s", words, strings.Join(l.all[max(0, len(l.all)-30):], "\n"))
		}
	}
}

// process is a midhop that runs until it is stopped.
type process struct {
	cmd      *exec.Cmd
	out, log *lines
}

func spawn(t *testing.T, argv ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), out: &lines{more: make(chan struct{}, 1)}, log: &lines{more: make(chan struct{}, 1)}}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { p.out.read(stdout) })
	reading.Go(func() { p.log.read(stderr) })
	var once sync.Once
	stop := func() {
		once.Do(func() {
			_ = p.cmd.Process.Kill()
			reading.Wait()
			_ = p.cmd.Wait()
		})
	}
	t.Cleanup(stop)
	return p
}

// issue has the API server issue a token of an account, bound to a pod where one is given.
func (b *bare) issue(account, audience string, pod *corev1.Pod) string {
	b.t.Helper()
	r := &authenticationv1.TokenRequest{}
	if audience != "" {
		r.Spec.Audiences = []string{audience}
	}
	if pod != nil {
		r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	got, err := b.api.CoreV1().ServiceAccounts(hubNamespace).CreateToken(b.t.Context(), account, r, metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return got.Status.Token
}

// agentPod makes a pod of the shipped DaemonSet on a node, as its controller would.
func (b *bare) agentPod(name, node string) *corev1.Pod {
	b.t.Helper()
	set, err := b.api.AppsV1().DaemonSets(hubNamespace).Get(b.t.Context(), "midhop-agent", metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: hubNamespace, Labels: set.Spec.Template.Labels}, Spec: set.Spec.Template.Spec}
	pod.Spec.NodeName = node
	got, err := b.api.CoreV1().Pods(hubNamespace).Create(b.t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

// expire signs a token anew with the API server's own key, so that nothing but its time is wrong: the API server issues none
// that is good for less than ten minutes.
func (b *bare) expire(token string) string {
	b.t.Helper()
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		b.t.Fatal(err)
	}
	var claims map[string]any
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		b.t.Fatal(err)
	}
	now := time.Now()
	claims["iat"], claims["nbf"], claims["exp"] = now.Add(-2*time.Hour).Unix(), now.Add(-2*time.Hour).Unix(), now.Add(-time.Hour).Unix()
	if payload, err = json.Marshal(claims); err != nil {
		b.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.plane.dir, "sa.key"))
	if err != nil {
		b.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		b.t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// may asks the authorizer what the holder of a token may do.
func (b *bare) may(token, verb, group, resource string) bool {
	b.t.Helper()
	config := b.plane.Config(Admin)
	config.BearerToken = token
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.t.Fatal(err)
	}
	got, err := api.AuthorizationV1().SelfSubjectAccessReviews().Create(b.t.Context(), &authv1.SelfSubjectAccessReview{
		Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource}},
	}, metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return got.Status.Allowed
}

// applied applies the shipped manifests and returns the arguments that they start the hub with.
func (b *bare) applied() []string {
	b.t.Helper()
	// The namespaces that every cluster has are made by the API server, a moment after it is ready.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := b.api.CoreV1().Namespaces().Get(b.t.Context(), corev1.NamespaceNodeLease, metav1.GetOptions{})
		if err == nil {
			break
		}
		if !apierrors.IsNotFound(err) || time.Now().After(deadline) {
			b.t.Fatal(err)
		}
	}
	manifests, said, code := b.run(Admin, "", b.midhop, "deploy")
	if code != 0 {
		b.t.Fatal(said)
	}
	if _, said, code = b.run(Admin, manifests, "kubectl", "apply", "-f", "-"); code != 0 {
		b.t.Fatal(said)
	}
	set, err := b.api.AppsV1().StatefulSets(hubNamespace).Get(b.t.Context(), "midhop-hub", metav1.GetOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return set.Spec.Template.Spec.Containers[0].Args
}

// TestHubTokens runs the shipped manifests' hub against the real API server, with the rights of its own account: an agent
// comes in with a real token of its pod and publishes as the node that the pod is on; as another node, without a token, with
// one that has expired, is for somebody else or is of a pod that is gone, nobody does.
func TestHubTokens(t *testing.T) {
	b := startBare(t)
	args := b.applied()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := b.api.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-b"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	on := map[string]*corev1.Pod{"node-a": b.agentPod("midhop-agent-aaaaa", "node-a"), "node-b": b.agentPod("midhop-agent-bbbbb", "node-b")}
	const agent, reader, hub = "midhop-agent", "midhop-reader", "midhop-hub"

	// The hub alone may ask whose a token is, and nobody else anything at all.
	hubToken := b.issue(hub, "", nil)
	for deadline := time.Now().Add(30 * time.Second); !b.may(hubToken, "create", "authentication.k8s.io", "tokenreviews"); {
		if time.Now().After(deadline) { // rights reach the authorizer by a watch of its own
			t.Fatal("the hub may not create tokenreviews")
		}
	}
	for _, account := range []string{agent, reader} {
		token := b.issue(account, "", nil)
		for _, what := range [][3]string{{"create", "authentication.k8s.io", "tokenreviews"}, {"list", "", "pods"}, {"list", "", "nodes"}, {"get", "", "secrets"}} {
			if b.may(token, what[0], what[1], what[2]) {
				t.Errorf("%s may %s %s", account, what[0], what[2])
			}
		}
	}
	for _, what := range [][3]string{{"get", "", "secrets"}, {"create", "", "pods"}, {"delete", "", "pods"}, {"create", "", "serviceaccounts/token"}} {
		if b.may(hubToken, what[0], what[1], what[2]) {
			t.Errorf("the hub may %s %s", what[0], what[2])
		}
	}

	// The hub, as its manifest starts it, but for where its files are.
	secret, err := b.api.CoreV1().Secrets(hubNamespace).Get(t.Context(), "midhop-hub-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	address := func(host string) string { return host + ":" + strconv.Itoa(port) }
	ca := write("ca.crt", string(secret.Data["ca.crt"]))
	here := map[string]string{
		"--listen": address("127.0.0.1"), "--dir": filepath.Join(dir, "streams"), "--metrics": "",
		"--tls-cert": write("tls.crt", string(secret.Data["tls.crt"])), "--tls-key": write("tls.key", string(secret.Data["tls.key"])),
	}
	argv := []string{b.midhop}
	for _, arg := range args {
		if name, _, ok := strings.Cut(arg, "="); ok {
			if value, changed := here[name]; changed {
				arg = name + "=" + value
				delete(here, name)
			}
		}
		argv = append(argv, arg)
	}
	if len(here) != 0 {
		t.Fatalf("the manifest's hub is started without %v: %q", here, args)
	}
	text, err := json.Marshal(map[string]any{ // YAML, too
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": "https://" + b.plane.Address(), "insecure-skip-tls-verify": true}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": hubToken}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	config := write("kubeconfig", string(text))
	h := spawn(t, append(argv, "--kubeconfig="+config, "-o", "jsonl", "--complete")...)
	url := "tls://" + address("localhost")
	come := func(node, token string) *process {
		argv := []string{b.midhop, "agent", "--node", node, "--hub", url, "--hub-ca", ca, "--metrics", ""}
		if token != "" {
			argv = append(argv, "--hub-token", write("token-"+node+"-"+strconv.Itoa(len(token)), token))
		}
		return spawn(t, argv...)
	}
	own := b.issue(agent, kubeaccess.Audience, on["node-a"])
	come("node-a", own)
	h.out.await(t, `"type":"stream.heartbeat"`, `"source":"agent/node-a"`)

	// Another node's name with this node's token: what it publishes is refused.
	liar := come("node-c", own)
	liar.log.await(t, "the hub refuses something", "midhop.facts.agent.node-c")
	// Whoever does not come in at all.
	come("node-d", "")
	h.log.await(t, "a connection was refused", "no token")
	late := come("node-e", b.expire(own))
	late.log.await(t, "the hub does not let this in", "nothing of this node reaches the hub")
	h.log.await(t, "a connection was refused", "expired")
	come("node-f", b.issue(agent, "", on["node-a"]))
	h.log.await(t, "a connection was refused", "audience")
	come("node-g", b.issue(agent, kubeaccess.Audience, nil))
	h.log.await(t, "a connection was refused", "is bound to no pod on a node")
	come("node-h", b.issue(hub, kubeaccess.Audience, nil))
	h.log.await(t, "a connection was refused", "midhop/midhop-hub is neither an agent nor a reader here")
	gone := b.issue(agent, kubeaccess.Audience, on["node-b"])
	now := int64(0)
	if err := b.api.CoreV1().Pods(hubNamespace).Delete(context.Background(), on["node-b"].Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: (*types.UID)(&on["node-b"].UID)},
	}); err != nil {
		t.Fatal(err)
	}
	come("node-b", gone)
	h.log.await(t, "a connection was refused", "has been invalidated")

	// A reader comes in by a token of its own account, and reads what the one agent told; an agent's opens nothing to read.
	record := func(name, token string) (file string, argv []string) {
		file = filepath.Join(dir, name+".jsonl")
		return file, []string{b.midhop, "record", "--since", "5m", "--hub", url, "--hub-ca", ca, "--hub-token", write(name, token), file}
	}
	file, argv := record("reader", b.issue(reader, kubeaccess.Audience, nil))
	_, said, code := b.run(Outsider, "", argv...)
	if recorded, err := os.ReadFile(file); code != 0 || err != nil || !strings.Contains(string(recorded), `"source":"agent/node-a"`) {
		t.Errorf("a reader exits %d, records %d bytes (%v) and is told\n%s", code, len(recorded), err, said)
	}
	_, argv = record("agent", own)
	const blind = 3 // cmd/midhop/exit.go
	_, said, code = b.run(Outsider, "", argv...)
	if code != blind || !strings.Contains(said, "as no reader's") || !strings.Contains(said, "$JS.API.DIRECT.GET.MIDHOP_FACTS") {
		t.Errorf("an agent that reads exits %d and is told\n%s", code, said)
	}
	for _, node := range []string{"b", "c", "d", "e", "f", "g", "h"} {
		if n := h.out.count(`"source":"agent/node-` + node + `"`); n != 0 {
			t.Errorf("the hub took %d facts of node-%s", n, node)
		}
	}
}
