package kubeaccess

import (
	"context"
	"io"
	"net/http"
	"testing"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestCalledOff: a late answer is put away.
func TestCalledOff(t *testing.T) {
	release := make(chan struct{})
	closed := make(chan struct{})
	rt := CalledOff(roundTripper(func(*http.Request) (*http.Response, error) {
		<-release
		return &http.Response{Body: closer{closed}}, nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := rt.RoundTrip(r); err == nil || response != nil { //nolint:bodyclose // there is none
		t.Errorf("answered %v", response)
	}
	close(release)
	<-closed
}

type closer struct{ closed chan struct{} }

func (closer) Read([]byte) (int, error) { return 0, io.EOF }
func (c closer) Close() error           { close(c.closed); return nil }
