package kube

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// served is an API server as far as lists and watches go: resource versions, watch-list with its bookmark, 410 for what was
// compacted, field selectors, and every way to fail that a test asks for. The reflectors that meet it are client-go's own.
type served struct {
	t    *testing.T
	addr string

	mu      sync.Mutex
	objects map[string]map[string]runtime.Object // by resource and namespace/name
	rv      int
	history []change
	oldest  int           // resource versions below are forgotten: 410
	wake    chan struct{} // closed on every change
	deny    map[string]bool
	token   string // the one that is accepted; empty: no credentials are asked for
	lists   bool   // no watch-list: as servers before 1.32
	hang    map[string]bool
	asked   []string // requests, with their query

	srv  *http.Server
	stop chan struct{}
}

type change struct {
	resource, kind string
	rv             int
	object         runtime.Object
}

func serve(t *testing.T) *served {
	a := &served{
		t: t, objects: make(map[string]map[string]runtime.Object), rv: 100, wake: make(chan struct{}),
		deny: make(map[string]bool), hang: make(map[string]bool), addr: "127.0.0.1:0",
	}
	a.up()
	t.Cleanup(a.down)
	return a
}

// up starts to listen, on the same port as before.
func (a *served) up() {
	a.t.Helper()
	l, err := net.Listen("tcp", a.addr)
	if err != nil {
		a.t.Fatal(err)
	}
	a.addr = l.Addr().String()
	a.stop = make(chan struct{})
	a.srv = &http.Server{Handler: a}
	go func() { _ = a.srv.Serve(l) }()
}

// down stops to listen and cuts every connection.
func (a *served) down() {
	select {
	case <-a.stop:
		return
	default:
	}
	close(a.stop)
	_ = a.srv.Close()
}

func (a *served) config() *rest.Config { return &rest.Config{Host: "http://" + a.addr} }

func objectKey(o runtime.Object) string {
	m, _ := meta.Accessor(o)
	return m.GetNamespace() + "/" + m.GetName()
}

// put adds or changes an object.
func (a *served) put(resource string, o runtime.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rv++
	o = o.DeepCopyObject()
	m, _ := meta.Accessor(o)
	m.SetResourceVersion(strconv.Itoa(a.rv))
	if a.objects[resource] == nil {
		a.objects[resource] = make(map[string]runtime.Object)
	}
	kind := "ADDED"
	if a.objects[resource][objectKey(o)] != nil {
		kind = "MODIFIED"
	}
	a.objects[resource][objectKey(o)] = o
	a.note(change{resource, kind, a.rv, o})
}

func (a *served) remove(resource, namespace, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := namespace + "/" + name
	o := a.objects[resource][key]
	if o == nil {
		a.t.Errorf("no %s %s", resource, key)
		return
	}
	a.rv++
	o = o.DeepCopyObject()
	m, _ := meta.Accessor(o)
	m.SetResourceVersion(strconv.Itoa(a.rv))
	delete(a.objects[resource], key)
	a.note(change{resource, "DELETED", a.rv, o})
}

func (a *served) note(c change) {
	a.history = append(a.history, c)
	close(a.wake)
	a.wake = make(chan struct{})
}

// compact forgets the history, as etcd does every few minutes.
func (a *served) compact() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rv++
	a.oldest, a.history = a.rv, nil
}

func (a *served) set(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

// requests counts those whose text holds a part.
func (a *served) requests(part string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.asked {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

func (a *served) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource := parts[len(parts)-1]
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+resource+"?"+r.URL.RawQuery)
	deny, hang, token := a.deny[resource], a.hang[resource], a.token
	a.mu.Unlock()
	switch {
	case hang:
		select {
		case <-r.Context().Done():
		case <-a.stop:
		}
		return
	case token != "" && r.Header.Get("Authorization") != "Bearer "+token:
		refuse(w, 401, metav1.StatusReasonUnauthorized, "Unauthorized")
		return
	case deny:
		refuse(w, 403, metav1.StatusReasonForbidden, resource+` is forbidden: User "x" cannot list resource "`+resource+`"`)
		return
	case resource == "ciliumnodes" && a.nothing(resource):
		refuse(w, 404, metav1.StatusReasonNotFound, "the server could not find the requested resource")
		return
	}
	q := r.URL.Query()
	switch {
	case q.Get("watch") == "true" || q.Get("watch") == "1":
		a.watch(w, r, resource)
	default:
		a.list(w, r, resource)
	}
}

func (a *served) nothing(resource string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.objects[resource]) == 0
}

