//go:build !linux

package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/fleet"
)

type localFacts struct {
	budget, budgetProbed float64
	ownOnly, detail      bool
	blindOK              func(error)
	served               func(event.Probe)
	patience             time.Duration
	log                  *slog.Logger
}

// newLocalAgent refuses: the facts come from a Linux kernel.
func newLocalAgent(event.Host, localFacts) (*fleet.Agent, func(), error) {
	return nil, nil, blindError{
		cause:  errors.New("this system is not Linux"),
		effect: "its sockets cannot be watched",
		remedy: "run midhop on a node, or look at a recording made there",
	}
}
