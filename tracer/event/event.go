package event

import (
	"time"
)

// Version is the `v` member of every line. A new optional field or a new type leaves it; renaming, removing or retyping
// a field raises it.
const Version = 1

// MaxLine is the most bytes that one line of the stream may have, its newline included.
const MaxLine = 64 << 10

// Event is one line of the stream: an envelope and a body. It is a value; whoever emits one gives it up.
type Event struct {
	Type   Type
	Time   time.Time // when it happened, UTC, by the clock of the machine where it happened
	ID     ID        // the origin's own number; stays the same wherever the event travels
	Seq    uint64    // numbers the lines of one written stream from 1; a hole is a loss between midhop and its reader
	Source string    // who saw it: "agent/node-b", "hub", "kube", "engine", "lab"
	Flow   string    // one connection as "ip:port-ip:port", local end first; empty where none applies
	Body   Body      // never nil; its concrete type is fixed by Type, see [NewBody]
}

// ID numbers an event at its origin. Its text form is "<source>-<boot>-<n>".
type ID struct {
	Origin string // "<source>-<boot>": boot differs each time the source's process starts
	N      uint64 // from 1, without holes at the origin: a hole is a loss
}

// IsZero says whether the event was not numbered yet.
func (id ID) IsZero() bool { return id.N == 0 && id.Origin == "" }

// Body is the part of an event that depends on its type. The bodies are the exported structs of this package that
// [NewBody] returns.
type Body interface{ eventBody() }

// NewBody returns an empty body of the kind that events of type t carry, nil for [Unknown].
func NewBody(t Type) Body {
	switch t {
	case StreamStarted:
		return new(Started)
	case StreamSynced:
		return new(Synced)
	case StreamHeartbeat:
		return new(Heartbeat)
	case StreamLost:
		return new(Lost)
	case PathSockets:
		return new(Sockets)
	case PathTraffic:
		return new(Traffic)
	case TCPRetransmit, TCPProbe, TCPReset, TCPError, TCPClosed:
		return new(TCPFact)
	case NATFound, NATCreated, NATDestroyed, NATRecalled:
		return new(NATFact)
	case NATTable:
		return new(Table)
	case NodeChanged:
		return new(NodeFact)
	case PodChanged:
		return new(PodFact)
	case ServiceChanged:
		return new(ServiceFact)
	case NodeAsked:
		return new(Asked)
	case StreamGap:
		return new(Gap)
	case PathCensus:
		return new(Census)
	case TCPStall, TCPRecovered, TCPTimeout:
		return new(Stall)
	case IncidentOpened, IncidentUpdated, IncidentClosed:
		return new(IncidentFinding)
	case LabFault:
		return new(Fault)
	}
	return nil
}

func (*Started) eventBody()         {}
func (*Synced) eventBody()          {}
func (*Heartbeat) eventBody()       {}
func (*Lost) eventBody()            {}
func (*Sockets) eventBody()         {}
func (*Traffic) eventBody()         {}
func (*TCPFact) eventBody()         {}
func (*NATFact) eventBody()         {}
func (*Table) eventBody()           {}
func (*NodeFact) eventBody()        {}
func (*PodFact) eventBody()         {}
func (*ServiceFact) eventBody()     {}
func (*Asked) eventBody()           {}
func (*Gap) eventBody()             {}
func (*Census) eventBody()          {}
func (*Stall) eventBody()           {}
func (*IncidentFinding) eventBody() {}
func (*Fault) eventBody()           {}
