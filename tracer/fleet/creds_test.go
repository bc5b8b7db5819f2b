package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"log/slog"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/midhop/midhop/tracer/event"
)

// operator is a server of somebody else's, which knows users by credentials of an account.
type operator struct {
	t       *testing.T
	url     string
	account nkeys.KeyPair
	dir     string
}

func keys(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	k, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return k, public
}

// startOperator starts a server with an account that may keep streams, and an account of the server's own.
func startOperator(t *testing.T) *operator {
	t.Helper()
	root, rootPublic := keys(t, nkeys.CreateOperator)
	resolver := &server.MemAccResolver{}
	account := func(name string, streams bool) (nkeys.KeyPair, string) {
		k, public := keys(t, nkeys.CreateAccount)
		claims := jwt.NewAccountClaims(public)
		claims.Name = name
		if streams {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
		}
		text, err := claims.Encode(root)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolver.Store(public, text); err != nil {
			t.Fatal(err)
		}
		return k, public
	}
	_, system := account("SYS", false)
	o := &operator{t: t, dir: t.TempDir()}
	o.account, _ = account("MIDHOP", true)
	claims := jwt.NewOperatorClaims(rootPublic)
	claims.SystemAccount = system
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: o.dir,
		TrustedOperators: []*jwt.OperatorClaims{claims}, AccountResolver: resolver, SystemAccount: system,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the server does not listen")
	}
	o.url = "nats://" + ns.Addr().String()
	return o
}

// creds writes credentials of a user that an account has signed.
func (o *operator) creds(name string, by nkeys.KeyPair, change func(*jwt.UserClaims)) string {
	o.t.Helper()
	k, public := keys(o.t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(public)
	claims.Name = name
	if change != nil {
		change(claims)
	}
	text, err := claims.Encode(by)
	if err != nil {
		o.t.Fatal(err)
	}
	seed, err := k.Seed()
	if err != nil {
		o.t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(text, seed)
	if err != nil {
		o.t.Fatal(err)
	}
	path := filepath.Join(o.dir, name+".creds")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// records is a log that a test waits for.
type records struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *records) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *records) has(words ...string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range words {
		if !strings.Contains(r.text.String(), w) {
			return false
		}
	}
	return true
}

func (r *records) count(word string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), word)
}

// TestCredentials has a hub, an agent and a reader come in to a server that is not the hub's own with credentials of its
// account, and others with such as are not good: these are told why, what follows and what helps.
func TestCredentials(t *testing.T) {
	o := startOperator(t)
	hub, err := Dial(DialOptions{URL: o.url, Creds: o.creds("hub", o.account, nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	if _, err := NewHub(t.Context(), hub, HubOptions{Fold: nobody{}}); err != nil {
		t.Fatal(err)
	}
	rights := func(u *jwt.UserClaims) { // as docs/threat-model.md says to grant
		u.Pub.Allow.Add(subjectClock, subjectFacts+"node-a", subjectLedger+"node-a")
		u.Sub.Allow.Add(agentInbox("node-a") + ".>")
	}
	dial := func(creds string, log *records) *Conn {
		t.Helper()
		c, err := Dial(DialOptions{URL: o.url, Creds: creds, Node: "node-a", Log: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	path := o.creds("agent", o.account, rights)
	agent := dial(path, &records{})
	p := startPublisher(t, agent, PublishOptions{Node: "node-a"})
	p.Write([]event.Event{heartbeat("agent/node-a", 1)})
	until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == 1 })

	// Good credentials that do not grant what it takes.
	log := &records{}
	q := startPublisher(t, dial(o.creds("other", o.account, func(u *jwt.UserClaims) {
		rights(u)
		u.Pub.Allow = jwt.StringList{subjectFacts + "node-b"}
	}), log), PublishOptions{Node: "node-a"})
	q.Write([]event.Event{heartbeat("agent/node-a", 1)})
	until(t, "refusal of a subject", func() bool { return log.has("the hub refuses something", "midhop.facts.agent.node-a") })

	// Such as the server does not know, or knows no more.
	stranger, _ := keys(t, nkeys.CreateAccount)
	unknown := o.creds("stranger", stranger, rights)
	expired := o.creds("late", o.account, func(u *jwt.UserClaims) { rights(u); u.Expires = time.Now().Add(-time.Hour).Unix() })
	for _, c := range []struct{ creds, cause, remedy string }{
		{unknown, "does not take the credentials in " + unknown, "of the account that the streams are in"},
		{expired, "the credentials of late in " + expired + " have expired at ", "nsc generate creds"},
	} {
		log := &records{}
		dial(c.creds, log)
		until(t, "word on "+c.creds, func() bool {
			return log.has("the hub does not let this in", c.cause, "nothing of this node reaches the hub", c.remedy)
		})
		_, err := Dial(DialOptions{URL: o.url, Creds: c.creds})
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.cause) || refused.Effect() == "" || !strings.Contains(refused.Remedy(), c.remedy) {
			t.Errorf("a reader is told %v", err)
		}
	}

	// An agent whose credentials are made good comes in by itself.
	log = &records{}
	late := o.creds("mended", stranger, rights)
	mended := dial(late, log)
	until(t, "refusal", func() bool { return log.has("does not take the credentials in " + late) })
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(late, good, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "connected", mended.Connected)
	if n := log.count("does not let this in"); n != 1 {
		t.Errorf("one reason was told %d times", n)
	}

	// No credentials at all, and files that hold none.
	if _, err := Dial(DialOptions{URL: o.url}); err == nil || !strings.Contains(err.Error(), "lets nobody in without") {
		t.Errorf("without credentials: %v", err)
	}
	empty := filepath.Join(o.dir, "empty.creds")
	if err := os.WriteFile(empty, []byte("token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var refused *RefusedError
	if _, err := Dial(DialOptions{URL: o.url, Creds: empty, Node: "node-a"}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "holds no credentials of NATS") {
		t.Errorf("a file without credentials: %v", err)
	}
	if _, err := Dial(DialOptions{URL: o.url, Creds: filepath.Join(o.dir, "none.creds"), Node: "node-a"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
