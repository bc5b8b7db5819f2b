package report

import (
	"strconv"
	"strings"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// The fields that a filter finds in the rows of tables, beside what their columns show under the columns' keys.

// Names returns what a filter may ask of the rows of a table: the keys of its columns, and more.
func Names[R any](fields []Field[R], more []string) []string {
	out := make([]string, 0, len(fields)+len(more))
	for i := range fields {
		out = append(out, fields[i].Key)
	}
	for _, name := range more {
		if !has(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func has(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Shown returns what a column shows of a row; "?" and "-" are not known.
func Shown[R any](cx Context, fields []Field[R], row *R, name string) (string, bool) {
	for i := range fields {
		if fields[i].Key == name {
			s := fields[i].Cell(cx, row).S
			return s, s != "" && s != "?" && s != "-"
		}
	}
	return "", false
}

// SocketNames are what a filter finds in a socket beside its columns; the names are those of --filter.
var SocketNames = []string{"ns", "service", "workload", "node", "comm", "role", "retrans", "probes", "errno", "netns", "tcp", "local", "peer", "client", "via", "clock", "left", "state", "pod"}

// SocketField returns such a field.
func SocketField(v *model.SocketView, name string) (string, bool) {
	k := v.Socket.K8s
	if k == nil {
		k = &event.K8sRef{}
	}
	s := ""
	switch name {
	case "ns":
		s = k.Namespace
	case "service":
		s = k.Service
	case "workload":
		s = k.Workload
	case "node":
		s = on(v)
	case "comm":
		s = v.Socket.Owner.Comm
	case "role":
		s = string(v.Via.Role)
	case "retrans":
		s = strconv.Itoa(int(v.TCP.Retransmits))
	case "probes":
		s = strconv.Itoa(int(v.TCP.ProbesOut))
	case "errno":
		s = v.Errno
	case "netns":
		s = strconv.FormatUint(uint64(v.Socket.Netns), 10)
	case "tcp":
		s = v.TCP.State
	}
	return s, s != ""
}

// ViaNames are what a filter finds in a row of the nodes screen beside its columns.
var ViaNames = []string{"node", "ip", "zone", "spot", "ready", "agent", "pod", "service", "stalled", "presumed", "incident"}

// ViaField returns such a field.
func ViaField(r *model.ViaRow, name string) (string, bool) {
	s := ""
	switch name {
	case "node":
		s = r.Node.Name
	case "ip":
		if r.IP.IsValid() {
			s = r.IP.String()
		}
	case "zone":
		s = r.Node.Zone
	case "spot":
		s = r.Node.Spot
	case "ready":
		s = r.Node.Ready
	case "agent":
		s = r.Agent
	case "pod":
		s = strings.Join(r.Pods, ", ")
	case "service":
		s = strings.Join(r.Services, ", ")
	case "stalled":
		s = strconv.Itoa(r.Stalled)
	case "presumed":
		s = strconv.Itoa(r.Presumed)
	case "incident":
		s = r.Incident
	}
	return s, s != ""
}

// IncidentNames are what a filter finds in an incident beside its columns.
var IncidentNames = []string{"kind", "title", "state", "confidence", "pod", "service", "id", "stalled", "crossing"}

// IncidentField returns such a field.
func IncidentField(v *model.IncidentView, name string) (string, bool) {
	s := ""
	switch name {
	case "kind":
		s = string(v.Culprit.Kind)
	case "title":
		s = v.Title
	case "state":
		if s = "open"; v.Closed.OK {
			s = "closed"
		}
	case "confidence":
		s = strconv.FormatFloat(v.Confidence, 'f', 2, 64)
	case "pod":
		s = hitNames(v.Pods)
	case "service":
		s = hitNames(v.Services)
	case "id":
		s = v.ID
	case "stalled":
		s = strconv.Itoa(v.Sockets.Stalled)
	case "crossing":
		s = strconv.Itoa(v.Sockets.Crossing)
	}
	return s, s != ""
}
