package kube

import (
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/midhop/midhop/tracer/event"
)

// health follows which resources can be followed. A fact that several resources make up is behind while one of them is.
type health struct {
	log *slog.Logger

	mu        sync.Mutex
	resources map[string]*resourceHealth
	facts     map[string]*factHealth
	order     []string
}

type resourceHealth struct {
	fact   string
	synced bool
	why    string // empty: it can be followed
	since  time.Time
}

type factHealth struct {
	told   bool   // a stream.synced was written
	behind string // what the newest one says
}

func newHealth(log *slog.Logger, facts []string) *health {
	h := &health{log: log, resources: make(map[string]*resourceHealth), facts: make(map[string]*factHealth), order: facts}
	for _, f := range facts {
		h.facts[f] = &factHealth{}
	}
	return h
}

// expect names a resource that a fact consists of.
func (h *health) expect(resource, fact string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resources[resource] = &resourceHealth{fact: fact}
}

// fails notes that a resource cannot be followed, and returns the facts that this puts behind, to be told.
func (h *health) fails(resource, why string, now time.Time) []event.Synced {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.resources[resource]
	if r.why == why {
		return nil
	}
	if r.why == "" {
		r.since = now
	}
	r.why = why
	if !h.told(resource, why) {
		h.log.Warn("cannot follow a resource of the Kubernetes API; what is known stands", "resource", resource, "reason", why)
	}
	return h.news()
}

// told says whether another resource has failed for the same reason, and that is no matter of the resource: what ails the credentials
// ails all of them, and is said once.
func (h *health) told(resource, why string) bool {
	if !strings.HasPrefix(why, "the credential plugin ") {
		return false
	}
	for name, r := range h.resources {
		if name != resource && r.why == why {
			return true
		}
	}
	return false
}

// works notes that a resource is followed; first says that its first look is complete.
func (h *health) works(resource string, first bool, now time.Time) []event.Synced {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.resources[resource]
	if r.why != "" {
		h.log.Info("a resource of the Kubernetes API is followed again", "resource", resource, "after", now.Sub(r.since).Round(time.Second))
	}
	r.why = ""
	r.synced = r.synced || first
	return h.news()
}

// settled says whether every resource of a fact was looked at once, or cannot be.
func (h *health) settled(fact string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.resources {
		if r.fact == fact && !r.synced && r.why == "" {
			return false
		}
	}
	return true
}

// news lists the facts whose state differs from what was told last.
func (h *health) news() (out []event.Synced) {
	for _, fact := range h.order {
		f := h.facts[fact]
		synced, behind := true, ""
		var resources []string
		for name, r := range h.resources {
			if r.fact == fact {
				resources = append(resources, name)
			}
		}
		slices.Sort(resources)
		for _, name := range resources {
			r := h.resources[name]
			synced = synced && r.synced
			if r.why != "" && behind == "" {
				behind = name + ": " + r.why
			}
		}
		if (!synced && behind == "") || (f.told && f.behind == behind) {
			continue
		}
		f.told, f.behind = true, behind
		out = append(out, event.Synced{Fact: fact, Behind: behind})
	}
	return out
}

// reason says in one line why a request failed, and false for what is no failure: the reflector then starts over by itself.
func reason(err error) (string, bool) {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || strings.Contains(err.Error(), "Too large resource version") {
		return "", false // 410: it lists anew
	}
	var status apierrors.APIStatus
	switch {
	case apierrors.IsUnauthorized(err):
		return "401: the API does not accept the credentials, which may have expired", true
	case apierrors.IsForbidden(err):
		return "403: " + firstLine(err), true
	case errors.As(err, &status) && status.Status().Code != 0:
		return "the API answers with an error: " + firstLine(err), true
	}
	var request *url.Error // its text is the URL, with all its parameters
	if errors.As(err, &request) {
		err = request.Err
	}
	return "the API cannot be reached: " + firstLine(err), true
}

// firstLine bounds what a server may make us write.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 300 {
		line = line[:300] + "..."
	}
	return line
}
