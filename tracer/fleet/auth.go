package fleet

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
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

	Until time.Time // the token expires, and with it the connection that it has opened; zero: never
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
	own      string // the token of the hub itself, which no other process knows
	auth     Authenticator
	accounts *accounts
	deny     func(remote string, err error)
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
			user.Account, err = d.accounts.of(id)
		}
		if err == nil {
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

// userOf turns an identity into a user of NATS. Everything that is not allowed is denied. Messages are fetched directly: a reader
// that could make consumers could have them deliver into a stream.
func userOf(id Identity) (*server.User, error) {
	name := "reader " + id.Name
	switch {
	case id.Role == RoleAgent && id.Node == "":
		return nil, errors.New("the token names no node")
	case id.Role == RoleAgent:
		name = "agent " + id.Node
	case id.Role != RoleReader:
		return nil, fmt.Errorf("no role %q", id.Role)
	}
	return &server.User{Username: name, ConnectionDeadline: id.Until, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: id.asks()},
		Subscribe: &server.SubjectPermission{Allow: []string{id.hears()}},
	}}, nil
}

// Inboxes. An agent hears the answers to its own questions and nothing else. A reader's inbox is a random name. None is a subject
// of a stream.
const (
	inboxes       = "midhop.inbox."
	readerInboxes = inboxes + "reader"
	serverInboxes = "_R_." // by which the server finds back to the account of whoever asks
)

func agentInbox(node string) string { return inboxes + "agent." + token(node) }

// newToken returns a fresh secret.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
