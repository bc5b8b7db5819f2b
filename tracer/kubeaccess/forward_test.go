package kubeaccess_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/midhop/midhop/tracer/kubeaccess"
	"github.com/midhop/midhop/tracer/kubeaccess/apitest"
)

// echo is a server that sends back what it gets; it returns its address.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	return l.Addr().String()
}

func open(t *testing.T, api *apitest.API) *kubeaccess.Access {
	t.Helper()
	a, err := kubeaccess.Open(kubeaccess.Options{Kubeconfig: api.Kubeconfig(t, "test")})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestForward sends bytes through an API server to a pod's port and back, in both protocols: by several connections at once,
// and again after the way was cut.
func TestForward(t *testing.T) {
	for _, protocol := range []string{"websocket", "spdy"} {
		t.Run(protocol, func(t *testing.T) {
			api := apitest.Start(t)
			api.NoTunnel = protocol == "spdy"
			api.Backend["midhop/hub-0:4222"] = echo(t)
			f, err := kubeaccess.NewForward(open(t, api), "midhop", "hub-0", 4222)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var conns []net.Conn
			for i := range 3 {
				c, err := f.Dial()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				conns = append(conns, c)
				through(t, c, bytes.Repeat([]byte{byte(i)}, 1<<20))
			}
			for _, c := range conns { // one does not end another
				through(t, c, []byte("still there"))
				c.Close()
			}
			if n := api.Used(protocol); n != 1 {
				t.Errorf("%d connections to the server for three to the pod", n)
			}
			c, err := f.Dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			through(t, c, []byte("before"))
			api.Cut()
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a connection outlives its way")
			}
			began := time.Now()
			again, err := f.Dial()
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("an answer from a way that was cut is waited for: %s", took)
			}
			defer again.Close()
			through(t, again, []byte("after"))
			if n := api.Used(protocol); n != 2 {
				t.Errorf("%d connections to the server, one of them after the cut", n)
			}
		})
	}
}

// through sends bytes and wants them back.
func through(t *testing.T, c net.Conn, sent []byte) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes came back: %v", len(got), err)
	}
}

// TestForwardSaysWhy is refused, by the API server and by the pod.
func TestForwardSaysWhy(t *testing.T) {
	api := apitest.Start(t)
	f, err := kubeaccess.NewForward(open(t, api), "midhop", "hub-0", 4222)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := f.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "port 4222 of pod midhop/hub-0") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nothing listens, and the reason is %v", err)
	}
	idle, err := f.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	_ = idle.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline that has passed: %v", err)
	}
	api.Cut()
	api.Change(func() { api.Refuse["portforward"] = true })
	f2, err := kubeaccess.NewForward(open(t, api), "midhop", "hub-0", 4222)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f2.Dial(); err == nil || !strings.Contains(err.Error(), "pods/portforward") {
		t.Errorf("without the right: %v", err)
	}
}

// TestClient asks for what leads to a hub.
func TestClient(t *testing.T) {
	api := apitest.Start(t)
	api.Pods = []corev1.Pod{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "one", Labels: map[string]string{"app": "x"}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "two", Labels: map[string]string{"app": "y"}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "three", Labels: map[string]string{"app": "x"}}},
	}
	api.Values["configmaps/b/ca/ca.crt"], api.Values["secrets/b/tls/ca.crt"] = "public", "private"
	api.Tokens["b/reader"] = "secret"
	c, err := kubeaccess.NewClient(open(t, api))
	if err != nil {
		t.Fatal(err)
	}
	for namespace, want := range map[string]int{"": 2, "a": 1, "b": 1, "c": 0} {
		if pods, err := c.Pods(t.Context(), namespace, "app=x"); err != nil || len(pods) != want {
			t.Errorf("%d pods in %q, %v, want %d", len(pods), namespace, err, want)
		}
	}
	for secret, want := range map[bool]string{false: "public", true: "private"} {
		name := map[bool]string{false: "ca", true: "tls"}[secret]
		if v, err := c.Value(t.Context(), secret, "b", name, "ca.crt"); err != nil || string(v) != want {
			t.Errorf("%q, %v, want %q", v, err, want)
		}
	}
	token, until, err := c.Token(t.Context(), "b", "reader", time.Hour)
	if err != nil || token != "secret" || time.Until(until) < time.Minute {
		t.Errorf("%q until %s, %v", token, until, err)
	}
	if a := api.Audiences(); len(a) != 1 || a[0] != kubeaccess.Audience {
		t.Errorf("the token is for %q", a)
	}
	api.Change(func() { api.Refuse["pods"] = true })
	var status *kubeaccess.StatusError
	if _, err := c.Pods(t.Context(), "", "app=x"); !errors.As(err, &status) || status.Code != http.StatusForbidden || !strings.Contains(status.Text, "cannot list") {
		t.Errorf("without the right: %v", err)
	}
}
