package kube

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/midhop/midhop/tracer/event"
)

// locked is a log that several goroutines write to.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func withPlugin(c *rest.Config, command string, args ...string) *rest.Config {
	c.BearerToken = ""
	c.ExecProvider = &clientcmdapi.ExecConfig{
		Command: command, Args: args, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
		InstallHint: "install it with\n  acme install login",
	}
	return c
}

// TestCredentialPlugin: what a plugin fails at is not the API's fault, and is said once, with its install hint.
func TestCredentialPlugin(t *testing.T) {
	for _, c := range []struct{ name, command, want string }{
		{"missing", "acme-login-that-is-not-there", "is not installed, or not in PATH; the API was not asked; its install hint: install it with acme install login"},
		{"failing", "false", "failed: executable false failed with exit code 1; the API was not asked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := cluster(t)
			log := &locked{}
			_, got := watching(t, Options{Config: withPlugin(a.config(), c.command), Log: slog.New(slog.NewTextHandler(log, nil))})
			for _, fact := range []string{"nodes", "pods", "services"} {
				got.from = 0
				got.next(fact+" behind", behind(fact, "the credential plugin "+c.command+", which the kubeconfig names, "+c.want))
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 1 {
				t.Errorf("it was said %d times:\n%s", n, log)
			}
			if strings.Contains(log.String(), "cannot be reached") {
				t.Errorf("the API is blamed:\n%s", log)
			}
		})
	}
}

// TestHangingPlugin: a plugin that does not end is blamed as well, and ends nothing but itself late.
func TestHangingPlugin(t *testing.T) {
	a := cluster(t)
	fifo := filepath.Join(t.TempDir(), "wait") // the plugin waits for whoever removes it
	if err := os.WriteFile(fifo, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Config: withPlugin(a.config(), "sh", "-c", `while [ -e "$0" ]; do sleep 0.05; done; false`, fifo), Log: slog.New(slog.DiscardHandler), slow: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	blamed := make(chan struct{})
	var once sync.Once
	go func() {
		done <- s.Run(ctx, func(batch []event.Event) {
			for _, e := range batch {
				if b, ok := e.Body.(*event.Synced); ok && strings.Contains(b.Behind, "the credential plugin sh, which the kubeconfig names, has not answered for 50ms") {
					once.Do(func() { close(blamed) })
				}
			}
		})
	}()
	select {
	case <-blamed:
	case <-time.After(time.Minute):
		t.Error("nobody blames the plugin")
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end while the plugin runs")
	}
	if err := os.Remove(fifo); err != nil {
		t.Error(err)
	}
}
