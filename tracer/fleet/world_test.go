package fleet

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/midhop/midhop/tracer/event"
)

// world is an embedded server on loopback with a few tokens, and a hub's connection to it.
type world struct {
	t      *testing.T
	server *Server
	hub    *Conn
	dir    string
}

const tokenList = `
# who may come in
agent node-a secret-a
agent node-b.example secret-b
agent node-c secret-c 2020-01-01T00:00:00Z
reader eve secret-r
`

func newWorld(t *testing.T) *world {
	t.Helper()
	tokens, err := ReadTokens(strings.NewReader(tokenList))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir()}
	w.start(tokens)
	return w
}

// start starts the server and connects the hub.
func (w *world) start(auth Authenticator) {
	t := w.t
	t.Helper()
	var err error
	w.server, err = StartServer(ServerOptions{Listen: "127.0.0.1:0", Dir: filepath.Join(w.dir, "streams"), Auth: auth, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.server.Close)
	if w.hub, err = w.server.Dial(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.hub.Close)
}

// newHub makes the streams and a hub that is not running.
func (w *world) newHub(fold Fold, sources ...Source) *Hub {
	w.t.Helper()
	h, err := NewHub(w.t.Context(), w.hub, HubOptions{Build: event.Build{Version: "test"}, Fold: fold, Sources: sources})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// dial connects with a token, as an agent of a node or, without one, as a reader.
func (w *world) dial(node, secret string) (*Conn, error) {
	w.t.Helper()
	path := filepath.Join(w.dir, "token-"+secret)
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	c, err := Dial(DialOptions{URL: "nats://" + w.server.Address(), TokenFile: path, Node: node})
	if err == nil {
		w.t.Cleanup(c.Close)
	}
	return c, err
}

// mustDial is dial for a token that opens.
func (w *world) mustDial(node, secret string) *Conn {
	w.t.Helper()
	c, err := w.dial(node, secret)
	if err != nil {
		w.t.Fatal(err)
	}
	until(w.t, "connected", c.Connected)
	return c
}

// raw connects without any of midhop's manners.
func (w *world) raw(secret string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append(opts, nats.Timeout(patience))
	if secret != "" {
		opts = append(opts, nats.Token(secret))
	}
	nc, err := nats.Connect("nats://"+w.server.Address(), opts...)
	if err == nil {
		w.t.Cleanup(nc.Close)
	}
	return nc, err
}

// stored returns every message of a stream.
func (w *world) stored(stream, filter string) []message {
	w.t.Helper()
	f, err := follow(w.hub, stream, filter, 1, time.Time{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.close()
	var out []message
	if err := f.all(w.t.Context(), func(m *message) error { out = append(out, *m); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// folded returns the events that a reader of the stream of facts gets, and its account of them.
func (w *world) folded() ([]event.Event, IntakeStats) {
	w.t.Helper()
	in, err := newIntake(event.Build{})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []event.Event
	for _, m := range w.stored(StreamFacts, allFacts) {
		out = append(out, in.take(&m)...)
	}
	return out, in.Stats()
}

// patience is how long a test waits for what is about to be: a time that only what never comes needs.
const patience = time.Minute

// until waits for something that is about to be true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// nobody is a fold without sockets.
type nobody struct{}

func (nobody) Nameless(context.Context, string) ([]event.Socket, error) { return nil, nil }
func (nobody) Handed(context.Context) ([]string, error)                 { return nil, nil }
func (nobody) Unnamed(context.Context) ([]string, error)                { return nil, nil }

func heartbeat(source string, n uint64) event.Event {
	return event.Event{Type: event.StreamHeartbeat, Time: time.Now().UTC(), Source: source, ID: event.ID{Origin: source + "-1", N: n}, Body: &event.Heartbeat{}}
}
