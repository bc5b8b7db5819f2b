package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/kubeaccess"
)

// hubDoor says who may come in to a hub.
type hubDoor struct {
	tokens string   // a file
	agents string   // NAMESPACE/NAME of the agents' ServiceAccount, reviewed by the API
	read   []string // the same of readers'
}

// authenticator returns nil where nobody may.
func (d *hubDoor) authenticator(k kubeOptions) (fleet.Authenticator, error) {
	var all doors
	if d.tokens != "" {
		f, err := os.Open(d.tokens)
		if err != nil {
			return nil, usageError{err}
		}
		defer f.Close()
		tokens, err := fleet.ReadTokens(f)
		if err != nil {
			return nil, usagef("%s: %w", d.tokens, err)
		}
		all = append(all, tokens)
	}
	if d.agents != "" || len(d.read) > 0 {
		for _, a := range append([]string{d.agents}, d.read...) {
			if a != "" && strings.Count(a, "/") != 1 {
				return nil, usagef("%q is no ServiceAccount such as midhop/midhop-agent", a)
			}
		}
		access, err := kubeaccess.Open(k.access)
		if err != nil {
			return nil, usageError{err}
		}
		reviewer, err := kubeaccess.NewReviewer(access)
		if err != nil {
			return nil, err
		}
		all = append(all, reviewed{reviewer, d})
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// doors lets in whom any of them does.
type doors []fleet.Authenticator

// Authenticate implements fleet.Authenticator.
func (d doors) Authenticate(ctx context.Context, token string) (id fleet.Identity, err error) {
	for _, a := range d {
		if id, err = a.Authenticate(ctx, token); err == nil {
			return id, nil
		}
	}
	return fleet.Identity{}, err
}

// reviewed lets in ServiceAccounts by what the API says of their tokens.
type reviewed struct {
	review interface {
		Review(ctx context.Context, token string) (kubeaccess.Holder, error)
	}
	door *hubDoor
}

// Authenticate implements fleet.Authenticator. An agent speaks for the node of the pod that its token is bound to, and for
// no other: the API says which that is, not the agent.
func (r reviewed) Authenticate(ctx context.Context, token string) (fleet.Identity, error) {
	h, err := r.review.Review(ctx, token)
	if err != nil {
		return fleet.Identity{}, err
	}
	account := h.Namespace + "/" + h.Account
	switch {
	case account == r.door.agents && h.Node == "":
		return fleet.Identity{}, fmt.Errorf("the token of %s is bound to no pod on a node (Kubernetes tells it since 1.30)", account)
	case account == r.door.agents:
		return fleet.Identity{Role: fleet.RoleAgent, Node: h.Node, Until: h.Until}, nil
	}
	for _, reader := range r.door.read {
		if account == reader {
			return fleet.Identity{Role: fleet.RoleReader, Name: account, Until: h.Until}, nil
		}
	}
	return fleet.Identity{}, fmt.Errorf("%s is neither an agent nor a reader here", account)
}
