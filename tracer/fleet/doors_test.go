package fleet

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/midhop/midhop/tracer/event"
)

// door is one way to run the streams, with a running hub, and how strangers to midhop's manners knock there.
type door struct {
	hub     *Conn
	run     *Hub
	js      jetstream.JetStream
	callout *Callout
	url     string
	ca      string // a file; empty: plain text on loopback
	// show is how a connection shows whose it is, by the token of tokenList.
	show func(secret string) nats.Option
}

// doors are all ways that the streams can be run. Each starts its own.
var allDoors = map[string]func(*testing.T) *door{
	"embedded": func(t *testing.T) *door { return embeddedDoor(t, false) },
	"over TLS": func(t *testing.T) *door { return embeddedDoor(t, true) },
	"three servers": func(t *testing.T) *door {
		return clusterDoor(t, 3, false)
	},
	"callout": func(t *testing.T) *door { return clusterDoor(t, 1, true) },
}

// eachDoor runs a test at every door.
func eachDoor(t *testing.T, f func(t *testing.T, d *door)) {
	for name, open := range allDoors {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

// knock connects as a raw client.
func (d *door) knock(t testing.TB, secret string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	opts = append(opts, nats.Timeout(patience), d.show(secret))
	if d.ca != "" {
		opts = append(opts, nats.RootCAs(d.ca))
	}
	nc, err := nats.Connect(d.url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// start makes the streams and runs a hub on them.
func (d *door) start(t testing.TB, replicas int) {
	t.Helper()
	var err error
	if d.js, err = jetstream.New(d.hub.nc); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if d.run, err = NewHub(ctx, d.hub, HubOptions{Build: event.Build{Version: "test"}, Fold: nobody{}, Limits: Limits{Replicas: replicas}}); err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.run.Run(running, func([]event.Event) {}) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the hub has ended: %v", err)
		}
	})
}

func embeddedDoor(t testing.TB, withTLS bool) *door {
	tokens, err := ReadTokens(strings.NewReader(tokenList))
	if err != nil {
		t.Fatal(err)
	}
	d := &door{show: byToken}
	o := ServerOptions{Listen: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "streams"), Auth: tokens, Log: slog.New(slog.DiscardHandler)}
	if withTLS {
		o.TLS, d.ca = certificates(t)
	}
	s, err := StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if d.hub, err = s.Dial(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.hub.Close)
	d.url = "nats://" + s.Address()
	d.start(t, 1)
	return d
}

// certificates makes a certificate for loopback and a file to trust it by.
func certificates(t testing.TB) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hub"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, text, text, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, path
}

// clusterDoor runs nats-servers of the kind that somebody would have of their own, with the accounts that midhop prints for it.
// Without a callout the tokens of tokenList are the users' passwords.
func clusterDoor(t *testing.T, n int, callout bool) *door {
	tokens, err := ReadTokens(strings.NewReader(tokenList))
	if err != nil {
		t.Fatal(err)
	}
	var conf bytes.Buffer
	if err := WriteAccounts(&conf, DefaultAccount, []string{"node-a", "node-b.example"}); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(conf.String(), "users: [ ] # the hubs", "users: [ { user: hub, password: pass } ]", 1)
	d := &door{show: func(secret string) nats.Option { return nats.UserInfo(secret, secret) }}
	var seed []byte
	if callout {
		d.show = byToken
		issuer, public := keys(t, nkeys.CreateAccount)
		if seed, err = issuer.Seed(); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("authorization { timeout: 60, auth_callout { issuer: %s, account: MIDHOP, auth_users: [ hub ] } }\n", public)
	} else {
		for _, who := range [][2]string{{"MIDHOP_READERS", "secret-r"}, {"MIDHOP_AGENT_node-a", "secret-a"}, {"MIDHOP_AGENT_node-b_example", "secret-b"}} {
			before, after, ok := strings.Cut(text, fmt.Sprintf("%q {\n    users: [ ", who[0]))
			if !ok {
				t.Fatalf("no account %s in\n%s", who[0], text)
			}
			text = before + fmt.Sprintf("%q {\n    users: [ { user: %s, password: %s } ", who[0], who[1], who[1]) + after
		}
	}
	urls := startServers(t, n, text)
	d.url = strings.Join(urls, ",")
	first := strings.Replace(urls[0], "nats://", "nats://hub:pass@", 1)
	if d.hub, err = Dial(DialOptions{URL: first}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.hub.Close)
	if callout {
		c := &Callout{Account: DefaultAccount, Auth: tokens, Log: slog.New(slog.DiscardHandler)}
		if err := c.Answer(d.hub, seed); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		d.callout = c
	}
	d.start(t, n)
	return d
}

// startServers starts n servers with a configuration, as one cluster where there are several.
func startServers(t *testing.T, n int, text string) (urls []string) {
	t.Helper()
	dir := t.TempDir()
	var servers []*server.Server
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	for i := range n {
		own := fmt.Sprintf("server_name: s%d\nlisten: \"127.0.0.1:-1\"\njetstream { store_dir: %q }\n%s", i, filepath.Join(dir, fmt.Sprint(i)), text)
		if n > 1 {
			var routes []string
			for _, port := range ports {
				routes = append(routes, fmt.Sprintf("\"nats-route://127.0.0.1:%d\"", port))
			}
			own += fmt.Sprintf("cluster { name: c, listen: \"127.0.0.1:%d\", routes: [ %s ] }\n", ports[i], strings.Join(routes, ", "))
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(path, []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		opts, err := server.ProcessConfigFile(path)
		if err != nil {
			t.Fatalf("%v\n%s", err, own)
		}
		opts.NoSigs, opts.NoLog = true, true
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	for _, s := range servers {
		if !s.ReadyForConnections(patience) {
			t.Fatal("the server does not listen")
		}
		urls = append(urls, "nats://"+s.Addr().String())
	}
	if n > 1 {
		until(t, "a cluster", func() bool {
			leads := false
			for _, s := range servers {
				leads = leads || s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == n
			}
			return leads
		})
	}
	return urls
}

func byToken(secret string) nats.Option { return nats.Token(secret) }
