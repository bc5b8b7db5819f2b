package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// How a connection goes on that is not wanted as it is.
const (
	// tellEvery is the time after which the same reason is told again: there are several attempts a second.
	tellEvery = time.Minute
	// refusedFor is how long a reader is refused before it gives up: a hub that has just started may not reach those yet who
	// know whose a token is.
	refusedFor = 10 * time.Second
	// askAgain is the time after which a connection that may not do what it has to is made anew: whose a token is, is looked
	// at when it is shown, and by then it may be another.
	askAgain = 30 * time.Second
)

// link is how a connection to the streams fares. Agents, hubs and screens go on for ever, since what is wrong may be put right;
// other readers end.
type link struct {
	o    *DialOptions
	over context.Context // its cause says why a reader does not go on
	end  context.CancelCauseFunc

	mu      sync.Mutex
	said    map[string]time.Time // what was told, and when
	why     error                // what was met last, nil where all is well
	refused time.Time            // of the first refusal since anything else was met
	token   error                // why there was none to show at the last attempt
	again   bool                 // askAgain runs
}

func newLink(o *DialOptions) *link {
	l := &link{o: o, said: make(map[string]time.Time)}
	l.over, l.end = context.WithCancelCause(context.Background())
	return l
}

// ends says whether a refusal is the end.
func (l *link) ends() bool { return l.o.reader && !l.o.Lasting }

// handlers are told of everything that befalls a connection.
func (l *link) handlers() []nats.Option {
	return []nats.Option{
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.failed(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err == nil {
				err = errors.New("the connection was lost")
			}
			l.met(err)
			l.o.Log.Info("the connection to the hub is lost", "error", err)
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			l.met(nil)
			l.o.Log.Info("the connection to the hub stands again")
		}),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { l.complains(nc, err) }),
	}
}

// met notes what was met last. Whoever is refused in between is not refused for good.
func (l *link) met(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why, l.refused = err, time.Time{}
}

// trouble is what was met last, nil where all is well.
func (l *link) trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// failed takes note of an attempt to connect that came to nothing.
func (l *link) failed(err error) {
	if e := l.refusal(err); e != nil {
		l.refuse(e)
		return
	}
	l.met(err)
	l.tell(slog.LevelInfo, "the hub is not reached", err.Error())
}

// refusal explains an error where it is a refusal, and returns nil where it is another.
func (l *link) refusal(err error) *RefusedError {
	e := l.o.refused(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if e != nil && l.token != nil {
		e.cause = fmt.Sprintf("there is no token to show to %s: %v", l.o.URL, l.token)
	}
	return e
}

func (l *link) refuse(e *RefusedError) {
	now := time.Now()
	l.mu.Lock()
	l.why = e
	if l.refused.IsZero() {
		l.refused = now
	}
	enough := now.Sub(l.refused) >= l.o.refusedFor
	l.mu.Unlock()
	if enough && l.ends() {
		l.end(e)
		return
	}
	l.tell(slog.LevelWarn, "the hub does not let this in", e.cause, "effect", e.effect, "remedy", e.remedy)
}

// complains takes note of what a server says to a connection that stands, or refuses one that comes again.
func (l *link) complains(nc *nats.Conn, err error) {
	if e := l.refusal(err); e != nil {
		l.refuse(e)
		return
	}
	if !errors.Is(err, nats.ErrPermissionViolation) || !l.needs(err) {
		l.tell(slog.LevelWarn, "the hub refuses something", err.Error())
		return
	}
	e := l.o.denied(err)
	if l.ends() {
		l.end(e)
		return
	}
	l.tell(slog.LevelWarn, "the hub refuses something", e.cause, "effect", e.effect, "remedy", e.remedy)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = e
	if l.again {
		return
	}
	l.again = true
	time.AfterFunc(l.o.askAgain, func() {
		l.mu.Lock()
		l.again = false
		l.mu.Unlock()
		_ = nc.ForceReconnect() // an error says that it is closed
	})
}

// needs says whether it takes a right that is missing: a reader asks for nothing else, and an agent's facts have to go.
func (l *link) needs(err error) bool {
	for _, of := range []string{subjectFacts, subjectLedger, agentInbox(l.o.Node)} {
		if l.o.Node != "" && strings.Contains(err.Error(), `"`+of) {
			return true
		}
	}
	return l.o.reader
}

// tell logs a reason that was not told lately.
func (l *link) tell(level slog.Level, text, cause string, more ...any) {
	now := time.Now()
	l.mu.Lock()
	maps.DeleteFunc(l.said, func(_ string, at time.Time) bool { return now.Sub(at) >= tellEvery })
	_, lately := l.said[text+cause]
	if !lately {
		l.said[text+cause] = now
	}
	l.mu.Unlock()
	if !lately {
		l.o.Log.Log(context.Background(), level, text, append([]any{"cause", cause}, more...)...)
	}
}

// show returns the token to show, empty where there is none.
func (l *link) show(read func() (string, error)) string {
	t, err := read()
	if err != nil {
		l.tell(slog.LevelWarn, "the token cannot be read", err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token = err
	return t
}
