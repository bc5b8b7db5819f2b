//go:build !linux

package lab

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Cluster cannot exist here; see [ErrNotLinux].
type Cluster struct{}

// FaultInfo says what the lab broke, and when.
type FaultInfo struct {
	Scenario string
	What     string
	Target   string
	Time     time.Time
}

// AgentPipe is what one agent writes.
type AgentPipe struct {
	Node string
	R    io.ReadCloser
}

// HTTPTally counts answers to requests.
type HTTPTally struct {
	OK, BadGateway, Other int
	FirstBad, LastBad     time.Time
}

// Tally counts what workers saw.
type Tally struct {
	Open           int
	Sent, Received uint64
	Ended          map[string]int
}

// HubProcess is a process on the hub's machine.
type HubProcess struct{}

// API plays the cluster's API server.
type API struct{}

// Start returns [ErrNotLinux], or what is wrong with the options.
func Start(_ context.Context, o Options, _ *slog.Logger) (*Cluster, error) {
	if _, _, err := o.check(); err != nil {
		return nil, err
	}
	return nil, ErrNotLinux
}

// ChildMain returns [ErrNotLinux].
func ChildMain(context.Context, []string) error { return ErrNotLinux }

// The methods below are never called: there is no Cluster to call them on.

func (*Cluster) Agents() <-chan AgentPipe                   { return nil }
func (*Cluster) AgentNodes() []string                       { return nil }
func (*Cluster) API() *API                                  { return nil }
func (*Cluster) CutHub(bool) error                          { return ErrNotLinux }
func (*Cluster) ClientTally() (Tally, error)                { return Tally{}, ErrNotLinux }
func (*Cluster) Close() error                               { return nil }
func (*Cluster) Expected() []Verdict                        { return nil }
func (*Cluster) Fault(context.Context) (FaultInfo, error)   { return FaultInfo{}, ErrNotLinux }
func (*Cluster) FaultAfter() time.Duration                  { return 0 }
func (*Cluster) HasFault() bool                             { return false }
func (*Cluster) Hosts() map[string]int                      { return nil }
func (*Cluster) ID() string                                 { return "" }
func (*Cluster) Inventory() []event.Event                   { return nil }
func (*Cluster) NodesYAML() []byte                          { return nil }
func (*Cluster) On(string, func() error) error              { return ErrNotLinux }
func (*Cluster) Options() Options                           { return Options{} }
func (*Cluster) Run(context.Context, func(FaultInfo)) error { return ErrNotLinux }
func (*Cluster) Requests() (*HTTPTally, error)              { return nil, ErrNotLinux }
func (*Cluster) ServiceTally() (Tally, error)               { return Tally{}, ErrNotLinux }
func (*Cluster) Settled() <-chan struct{}                   { return nil }
func (*Cluster) Up() time.Time                              { return time.Time{} }
func (*API) Run(context.Context, func([]event.Event)) error { return ErrNotLinux }
