package kubecluster

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	authv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/kube"
)

// TestRoles holds the roles to the real authorizer: enough to list and watch, nothing to write, no secrets; and without the
// right to one resource, one fact is missing.
func TestRoles(t *testing.T) {
	ctx := context.Background()
	bin, _ := binaries(t)
	p, err := Start(ctx, bin, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Grant(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, verb, group, resource string
		want                        bool
	}{
		{Hub, "watch", "", "pods", true}, {Hub, "list", "discovery.k8s.io", "endpointslices", true}, {Hub, "list", "coordination.k8s.io", "leases", true},
		{Hub, "get", "", "secrets", false}, {Hub, "list", "", "secrets", false}, {Hub, "delete", "", "pods", false},
		{Hub, "patch", "", "nodes", false}, {Hub, "create", "", "pods", false}, {Hub, "update", "", "services", false},
		{Agent, "watch", "", "pods", true}, {Agent, "list", "", "nodes", true}, {Agent, "list", "", "services", false},
		{Agent, "delete", "", "pods", false}, {Agent, "list", "", "secrets", false},
	} {
		api, err := kubernetes.NewForConfig(p.Config(c.user))
		if err != nil {
			t.Fatal(err)
		}
		got, err := api.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authv1.SelfSubjectAccessReview{
			Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{Verb: c.verb, Group: c.group, Resource: c.resource}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.Allowed != c.want {
			t.Errorf("%s may %s %s: %v, want %v", c.user, c.verb, c.resource, got.Status.Allowed, c.want)
		}
	}
	want(t, p, kube.Options{Config: p.Config(Hub)}, "", "", "")
	want(t, p, kube.Options{Config: p.Config(Agent), Node: "node-a", Own: true}, "", "", "-")
	want(t, p, kube.Options{Config: p.Config(Outsider)}, "403", "403", "403")

	admin, err := kubernetes.NewForConfig(p.Config(Admin))
	if err != nil {
		t.Fatal(err)
	}
	role, err := admin.RbacV1().ClusterRoles().Get(ctx, "midhop", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var rules []rbacv1.PolicyRule
	for _, r := range role.Rules {
		if r.APIGroups[0] == "discovery.k8s.io" {
			continue
		}
		rules = append(rules, r)
	}
	role.Rules = rules
	if _, err := admin.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	want(t, p, kube.Options{Config: p.Config(Hub)}, "", "", "403")
}

// want runs a source until it has told of every fact, and compares why nodes, pods and services are behind; "-" for a fact
// that this source does not tell.
func want(t *testing.T, p *ControlPlane, o kube.Options, nodes, pods, services string) {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := kube.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	told := make(map[string]string)
	expect := map[string]string{"nodes": nodes, "pods": pods, "services": services}
	for fact, why := range expect {
		if why == "-" {
			delete(expect, fact)
		}
	}
	// Rights that were just given or taken reach the authorizer by a watch of its own, so the newest word counts.
	is := func() bool {
		for fact, why := range expect {
			got, ok := told[fact]
			if !ok || (why == "") != (got == "") || !strings.Contains(got, why) {
				return false
			}
		}
		return len(told) == len(expect)
	}
	if err := s.Run(ctx, func(batch []event.Event) {
		for i := range batch {
			if b, ok := batch[i].Body.(*event.Synced); ok {
				told[b.Fact] = b.Behind
			}
		}
		if is() {
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if !is() {
		t.Errorf("facts are %q, want %q", told, expect)
	}
}
