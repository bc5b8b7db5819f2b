package kubeaccess

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// Forward reaches one port of a pod through the API server, as kubectl port-forward does, but without a port on this
// machine, to which every process here could connect: connections exist only as streams inside the one to the server.
type Forward struct {
	dialer httpstream.Dialer
	port   int
	what   string // for errors

	mu    sync.Mutex
	conn  httpstream.Connection // nil until it is needed, and again after it broke
	asked int                   // requests on it
}

// NewForward returns a Forward to a port of a pod. It asks nothing yet. The user needs the right to create (websocket: get)
// pods/portforward.
func NewForward(a *Access, namespace, pod string, port int) (*Forward, error) {
	base, _, err := rest.DefaultServerUrlFor(a.Config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", a.Config.Host, err)
	}
	to := *base
	to.Path = strings.TrimSuffix(base.Path, "/") + "/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods/" + url.PathEscape(pod) + "/portforward"
	transport, upgrader, err := spdy.RoundTripperFor(a.Config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", a.Config.Host, err)
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, &to)
	// SPDY inside a websocket passes through proxies that SPDY alone does not (KEP-4006); servers before 1.31 lack it.
	socket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(&to, a.Config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", a.Config.Host, err)
	}
	return &Forward{port: port, what: fmt.Sprintf("port %d of pod %s/%s", port, namespace, pod),
		dialer: portforward.NewFallbackDialerForStreaming(socket, old, func(err error) bool {
			return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
		})}, nil
}

// Close breaks every connection that was made.
func (f *Forward) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
}

func (f *Forward) drop() {
	if f.conn != nil {
		_ = f.conn.Close()
		f.conn = nil
	}
}

// Dial makes a connection. That nothing listens at its far end is learnt from reading only.
func (f *Forward) Dial() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		select {
		case <-f.conn.CloseChan():
			f.conn = nil
		default:
		}
	}
	fresh := f.conn == nil
	for {
		if f.conn == nil {
			conn, protocol, err := f.dialer.Dial(portforward.PortForwardProtocolV1Name)
			if err != nil {
				return nil, fmt.Errorf("forward to %s: %w", f.what, err)
			}
			if protocol != portforward.PortForwardProtocolV1Name {
				_ = conn.Close()
				return nil, fmt.Errorf("forward to %s: the server speaks %q", f.what, protocol)
			}
			f.conn, f.asked = conn, 0
		}
		c, err := f.streams()
		if err == nil {
			return c, nil
		}
		f.drop()
		if fresh { // one that has been idle may have been cut without a word
			return nil, err
		}
		fresh = true
	}
}

// streams opens the pair of streams that make one connection.
func (f *Forward) streams() (net.Conn, error) {
	h := make(http.Header)
	h.Set(corev1.StreamType, corev1.StreamTypeError)
	h.Set(corev1.PortHeader, strconv.Itoa(f.port))
	h.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(f.asked))
	f.asked++
	trouble, err := stream(f.conn, h)
	if err != nil {
		return nil, fmt.Errorf("forward to %s: %w", f.what, err)
	}
	_ = trouble.Close() // nothing is written there
	h.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := stream(f.conn, h)
	if err != nil {
		f.conn.RemoveStreams(trouble)
		return nil, fmt.Errorf("forward to %s: %w", f.what, err)
	}
	// A stream has no deadlines and a pipe has: whoever dials does not wait for ever.
	near, far := net.Pipe()
	c := &forwarded{Conn: near, what: f.what}
	conn := f.conn
	said := make(chan struct{})
	go func() {
		defer close(said)
		if text, err := io.ReadAll(io.LimitReader(trouble, maxAnswer)); err == nil && len(text) > 0 {
			c.fail(errors.New(strings.TrimSpace(string(text))))
		}
	}()
	go func() {
		_, _ = io.Copy(far, data)
		// The reason, where there is one, comes by the other stream, and need not be first.
		select {
		case <-said:
		case <-time.After(reasonWait):
		}
		_ = far.Close()
	}()
	go func() {
		_, _ = io.Copy(data, far)
		_ = data.Close()
		_ = far.Close()
		_ = data.Reset() // whoever closes does not read either
		conn.RemoveStreams(data, trouble)
	}()
	return c, nil
}

// errCut is why no stream was opened: the connection to the server ended before it answered.
var errCut = errors.New("the connection to the API server was cut")

// stream opens one stream. CreateStream alone waits for an answer for 30 s (createStreamResponseTimeout) also where the
// connection breaks meanwhile.
func stream(conn httpstream.Connection, h http.Header) (httpstream.Stream, error) {
	type opened struct {
		stream httpstream.Stream
		err    error
	}
	answer := make(chan opened, 1)
	h = h.Clone()
	go func() {
		s, err := conn.CreateStream(h)
		answer <- opened{s, err}
	}()
	select {
	case o := <-answer:
		return o.stream, o.err
	case <-conn.CloseChan():
		return nil, errCut
	}
}

// reasonWait is how long the end of a connection waits for its reason.
const reasonWait = 500 * time.Millisecond

// forwarded is a connection through the API server.
type forwarded struct {
	net.Conn
	what string

	mu  sync.Mutex
	why error
}

func (c *forwarded) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.why = err
}

// Read implements net.Conn. At the end it says why, where the server has told.
func (c *forwarded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == io.EOF {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.why != nil {
			return n, fmt.Errorf("forward to %s: %w", c.what, c.why)
		}
	}
	return n, err
}
