package event

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// AppendJSON appends e as one JSON object, without a newline: the envelope's members, then the body's. The result is
// what encoding/json would write for the same members without HTML escaping, with two differences that readers are
// glad of: a required list that is nil becomes [], and the envelope's time is always UTC.
//
// An event that has no JSON form (an unknown type, a body of the wrong kind, a number that is not finite) becomes a
// stream.lost line of stage "encode.<type>" under the same envelope, so that what a reader gets is a valid line and the
// loss is counted. The line's length is not bounded here: sources chunk, and writers replace what exceeds [MaxLine].
func AppendJSON(b []byte, e *Event) []byte {
	start := len(b)
	b = appendEnvelope(b, e, e.Type)
	b, ok := appendBody(b, e)
	if !ok {
		lost := Lost{Stage: "encode." + e.Type.String(), Count: 1, Since: clampTime(e.Time)}
		b = appendEnvelope(b[:start], e, StreamLost)
		b = lost.appendMembers(b)
	}
	return append(b, '}')
}

func appendEnvelope(b []byte, e *Event, t Type) []byte {
	b = append(b, `{"v":1,"type":"`...)
	b = append(b, t.String()...)
	b = append(b, `","time":`...)
	b = appendTime(b, clampTime(e.Time))
	if !e.ID.IsZero() {
		b = append(b, `,"id":"`...)
		b = appendEscaped(b, e.ID.Origin)
		b = append(b, '-')
		b = strconv.AppendUint(b, e.ID.N, 10)
		b = append(b, '"')
	}
	if e.Seq != 0 {
		b = append(b, `,"seq":`...)
		b = strconv.AppendUint(b, e.Seq, 10)
	}
	b = append(b, `,"source":`...)
	b = appendString(b, e.Source)
	if e.Flow != "" {
		b = append(b, `,"flow":`...)
		b = appendString(b, e.Flow)
	}
	return b
}

// appendBody appends the body's members, each with its comma in front. The bodies that come by the thousand are written
// by hand; the others are left to encoding/json.
func appendBody(b []byte, e *Event) ([]byte, bool) {
	if !e.Type.carries(e.Body) {
		return b, false
	}
	switch body := e.Body.(type) {
	case *Sockets:
		return body.appendMembers(b), true
	case *Traffic:
		return body.appendMembers(b), true
	case *TCPFact:
		return body.appendMembers(b), true
	case *NATFact:
		return body.appendMembers(b), true
	case *Heartbeat:
		return body.appendMembers(b), true
	case *Stall:
		return body.appendMembers(b), true
	case *Lost:
		return body.appendMembers(b), true
	case *Census:
		return body.appendMembers(b), true
	}
	return appendCold(b, e.Body)
}

func appendCold(b []byte, body Body) ([]byte, bool) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return b, false
	}
	members := buf.Bytes()
	members = members[1 : len(members)-2] // without the braces and the newline
	if len(members) == 0 {
		return b, true
	}
	return AppendVisible(append(b, ','), members), true
}

// carries says whether body is of the kind that events of type t have, and not nil.
func (t Type) carries(body Body) bool {
	switch body := body.(type) {
	case *Started:
		return body != nil && t == StreamStarted
	case *Synced:
		return body != nil && t == StreamSynced
	case *Heartbeat:
		return body != nil && t == StreamHeartbeat
	case *Lost:
		return body != nil && t == StreamLost
	case *Sockets:
		return body != nil && t == PathSockets
	case *Traffic:
		return body != nil && t == PathTraffic
	case *TCPFact:
		return body != nil && t >= TCPRetransmit && t <= TCPClosed
	case *NATFact:
		return body != nil && t >= NATFound && t <= NATRecalled
	case *Table:
		return body != nil && t == NATTable
	case *NodeFact:
		return body != nil && t == NodeChanged
	case *PodFact:
		return body != nil && t == PodChanged
	case *ServiceFact:
		return body != nil && t == ServiceChanged
	case *Asked:
		return body != nil && t == NodeAsked
	case *Gap:
		return body != nil && t == StreamGap
	case *Census:
		return body != nil && t == PathCensus
	case *Stall:
		return body != nil && t >= TCPStall && t <= TCPTimeout
	case *IncidentFinding:
		return body != nil && t >= IncidentOpened && t <= IncidentClosed
	case *Fault:
		return body != nil && t == LabFault
	}
	return false
}

// String returns the text form, "<source>-<boot>-<n>", and "" for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return id.Origin + "-" + strconv.FormatUint(id.N, 10)
}

// clampTime brings t to UTC and into the years that RFC 3339 can write, 0 to 9999.
func clampTime(t time.Time) time.Time {
	t = t.UTC()
	switch {
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	}
	return t
}
