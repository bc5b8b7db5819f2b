package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Station is one thing on a connection's path, as a column of short lines.
type Station struct {
	Title string
	Lines []Text
	// Link is the way to the next station: "-->", "x=x" where it is known to end here, "?=?" where nothing comes back and it
	// is not known whether it ends here or before; empty for the last.
	Link string
}

// broken says whether nothing comes back from a socket's peer.
func broken(v *model.SocketView) bool { return StatusClass(v.Status) == Bad || v.Status == "at-risk" }

// Stations draws a connection from its far end to the socket. Only what is known has a place; what is not observed is
// said so.
func Stations(cx Context, s *model.Snapshot, v *model.SocketView) []Station {
	var out []Station
	ends := func(e event.Endpoint) []Text {
		return []Text{{S: e.IP.String(), Class: Strong}, {S: fmt.Sprintf(":%d", e.Port)}}
	}
	dialled := v.Role == event.RoleDialled
	entry := v.Via.Role == event.ViaEntry || v.Via.Role == event.ViaEgress
	switch {
	case v.Client != nil:
		lines := ends(event.Endpoint{IP: v.Client.IP, Port: v.Client.Port})
		out = append(out, Station{Title: clientTitle(v.Client.Kind), Lines: append(lines, Text{"not observed", Muted}), Link: "-->"})
	case entry && !dialled:
		out = append(out, Station{Title: "CLIENT", Lines: []Text{{"?", Muted}, {"not in the ledger", Muted}}, Link: "-->"})
	}
	if v.VIP != nil {
		title := "DIALLED"
		if dialled {
			title = "SERVICE"
		}
		out = append(out, Station{Title: title, Lines: append(ends(*v.VIP), Text{"address only", Muted}), Link: "-->"})
	}
	out = append(out, viaStation(cx, s, v))
	own := Station{Title: "SOCKET", Lines: append([]Text{{Subject(&v.Socket), Strong}}, ends(v.Socket.Local)...)}
	if name := on(v); name != "" {
		own.Lines = append(own.Lines, Text{S: "on " + Clean(name)})
	}
	own.Lines = append(own.Lines, Text{v.Status, StatusClass(v.Status)}, Text{S: unanswered(v)})
	return append(out, own)
}

func clientTitle(k event.ClientKind) string {
	if k == event.ClientLoadBalancer {
		return "BALANCER"
	}
	return "CLIENT"
}

// viaStation is what stands next to the socket's own machine.
func viaStation(cx Context, s *model.Snapshot, v *model.SocketView) Station {
	st := Station{Title: strings.ToUpper(string(v.Via.Role)) + " NODE", Link: "-->"}
	switch v.Via.Role {
	case event.ViaEntry, event.ViaEgress:
	case event.ViaLocal:
		st.Title = "THIS NODE"
	default:
		st.Title = "PEER"
	}
	switch row := viaOf(s, v); {
	case !broken(v):
	case row != nil && row.Status == model.StatusDead:
		st.Link = "x=x"
	default:
		st.Link = "?=?"
	}
	st.Lines = append(st.Lines, Text{ViaName(&v.Via), Strong})
	if v.Socket.Peer.IP.IsValid() && v.Socket.Peer.IP.String() != ViaName(&v.Via) {
		st.Lines = append(st.Lines, Text{S: v.Socket.Peer.IP.String()})
	}
	st.Lines = append(st.Lines, Text{S: fmt.Sprintf(":%d", v.Socket.Peer.Port)})
	if row := viaOf(s, v); row != nil {
		st.Lines = append(st.Lines, Text{row.Status, StatusClass(row.Status)})
		if !row.LastHeard.IsZero() {
			st.Lines = append(st.Lines, Text{S: "heard " + cx.Ago(row.LastHeard) + " ago"})
		}
	}
	return st
}

// viaOf finds the row of the nodes screen that a socket counts under; nil where there is none.
func viaOf(s *model.Snapshot, v *model.SocketView) *model.ViaRow {
	for i := range s.Vias {
		if r := &s.Vias[i]; v.Via.Node != "" && r.Via == v.Via.Node || v.Via.Node == "" && r.IP.IsValid() && r.IP == v.Via.IP {
			return r
		}
	}
	return nil
}

