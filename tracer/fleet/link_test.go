package fleet

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// turncoats is an Authenticator whose mind a test changes.
type turncoats struct{ atomic.Pointer[Tokens] }

func (a *turncoats) Authenticate(ctx context.Context, token string) (Identity, error) {
	return a.Load().Authenticate(ctx, token)
}

func (a *turncoats) believe(t *testing.T, list string) {
	t.Helper()
	tokens, err := ReadTokens(strings.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	a.Store(tokens)
}

const believed = "agent node-a secret-a\nreader eve secret-r\n"

// knocking is a world that believes such, and the options of whoever shows a token there.
func knocking(t *testing.T, secret string) (*world, *turncoats, DialOptions) {
	t.Helper()
	w, a := &world{t: t, dir: t.TempDir()}, &turncoats{}
	a.believe(t, believed)
	w.start(a)
	w.newHub(nobody{})
	o := DialOptions{URL: "nats://" + w.server.Address(), TokenFile: filepath.Join(w.dir, "token"), refusedFor: time.Second, askAgain: 100 * time.Millisecond}
	show(t, o, secret)
	return w, a, o
}

func show(t *testing.T, o DialOptions, secret string) {
	t.Helper()
	if err := os.WriteFile(o.TokenFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
}

// explains requires an error that says all that there is to say, the remedy with these words.
func explains(t *testing.T, err error, cause, effect, remedy string) {
	t.Helper()
	var e interface{ Effect() string }
	var r interface{ Remedy() string }
	switch {
	case err == nil || !strings.Contains(err.Error(), cause):
		t.Errorf("got %v, want %q", err, cause)
	case !errors.As(err, &e) || !strings.Contains(e.Effect(), effect):
		t.Errorf("%v: no effect such as %q", err, effect)
	case !errors.As(err, &r) || !strings.Contains(r.Remedy(), remedy):
		t.Errorf("%v: no remedy such as %q", err, remedy)
	}
}

// TestAnAgentsTokenIsNoReaders comes in to read with the token of an agent, and with one that nobody knows.
func TestAnAgentsTokenIsNoReaders(t *testing.T) {
	t.Parallel()
	for secret, cause := range map[string]string{"secret-a": ", but as no reader's: ", "secret-x": "does not take the token in "} {
		_, _, o := knocking(t, secret)
		_, err := DialReader(o)
		explains(t, err, cause, "nothing can be read there", "")
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Remedy() == "" {
			t.Errorf("%s: %v is no refusal with a remedy", secret, err)
		}
		o.Lasting = true // also whoever goes on later
		if _, err := DialReader(o); !errors.As(err, &refused) {
			t.Errorf("%s, lasting: %v is no refusal", secret, err)
		}
	}
	_, _, o := knocking(t, "secret-r")
	c, err := DialReader(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// reading is a follower at work.
type reading struct {
	*Follower
	conn *Conn
	err  chan error
}

func startReading(t *testing.T, o DialOptions) *reading {
	t.Helper()
	c, err := DialReader(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	f, err := NewFollower(c, FollowOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := &reading{f, c, make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.err <- f.Run(ctx, func([]event.Event) {}) }()
	t.Cleanup(func() { cancel(); <-done })
	<-f.Live()
	return r
}

// again breaks the connection, after which the token is looked at anew.
func (r *reading) again(t *testing.T) {
	t.Helper()
	if err := r.conn.nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
}

// TestATokenIsTakenAway from a reader while it reads: it says so and ends, whether the token opens nothing any more or another
// door.
func TestATokenIsTakenAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ list, cause, remedy string }{
		"unknown": {"agent node-a secret-a\n", "does not take the token in ", "the hub's log says why"},
		"agent's": {"agent node-b secret-r\n", ", but as no reader's: ", "take a reader's token"},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, o := knocking(t, "secret-r")
			log := &records{}
			o.Log = slog.New(slog.NewTextHandler(log, nil))
			r := startReading(t, o)
			a.believe(t, c.list)
			r.again(t)
			select {
			case err := <-r.err:
				explains(t, err, c.cause, "what the hub was told after ", c.remedy)
				var cut *CutOffError
				if !errors.As(err, &cut) || !cut.Read {
					t.Errorf("%v is no end of what was read before", err)
				}
			case <-time.After(patience):
				t.Fatal("it reads on")
			}
			if n := log.count("does not let this in"); n > 1 {
				t.Errorf("one reason was told %d times", n)
			}
		})
	}
}

// TestAScreenAsksOn is the same with a reader that goes on: what is wrong is known meanwhile, and it reads on when that was put
// right.
func TestAScreenAsksOn(t *testing.T) {
	t.Parallel()
	_, a, o := knocking(t, "secret-r")
	o.Lasting, o.refusedFor = true, time.Nanosecond
	r := startReading(t, o)
	for _, list := range []string{"agent node-a secret-a\n", "agent node-b secret-r\n"} {
		if cut := r.Cut(); cut != nil {
			t.Fatalf("cut off before anything happened: %v", cut)
		}
		a.believe(t, list)
		r.again(t)
		var refused *RefusedError
		until(t, "cut off", func() bool { return errors.As(r.cutError(), &refused) })
		a.believe(t, believed)
		until(t, "on again", func() bool { return r.Cut() == nil })
	}
	select {
	case err := <-r.err:
		t.Errorf("it ends: %v", err)
	default:
	}
}

func (r *reading) cutError() error {
	if cut := r.Cut(); cut != nil {
		return cut
	}
	return nil
}

// TestAReaderWaitsForWhatIsAwayOnly lets a server go under a reader that has what it needs, which waits, and under one that
// has nothing yet, which does not.
func TestAReaderWaitsForWhatIsAwayOnly(t *testing.T) {
	t.Parallel()
	w, _, o := knocking(t, "secret-r")
	r := startReading(t, o)
	w.server.Close()
	until(t, "cut off", func() bool { return r.Cut() != nil })
	f := &follower{conn: r.conn, stream: StreamFacts, heard: time.Now().Add(-answerWait)}
	away := errors.New("away")
	if err := f.unanswered(away); err != nil {
		t.Errorf("who waits for what is to come ends: %v", err)
	}
	f.hasty = true
	explains(t, f.unanswered(away), "the hub has not answered for 30s", "nothing was read", "check that the hub runs")
	r.conn.link.o.Lasting = true
	if err := f.unanswered(away); err != nil {
		t.Errorf("who lasts ends: %v", err)
	}
}

// TestAnAgentAsksOn shows a reader's token, which lets an agent in and takes nothing of it, and an unknown one. Each is told,
// and put right without a word to the agent.
func TestAnAgentAsksOn(t *testing.T) {
	t.Parallel()
	for secret, cause := range map[string]string{"secret-r": "but as no agent's of the node node-a", "secret-x": "does not take the token in"} {
		t.Run(secret, func(t *testing.T) {
			_, _, o := knocking(t, secret)
			log := &records{}
			o.Node, o.Log = "node-a", slog.New(slog.NewTextHandler(log, nil))
			c, err := Dial(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			p := startPublisher(t, c, PublishOptions{Node: "node-a"})
			p.Write([]event.Event{heartbeat("agent/node-a", 1)})
			until(t, "word", func() bool { return log.has(cause, "nothing of this node reaches the hub", "remedy=") })
			show(t, o, "secret-a")
			until(t, "acknowledged", func() bool { return p.Stats().Facts.Acked == 1 })
		})
	}
}

// TestAReasonIsToldNowAndThen meets two reasons in turn, many times a second.
func TestAReasonIsToldNowAndThen(t *testing.T) {
	log := &records{}
	l := newLink(&DialOptions{Log: slog.New(slog.NewTextHandler(log, nil))})
	tell := func() {
		l.tell(slog.LevelWarn, "no", "a reason")
		l.tell(slog.LevelWarn, "no", "another")
	}
	for range 100 {
		tell()
	}
	for _, reason := range []string{"a reason", "another"} {
		if n := log.count(reason); n != 1 {
			t.Errorf("%s was told %d times", reason, n)
		}
	}
	for reason, at := range l.said {
		l.said[reason] = at.Add(-tellEvery)
	}
	tell()
	if n := log.count("a reason"); n != 2 {
		t.Errorf("a minute later it was told %d times in all", n)
	}
}
