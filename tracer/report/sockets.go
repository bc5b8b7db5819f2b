package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Subject names the socket's own end: its pod where it is known, else its process and address.
func Subject(s *event.Socket) string {
	switch {
	case s.K8s != nil && s.K8s.Pod != "":
		return Clean(s.K8s.Namespace + "/" + s.K8s.Pod)
	case s.Owner.Comm != "":
		return Clean(s.Owner.Comm)
	}
	if s.Local.IP.IsValid() {
		return s.Local.IP.String()
	}
	return "?"
}

// ViaName names the node that a connection crosses, or what stands there instead.
func ViaName(v *event.Via) string {
	switch {
	case v.Node != "":
		return Clean(v.Node)
	case v.Role == event.ViaLocal:
		return "(this node)"
	case v.Role == event.ViaPod:
		return "(pod)"
	case v.Role == event.ViaDirect:
		return "(direct)"
	case v.IP.IsValid():
		return v.IP.String()
	}
	return "?"
}

func endpoint(e event.Endpoint) string {
	if !e.IP.IsValid() {
		return "?"
	}
	return e.String()
}

func client(c *event.Client) string { return endpoint(event.Endpoint{IP: c.IP, Port: c.Port}) }

// StatusClass is the class of a status word of the model: ok, at-risk, STALLED, presumed, timed-out, reset, closed, dead.
func StatusClass(status string) Class {
	switch status {
	case "ok":
		return OK
	case "at-risk":
		return Warn
	case "STALLED", "presumed", "dead", "timed-out", "reset":
		return Bad
	}
	return Muted
}

// Mark is the one character that stands for a status beside a row: x lost, ! at risk, ? unknown.
func Mark(status string) Text {
	switch StatusClass(status) {
	case Bad:
		return Text{"x", Bad}
	case Warn:
		return Text{"!", Warn}
	case OK:
		return Text{" ", OK}
	}
	if status == "unknown" {
		return Text{"?", Muted}
	}
	return Text{" ", Muted}
}

// Left says how long a socket has until the kernel gives it up: 12m16s, >=12m16s where only a lower bound is known,
// never, due, or what it ended with.
func Left(cx Context, v *model.SocketView) Text {
	switch {
	case v.Errno != "":
		return Text{v.Errno, Bad}
	case v.Status == "ok" || v.Status == "closed":
		return Text{"-", Muted}
	case v.Deadline.IsZero() && v.Clock == event.ClockNone:
		return Text{"never", Bad}
	case v.Deadline.IsZero():
		return Text{"?", Muted}
	}
	left := v.Deadline.Sub(cx.Now)
	if left <= 0 {
		return Text{"due", Bad}
	}
	if v.DeadlineIs == "lower_bound" {
		return Text{">=" + Span(left), Plain}
	}
	return Text{Span(left), Plain}
}

// SocketFields are the columns of tables of sockets.
func SocketFields() []Field[model.SocketView] {
	return []Field[model.SocketView]{
		{Column{Key: "state", Title: "STATE", Width: 9, Rank: 1}, func(_ Context, v *model.SocketView) Text {
			return Text{v.Status, StatusClass(v.Status)}
		}},
		{Column{Key: "pod", Title: "POD / PROCESS", Width: 14, Max: 40, Name: true}, func(_ Context, v *model.SocketView) Text {
			return Text{S: Subject(&v.Socket)}
		}},
		{Column{Key: "on", Title: "ON", Width: 8, Max: 24, Rank: 6, Name: true}, func(_ Context, v *model.SocketView) Text {
			return Text{orElse(on(v), "?"), Muted}
		}},
		{Column{Key: "local", Title: "LOCAL", Width: 21, Max: 47, Rank: 5}, func(_ Context, v *model.SocketView) Text {
			return Text{S: endpoint(v.Socket.Local)}
		}},
		{Column{Key: "peer", Title: "PEER", Width: 21, Max: 47, Rank: 2, Name: true}, func(_ Context, v *model.SocketView) Text {
			return Text{S: endpoint(v.Socket.Peer)}
		}},
		{Column{Key: "via", Title: "VIA", Width: 8, Max: 24, Name: true}, func(_ Context, v *model.SocketView) Text {
			return Text{S: ViaName(&v.Via)}
		}},
		{Column{Key: "client", Title: "CLIENT", Width: 21, Max: 47, Rank: 7}, func(_ Context, v *model.SocketView) Text {
			if v.Client == nil {
				return Text{"?", Muted}
			}
			return Text{S: client(v.Client)}
		}},
		{Column{Key: "rtx", Title: "RTX", Right: true, Width: 3, Rank: 3}, func(_ Context, v *model.SocketView) Text {
			n := int(v.TCP.Retransmits)
			if v.TCP.ProbesOut > v.TCP.Retransmits {
				n = int(v.TCP.ProbesOut)
			}
			return Text{S: strconv.Itoa(n)}
		}},
		{Column{Key: "heard", Title: "HEARD", Right: true, Width: 6, Rank: 4}, func(cx Context, v *model.SocketView) Text {
			return Text{S: cx.Ago(v.LastHeard)}
		}},
		{Column{Key: "clock", Title: "CLOCK", Width: 9, Rank: 8}, func(_ Context, v *model.SocketView) Text {
			return Text{orElse(string(v.Clock), "-"), Muted}
		}},
		{Column{Key: "left", Title: "LEFT", Right: true, Width: 9}, Left},
	}
}

