package fleet

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Role says what whoever has come in may do.
type Role string

// The roles.
const (
	RoleAgent  Role = "agent"  // publishes the facts of one node, and reads nothing
	RoleReader Role = "reader" // reads, and publishes nothing
)

// Identity is what a token proves.
type Identity struct {
	Role Role
	Name string // a reader's, for the log
	Node string // an agent's

	// Also names further nodes that the same process speaks for, as one may that relays for nodes without a way of their
	// own; separated by commas.
	Also string
}

// Authenticator says whose a token is. An error keeps the connection out; the text of the error goes to the hub's log and
// not to whoever knocked.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (Identity, error)
}

// authWait bounds one question to the Authenticator. The server itself gives up on a connection a little later.
const authWait = 4 * time.Second

// doorkeeper lets connections into the embedded server, with the permissions of what their token proves.
type doorkeeper struct {
	own  string // the token of the hub itself, which no other process knows
	auth Authenticator
	deny func(remote string, err error)
}

// Check implements server.Authentication.
func (d *doorkeeper) Check(c server.ClientAuthentication) bool {
	token := c.GetOpts().Token
	if token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(d.own)) == 1 {
		c.RegisterUser(&server.User{Username: "hub"})
		return true
	}
	id, err := d.identify(token)
	if err == nil {
		var user *server.User
		if user, err = userOf(id); err == nil {
			c.RegisterUser(user)
			return true
		}
	}
	remote := ""
	if a := c.RemoteAddress(); a != nil {
		remote = a.String()
	}
	d.deny(remote, err)
	return false
}

var errNoToken = errors.New("no token")

func (d *doorkeeper) identify(token string) (Identity, error) {
	switch {
	case d.auth == nil:
		return Identity{}, errors.New("this hub takes connections from nobody: it was given no way to tell who comes")
	case token == "":
		return Identity{}, errNoToken
	}
	ctx, cancel := context.WithTimeout(context.Background(), authWait)
	defer cancel()
	return d.auth.Authenticate(ctx, token)
}

// userOf turns an identity into a user of NATS. Everything that is not allowed is denied.
func userOf(id Identity) (*server.User, error) {
	switch id.Role {
	case RoleAgent:
		if id.Node == "" {
			return nil, errors.New("the token names no node")
		}
		allow := []string{subjectClock}
		for _, node := range append([]string{id.Node}, strings.Split(id.Also, ",")...) {
			if node == "" {
				continue
			}
			allow = append(allow, subjectFacts+token(node), subjectLedger+token(node))
		}
		return &server.User{Username: "agent " + id.Node, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: allow},
			Subscribe: &server.SubjectPermission{Allow: []string{agentInbox(id.Node) + ".>"}},
		}}, nil
	case RoleReader:
		// Messages are fetched directly: a reader that could make consumers could have them deliver into a stream.
		return &server.User{Username: "reader " + id.Name, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{
				"$JS.API.DIRECT.GET." + StreamFacts, "$JS.API.DIRECT.GET." + StreamLedger, "$JS.API.DIRECT.GET." + StreamIncidents,
				"$JS.API.STREAM.INFO." + StreamFacts, "$JS.API.STREAM.INFO." + StreamLedger, "$JS.API.STREAM.INFO." + StreamIncidents,
				subjectClock,
			}},
			Subscribe: &server.SubjectPermission{Allow: []string{readerInboxes + ".>"}},
		}}, nil
	}
	return nil, fmt.Errorf("no role %q", id.Role)
}

// Inboxes. An agent hears the answers to its own questions and nothing else. A reader's inbox is a random name.
const readerInboxes = "midhop.inbox.reader"

func agentInbox(node string) string { return "midhop.inbox.agent." + token(node) }

// Tokens is an Authenticator of a fixed list, for clusters without Kubernetes and for tests.
type Tokens struct{ by map[[sha256.Size]byte]dated }

type dated struct {
	id    Identity
	until time.Time // zero: for ever
}

// ReadTokens reads a list of tokens: lines of "agent NODE[,NODE...] TOKEN" or "reader NAME TOKEN", each with an optional RFC
// 3339 time at which it expires. Empty lines and those that begin with # are left out.
func ReadTokens(r io.Reader) (*Tokens, error) {
	t := &Tokens{by: make(map[[sha256.Size]byte]dated)}
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		f := strings.Fields(in.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 3 || len(f) > 4 {
			return nil, fmt.Errorf("line %d: want ROLE NAME TOKEN [EXPIRY]", n)
		}
		var d dated
		switch Role(f[0]) {
		case RoleAgent:
			if slices.Contains(strings.Split(f[1], ","), "") {
				return nil, fmt.Errorf("line %d: an empty name among the nodes", n)
			}
			d.id.Role = RoleAgent
			d.id.Node, d.id.Also, _ = strings.Cut(f[1], ",")
		case RoleReader:
			d.id = Identity{Role: RoleReader, Name: f[1]}
		default:
			return nil, fmt.Errorf("line %d: no role %q: agent or reader", n, f[0])
		}
		if len(f) == 4 {
			var err error
			if d.until, err = time.Parse(time.RFC3339, f[3]); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		}
		t.by[sha256.Sum256([]byte(f[2]))] = d
	}
	return t, in.Err()
}

// Authenticate implements Authenticator. Tokens are looked up by their hash, so that the time that it takes tells nothing.
func (t *Tokens) Authenticate(_ context.Context, token string) (Identity, error) {
	d, ok := t.by[sha256.Sum256([]byte(token))]
	switch {
	case !ok:
		return Identity{}, errors.New("an unknown token")
	case !d.until.IsZero() && !time.Now().Before(d.until):
		return Identity{}, fmt.Errorf("a token that expired at %s", d.until.Format(time.RFC3339))
	}
	return d.id, nil
}

// newToken returns a fresh secret.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
