package fleet

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
)

// TestTrial tries a cluster with the accounts that midhop prints, and one with a single account for all and the rights that agents
// and readers need, where answers land.
func TestTrial(t *testing.T) {
	d := clusterDoor(t, 1, true)
	for _, o := range d.callout.Trials(DialOptions{URL: d.url}) {
		if open, err := Try(t.Context(), d.hub, o); err != nil || len(open) > 0 {
			t.Errorf("%q: %q %v", o.Node, open, err)
		}
	}
	one := startOperator(t)
	hub, err := Dial(DialOptions{URL: one.url, Creds: one.creds("hub", one.account, nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	if _, err := NewHub(t.Context(), hub, HubOptions{Fold: nobody{}}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []Identity{{Role: RoleAgent, Node: "node-a"}, {Role: RoleReader, Name: "r"}} {
		creds := one.creds(string(id.Role), one.account, func(u *jwt.UserClaims) {
			u.Pub.Allow.Add(id.asks()...)
			u.Sub.Allow.Add(id.hears())
		})
		open, err := Try(t.Context(), hub, DialOptions{URL: one.url, Creds: creds, Node: id.Node})
		if err != nil || !slices.ContainsFunc(open, func(s string) bool { return strings.HasPrefix(s, "an answer to it lands in a stream") }) {
			t.Errorf("%s: %q %v", id.Role, open, err)
		}
		// With every right.
		open, err = Try(t.Context(), hub, DialOptions{URL: one.url, Creds: one.creds("all-"+string(id.Role), one.account, nil), Node: id.Node})
		if err != nil || len(open) < 3 {
			t.Errorf("%s with every right: %q %v", id.Role, open, err)
		}
	}
}
