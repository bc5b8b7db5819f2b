// Package apitest is as much of an API server as the way to a hub takes, for tests: pods by label, single objects, tokens,
// and real port-forwards, in both of their protocols. It must not know what travels through them.
package apitest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// API is a served API. Its fields may be changed before anything is asked, and in Change.
type API struct {
	URL      string
	Pods     []corev1.Pod
	Values   map[string]string // by "configmaps/NAMESPACE/NAME/KEY", the same of secrets
	Tokens   map[string]string // by "NAMESPACE/ACCOUNT"
	Backend  map[string]string // where connections to "NAMESPACE/POD:PORT" end, host:port
	Refuse   map[string]bool   // kinds that are forbidden: pods (in all namespaces), token, configmaps, secrets, portforward
	NoTunnel bool              // the server is too old for SPDY inside websockets

	mu    sync.Mutex
	asked []string // audiences of tokens
	conns []httpstream.Connection
	used  map[string]int // port-forwards by protocol, "websocket" and "spdy"
}

// Start serves an API without anything in it until the test ends.
func Start(t *testing.T) *API {
	t.Helper()
	a := &API{Values: make(map[string]string), Tokens: make(map[string]string), Backend: make(map[string]string), Refuse: make(map[string]bool), used: make(map[string]int)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/pods", a.pods)
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods", a.pods)
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/{kind}/{name}", a.value)
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", a.token)
	mux.HandleFunc("/api/v1/namespaces/{namespace}/pods/{name}/portforward", a.forward)
	server := httptest.NewServer(mux)
	t.Cleanup(func() { a.Cut(); server.CloseClientConnections(); server.Close() })
	a.URL = server.URL
	return a
}

// Kubeconfig writes a kubeconfig whose only context is named, and returns its path.
func (a *API) Kubeconfig(t *testing.T, context string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: " + context + "\nclusters: [{name: c, cluster: {server: '" + a.URL + "'}}]\n" +
		"users: [{name: u, user: {}}]\ncontexts: [{name: " + context + ", context: {cluster: c, user: u}}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Change calls f, which may change the fields while others ask.
func (a *API) Change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// refuses says whether a kind is forbidden.
func (a *API) refuses(kind string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.Refuse[kind]
}

// Used says how many port-forwards came by a protocol.
func (a *API) Used(protocol string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used[protocol]
}

// Audiences returns what tokens were asked for.
func (a *API) Audiences() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// Cut breaks all port-forwards, as a kubelet that starts again does.
func (a *API) Cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns {
		_ = c.Close()
	}
	a.conns = nil
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code int, text string) {
	answer(w, code, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Message: text, Code: int32(code)})
}

func (a *API) pods(w http.ResponseWriter, r *http.Request) {
	namespace := r.PathValue("namespace")
	if namespace == "" && a.refuses("pods") {
		refuse(w, http.StatusForbidden, `pods is forbidden: User "u" cannot list resource "pods" in API group "" at the cluster scope`)
		return
	}
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	var list corev1.PodList
	a.mu.Lock()
	for _, p := range a.Pods {
		if (namespace == "" || p.Namespace == namespace) && selector.Matches(labels.Set(p.Labels)) {
			list.Items = append(list.Items, p)
		}
	}
	a.mu.Unlock()
	answer(w, http.StatusOK, &list)
}

func (a *API) value(w http.ResponseWriter, r *http.Request) {
	kind := r.PathValue("kind")
	if a.refuses(kind) {
		refuse(w, http.StatusForbidden, kind+" is forbidden")
		return
	}
	prefix := kind + "/" + r.PathValue("namespace") + "/" + r.PathValue("name") + "/"
	m, s := corev1.ConfigMap{Data: make(map[string]string)}, corev1.Secret{Data: make(map[string][]byte)}
	a.mu.Lock()
	for k, v := range a.Values {
		if key, ok := strings.CutPrefix(k, prefix); ok {
			m.Data[key], s.Data[key] = v, []byte(v)
		}
	}
	a.mu.Unlock()
	switch {
	case len(m.Data) == 0:
		refuse(w, http.StatusNotFound, kind+" "+r.PathValue("name")+" not found")
	case kind == "secrets":
		answer(w, http.StatusOK, &s)
	default:
		answer(w, http.StatusOK, &m)
	}
}

func (a *API) token(w http.ResponseWriter, r *http.Request) {
	var ask authenticationv1.TokenRequest
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	a.mu.Lock()
	token, ok := a.Tokens[r.PathValue("namespace")+"/"+r.PathValue("name")]
	if ok = ok && !a.Refuse["token"]; ok {
		a.asked = append(a.asked, ask.Spec.Audiences...)
	}
	a.mu.Unlock()
	if !ok {
		refuse(w, http.StatusForbidden, "serviceaccounts/token is forbidden")
		return
	}
	ask.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}
	answer(w, http.StatusCreated, &ask)
}

// forward serves one connection of port-forwards until it is closed.
func (a *API) forward(w http.ResponseWriter, r *http.Request) {
	if a.refuses("portforward") {
		refuse(w, http.StatusForbidden, `pods "x" is forbidden: User "u" cannot create resource "pods/portforward"`)
		return
	}
	f := forwarder{api: a, pod: r.PathValue("namespace") + "/" + r.PathValue("name"), errors: make(map[string]httpstream.Stream)}
	var conn httpstream.Connection
	protocol := "spdy"
	if websocket.IsWebSocketUpgrade(r) {
		if a.NoTunnel {
			refuse(w, http.StatusBadRequest, "unable to upgrade: missing upgrade headers")
			return
		}
		protocol = "websocket"
		up := websocket.Upgrader{Subprotocols: []string{"SPDY/3.1+" + portforward.PortForwardProtocolV1Name}}
		socket, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if conn, err = spdy.NewServerConnection(portforward.NewTunnelingConnection("server", socket), f.stream); err != nil {
			return
		}
	} else {
		if _, err := httpstream.Handshake(r, w, []string{portforward.PortForwardProtocolV1Name}); err != nil {
			return
		}
		if conn = spdy.NewResponseUpgrader().UpgradeResponse(w, r, f.stream); conn == nil {
			return
		}
	}
	defer conn.Close()
	a.mu.Lock()
	a.used[protocol]++
	a.conns = append(a.conns, conn)
	a.mu.Unlock()
	<-conn.CloseChan()
}

// forwarder is what a kubelet does with the streams of one connection.
type forwarder struct {
	api *API
	pod string

	mu     sync.Mutex
	errors map[string]httpstream.Stream // by request
}

func (f *forwarder) stream(s httpstream.Stream, replied <-chan struct{}) error {
	id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
		f.errors[id] = s
		return nil
	}
	go f.splice(s, f.errors[id], s.Headers().Get(corev1.PortHeader), replied)
	return nil
}

func (f *forwarder) splice(data, trouble httpstream.Stream, port string, replied <-chan struct{}) {
	<-replied
	defer func() { _ = data.Close(); _ = trouble.Close() }()
	f.api.mu.Lock()
	to, ok := f.api.Backend[f.pod+":"+port]
	f.api.mu.Unlock()
	if !ok {
		to = "127.0.0.1:1" // refused
	}
	conn, err := net.Dial("tcp", to)
	if err != nil {
		_, _ = io.WriteString(trouble, "an error occurred forwarding "+port+": "+err.Error())
		return
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, data)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(data, conn)
}
