package main

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/midhop/midhop/tracer"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/tracer/redact"
)

// redactClients is the only value of --redact.
const redactClients = "clients"

const redactHelp = "clients: pseudonyms in place of the addresses that are not the cluster's own, also in what is found, so that the recording can be shared"

// How long facts are held back until the inventory says which addresses are the cluster's own: as many as a large node tells
// at first, and on a live machine as long as a slow API takes.
const (
	redactHold = 100_000
	redactWait = 5 * time.Second
)

// newRedactor returns nil where nothing is to be redacted.
func newRedactor(what string, live bool, keep ...netip.Prefix) (*redact.Redactor, error) {
	switch what {
	case "":
		return nil, nil
	case redactClients:
	default:
		return nil, usagef("--redact %q: clients", what)
	}
	o := redact.Options{Keep: append(model.Balancers(), keep...), Hold: redactHold}
	if live {
		o.Wait = redactWait
	}
	return redact.New(o), nil
}

// redacted is a source whose facts are redacted.
type redacted struct {
	from tracer.Source
	by   *redact.Redactor
}

// redactBatch is how many of the facts that were held back go on at once.
const redactBatch = 256

// Run implements tracer.Source.
func (s redacted) Run(ctx context.Context, emit func([]event.Event)) error {
	pass := func(batch []event.Event) {
		for part := range slices.Chunk(batch, redactBatch) {
			emit(part)
		}
	}
	err := s.from.Run(ctx, func(batch []event.Event) { pass(s.by.Take(batch)) })
	pass(s.by.Flush())
	return err
}

// redacted is a relay's source that is redacted, except for what a new file begins with: that has been.
func (r *relay) redacted(first []event.Event, by *redact.Redactor) tracer.Source {
	if by == nil {
		return r.after(first)
	}
	return followed{first, redacted{r.after(nil), by}}
}

// followed emits some facts, and then those of a source.
type followed struct {
	first []event.Event
	then  tracer.Source
}

// Run implements tracer.Source.
func (s followed) Run(ctx context.Context, emit func([]event.Event)) error {
	for part := range slices.Chunk(s.first, redactBatch) {
		emit(part)
	}
	return s.then.Run(ctx, emit)
}
