package fleet

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// DialOptions say how to reach the streams.
type DialOptions struct {
	URL       string // nats://host:port, tls://host:port, several separated by commas
	TokenFile string // read at every connect: kubelet renews a ServiceAccount's token
	Creds     string // file of NATS credentials, for a cluster of one's own
	CA        string // file of certificates to trust, beside the system's
	Node      string // of an agent; empty for everybody else
	Log       *slog.Logger

	// For a hub that is reached in a way of its own, such as through a Kubernetes API; each may be nil.
	Through func() (net.Conn, error) // makes connections; the URL says whom to expect at their far end
	Token   func() (string, error)   // instead of TokenFile; asked at every connect
	Roots   []byte                   // instead of CA: certificates to trust, as PEM, and no others

	// Lasting has a reader that is refused later on ask on and on, as an agent does, instead of ending. Such as a screen, which
	// says so and has more to show.
	Lasting bool

	reader               bool          // see DialReader
	refusedFor, askAgain time.Duration // the constants of these names if zero
}

// Conn is a connection to the streams. It comes back by itself after it was lost.
type Conn struct {
	nc   *nats.Conn
	link *link
}

// Close ends the connection.
func (c *Conn) Close() { c.nc.Close() }

// Connected says whether the connection stands right now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Traffic is how many bytes were written and read so far, over all connections that were made.
func (c *Conn) Traffic() (sent, received uint64) {
	s := c.nc.Stats()
	return s.OutBytes, s.InBytes
}

// ErrPlain keeps a token from travelling where others can read it.
var ErrPlain = errors.New("a token would go over the wire in plain text: use tls://")

// Reconnects are quick, and never in step: every agent of a cluster may come back at once.
const (
	reconnectWait   = 250 * time.Millisecond
	reconnectJitter = 500 * time.Millisecond
	dialTimeout     = 4 * time.Second
	// A connection through which nothing comes back is given up after two of these.
	pingEvery = 2 * time.Second
)

// DialReader connects whoever only reads. That a server lets it in is not enough: an agent may come in too, and reads nothing.
func DialReader(o DialOptions) (*Conn, error) {
	o.Node, o.reader = "", true
	c, err := Dial(o)
	if err != nil {
		return nil, err
	}
	if err := c.mayRead(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// mayRead asks for a fact, and returns what the server has against that.
func (c *Conn) mayRead() error {
	f, err := follow(c, StreamFacts, allFacts, 1, time.Time{})
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.ask(); err != nil {
		return err
	}
	// A server answers in turn: what it refuses it has said before it answers this.
	if err := c.nc.FlushTimeout(dialTimeout); err != nil {
		return fmt.Errorf("read %s: %w", StreamFacts, err)
	}
	if err := c.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return c.link.o.denied(err)
	}
	return nil
}

// Dial connects an agent or a hub. An agent's connection is made in the background and for as long as it takes, any other must
// stand now.
func Dial(o DialOptions) (*Conn, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.refusedFor == 0 {
		o.refusedFor = refusedFor
	}
	if o.askAgain == 0 {
		o.askAgain = askAgain
	}
	l := newLink(&o)
	name, inbox := "reader", readerInboxes+"."+newToken()[:16]
	if o.Node != "" {
		name, inbox = "agent "+o.Node, agentInbox(o.Node)
	}
	opts := []nats.Option{
		nats.Name(name), nats.CustomInboxPrefix(inbox), nats.MaxReconnects(-1), nats.Timeout(dialTimeout),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2), nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.RetryOnFailedConnect(o.Node != ""),
	}
	opts = append(opts, l.handlers()...)
	plain := false
	for u := range strings.SplitSeq(o.URL, ",") {
		if !strings.HasPrefix(strings.TrimSpace(u), "tls://") && !loopbackURL(u) {
			plain = true
		}
	}
	tokens := o.Token
	if tokens == nil && o.TokenFile != "" {
		tokens = func() (string, error) { return readToken(o.TokenFile) }
	}
	if tokens != nil {
		if plain {
			return nil, ErrPlain
		}
		if _, err := tokens(); err != nil {
			return nil, err
		}
		opts = append(opts, nats.TokenHandler(func() string { return l.show(tokens) }))
	}
	if o.Creds != "" {
		if plain {
			return nil, ErrPlain
		}
		if _, err := readCreds(o.Creds); err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserCredentials(o.Creds))
	}
	if o.CA != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("read the certificates to trust: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", o.CA)
		}
		opts = append(opts, nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	}
	if o.Roots != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(o.Roots) {
			return nil, errors.New("no certificate in what the hub's own should be signed with")
		}
		opts = append(opts, nats.Secure(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	}
	if o.Through != nil {
		opts = append(opts, nats.SetCustomDialer(through(o.Through)), nats.SkipHostLookup())
	}
	nc, err := nats.Connect(o.URL, opts...)
	if err != nil {
		if refused := l.refusal(err); refused != nil {
			return nil, refused
		}
		return nil, fmt.Errorf("connect to %s: %w", o.URL, err)
	}
	return &Conn{nc: nc, link: l}, nil
}

// through is a dialer of connections that have no address here.
type through func() (net.Conn, error)

// Dial implements nats.CustomDialer.
func (t through) Dial(string, string) (net.Conn, error) { return t() }

func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// loopbackURL says whether what is sent to a URL stays on this machine.
func loopbackURL(u string) bool {
	u = strings.TrimSpace(u)
	if !strings.Contains(u, "://") {
		u = "nats://" + u
	}
	parsed, err := url.Parse(u)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(parsed.Hostname())
	return parsed.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}
