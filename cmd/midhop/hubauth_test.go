package main

import (
	"context"
	"errors"
	"testing"

	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/kubeaccess"
)

type holders map[string]kubeaccess.Holder

func (h holders) Review(_ context.Context, token string) (kubeaccess.Holder, error) {
	if x, ok := h[token]; ok {
		return x, nil
	}
	return kubeaccess.Holder{}, errors.New("not good")
}

// TestTheAPISaysWhoAnAgentIs holds identities to what the API says of a token, and lets nobody else in.
func TestTheAPISaysWhoAnAgentIs(t *testing.T) {
	r := reviewed{holders{
		"a": {Namespace: "midhop", Account: "midhop-agent", Node: "node-a"}, "unbound": {Namespace: "midhop", Account: "midhop-agent"},
		"reader": {Namespace: "ops", Account: "jane", Node: "node-a"}, "other": {Namespace: "default", Account: "midhop-agent", Node: "node-a"},
		"slash": {Namespace: "midhop", Account: "midhop-agent/x", Node: "node-a"},
	}, &hubDoor{agents: "midhop/midhop-agent", read: []string{"ops/jane"}}}
	for token, want := range map[string]fleet.Identity{
		"a": {Role: fleet.RoleAgent, Node: "node-a"}, "reader": {Role: fleet.RoleReader, Name: "ops/jane"},
	} {
		if got, err := (doors{r}).Authenticate(t.Context(), token); err != nil || got != want {
			t.Errorf("%s: %+v, %v", token, got, err)
		}
	}
	for _, token := range []string{"unbound", "other", "slash", "none", ""} {
		if got, err := (doors{r}).Authenticate(t.Context(), token); err == nil || got != (fleet.Identity{}) {
			t.Errorf("%s comes in as %+v", token, got)
		}
	}
	if got, err := (doors{}).Authenticate(t.Context(), "a"); got != (fleet.Identity{}) {
		t.Errorf("no door lets %+v in, %v", got, err)
	}
}