func unanswered(v *model.SocketView) string {
	switch {
	case v.TCP.ProbesOut > 0:
		return plural(int(v.TCP.ProbesOut), "probe") + " unanswered"
	case v.TCP.Retransmits > 0:
		return plural(int(v.TCP.Retransmits), "retransmit")
	}
	return ""
}

// PathFacts says of one connection how its path is known, where it breaks, when it gives up, and what the share test
// comes to, which may be nil.
func PathFacts(cx Context, s *model.Snapshot, v *model.SocketView, share *model.Share) []Section {
	path := Line{}.Append(Plain, strings.Join(words("crosses", ViaName(&v.Via), string(v.Via.Role)), " "))
	switch v.Via.Sure {
	case event.Proved:
		path = path.Append(OK, ", proved")
	case event.Inferred:
		path = path.Append(Warn, ", inferred and not proved")
	}
	out := []Section{{Title: "Path", Lines: []Line{path.Append(Muted, because(v.Via.Because))}}}
	if broken(v) {
		line := brokenSince(cx, v)
		if row := viaOf(s, v); row == nil || row.Status != model.StatusDead {
			line = line.Append(Muted, "; whether there or before is not proved")
		}
		out = append(out, Section{Title: "Broken", Lines: []Line{line}})
	}
	left := Line{Left(cx, v)}
	if !v.Deadline.IsZero() && v.Status != model.StatusOK && !cx.Relative {
		left = Line{}.Append(Strong, lowerBound(v.DeadlineIs)+cx.Time(v.Deadline)).Append(Plain, " (").Append(Left(cx, v).Class, Left(cx, v).S).Append(Plain, ")")
	}
	out = append(out, Section{Title: "Gives up", Lines: []Line{left.Append(Muted, "  clock "+orElse(string(v.Clock), "none"))}})
	if share != nil {
		out = append(out, Section{Title: "Shared", Lines: []Line{ShareVerdict(share)}})
	}
	return out
}

func words(list ...string) []string {
	var out []string
	for _, w := range list {
		if w != "" && w != "unknown" {
			out = append(out, w)
		}
	}
	return out
}

// PathSeen says from where a connection is seen, and from where it is not.
func PathSeen(s *model.Snapshot, v *model.SocketView) Line {
	seen := Line{}.Append(Plain, Clean(on(v))+" (socket)")
	if v.Client != nil {
		seen = seen.Append(Plain, ", the NAT ledger (client and what it dialled)")
	}
	if row := viaOf(s, v); row != nil && row.Agent == "silent" {
		seen = seen.Append(Warn, "; the agent on "+row.Via+" is silent")
	}
	return seen.Append(Muted, "; what stands before the node is not observed")
}

func brokenSince(cx Context, v *model.SocketView) Line {
	line := Line{}.Append(Bad, "nothing comes back")
	if !v.LastHeard.IsZero() {
		line = line.Append(Plain, " since "+strings.TrimSpace(cx.Millis(v.LastHeard)))
		if !cx.Relative {
			line = line.Append(Plain, ", "+cx.Ago(v.LastHeard)+" ago")
		}
	}
	if !v.Since.IsZero() {
		line = line.Append(Muted, "; unanswered since "+strings.TrimSpace(cx.Millis(v.Since)))
	}
	return line
}