func on(v *model.SocketView) string {
	if v.Socket.K8s != nil && v.Socket.K8s.Node != "" {
		return v.Socket.K8s.Node
	}
	return strings.TrimPrefix(v.Source, "agent/")
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// Trouble is the table of sockets in trouble.
func Trouble(cx Context, s *model.Snapshot) Table {
	t := Build(cx, SocketFields(), s.Trouble)
	t.Empty = Words(Muted, Healthy(s))
	if s.Omitted > 0 {
		t.After = append(t.After, Words(Muted, fmt.Sprintf("%s more in trouble, not kept", Count(s.Omitted))))
	}
	return t
}

// Healthy says why nothing is in trouble.
func Healthy(s *model.Snapshot) string {
	if !s.Complete {
		return NothingYet(s)
	}
	text := fmt.Sprintf("no stalls seen yet: healthy, %s", plural(s.Totals.Sockets, "socket"))
	if c := &s.Coverage; c.NodesKnown > c.NodesSeen {
		text += fmt.Sprintf(" seen from %s of %s", Count(c.NodesSeen), plural(c.NodesKnown, "node"))
	}
	return text
}

// SocketFacts says in lines all that is known of one socket: its path, its exchange, its clock, its owner.
func SocketFacts(cx Context, v *model.SocketView) []Section {
	path := Line{}
	if v.Client != nil {
		path = path.Append(Plain, strings.ReplaceAll(string(v.Client.Kind), "_", " ")+" "+client(v.Client)+" -> ")
	}
	if v.VIP != nil {
		path = path.Append(Plain, endpoint(*v.VIP)+" -> ")
	}
	path = path.Append(Strong, ViaName(&v.Via)).Append(Plain, " => "+endpoint(v.Socket.Peer)+" -> "+endpoint(v.Socket.Local))
	if v.Client == nil && v.Via.Role == event.ViaEntry {
		path = path.Append(Muted, "  (its client is not in the ledger)")
	}
	via := Line{}.Append(Plain, ViaName(&v.Via)).Append(Muted, fmt.Sprintf(" %s %s", v.Via.Role, v.Via.Sure)).Append(Muted, because(v.Via.Because))
	send := Line{}.Append(Plain, fmt.Sprintf("%s, %d B unacked, %d unanswered retransmissions, %d unanswered probes, rto %s",
		v.TCP.State, v.TCP.Unacked, v.TCP.Retransmits, v.TCP.ProbesOut, Span(v.TCP.RTO.Duration())))
	if v.TCP.SRTT.OK {
		send = send.Append(Plain, ", srtt "+v.TCP.SRTT.V.Duration().String())
	}
	send = send.Append(Plain, ", last heard "+cx.Ago(v.LastHeard)+" ago")
	left := Left(cx, v)
	clock := Line{left}.Append(Muted, fmt.Sprintf("  clock %s; %s", orElse(string(v.Clock), "?"), limits(&v.Limits)))
	out := []Section{{Title: "Path", Lines: []Line{path}}, {Title: "Via", Lines: []Line{via}}, {Title: "TCP", Lines: []Line{send}}, {Title: "Left", Lines: []Line{clock}}}
	owner := Line{}
	if v.Socket.Owner.PID != 0 {
		owner = owner.Append(Plain, fmt.Sprintf("pid %d %s", v.Socket.Owner.PID, Clean(v.Socket.Owner.Comm)))
	}
	if k := v.Socket.K8s; k != nil {
		for _, part := range []string{k.Service, k.Workload} {
			if part != "" {
				owner = owner.Append(Plain, "  "+part)
			}
		}
	}
	if len(owner) > 0 {
		out = append(out, Section{Title: "Owner", Lines: []Line{owner}})
	}
	return out
}

func because(s string) string {
	if s == "" {
		return ""
	}
	return ", because " + s
}

func limits(l *event.Limits) string {
	keep := "no keepalive"
	if l.Keepalive {
		keep = fmt.Sprintf("keepalive %s + %d x %s", Spoken(l.KeepaliveTime.Duration()), l.KeepaliveProbes, Spoken(l.KeepaliveInterval.Duration()))
	}
	user := "no TCP_USER_TIMEOUT"
	if l.UserTimeout > 0 {
		user = "TCP_USER_TIMEOUT " + Spoken(l.UserTimeout.Duration())
	}
	return fmt.Sprintf("%s, %s, tcp_retries2=%d", keep, user, l.Retries2)
}
