package fleet

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// RefusedError says that a server of NATS does not let this process in, and what helps.
type RefusedError struct {
	cause, effect, remedy string

	err error
}

func (e *RefusedError) Error() string { return e.cause }
func (e *RefusedError) Unwrap() error { return e.err }

// Effect says what follows from it.
func (e *RefusedError) Effect() string { return e.effect }

// Remedy says what helps.
func (e *RefusedError) Remedy() string { return e.remedy }

// refused explains an error of connecting where it is a refusal, and returns nil where it is another.
func (o *DialOptions) refused(err error) *RefusedError {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
	default:
		return nil
	}
	e := &RefusedError{err: err, effect: o.effect()}
	switch {
	case o.Creds != "":
		e.cause = fmt.Sprintf("%s does not take the credentials in %s: %v", o.URL, o.Creds, err)
		e.remedy = fmt.Sprintf("take credentials of a user of the account that the streams are in, as that cluster knows it: nsc generate creds, then %s again; nsc describe user tells whose they are and until when", o.Creds)
		user, readErr := readCreds(o.Creds)
		switch {
		case readErr != nil: // it was good at the start
			e.cause = fmt.Sprintf("%s: %v", e.cause, readErr)
		case user.Expires != 0 && time.Now().Unix() >= user.Expires:
			e.cause = fmt.Sprintf("the credentials of %s in %s have expired at %s", user.Name, o.Creds, time.Unix(user.Expires, 0).UTC().Format(time.RFC3339))
			e.remedy = fmt.Sprintf("make new ones, nsc generate creds, and put them into %s: they are read at every attempt", o.Creds)
		}
	case o.TokenFile != "":
		e.cause = fmt.Sprintf("%s does not take the token in %s: %v", o.URL, o.TokenFile, err)
		e.remedy = "the hub's log says why; a ServiceAccount's token has to be of audience midhop-hub and, an agent's, of a pod that lives"
	case o.Token != nil:
		e.cause = fmt.Sprintf("%s does not take the token that it was shown: %v", o.URL, err)
		e.remedy = "the hub's log says why"
	default:
		e.cause = fmt.Sprintf("%s lets nobody in without a token or credentials: %v", o.URL, err)
		e.remedy = "show it a token, --hub-token, or credentials of NATS, --hub-creds or, a hub, --creds"
	}
	return e
}

// effect is what follows from a refusal.
func (o *DialOptions) effect() string {
	switch {
	case o.Node != "":
		return "nothing of this node reaches the hub: it is kept here up to a bound, beyond which the oldest goes, and tried again"
	case o.reader:
		return "nothing can be read there"
	}
	return "nothing can be read or kept there"
}

// denied explains that whoever was let in may not do what it came for.
func (o *DialOptions) denied(err error) *RefusedError {
	e := &RefusedError{err: err, effect: o.effect()}
	shown, whose := "what it was shown", "reader's"
	switch {
	case o.Creds != "":
		shown = "the credentials in " + o.Creds
	case o.TokenFile != "":
		shown = "the token in " + o.TokenFile
	case o.Token != nil:
		shown = "the token that it was shown"
	}
	if o.Node != "" {
		whose = "agent's of the node " + o.Node
	}
	e.cause = fmt.Sprintf("%s takes %s, but as no %s: %v", o.URL, shown, whose, err)
	switch {
	case o.Creds != "":
		e.remedy = "grant that user the rights that midhop's docs/threat-model.md names, or take another's credentials"
	case o.Node != "":
		e.remedy = fmt.Sprintf("take the token of an agent of that node, a line agent %s TOKEN of the hub's --tokens, or of its pod's ServiceAccount; it is read again soon", o.Node)
	default:
		e.remedy = "take a reader's token: a line reader NAME TOKEN of the hub's --tokens, or of a ServiceAccount that its --readers names"
	}
	return e
}

// readCreds reads a file of NATS credentials as far as it says whose they are.
func readCreds(path string) (*jwt.UserClaims, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the credentials: %w", err)
	}
	token, err := jwt.ParseDecoratedJWT(text)
	if err != nil {
		return nil, notCreds(path, err)
	}
	user, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return nil, notCreds(path, err)
	}
	if _, err := jwt.ParseDecoratedUserNKey(text); err != nil {
		return nil, notCreds(path, err)
	}
	return user, nil
}

func notCreds(path string, err error) error {
	return &RefusedError{
		cause: fmt.Sprintf("%s holds no credentials of NATS: %v", path, err), err: err,
		effect: "nobody can come in with it",
		remedy: "take a file that nsc generate creds writes: a user's JWT, and the seed of its key",
	}
}