// ShareFields are the columns of the share test.
func ShareFields(all model.ShareRow) []Field[model.ShareRow] {
	return []Field[model.ShareRow]{
		{Column{Key: "element", Title: "SHARED WITH OTHERS", Width: 20, Max: 52, Name: true}, func(_ Context, r *model.ShareRow) Text {
			return Text{r.What + " " + r.Name, Plain}
		}},
		{Column{Key: "sockets", Title: "SOCKETS", Width: 7, Right: true}, func(_ Context, r *model.ShareRow) Text {
			return Text{S: Count(r.Sockets)}
		}},
		{Column{Key: "trouble", Title: "IN TROUBLE", Width: 10, Right: true}, func(_ Context, r *model.ShareRow) Text {
			if r.Troubled == 0 {
				return Text{"0", Muted}
			}
			return Text{Count(r.Troubled), Bad}
		}},
		{Column{Key: "elsewhere", Title: "ELSEWHERE", Width: 14, Right: true}, func(_ Context, r *model.ShareRow) Text {
			rest := all.Sockets - r.Sockets
			if rest <= 0 {
				return Text{"all share it", Muted}
			}
			return Text{S: Count(all.Troubled-r.Troubled) + " of " + Count(rest)}
		}},
		{Column{Key: "lift", Title: "LIFT", Width: 5, Right: true, Rank: 2}, func(_ Context, r *model.ShareRow) Text {
			if l, ok := lift(r, all); ok {
				return Text{S: fmt.Sprintf("%.1f", l)}
			}
			return Text{"-", Muted}
		}},
		{Column{Key: "heard", Title: "HEARD", Width: 6, Right: true, Rank: 3}, func(cx Context, r *model.ShareRow) Text {
			return Text{S: cx.Ago(r.Heard)}
		}},
	}
}

// lift is how much more often the sockets that share an element are in trouble than all are.
func lift(r *model.ShareRow, all model.ShareRow) (float64, bool) {
	if r.Sockets == 0 || all.Troubled == 0 || all.Sockets == 0 {
		return 0, false
	}
	return float64(r.Troubled) / float64(r.Sockets) / (float64(all.Troubled) / float64(all.Sockets)), true
}

// Association is named from here on: the phi coefficient of being in trouble and sharing an element, 1 where the one is
// the other and 0 where they have nothing to do with each other. Elements within tied of the best do as well as it.
const (
	associated = 0.2
	tied       = 0.9
)

// phi measures how far being in trouble and sharing an element go together.
func phi(r *model.ShareRow, all model.ShareRow) float64 {
	in, out := float64(r.Sockets), float64(all.Sockets-r.Sockets)
	bad, well := float64(all.Troubled), float64(all.Sockets-all.Troubled)
	if in*out*bad*well == 0 || r.Troubled < 3 || 3*r.Troubled < all.Troubled {
		return 0 // it explains too few of them
	}
	badIn, badOut := float64(r.Troubled), float64(all.Troubled-r.Troubled)
	return (badIn*(out-badOut) - badOut*(in-badIn)) / math.Sqrt(in*out*bad*well)
}

// ShareVerdict says what the share test comes to, in counts: which element goes together with the trouble most. It is an
// argument and no verdict on a culprit; that is the incident's. Elements that do equally well are all named.
func ShareVerdict(s *model.Share) Line {
	all := s.All
	switch {
	case all.Troubled == 0:
		return Words(OK, "no connection is in trouble: there is nothing to explain")
	case all.Troubled < 3:
		return Words(Muted, fmt.Sprintf("%s in trouble: too few to tell what they share from chance", plural(all.Troubled, "connection")))
	}
	best := 0.0
	for i := range s.Rows {
		best = max(best, phi(&s.Rows[i], all))
	}
	var names []string
	var first *model.ShareRow
	for i := range s.Rows {
		r := &s.Rows[i]
		if p := phi(r, all); p < associated || p < best*tied {
			continue
		}
		if first == nil {
			first = r
		}
		names = append(names, r.What+" "+Clean(r.Name))
	}
	if first == nil {
		return Words(Muted, fmt.Sprintf("nothing on this path goes together with the trouble of %s connections: there may be several faults, or none here", Count(all.Troubled)))
	}
	line := Line{}.Append(Plain, fmt.Sprintf("%s of %s in trouble share ", Count(first.Troubled), Count(all.Troubled))).Append(Bad, names[0]).
		Append(Plain, fmt.Sprintf("; elsewhere %s of %s are", Count(all.Troubled-first.Troubled), Count(all.Sockets-first.Sockets)))
	if len(names) > 1 {
		line = line.Append(Muted, "; "+strings.Join(names[1:], " and ")+" cannot be told apart from it")
	}
	return line
}
