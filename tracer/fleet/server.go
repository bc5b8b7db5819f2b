package fleet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// ServerOptions say how the embedded server listens and where it keeps its streams.
type ServerOptions struct {
	Listen string      // host:port; off loopback it takes TLS and an Authenticator
	Dir    string      // the streams' files
	TLS    *tls.Config // with a certificate; nil: plain text, on loopback only
	Auth   Authenticator
	Log    *slog.Logger
}

// Server is a NATS server with JetStream inside this process.
type Server struct {
	ns       *server.Server
	own      string
	accounts *accounts
	log      *slog.Logger
	unlock   func() // the directory
}

// UnsafeError says that a server would listen where others can reach it without a lock on the door.
type UnsafeError struct{ Text string }

func (e *UnsafeError) Error() string { return e.Text }

// startWait is how long the server may take to read its streams' files.
const startWait = 30 * time.Second

// StartServer starts an embedded server. Close ends it.
func StartServer(o ServerOptions) (*Server, error) {
	host, portText, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Listen, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", o.Listen, err)
	}
	ip := net.ParseIP(host)
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		switch {
		case o.TLS == nil:
			return nil, &UnsafeError{fmt.Sprintf("listening on %s needs a certificate: off loopback everything is TLS", o.Listen)}
		case o.Auth == nil:
			return nil, &UnsafeError{fmt.Sprintf("listening on %s needs a way to tell who comes", o.Listen)}
		}
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s := &Server{own: newToken(), accounts: &accounts{}, log: o.Log}
	opts := &server.Options{
		ServerName: "midhop-hub", Host: host, Port: port, JetStream: true, StoreDir: o.Dir, NoSigs: true, DontListen: false,
		MaxPayload: 1 << 20, NoSystemAccount: false, JetStreamMaxMemory: 1 << 20, JetStreamMaxStore: 1 << 40,
		TLSConfig: o.TLS, TLS: o.TLS != nil, TLSTimeout: 5, AuthTimeout: (authWait + time.Second).Seconds(),
		// A connection that a partition cut is noticed by its ends within seconds, and made anew.
		PingInterval: 2 * time.Second, MaxPingsOut: 2, WriteDeadline: 5 * time.Second,
		CustomClientAuthentication: &doorkeeper{own: s.own, auth: o.Auth, accounts: s.accounts, deny: func(remote string, err error) {
			o.Log.Warn("a connection was refused", "from", remote, "why", err)
		}},
		DisableJetStreamBanner: true,
	}
	if s.unlock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	if s.ns, err = server.NewServer(opts); err != nil {
		s.unlock()
		return nil, fmt.Errorf("start the embedded server: %w", err)
	}
	s.accounts.ns = s.ns
	if err := offer(s.ns.GlobalAccount()); err != nil {
		s.unlock()
		return nil, fmt.Errorf("start the embedded server: %w", err)
	}
	said := &serverLog{log: o.Log}
	s.ns.SetLoggerV2(said, false, false, false)
	s.ns.Start()
	if !s.ns.ReadyForConnections(startWait) {
		s.Close()
		if why := said.fatal.Load(); why != nil {
			return nil, fmt.Errorf("the embedded server does not start: %s", *why)
		}
		return nil, errors.New("the embedded server does not listen, and does not say why")
	}
	return s, nil
}

// Close ends the server and returns when its files are closed.
func (s *Server) Close() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	s.unlock()
}

// Address is where it listens.
func (s *Server) Address() string { return s.ns.Addr().String() }

// Dial connects the hub to its own server, without a socket and with every right.
func (s *Server) Dial() (*Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(s.ns), nats.Token(s.own), nats.Name("hub"), nats.MaxReconnects(-1))
	if err != nil {
		return nil, fmt.Errorf("connect to the embedded server: %w", err)
	}
	return &Conn{nc: nc, link: newLink(&DialOptions{Log: s.log})}, nil
}

// serverLog passes what the server says on to people, one step less loud: it calls a refused connection an error.
type serverLog struct {
	log   *slog.Logger
	fatal atomic.Pointer[string] // why it does not start
}

func (l *serverLog) Noticef(f string, v ...any) { l.log.Debug("nats: " + fmt.Sprintf(f, v...)) }
func (l *serverLog) Warnf(f string, v ...any)   { l.log.Info("nats: " + fmt.Sprintf(f, v...)) }
func (l *serverLog) Errorf(f string, v ...any)  { l.log.Info("nats: " + fmt.Sprintf(f, v...)) }

// Fatalf is how the server says why it ends.
func (l *serverLog) Fatalf(f string, v ...any) {
	why := fmt.Sprintf(f, v...)
	l.fatal.CompareAndSwap(nil, &why)
	l.log.Error("nats: " + why)
}

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}
