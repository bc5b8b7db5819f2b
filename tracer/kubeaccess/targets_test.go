package kubeaccess

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// TestTargets: names of nodes and pods, and selectors, mean nodes; what is not there, or may not be seen, is told.
func TestTargets(t *testing.T) {
	answer := func(w http.ResponseWriter, code int, o any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(o)
	}
	status := func(w http.ResponseWriter, code int, reason string) {
		answer(w, code, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
	}
	pod := func(name, node, phase string) map[string]any {
		return map[string]any{"kind": "Pod", "apiVersion": "v1", "metadata": map[string]any{"name": name, "namespace": "ws"},
			"spec": map[string]any{"nodeName": node}, "status": map[string]any{"phase": phase}}
	}
	blind := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, "/api/v1/nodes/") && blind:
			status(w, 403, "Forbidden")
		case path == "/api/v1/nodes/node-a":
			answer(w, 200, map[string]any{"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"name": "node-a"}})
		case path == "/api/v1/nodes/win":
			answer(w, 200, map[string]any{"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"name": "win", "labels": map[string]string{"kubernetes.io/os": "windows"}}})
		case path == "/api/v1/namespaces/ws/pods/chat-1":
			answer(w, 200, pod("chat-1", "node-b", "Running"))
		case path == "/api/v1/namespaces/ws/pods/waiting":
			answer(w, 200, pod("waiting", "", "Pending"))
		case path == "/api/v1/namespaces/ws/pods" && r.URL.Query().Get("labelSelector") == "app=chat":
			answer(w, 200, map[string]any{"kind": "PodList", "apiVersion": "v1", "items": []any{
				pod("chat-1", "node-b", "Running"), pod("chat-2", "node-c", "Running"), pod("chat-3", "node-b", "Running"), pod("done", "node-d", "Succeeded")}})
		case strings.HasSuffix(path, "/pods"):
			answer(w, 200, map[string]any{"kind": "PodList", "apiVersion": "v1", "items": []any{}})
		default:
			status(w, 404, "NotFound")
		}
	}))
	defer srv.Close()
	d, err := NewDebugger(&Access{Config: &rest.Config{Host: srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names, selector string
		blind           bool
		want, says      string
	}{
		{names: "node-a", want: "[node-a]"},
		{names: "chat-1 node-a", want: "[node-a node-b]"},
		{names: "node/node-a", want: "[node-a]"},
		{names: "pod/chat-1", want: "[node-b]"},
		{selector: "app=chat", want: "[node-b node-c]"},
		{names: "nothing", says: "a node nothing, or a pod of this name in namespace ws"},
		{names: "node/chat-1", says: "node chat-1"},
		{names: "pod/node-a", says: "pod node-a in namespace ws"},
		{names: "svc/chat", says: "want a node or a pod, such as node/chat or pod/chat"},
		{names: "win", says: "runs Windows"},
		{names: "waiting", says: "is on no node yet"},
		{selector: "app=none", says: "a running pod with app=none in namespace ws"},
		{names: "node/anything", blind: true, want: "[anything]"},
		{names: "anything", blind: true, says: "if it is one, say node/anything"},
		{names: "chat-1", blind: true, want: "[node-b]"},
	} {
		blind = c.blind
		got, err := d.Nodes(t.Context(), Target{Names: strings.Fields(c.names), Selector: c.selector, Namespace: "ws"})
		switch {
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s%s: %v, want %q", c.names, c.selector, err, c.says)
		case c.says == "" && (err != nil || !slices.IsSorted(got) || fmt.Sprint(got) != c.want):
			t.Errorf("%s%s: %v, %v; want %s", c.names, c.selector, got, err, c.want)
		}
	}
}
