package fleet

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Tokens is an Authenticator of a fixed list, for clusters without Kubernetes and for tests.
type Tokens struct {
	by map[[sha256.Size]byte]Identity
}

// ReadTokens reads a list of tokens: lines of "agent NODE[,NODE...] TOKEN" or "reader NAME TOKEN", each with an optional RFC
// 3339 time at which it expires. Empty lines and those that begin with # are left out.
func ReadTokens(r io.Reader) (*Tokens, error) {
	t := &Tokens{by: make(map[[sha256.Size]byte]Identity)}
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
		var id Identity
		switch Role(f[0]) {
		case RoleAgent:
			if slices.Contains(strings.Split(f[1], ","), "") {
				return nil, fmt.Errorf("line %d: an empty name among the nodes", n)
			}
			id.Role = RoleAgent
			id.Node, id.Also, _ = strings.Cut(f[1], ",")
		case RoleReader:
			id = Identity{Role: RoleReader, Name: f[1]}
		default:
			return nil, fmt.Errorf("line %d: no role %q: agent or reader", n, f[0])
		}
		if len(f) == 4 {
			var err error
			if id.Until, err = time.Parse(time.RFC3339, f[3]); err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
		}
		t.by[sha256.Sum256([]byte(f[2]))] = id
	}
	return t, in.Err()
}

// Authenticate implements Authenticator. Tokens are looked up by their hash, so that the time that it takes tells nothing.
func (t *Tokens) Authenticate(_ context.Context, token string) (Identity, error) {
	id, ok := t.by[sha256.Sum256([]byte(token))]
	switch {
	case !ok:
		return Identity{}, errors.New("an unknown token")
	case !id.Until.IsZero() && !time.Now().Before(id.Until):
		return Identity{}, fmt.Errorf("a token that expired at %s", id.Until.Format(time.RFC3339))
	}
	return id, nil
}
