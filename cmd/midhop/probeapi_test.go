package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// object is an API object as JSON.
type object = map[string]any

// probeAPI is an API server as far as `midhop probe` needs one: reads, lists, watches that tell nothing new, creations and
// removals, access reviews, and attach by WebSocket (v5.channel.k8s.io), at whose other end test code plays the agent.
type probeAPI struct {
	t   *testing.T
	srv *httptest.Server

	mu      sync.Mutex
	nodes   []object
	pods    map[string]object // by namespace/name
	jobs    map[string]object
	denied  []string                                             // rights that the user has not: "create pods/attach"
	refuses string                                               // admission's word on pods; empty: it takes them
	state   func(pod object) object                              // the status of a pod that was made; nil: it runs at once
	agent   func(node string, in io.Reader, out io.Writer) error // what the pod does
	inputs  map[string]chan struct{}                             // by pod: closed when its standard input has ended
	said    map[string]bool                                      // by pod: something came in on it before it spoke
	asked   []string                                             // lists and watches, with their field selectors
	changed chan struct{}                                        // closed at the next change
}

func serveProbeAPI(t *testing.T) *probeAPI {
	a := &probeAPI{
		t: t, pods: make(map[string]object), jobs: make(map[string]object), inputs: make(map[string]chan struct{}),
		said: make(map[string]bool), changed: make(chan struct{}),
		nodes: []object{apiNode("node-a", "192.0.2.11"), apiNode("node-b", "192.0.2.12")},
	}
	chat := apiPod("ws", "chat-1", "node-b", "10.244.2.5")
	chat["metadata"].(object)["labels"] = object{"app": "chat"}
	a.pods["ws/chat-1"] = chat
	a.agent = func(_ string, in io.Reader, _ io.Writer) error { _, err := io.Copy(io.Discard, in); return err }
	a.srv = httptest.NewServer(a)
	t.Cleanup(func() { a.srv.CloseClientConnections(); a.srv.Close() })
	return a
}

func apiNode(name, ip string) object {
	return object{
		"metadata": object{"name": name, "uid": "uid-" + name, "resourceVersion": "1"},
		"status":   object{"addresses": []object{{"type": "InternalIP", "address": ip}}},
	}
}

func apiPod(namespace, name, node, ip string) object {
	return object{
		"metadata": object{"namespace": namespace, "name": name, "uid": "uid-" + name, "resourceVersion": "1"},
		"spec":     object{"nodeName": node},
		"status":   object{"phase": "Running", "podIP": ip, "podIPs": []object{{"ip": ip}}},
	}
}

