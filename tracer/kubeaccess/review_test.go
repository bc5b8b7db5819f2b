package kubeaccess

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/rest"
)

// TestReview shows tokens to an API server that knows a few.
func TestReview(t *testing.T) {
	user := func(name string, extra map[string]authenticationv1.ExtraValue) authenticationv1.UserInfo {
		return authenticationv1.UserInfo{Username: name, Extra: extra}
	}
	bound := map[string]authenticationv1.ExtraValue{nodeClaim: {"node-a"}}
	ours := []string{Audience}
	known := map[string]authenticationv1.TokenReviewStatus{
		"agent":    {Authenticated: true, Audiences: ours, User: user("system:serviceaccount:midhop:midhop-agent", bound)},
		"unbound":  {Authenticated: true, Audiences: ours, User: user("system:serviceaccount:midhop:midhop-agent", nil)},
		"two":      {Authenticated: true, Audiences: ours, User: user("system:serviceaccount:midhop:a", map[string]authenticationv1.ExtraValue{nodeClaim: {"a", "b"}})},
		"api":      {Authenticated: true, Audiences: []string{"https://kubernetes.default.svc"}, User: user("system:serviceaccount:midhop:midhop-agent", bound)},
		"careless": {Authenticated: true, User: user("system:serviceaccount:midhop:midhop-agent", bound)},
		"person":   {Authenticated: true, Audiences: ours, User: user("jane", bound)},
		"expired":  {Error: "token has expired", Audiences: ours},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask authenticationv1.TokenReview
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Method != http.MethodPost {
			t.Errorf("asked %s %s: %v", r.Method, r.URL, err)
		}
		if len(ask.Spec.Audiences) != 1 || ask.Spec.Audiences[0] != Audience {
			t.Errorf("asked for the audiences %q", ask.Spec.Audiences)
		}
		if ask.Spec.Token == "forbidden" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		ask.Status = known[ask.Spec.Token]
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(&ask)
	}))
	defer server.Close()
	r, err := NewReviewer(&Access{Config: &rest.Config{Host: server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]Holder{
		"agent": {"midhop", "midhop-agent", "node-a"}, "unbound": {"midhop", "midhop-agent", ""}, "two": {"midhop", "a", ""},
	} {
		if got, err := r.Review(t.Context(), token); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", token, got, err, want)
		}
	}
	for _, token := range []string{"api", "careless", "person", "expired", "unknown"} {
		if got, err := r.Review(t.Context(), token); !errors.Is(err, ErrNotGood) || got != (Holder{}) {
			t.Errorf("%s: %+v, %v, want %v", token, got, err, ErrNotGood)
		}
	}
	if _, err := r.Review(t.Context(), "forbidden"); err == nil || errors.Is(err, ErrNotGood) {
		t.Errorf("an API that refuses to answer: %v", err)
	}
}
