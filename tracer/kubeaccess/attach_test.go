package kubeaccess

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// spdyOnly is an API server, or a proxy before one, that takes no WebSocket. It writes a line for each that comes in.
func spdyOnly(t *testing.T) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.Error(w, "the way is not known", http.StatusBadRequest)
			return
		}
		if !strings.HasSuffix(r.URL.Path, "/namespaces/ws/pods/midhop-probe-xyz-node-b/attach") || r.URL.Query().Get("stdin") != "true" || r.URL.Query().Get("container") != Container {
			t.Errorf("asked for %s", r.URL)
		}
		if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
			return
		}
		streams := make(chan httpstream.Stream, 4)
		conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, _ <-chan struct{}) error { streams <- s; return nil })
		if conn == nil {
			return
		}
		defer conn.Close()
		named := make(map[string]httpstream.Stream)
		for len(named) < 4 {
			select {
			case s := <-streams:
				named[s.Headers().Get(corev1.StreamType)] = s
			case <-time.After(30 * time.Second):
				t.Errorf("only %d streams", len(named))
				return
			}
		}
		var line [1]byte
		for {
			if _, err := named[corev1.StreamTypeStdin].Read(line[:]); err != nil {
				break
			}
			_, _ = io.WriteString(named[corev1.StreamTypeStdout], "out\n")
			_, _ = io.WriteString(named[corev1.StreamTypeStderr], "words\n")
		}
		_ = named[corev1.StreamTypeStdout].Close()
		_ = named[corev1.StreamTypeStderr].Close()
		_, _ = io.WriteString(named[corev1.StreamTypeError], `{"metadata":{},"status":"Success"}`)
		_ = named[corev1.StreamTypeError].Close()
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv
}

// TestAttachWithoutWebSocket falls back to SPDY, and carries all three streams to their end.
func TestAttachWithoutWebSocket(t *testing.T) {
	d, err := NewDebugger(&Access{Config: &rest.Config{Host: spdyOnly(t).URL}})
	if err != nil {
		t.Fatal(err)
	}
	r := &DebugRun{ID: "xyz", Namespace: "ws"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, words bytes.Buffer
	if err := d.Attach(ctx, r, "node-b", strings.NewReader("ab"), &out, &words); err != nil {
		t.Fatal(err)
	}
	if out.String() != "out\nout\n" || words.String() != "words\nwords\n" {
		t.Errorf("it wrote %q and said %q", out.String(), words.String())
	}

	ctx, cancel = context.WithCancel(t.Context())
	in, w := io.Pipe()
	defer w.Close()
	ended := make(chan error, 1)
	go func() { ended <- d.Attach(ctx, r, "node-b", in, io.Discard, io.Discard) }()
	if _, err := w.Write([]byte("a")); err != nil { // it is attached
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("called off, it ends with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("called off, it does not end")
	}
}

// TestPodNames are host names of their own for every node, however long.
func TestPodNames(t *testing.T) {
	r := &DebugRun{ID: "xyz"}
	seen := make(map[string]string)
	for _, node := range []string{
		"node-b", "ip-10-0-1-12.eu-west-1.compute.internal", "ip-10-0-1-13.eu-west-1.compute.internal",
		"gke-production-cluster-one-default-pool-very-long-name-indeed-0a1b2c3d-x7k2",
		"gke-production-cluster-one-default-pool-very-long-name-indeed-0a1b2c3d-x7k3",
	} {
		name := r.PodName(node)
		if len(name) > 63 || strings.Contains(name, ".") || !strings.HasPrefix(name, "midhop-probe-xyz-") {
			t.Errorf("%s has the pod %q", node, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%s and %s have the same pod", node, other)
		}
		seen[name] = node
	}
}
