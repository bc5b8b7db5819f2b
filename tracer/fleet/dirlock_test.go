//go:build unix

package fleet

import (
	"context"
	"time"

	"errors"
	"github.com/nats-io/nats.go"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneHubADirectory starts two servers on one directory: the second says why it does not start, and does when the first is gone.
func TestOneHubADirectory(t *testing.T) {
	o := ServerOptions{Listen: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "streams"), Log: slog.New(slog.DiscardHandler)}
	first, err := StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	var dir *DirError
	if second, err := StartServer(o); !errors.As(err, &dir) || !strings.Contains(err.Error(), "another hub keeps its streams in "+o.Dir) {
		t.Errorf("a second one: %v", err)
		if second != nil {
			second.Close()
		}
	}
	first.Close()
	third, err := StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	third.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = filepath.Join(file, "streams")
	if _, err := StartServer(o); !errors.As(err, &dir) || !strings.Contains(err.Error(), o.Dir) {
		t.Errorf("a directory that cannot be: %v", err)
	}
}

// TestAConnectionEndsWithItsToken lets a token expire while its connection stands.
func TestAConnectionEndsWithItsToken(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	w.start(authFunc(func() Identity {
		return Identity{Role: RoleReader, Name: "eve", Until: time.Now().Add(time.Second)}
	}))
	ended := make(chan error, 1)
	nc, err := w.raw("any", nats.NoReconnect(), nats.ClosedHandler(func(nc *nats.Conn) { ended <- nc.LastError() }))
	if err != nil {
		t.Fatal(err)
	}
	_ = nc
	select {
	case <-ended: // with the reason, or with the end of the connection, whichever the client reads first
	case <-time.After(patience):
		t.Error("it goes on")
	}
}

type authFunc func() Identity

func (f authFunc) Authenticate(context.Context, string) (Identity, error) { return f(), nil }
