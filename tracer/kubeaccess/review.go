package kubeaccess

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

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
}

// NewReviewer returns a Reviewer. It needs the right to create tokenreviews.
func NewReviewer(a *Access) (*Reviewer, error) {
	c, err := NewClient(a)
	if err != nil {
		return nil, err
	}
	return &Reviewer{client: c.client, url: c.base + "/apis/authentication.k8s.io/v1/tokenreviews"}, nil
}

// Holder is whose a token is.
type Holder struct {
	Namespace, Account string // of the ServiceAccount
	Node               string // of the pod that the token is bound to; empty where it is bound to none
}

// ErrNotGood is wrapped by the error of Review for a token that the API server does not take for this audience.
var ErrNotGood = errors.New("the token is not good")

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

// Review returns the holder of a ServiceAccount's token.
func (r *Reviewer) Review(ctx context.Context, token string) (Holder, error) {
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
	h := Holder{Namespace: namespace, Account: name}
	if nodes := s.User.Extra[nodeClaim]; len(nodes) == 1 {
		h.Node = nodes[0]
	}
	return h, nil
}
