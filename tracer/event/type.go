package event

import "fmt"

// Type says what an event is. Its text form, such as "tcp.retransmit", is the `type` member of the JSON envelope.
type Type uint8

// The types of the stream. Facts first, then findings, then lab.fault, which is neither.
const (
	Unknown Type = iota // a type that this version does not know; readers skip such lines

	StreamStarted   // fact, first line of every stream and file: who watches, with which probes
	StreamSynced    // fact: the first look at one kind of fact is complete
	StreamHeartbeat // fact, at least once a second from every agent; from the Engine where a timer moved the clock, or somebody set it
	StreamLost      // fact: events were lost at a stage
	PathSockets     // fact: sockets seen first, gone, or changed in trouble
	PathTraffic     // fact: what moved per peer since the last look
	TCPRetransmit   // fact: a segment was sent again
	TCPProbe        // fact: a keepalive or window probe went unanswered
	TCPReset        // fact: a reset was received or sent
	TCPError        // fact: the kernel reported an error on a socket
	TCPClosed       // fact: a socket in trouble is closed
	NATFound        // fact: a translated connection met in a dump; its age is unknown
	NATCreated      // fact: a translated connection was set up
	NATDestroyed    // fact: a translated connection was forgotten
	NATRecalled     // fact: an entry of a dead node's ledger
	NATTable        // fact: fill and losses of a node's conntrack table
	NodeChanged     // fact: a node appeared, changed, rebooted or went, or an agent told its own addresses
	PodChanged      // fact: a pod appeared, changed or went
	ServiceChanged  // fact: a service appeared, changed or went
	NodeAsked       // fact: a suspected node was asked whether it lives (--ask)

	StreamGap       // finding: an agent is silent
	PathCensus      // finding: sockets per pod, service and via
	TCPStall        // finding: a socket makes no progress
	TCPRecovered    // finding: a stalled socket makes progress again
	TCPTimeout      // finding: the kernel gave a stalled socket up
	IncidentOpened  // finding: stalls are explained by one culprit
	IncidentUpdated // finding: an open incident changed
	IncidentClosed  // finding: an incident is over

	LabFault // neither: the lab's note of the moment and target of a fault
	numTypes
)

var typeNames = [numTypes]string{
	Unknown:         "unknown",
	StreamStarted:   "stream.started",
	StreamSynced:    "stream.synced",
	StreamHeartbeat: "stream.heartbeat",
	StreamLost:      "stream.lost",
	PathSockets:     "path.sockets",
	PathTraffic:     "path.traffic",
	TCPRetransmit:   "tcp.retransmit",
	TCPProbe:        "tcp.probe",
	TCPReset:        "tcp.reset",
	TCPError:        "tcp.error",
	TCPClosed:       "tcp.closed",
	NATFound:        "nat.found",
	NATCreated:      "nat.created",
	NATDestroyed:    "nat.destroyed",
	NATRecalled:     "nat.recalled",
	NATTable:        "nat.table",
	NodeChanged:     "node.changed",
	PodChanged:      "pod.changed",
	ServiceChanged:  "service.changed",
	NodeAsked:       "node.asked",
	StreamGap:       "stream.gap",
	PathCensus:      "path.census",
	TCPStall:        "tcp.stall",
	TCPRecovered:    "tcp.recovered",
	TCPTimeout:      "tcp.timeout",
	IncidentOpened:  "incident.opened",
	IncidentUpdated: "incident.updated",
	IncidentClosed:  "incident.closed",
	LabFault:        "lab.fault",
}

var typeByName = func() map[string]Type {
	m := make(map[string]Type, numTypes)
	for t := Unknown + 1; t < numTypes; t++ {
		m[typeNames[t]] = t
	}
	return m
}()

// Types returns every known type in the order of their declaration.
func Types() []Type {
	all := make([]Type, 0, numTypes-1)
	for t := Unknown + 1; t < numTypes; t++ {
		all = append(all, t)
	}
	return all
}

// String returns the text form used in JSON, "unknown" for a type out of range.
func (t Type) String() string {
	if t >= numTypes {
		return typeNames[Unknown]
	}
	return typeNames[t]
}

// IsFact says whether events of this type are folded into the model.
func (t Type) IsFact() bool { return t > Unknown && t < StreamGap }

// IsFinding says whether events of this type are computed by the fold.
func (t Type) IsFinding() bool { return t >= StreamGap && t < LabFault }

// ParseType returns the type of a text form, and false for one that this version does not know.
func ParseType(name string) (Type, bool) {
	t, ok := typeByName[name]
	return t, ok
}

// MarshalText implements encoding.TextMarshaler.
func (t Type) MarshalText() ([]byte, error) {
	if t == Unknown || t >= numTypes {
		return nil, fmt.Errorf("event type %d has no text form", t)
	}
	return []byte(typeNames[t]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler; a name from a newer version becomes [Unknown].
func (t *Type) UnmarshalText(text []byte) error {
	*t = typeByName[string(text)]
	return nil
}
