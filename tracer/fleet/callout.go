package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// subjectCallout is where a cluster of NATS asks who comes (ADR-26 of NATS).
const subjectCallout = "$SYS.REQ.USER.AUTH"

// Callout lets agents and readers into a cluster of one's own by the tokens that the embedded server takes, and with the same
// rights: the cluster asks the hub who comes.
type Callout struct {
	Account string // of the cluster, in which the streams are; those of agents and readers are called after it, see [WriteAccounts]
	Auth    Authenticator
	Log     *slog.Logger

	key nkeys.KeyPair // of the issuer that the cluster's configuration names
	sub *nats.Subscription

	trials sync.Map // string, a token, to Identity
}

// Answer begins to answer. seed is the private key of the issuer. Of several hubs one answers each question.
func (a *Callout) Answer(c *Conn, seed []byte) (err error) {
	if a.key, err = nkeys.FromSeed(bytes.TrimSpace(seed)); err != nil {
		return fmt.Errorf("the issuer's key: %w", err)
	}
	if public, err := a.key.PublicKey(); err != nil || !nkeys.IsValidPublicAccountKey(public) {
		return errors.New("the issuer's key: not an account's, which begins with SA")
	}
	a.sub, err = c.nc.QueueSubscribe(subjectCallout, "midhop-hub", func(m *nats.Msg) { go a.ask(m) })
	return err
}

// Close ends answering: nobody comes in any more.
func (a *Callout) Close() { _ = a.sub.Unsubscribe() }

func (a *Callout) ask(m *nats.Msg) {
	req, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil {
		a.Log.Warn("a question of the cluster cannot be read", "error", err)
		return
	}
	answer := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	answer.Audience = req.Server.ID
	if answer.Jwt, err = a.admit(req); err != nil {
		a.Log.Warn("a connection was refused", "from", req.ClientInformation.Host, "why", err)
		answer.Jwt, answer.Error = "", "not authorized" // why is no business of whoever knocked
	}
	text, err := answer.Encode(a.key)
	if err == nil {
		err = m.Respond([]byte(text))
	}
	if err != nil {
		a.Log.Warn("the cluster was given no answer", "error", err)
	}
}

// admit returns the rights of whoever comes, signed.
func (a *Callout) admit(req *jwt.AuthorizationRequestClaims) (string, error) {
	if req.ConnectOptions.Token == "" {
		return "", errNoToken
	}
	ctx, cancel := context.WithTimeout(context.Background(), authWait)
	defer cancel()
	id, err := a.identify(ctx, req.ConnectOptions.Token)
	if err != nil {
		return "", err
	}
	user, err := userOf(id)
	if err != nil {
		return "", err
	}
	claims := jwt.NewUserClaims(req.UserNkey)
	claims.Name, claims.Audience = user.Username, id.account(a.Account)
	if !id.Until.IsZero() {
		claims.Expires = id.Until.Unix()
	}
	claims.Pub.Allow.Add(user.Permissions.Publish.Allow...)
	claims.Sub.Allow.Add(user.Permissions.Subscribe.Allow...)
	return claims.Encode(a.key)
}

func (a *Callout) identify(ctx context.Context, token string) (Identity, error) {
	if id, ok := a.trials.Load(token); ok {
		return id.(Identity), nil
	}
	return a.Auth.Authenticate(ctx, token)
}