// kubeconfig writes one for the server and returns its path.
func (a *probeAPI) kubeconfig() string {
	path := filepath.Join(a.t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters: [{name: test, cluster: {server: %q}}]\nusers: [{name: u, user: {token: t}}]\ncontexts: [{name: test, context: {cluster: test, user: u, namespace: ws}}]\n", a.srv.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// wait returns when is, which reads the server's state, holds.
func (a *probeAPI) wait(what string, is func() bool) {
	a.t.Helper()
	late := time.After(hang)
	for {
		a.mu.Lock()
		ok, changed := is(), a.changed
		a.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			a.t.Fatalf("no %s", what)
		}
	}
}

// change changes the state.
func (a *probeAPI) change(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
	close(a.changed)
	a.changed = make(chan struct{})
}

// probes are the debug pods that are there, by name; the caller holds the lock.
func (a *probeAPI) probes() (out []string) {
	for key := range a.pods {
		if _, name, _ := strings.Cut(key, "/"); strings.HasPrefix(name, "midhop-probe-") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (a *probeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	namespace := ""
	if i := slices.Index(parts, "namespaces"); i >= 0 && len(parts) > i+2 {
		namespace = parts[i+1]
		parts = slices.Delete(parts, i, i+2)
	}
	// parts: api v1 RESOURCE [NAME [SUB]], or apis GROUP VERSION RESOURCE [NAME]
	head := 2
	if parts[0] == "apis" {
		head = 3
	}
	resource, rest := parts[head], parts[head+1:]
	switch {
	case resource == "selfsubjectaccessreviews":
		a.review(w, r)
	case len(rest) == 2 && rest[1] == "attach":
		a.attach(w, r, namespace+"/"+rest[0])
	case r.Method == http.MethodPost:
		a.create(w, r, resource, namespace)
	case r.Method == http.MethodDelete:
		a.remove(w, resource, namespace+"/"+rest[0])
	case len(rest) == 1:
		a.get(w, resource, namespace, rest[0])
	default:
		a.list(w, r, resource, namespace)
	}
}

func answer(w http.ResponseWriter, code int, o object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(o)
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	answer(w, code, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

func (a *probeAPI) review(w http.ResponseWriter, r *http.Request) {
	var o struct {
		Spec struct {
			ResourceAttributes struct{ Verb, Resource, Subresource, Namespace string }
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&o)
	ask := o.Spec.ResourceAttributes
	what := ask.Verb + " " + ask.Resource
	if ask.Subresource != "" {
		what += "/" + ask.Subresource
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	denied := slices.Contains(a.denied, what) || ask.Namespace == "" && slices.Contains(a.denied, what+" everywhere")
	answer(w, 201, object{
		"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": object{"allowed": !denied},
	})
}

var probeKinds = map[string][2]string{
	"nodes": {"v1", "Node"}, "pods": {"v1", "Pod"}, "services": {"v1", "Service"}, "jobs": {"batch/v1", "Job"},
	"endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"}, "leases": {"coordination.k8s.io/v1", "Lease"},
}

func typed(resource string, o object) object {
	out := object{"apiVersion": probeKinds[resource][0], "kind": probeKinds[resource][1]}
	for k, v := range o {
		out[k] = v
	}
	return out
}

func (a *probeAPI) create(w http.ResponseWriter, r *http.Request, resource, namespace string) {
	var o object
	_ = json.NewDecoder(r.Body).Decode(&o)
	meta := o["metadata"].(object)
	key := fmt.Sprint(namespace, "/", meta["name"])
	a.mu.Lock()
	refuses := a.refuses
	a.mu.Unlock()
	if resource == "pods" && refuses != "" {
		refuse(w, 403, "Forbidden", refuses)
		return
	}
	meta["uid"] = "uid-of-" + fmt.Sprint(meta["name"])
	if r.URL.Query().Get("dryRun") != "All" {
		a.change(func() {
			if resource == "jobs" {
				a.jobs[key] = o
			} else {
				o["status"] = object{"phase": "Running", "containerStatuses": []object{{"name": "midhop", "state": object{"running": object{}}}}}
				if a.state != nil {
					o["status"] = a.state(o)
				}
				a.pods[key] = o
				a.inputs[fmt.Sprint(meta["name"])] = make(chan struct{})
			}
		})
	}
	answer(w, 201, typed(resource, o))
}

func (a *probeAPI) remove(w http.ResponseWriter, resource, key string) {
	found := false
	a.change(func() {
		from := a.pods
		if resource == "jobs" {
			from = a.jobs
		}
		_, found = from[key]
		delete(from, key)
	})
	if !found {
		refuse(w, 404, "NotFound", key+" not found")
		return
	}
	answer(w, 200, object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
}

func (a *probeAPI) get(w http.ResponseWriter, resource, namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if resource == "nodes" {
		for _, n := range a.nodes {
			if n["metadata"].(object)["name"] == name {
				answer(w, 200, typed(resource, n))
				return
			}
		}
	} else if p, ok := a.pods[namespace+"/"+name]; ok {
		answer(w, 200, typed(resource, p))
		return
	}
	refuse(w, 404, "NotFound", name+" not found")
}

func (a *probeAPI) list(w http.ResponseWriter, r *http.Request, resource, namespace string) {
	q := r.URL.Query()
	a.change(func() { a.asked = append(a.asked, resource+" "+q.Get("fieldSelector")) })
	kind, known := probeKinds[resource]
	switch {
	case !known:
		refuse(w, 404, "NotFound", "the server could not find the requested resource")
		return
	case q.Get("sendInitialEvents") != "":
		refuse(w, 422, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
		return
	case q.Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []object{}
	switch resource {
	case "nodes":
		items = a.nodes
	case "pods":
		key, value, _ := strings.Cut(q.Get("labelSelector"), "=")
		for _, p := range a.pods {
			meta := p["metadata"].(object)
			labels, _ := meta["labels"].(object)
			if (namespace == "" || meta["namespace"] == namespace) && (key == "" || labels[key] == value) {
				items = append(items, p)
			}
		}
	}
	answer(w, 200, object{"apiVersion": kind[0], "kind": kind[1] + "List", "items": items, "metadata": object{"resourceVersion": "5"}})
}

// The channels of v5.channel.k8s.io: the first byte of every message.
const (
	channelIn, channelOut, channelError, channelClose = 0, 1, 3, 255
)

// attach plays kubelet and container.
func (a *probeAPI) attach(w http.ResponseWriter, r *http.Request, key string) {
	a.mu.Lock()
	pod, ok := a.pods[key]
	agent := a.agent
	a.mu.Unlock()
	if !ok {
		refuse(w, 404, "NotFound", key+" not found")
		return
	}
	_, name, _ := strings.Cut(key, "/")
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"v5.channel.k8s.io"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	in, fromClient := io.Pipe()
	go func() {
		defer a.change(func() { close(a.inputs[name]) })
		defer fromClient.Close()
		for {
			_, b, err := c.Read(ctx)
			if err != nil || len(b) > 1 && b[0] == channelClose && b[1] == channelIn {
				return
			}
			if len(b) > 1 && b[0] == channelIn {
				a.change(func() { a.said[name] = true })
				_, _ = fromClient.Write(b[1:])
			}
		}
	}()
	out := writerFunc(func(b []byte) (int, error) {
		return len(b), c.Write(ctx, websocket.MessageBinary, append([]byte{channelOut}, b...))
	})
	node := fmt.Sprint(pod["spec"].(object)["nodeName"])
	status := object{"metadata": object{}, "status": "Success"}
	if err := agent(node, in, out); err != nil {
		status = object{"metadata": object{}, "status": "Failure", "reason": "InternalError", "message": err.Error()}
	}
	b, _ := json.Marshal(status)
	_ = c.Write(ctx, websocket.MessageBinary, append([]byte{channelError}, b...))
	_ = c.Close(websocket.StatusNormalClosure, "")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
