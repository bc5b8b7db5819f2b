package report

import (
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// NodeJSON is one row of the nodes screen for programs: that of `midhop via -o json`, and how its sockets fare.
type NodeJSON struct {
	ViaJSONRow
	AtRisk        int       `json:"at_risk"`
	Stalled       int       `json:"stalled"`
	Presumed      int       `json:"presumed"`
	TimedOut      int       `json:"timed_out"`
	LastHeard     time.Time `json:"last_heard,omitzero"`
	FirstDeadline time.Time `json:"first_deadline,omitzero"`
	DeadlineIs    string    `json:"deadline_is,omitempty"`
	Never         int       `json:"never"` // sockets in trouble that never notice
	GoneBy        time.Time `json:"gone_by,omitzero"`
	Agent         string    `json:"agent,omitempty"`
	Status        string    `json:"status"`
	Incident      string    `json:"incident,omitempty"`
}

// NewNodeJSON makes it of a row.
func NewNodeJSON(s *model.Snapshot, r *model.ViaRow) NodeJSON {
	first, is := firstOf(s, r)
	return NodeJSON{
		ViaJSONRow: newViaJSONRow(s, r),
		AtRisk:     r.AtRisk, Stalled: r.Stalled, Presumed: r.Presumed, TimedOut: r.TimedOut, LastHeard: r.LastHeard,
		FirstDeadline: first, DeadlineIs: is, Never: r.Never, GoneBy: GoneBy(r.Node), Agent: r.Agent, Status: r.Status, Incident: r.Incident,
	}
}

// SocketJSON is one socket for programs, in the words of the event stream.
type SocketJSON struct {
	Status     string          `json:"status"`
	Source     string          `json:"source"`
	Socket     event.Socket    `json:"socket"`
	Role       event.Role      `json:"role,omitempty"`
	Via        event.Via       `json:"via"`
	Client     *event.Client   `json:"client,omitempty"`
	Dialled    *event.Endpoint `json:"dialled,omitempty"`
	TCP        event.Progress  `json:"tcp"`
	Limits     event.Limits    `json:"limits"`
	Seen       time.Time       `json:"seen,omitzero"`
	LastHeard  time.Time       `json:"last_heard,omitzero"`
	Since      time.Time       `json:"since,omitzero"`
	Clock      event.Clock     `json:"clock,omitempty"`
	Deadline   time.Time       `json:"deadline,omitzero"`
	DeadlineIs string          `json:"deadline_is,omitempty"`
	Errno      string          `json:"errno,omitempty"`
}

// NewSocketJSON makes it of a socket.
func NewSocketJSON(v *model.SocketView) SocketJSON {
	return SocketJSON{
		Status: v.Status, Source: v.Source, Socket: v.Socket, Role: v.Role, Via: v.Via, Client: v.Client, Dialled: v.VIP, TCP: v.TCP,
		Limits: v.Limits, Seen: v.Seen, LastHeard: v.LastHeard, Since: v.Since, Clock: v.Clock, Deadline: v.Deadline,
		DeadlineIs: v.DeadlineIs, Errno: v.Errno,
	}
}

// ShareJSON is a share test for programs.
type ShareJSON struct {
	Socket SocketJSON     `json:"socket"`
	All    ShareJSONRow   `json:"all"`
	Shared []ShareJSONRow `json:"shared"`
}

// ShareJSONRow is one element that connections share.
type ShareJSONRow struct {
	What     string    `json:"what"`
	Name     string    `json:"name,omitempty"`
	Sockets  int       `json:"sockets"`
	Troubled int       `json:"troubled"`
	Heard    time.Time `json:"heard,omitzero"`
}

// NewShareJSON makes it of a socket and what it was compared with, which may be nil.
func NewShareJSON(v *model.SocketView, s *model.Share) ShareJSON {
	out := ShareJSON{Socket: NewSocketJSON(v), Shared: []ShareJSONRow{}}
	if s == nil {
		return out
	}
	row := func(r *model.ShareRow) ShareJSONRow {
		return ShareJSONRow{r.What, r.Name, r.Sockets, r.Troubled, r.Heard}
	}
	out.All = row(&s.All)
	for i := range s.Rows {
		out.Shared = append(out.Shared, row(&s.Rows[i]))
	}
	return out
}