func refuse(w http.ResponseWriter, code int32, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(code))
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: code, Reason: reason, Message: message,
	})
}

var kinds = map[string]string{
	"nodes": "v1 Node", "pods": "v1 Pod", "services": "v1 Service", "endpointslices": "discovery.k8s.io/v1 EndpointSlice",
	"leases": "coordination.k8s.io/v1 Lease", "ciliumnodes": "cilium.io/v2 CiliumNode",
}

// encode gives an object its kind.
func encode(resource string, o runtime.Object) json.RawMessage {
	version, kind, _ := strings.Cut(kinds[resource], " ")
	raw, _ := json.Marshal(o)
	return json.RawMessage(fmt.Sprintf(`{"kind":%q,"apiVersion":%q,%s`, kind, version, raw[1:]))
}

// selected applies the field selectors that the real server has for these kinds.
func selected(r *http.Request, o runtime.Object) bool {
	want := r.URL.Query().Get("fieldSelector")
	if want == "" {
		return true
	}
	field, value, _ := strings.Cut(want, "=")
	var fields struct {
		Metadata struct{ Name string } `json:"metadata"`
		Spec     struct{ NodeName string }
	}
	raw, _ := json.Marshal(o)
	_ = json.Unmarshal(raw, &fields)
	switch field {
	case "spec.nodeName":
		return fields.Spec.NodeName == value
	case "metadata.name":
		return fields.Metadata.Name == value
	}
	return false
}

func (a *served) list(w http.ResponseWriter, r *http.Request, resource string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var items []json.RawMessage
	for _, o := range a.objects[resource] {
		if selected(r, o) {
			items = append(items, encode(resource, o))
		}
	}
	version, kind, _ := strings.Cut(kinds[resource], " ")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": kind + "List", "apiVersion": version, "items": items,
		"metadata": map[string]string{"resourceVersion": strconv.Itoa(a.rv)},
	})
}

func (a *served) watch(w http.ResponseWriter, r *http.Request, resource string) {
	q := r.URL.Query()
	initial := q.Get("sendInitialEvents") == "true"
	from, _ := strconv.Atoi(q.Get("resourceVersion"))
	a.mu.Lock()
	if initial && a.lists {
		a.mu.Unlock()
		refuse(w, 422, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
		return
	}
	if !initial && from < a.oldest {
		a.mu.Unlock()
		refuse(w, 410, metav1.StatusReasonExpired, "too old resource version")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	send := func(kind string, object json.RawMessage) {
		_, _ = fmt.Fprintf(w, "{\"type\":%q,\"object\":%s}\n", kind, object)
	}
	if initial {
		for _, o := range a.objects[resource] {
			if selected(r, o) {
				send("ADDED", encode(resource, o))
			}
		}
		from = a.rv
		version, kind, _ := strings.Cut(kinds[resource], " ")
		send("BOOKMARK", json.RawMessage(fmt.Sprintf(
			`{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"%d","annotations":{"k8s.io/initial-events-end":"true"}}}`, kind, version, a.rv)))
	}
	for {
		for _, c := range a.history {
			if c.rv > from && c.resource == resource && selected(r, c.object) {
				send(c.kind, encode(resource, c.object))
			}
		}
		from = max(from, a.rv)
		wake := a.wake
		a.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-wake:
		case <-r.Context().Done():
			return
		case <-a.stop:
			return
		}
		a.mu.Lock()
	}
}

// TestServedIsWatchList holds the server to what a reflector needs, so that a test that waits for it fails here first.
func TestServedIsWatchList(t *testing.T) {
	a := serve(t)
	a.put("nodes", node("node-a", nil))
	r := httptest.NewRequest("GET", "/api/v1/nodes?watch=true&sendInitialEvents=true", nil)
	rec := httptest.NewRecorder()
	done := make(chan struct{})
	go func() { a.ServeHTTP(rec, r); close(done) }()
	waitFor(t, "a request", func() bool { return a.requests("GET nodes") == 1 })
	a.down()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the watch outlives its server")
	}
	if body := rec.Body.String(); !strings.Contains(body, `"ADDED"`) || !strings.Contains(body, "initial-events-end") {
		t.Errorf("the first look is %s", body)
	}
}
