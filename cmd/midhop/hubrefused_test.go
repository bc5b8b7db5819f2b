package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
)

// doorman lets in whom a test wants.
type doorman struct{ reads atomic.Bool }

// Authenticate implements fleet.Authenticator.
func (d *doorman) Authenticate(_ context.Context, token string) (fleet.Identity, error) {
	switch {
	case token == "agents":
		return fleet.Identity{Role: fleet.RoleAgent, Node: "node-1"}, nil
	case token == "readers" && d.reads.Load():
		return fleet.Identity{Role: fleet.RoleReader, Name: "people"}, nil
	}
	return fleet.Identity{}, errors.New("not known")
}

// emptyFold is one without sockets.
type emptyFold struct{}

func (emptyFold) Nameless(context.Context, string) ([]event.Socket, error) { return nil, nil }
func (emptyFold) Handed(context.Context) ([]string, error)                 { return nil, nil }
func (emptyFold) Unnamed(context.Context) ([]string, error)                { return nil, nil }

// serve runs a hub such as a reader meets it, until stop is called.
func serve(t *testing.T, listen, dir string, d *doorman) (at string, stop func()) {
	t.Helper()
	s, err := fleet.StartServer(fleet.ServerOptions{Listen: listen, Dir: dir, Auth: d, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Dial()
	if err != nil {
		s.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	hub, err := fleet.NewHub(ctx, conn, fleet.HubOptions{Fold: emptyFold{}})
	if err != nil {
		t.Error(err)
		close(done)
	} else {
		go func() {
			defer close(done)
			_ = hub.Run(ctx, func([]event.Event) {})
		}()
	}
	stop = sync.OnceFunc(func() { cancel(); <-done; conn.Close(); s.Close() })
	t.Cleanup(stop)
	return s.Address(), stop
}

// TestRefusedReaders has every command that reads a hub come with tokens that are not for reading, and with one that is taken
// away while it reads. None hangs, and each says what helps.
func TestRefusedReaders(t *testing.T) {
	t.Parallel()
	if binary == "" {
		t.Skip("the program is built for root only")
	}
	dir := t.TempDir()
	file := filesIn(t, dir)
	d := &doorman{}
	d.reads.Store(true)
	at, stop := serve(t, "127.0.0.1:0", filepath.Join(dir, "streams"), d)
	start := func(token string, args ...string) (*exec.Cmd, *bytes.Buffer, func() int) {
		ctx, cancel := context.WithTimeout(t.Context(), hang)
		t.Cleanup(cancel)
		cmd := exec.CommandContext(ctx, binary, append(args, "--hub", "nats://"+at, "--hub-token", token)...)
		text := &bytes.Buffer{}
		cmd.Stderr = text
		return cmd, text, func() int {
			_ = cmd.Wait() // the code says how it ended
			return cmd.ProcessState.ExitCode()
		}
	}
	for token, cause := range map[string]string{file("agents", "agents"): ", but as no reader's: ", file("unknown", "unknown"): "does not take the token in"} {
		for _, args := range [][]string{
			nil, {"watch"}, {"via"}, {"incidents"}, {"check"}, {"record", filepath.Join(dir, "live.jsonl")}, {"record", "--since", "1h", filepath.Join(dir, "cut.jsonl")},
		} {
			cmd, text, end := start(token, args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			code := end()
			for _, words := range []string{cause, "\n  effect: ", "\n  remedy: "} {
				if !strings.Contains(text.String(), words) {
					t.Errorf("%q with %s: %q is not said:\n%s", args, filepath.Base(token), words, text)
				}
			}
			if code != exitBlind {
				t.Errorf("%q with %s ends with %d, want %d", args, filepath.Base(token), code, exitBlind)
			}
		}
	}

	// One that reads, until the hub has started again and knows its token no more.
	cmd, text, end := start(file("readers", "readers"), "watch", "-o", "jsonl", "--complete")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // the first line of the stream
		t.Fatalf("nothing is read: %v\n%s", err, text)
	}
	d.reads.Store(false)
	stop()
	serve(t, at, filepath.Join(dir, "streams"), d)
	for more := make([]byte, 4096); err == nil; {
		_, err = out.Read(more)
	}
	if code := end(); code != exitFailed {
		t.Errorf("the watch ends with %d, want %d:\n%s", code, exitFailed, text)
	}
	for _, words := range []string{"does not take the token in", "\n  effect: what the hub was told after ", "\n  remedy: the hub's log says why"} {
		if !strings.Contains(text.String(), words) {
			t.Errorf("%q is not said:\n%s", words, text)
		}
	}
}
