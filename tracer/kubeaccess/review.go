package kubeaccess

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Audience is what tokens for a hub are issued for: one that is good for the API server itself must not be shown to a hub,
// which could use it.
const Audience = "midhop-hub"

// nodeClaim is the extra that tells the node of the pod that a ServiceAccount's token is bound to (KEP-4193, on by default
// since Kubernetes 1.30).
const nodeClaim = "authentication.kubernetes.io/node-name"

// Reviewer asks the API server whose a token is.
type Reviewer struct {
	client *http.Client
	url    string

	asking  chan struct{} // places
	mu      sync.Mutex
	refused map[[sha256.Size]byte]refusal // by token
}

// refusal is the API's word on a token that is not good.
type refusal struct {
	err   error
	until time.Time
}

// Whoever knocks has the API server asked: no more than so many at once, and about a token that was refused not again for a while.
const (
	maxAsking   = 8
	refusedGood = 10 * time.Second
	maxRefused  = 4096
)

// NewReviewer returns a Reviewer. It needs the right to create tokenreviews.
func NewReviewer(a *Access) (*Reviewer, error) {
	c, err := NewClient(a)
	if err != nil {
		return nil, err
	}
	return newReviewer(c.client, c.base), nil
}

func newReviewer(c *http.Client, base string) *Reviewer {
	return &Reviewer{
		client: c, url: base + "/apis/authentication.k8s.io/v1/tokenreviews",
		asking: make(chan struct{}, maxAsking), refused: make(map[[sha256.Size]byte]refusal),
	}
}

// Holder is whose a token is.
type Holder struct {
	// Until is when the token expires, zero where it does not say.
	Until              time.Time
	Namespace, Account string // of the ServiceAccount
	Node               string // of the pod that the token is bound to; empty where it is bound to none
}

// ErrNotGood is wrapped by the error of Review for a token that the API server does not take for this audience.
var ErrNotGood = errors.New("the token is not good")

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// Review returns the holder of a ServiceAccount's token.
func (r *Reviewer) Review(ctx context.Context, token string) (Holder, error) {
	key := sha256.Sum256([]byte(token))
	if err := r.lately(key); err != nil {
		return Holder{}, err
	}
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return Holder{}, fmt.Errorf("review a token: too many are asked about at once: %w", ctx.Err())
	}
	if err := r.lately(key); err != nil { // it was asked about meanwhile
		return Holder{}, err
	}
	h, err := r.ask(ctx, token)
	if errors.Is(err, ErrNotGood) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.refused) >= maxRefused {
			clear(r.refused)
		}
		r.refused[key] = refusal{err: err, until: time.Now().Add(refusedGood)}
	}
	return h, err
}

// lately returns the API's word on a token that it has refused a moment ago.
func (r *Reviewer) lately(key [sha256.Size]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if was, ok := r.refused[key]; ok && time.Now().Before(was.until) {
		return was.err
	}
	return nil
}

// expiry is when a token expires, by its own word, which the API has checked. Zero where it does not say.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp int64 `json:"exp"`
	}
	if json.Unmarshal(text, &claims) != nil || claims.Exp <= 0 {
		return time.Time{}
	}
	return time.Unix(claims.Exp, 0)
}

func (r *Reviewer) ask(ctx context.Context, token string) (Holder, error) {
	ask, err := json.Marshal(&authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	})
	if err != nil {
		return Holder{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(ask))
	if err != nil {
		return Holder{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return Holder{}, fmt.Errorf("review a token: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Holder{}, fmt.Errorf("review a token: %w", err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return Holder{}, fmt.Errorf("review a token: the API says %s", resp.Status)
	}
	var answer authenticationv1.TokenReview
	if err := json.Unmarshal(body, &answer); err != nil {
		return Holder{}, fmt.Errorf("review a token: %w", err)
	}
	s := &answer.Status
	// A server that knows nothing of audiences leaves the list empty, and has not checked it.
	if !s.Authenticated || !slices.Contains(s.Audiences, Audience) {
		return Holder{}, fmt.Errorf("%w: %s", ErrNotGood, s.Error)
	}
	account, ok := strings.CutPrefix(s.User.Username, "system:serviceaccount:")
	namespace, name, ok2 := strings.Cut(account, ":")
	if !ok || !ok2 {
		return Holder{}, fmt.Errorf("%w: %q is no ServiceAccount", ErrNotGood, s.User.Username)
	}
	h := Holder{Namespace: namespace, Account: name, Until: expiry(token)}
	if nodes := s.User.Extra[nodeClaim]; len(nodes) == 1 {
		h.Node = nodes[0]
	}
	return h, nil
}
