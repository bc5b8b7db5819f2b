package fleet

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/midhop/midhop/tracer/event"
)

// TestACallout has a server that is not the hub's own ask the hub who comes: who is let in, and what they may do there, is what
// the embedded server lets them.
func TestACallout(t *testing.T) {
	issuer, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := issuer.Seed()
	public, _ := issuer.PublicKey()
	dir := t.TempDir()
	config := filepath.Join(dir, "nats.conf")
	var accounts strings.Builder
	if err := WriteAccounts(&accounts, "MIDHOP", []string{"node-a"}); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`listen: "127.0.0.1:-1"
jetstream { store_dir: %q }
%s
system_account: SYS
authorization { timeout: 60, auth_callout { issuer: %s, account: MIDHOP, auth_users: [ hub ] } }
`, filepath.Join(dir, "streams"), strings.NewReplacer("users: [ ] # the hubs", "users: [ { user: hub, password: pass } ]", "accounts {", "accounts { SYS { users: [ { user: sys, password: sys } ] }").
		Replace(accounts.String()), public)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the server does not listen")
	}
	at := ns.Addr().String()
	hub, err := Dial(DialOptions{URL: "nats://hub:pass@" + at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	tokens, err := ReadTokens(strings.NewReader(tokenList))
	if err != nil {
		t.Fatal(err)
	}
	callout := &Callout{Account: "MIDHOP", Auth: tokens, Log: slog.New(slog.DiscardHandler)}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	wrong, _ := user.Seed()
	if callout.Answer(hub, wrong) == nil || callout.Answer(hub, []byte("nonsense")) == nil {
		t.Error("a key that can sign for nobody is taken")
	}
	if err := callout.Answer(hub, append(seed, '\n')); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(callout.Close)
	h, err := NewHub(t.Context(), hub, HubOptions{Build: event.Build{Version: "test"}, Fold: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	_ = h
	dial := func(node, secret string) (*Conn, error) {
		return Dial(DialOptions{URL: "nats://" + at, Token: func() (string, error) { return secret, nil }, Node: node})
	}
	for name, secret := range map[string]string{"a guess": "secret-x", "expired": "secret-c"} {
		if _, err := dial("", secret); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want %v", name, err, nats.ErrAuthorization)
		}
	}
	if _, err := nats.Connect("nats://"+at, nats.Timeout(patience)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without a token: %v", err)
	}
	agent, err := dial("node-a", "secret-a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	until(t, "connected", agent.Connected)
	p := startPublisher(t, agent, PublishOptions{Node: "node-a", Delay: time.Millisecond})
	p.Write([]event.Event{heartbeat("agent/node-a", 1)})
	until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == 1 })
	denied(t, agent.nc, subjectFacts+token("node-b.example"))
	denied(t, agent.nc, "$JS.API.STREAM.PURGE."+StreamFacts)
	reader, err := dial("", "secret-r")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	denied(t, reader.nc, subjectFacts+"node-a")
	denied(t, reader.nc, "$JS.API.CONSUMER.CREATE."+StreamFacts)
	f, err := follow(reader, StreamFacts, allFacts, 1, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if batch, err := f.next(t.Context()); err != nil || len(batch) != 1 {
		t.Errorf("a reader reads %d messages, %v", len(batch), err)
	}
}
