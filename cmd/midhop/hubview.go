package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
	"github.com/midhop/midhop/tracer/model"
)

const sinceHelp = "of a hub: begin this long ago"

// openHub reads a hub's stream instead of this machine's kernel. The fold is made here, by the same code and from the
// same stream as the hub's own.
func openHub(o localOptions, log *slog.Logger) (*localWatch, error) {
	if o.nodes != "" || o.node != "" {
		return nil, usagef("--hub and --nodes or --node contradict each other: the hub knows its nodes")
	}
	if o.since < 0 {
		return nil, usagef("--since %s: a time above 0", o.since)
	}
	if o.screen { // which words between would break, and which says itself what is wrong
		log = slog.New(slog.DiscardHandler)
	}
	conn, stop, err := o.hub.read(o, log)
	if err != nil {
		return nil, err
	}
	follower, err := fleet.NewFollower(conn, fleet.FollowOptions{Build: build(), Back: o.since, End: o.cut})
	if err != nil {
		stop()
		return nil, err
	}
	return &localWatch{
		sources: []namedSource{{"hub", follower}},
		options: tracer.Options{Log: log, Source: "hub", Boot: "stream"},
		expects: []string{"sockets"},
		live:    follower.Live(),
		from:    time.Now().Add(-o.since),
		cut:     follower.Cut,
		close:   stop,
	}, nil
}

// read connects to the streams as a reader. The second result ends the connection.
func (o *hubOptions) read(l localOptions, log *slog.Logger) (*fleet.Conn, func(), error) {
	if o.url == hubInCluster {
		return o.dialCluster(l, log)
	}
	at := o.at(log)
	at.Lasting = l.screen
	conn, err := fleet.DialReader(at)
	if errors.Is(err, fleet.ErrPlain) {
		return nil, nil, usageError{err}
	}
	if err != nil {
		e := unread(err, "check --hub, and --hub-token or --hub-creds")
		e.remedy += "; midhop without --hub looks at this machine"
		return nil, nil, e
	}
	return conn, conn.Close, nil
}

// unread says that a hub cannot be read. What helps is remedy, unless the refusal itself knows better.
func unread(err error, remedy string) blindError {
	var refused *fleet.RefusedError
	if errors.As(err, &refused) {
		remedy = refused.Remedy()
	}
	return blindError{cause: err, effect: "there is nothing to look at", remedy: remedy}
}

// sinceFrom lets through what was told from a moment on: what a reader of a stream folds before that, to know the state, is
// not what was asked for. keep may be nil.
func sinceFrom(from time.Time, keep func(*event.Event) bool) func(*event.Event) bool {
	if from.IsZero() {
		return keep
	}
	return func(e *event.Event) bool { return !e.Time.Before(from) && (keep == nil || keep(e)) }
}

// hubIncidents asks a hub for what it has found, also what is over.
func hubIncidents(ctx context.Context, o incidentsOptions) (*sight, error) {
	conn, stop, err := o.sight.local.hub.read(o.sight.local, o.sight.local.log())
	if err != nil {
		return nil, err
	}
	defer stop()
	now := time.Now()
	// One that was opened earlier and is open still was updated since, or it is not known here.
	list, err := fleet.Incidents(ctx, conn, now.Add(-o.since))
	if err != nil {
		return nil, err
	}
	s := &sight{snap: &model.Snapshot{Clock: now.UTC(), Since: now.Add(-o.since).UTC()}}
	for _, in := range list {
		s.incidents = append(s.incidents, model.IncidentView{Incident: in.Incident, Updates: in.Updates})
		s.snap.Coverage = in.Coverage
	}
	if since := s.snap.Coverage.Since; !since.IsZero() {
		s.snap.Since = since // the hub's own watch, and not what was asked for
	}
	return s, nil
}
