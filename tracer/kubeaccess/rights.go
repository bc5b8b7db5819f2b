package kubeaccess

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// Right is one thing that a user may do, or not.
type Right struct {
	Verb        string
	Group       string // of the resource, empty for the core
	Resource    string
	Subresource string
	Namespace   string // empty: in all, or not in any
	For         string // what it is needed for, as what is lost without it
}

// What returns the resource as kubectl writes it.
func (r Right) What() string {
	what := r.Resource
	if r.Group != "" {
		what += "." + r.Group
	}
	if r.Subresource != "" {
		what += "/" + r.Subresource
	}
	return what
}

func (r Right) String() string {
	where := "in all namespaces"
	if r.Namespace != "" {
		where = "in namespace " + r.Namespace
	}
	if r.Resource == "nodes" {
		where = "of the cluster"
	}
	return fmt.Sprintf("%s %s %s", r.Verb, r.What(), where)
}

// ProbeRights are what the user of a debug run needs for its pods.
func ProbeRights(namespace string) []Right {
	return []Right{
		{Verb: "create", Resource: "pods", Namespace: namespace, For: "no pod can be started"},
		{Verb: "get", Resource: "pods", Namespace: namespace, For: "it cannot be seen when the pod runs"},
		{Verb: "create", Resource: "pods", Subresource: "attach", Namespace: namespace, For: "what the pod tells cannot be read"},
		{Verb: "delete", Resource: "pods", Namespace: namespace, For: "the pod cannot be removed at the end"},
	}
}

// KeeperRights are what it takes that nothing is left by a run that was killed.
func KeeperRights(namespace string) []Right {
	const lost = "a finished pod stays behind where midhop is killed"
	return []Right{
		{Verb: "create", Group: "batch", Resource: "jobs", Namespace: namespace, For: lost},
		{Verb: "delete", Group: "batch", Resource: "jobs", Namespace: namespace, For: lost},
	}
}

// NameRights are what it takes to name what is seen; namespace restricts pods and services, empty for all.
func NameRights(namespace string) (out []Right) {
	for _, verb := range []string{"list", "watch"} {
		out = append(out,
			Right{Verb: verb, Resource: "nodes", For: "nodes stay bare addresses, and none can be blamed by name"},
			Right{Verb: verb, Resource: "pods", Namespace: namespace, For: "pods have no names"},
			Right{Verb: verb, Resource: "services", Namespace: namespace, For: "services have no names"},
			Right{Verb: verb, Group: "discovery.k8s.io", Resource: "endpointslices", Namespace: namespace, For: "services have no names"})
	}
	return out
}

// Missing asks the API server which of some rights the user has not. An error says that this cannot be known.
func (d *Debugger) Missing(ctx context.Context, rights []Right) (missing []Right, err error) {
	for _, r := range rights {
		var answer authorizationv1.SelfSubjectAccessReview
		err := d.auth.Post().Resource("selfsubjectaccessreviews").Body(&authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: r.Verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace,
			}},
		}).Do(ctx).Into(&answer)
		if err != nil {
			return nil, fmt.Errorf("what you may do: %w", err)
		}
		if !answer.Status.Allowed {
			missing = append(missing, r)
		}
	}
	return missing, nil
}
