package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/midhop/midhop/tracer/fleet"
)

// credTrials says how to try a cluster that knows its users by credentials.
func (o *hubRunOptions) credTrials(log *slog.Logger) (func() ([]fleet.DialOptions, error), error) {
	node, agent, ok := strings.Cut(o.tryAgent, "=")
	if o.tryAgent != "" && (!ok || node == "" || agent == "") {
		return nil, usagef("--try-agent %q: want NODE=FILE", o.tryAgent)
	}
	if o.tryAgent == "" && o.tryReader == "" {
		log.Warn("whether the cluster's accounts keep agents and readers out of the streams is not tried",
			"remedy", "--try-agent NODE=FILE and --try-reader FILE, with credentials of theirs")
		return nil, nil
	}
	at := fleet.DialOptions{URL: o.nats, CA: o.ca, Log: log}
	return func() (out []fleet.DialOptions, err error) {
		if agent != "" {
			a := at
			a.Node, a.Creds = node, agent
			out = append(out, a)
		}
		if o.tryReader != "" {
			r := at
			r.Creds = o.tryReader
			out = append(out, r)
		}
		return out, nil
	}, nil
}

// tryDoors tries what an agent and a reader must not be able to do in a cluster of the user's own, and says what did not fail.
func tryDoors(ctx context.Context, hub *fleet.Conn, trials func() ([]fleet.DialOptions, error), log *slog.Logger) {
	all, err := trials()
	if err != nil {
		log.Warn("the cluster's accounts cannot be tried", "error", err)
		return
	}
	const remedy = "give each agent an account and readers another, as midhop deploy --nats-accounts prints them"
	for _, o := range all {
		who := "a reader"
		if o.Node != "" {
			who = "the agent of " + o.Node
		}
		open, err := fleet.Try(ctx, hub, o)
		for _, what := range open {
			log.Error("the cluster lets "+who+" do what it must not", "what", what,
				"effect", "whoever has such a token can write in other nodes' and the hub's name, or remove the streams", "remedy", remedy)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			log.Warn("it could not be tried what "+who+" may do in the cluster", "error", err, "remedy", remedy)
		case len(open) == 0:
			log.Info("the cluster keeps " + who + " out of the streams")
		}
	}
}
