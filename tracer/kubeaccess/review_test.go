package kubeaccess

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
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
		"agent": {Namespace: "midhop", Account: "midhop-agent", Node: "node-a"}, "unbound": {Namespace: "midhop", Account: "midhop-agent"}, "two": {Namespace: "midhop", Account: "a"},
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

// TestManyKnock shows a thousand tokens that are not good at once, many of them the same.
func TestManyKnock(t *testing.T) {
	var asked, now, most atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		for n := now.Add(1); ; {
			if was := most.Load(); n <= was || most.CompareAndSwap(was, n) {
				break
			}
		}
		defer now.Add(-1)
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(&authenticationv1.TokenReview{})
	}))
	defer server.Close()
	r, err := NewReviewer(&Access{Config: &rest.Config{Host: server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			if _, err := r.Review(t.Context(), strconv.Itoa(i%20)); !errors.Is(err, ErrNotGood) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > maxAsking {
		t.Errorf("%d reviews at once, want %d at most", most.Load(), maxAsking)
	}
	// Of each token as many as were let in before the first answer.
	if n := asked.Load(); n > 20*maxAsking {
		t.Errorf("%d reviews of 20 tokens", n)
	}
}

func TestExpiry(t *testing.T) {
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1700000000}`))
	for token, want := range map[string]int64{"a." + text + ".b": 1700000000, "opaque": 0, "a.!.b": 0, "a.e30.b": 0} {
		got := expiry(token)
		if want == 0 && !got.IsZero() || want != 0 && got.Unix() != want {
			t.Errorf("%s: %s", token, got)
		}
	}
}
