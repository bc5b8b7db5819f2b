package event

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// fields are the names that Event.Field knows, in the order in which errors and completion list them.
var fields = []string{
	"type", "time", "source", "id", "flow", "node", "ns", "pod", "workload", "service", "local", "peer", "owner", "state",
	"kind", "retrans", "probes", "rto", "unacked", "errno", "how", "via", "role", "sure", "client", "clock", "deadline",
	"stalled", "original", "reply", "rung", "why", "what", "fact", "stage", "rule", "culprit", "severity", "confidence",
	"incident", "title",
}

// Fields returns the names that filters may use for events.
func Fields() []string { return append([]string(nil), fields...) }

// Field returns the text of a field for filters, and false where the event does not have it or it is unknown. Lines of
// many rows (path.sockets, path.traffic, path.census) have the envelope's fields only: a filter takes or leaves a line.
func (e *Event) Field(name string) (string, bool) {
	switch name {
	case "type":
		return e.Type.String(), true
	case "time":
		return e.Time.UTC().Format(time.RFC3339Nano), true
	case "source":
		return known(e.Source)
	case "id":
		return known(e.ID.String())
	case "flow":
		return known(e.Flow)
	}
	switch body := e.Body.(type) {
	case *TCPFact:
		return body.field(name)
	case *Stall:
		return body.field(name)
	case *NATFact:
		return body.field(name)
	case *IncidentFinding:
		return body.Incident.field(name)
	case *NodeFact:
		return pick(name, "what", body.What, "node", body.Node.Name)
	case *PodFact:
		return pick(name, "what", body.What, "node", body.Pod.Node, "ns", body.Pod.Namespace, "pod", body.Pod.Name, "workload", body.Pod.Workload)
	case *ServiceFact:
		return pick(name, "what", body.What, "ns", body.Service.Namespace, "service", body.Service.Namespace+"/"+body.Service.Name)
	case *Table:
		return pick(name, "node", body.Node)
	case *Asked:
		return pick(name, "node", body.Asked.Node, "how", string(body.Asked.Answer), "peer", body.Asked.To.String())
	case *Started:
		return pick(name, "node", body.Host.Node)
	case *Synced:
		return pick(name, "fact", body.Fact)
	case *Lost:
		return pick(name, "stage", body.Stage)
	case *Fault:
		return pick(name, "what", body.What)
	}
	return "", false
}

// known is a text that is unknown where it is empty.
func known(text string) (string, bool) { return text, text != "" }

// pick returns the value after name in a list of names and values.
func pick(name string, pairs ...string) (string, bool) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == name {
			return known(pairs[i+1])
		}
	}
	return "", false
}

func (f *TCPFact) field(name string) (string, bool) {
	switch name {
	case "state":
		return known(f.TCP.State)
	case "kind":
		return known(f.TCP.Kind)
	case "retrans":
		return strconv.Itoa(int(f.TCP.Retransmits)), true
	case "probes":
		return strconv.Itoa(int(f.TCP.ProbesOut)), true
	case "rto":
		return f.TCP.RTO.String(), true
	case "unacked":
		return strconv.FormatUint(uint64(f.TCP.Unacked), 10), true
	case "errno":
		return known(f.Errno)
	case "how":
		return known(f.How)
	case "via", "role", "sure":
		return f.Via.field(name)
	}
	return f.Socket.field(name)
}

func (s *Stall) field(name string) (string, bool) {
	switch name {
	case "via", "role", "sure":
		return s.Via.field(name)
	case "client":
		if s.Client == nil {
			return "", false
		}
		return Endpoint{s.Client.IP, s.Client.Port}.String(), true
	case "clock":
		return known(string(s.Clock))
	case "deadline":
		return s.Deadline.V.UTC().Format(time.RFC3339Nano), s.Deadline.OK
	case "stalled":
		return s.Stalled.V.String(), s.Stalled.OK
	case "errno":
		return known(s.Errno)
	}
	return s.Socket.field(name)
}

func (s *Socket) field(name string) (string, bool) {
	switch name {
	case "local":
		return s.Local.String(), true
	case "peer":
		return s.Peer.String(), true
	case "owner":
		return known(s.Owner.Comm)
	}
	if s.K8s == nil {
		return "", false
	}
	return pick(name, "node", s.K8s.Node, "ns", s.K8s.Namespace, "pod", s.K8s.Pod, "workload", s.K8s.Workload, "service", s.K8s.Service)
}

func (v *Via) field(name string) (string, bool) {
	if v == nil {
		return "", false
	}
	if name == "via" && v.Node == "" && v.IP != (netip.Addr{}) {
		return v.IP.String(), true
	}
	return pick(name, "via", v.Node, "role", string(v.Role), "sure", string(v.Sure))
}

func (f *NATFact) field(name string) (string, bool) {
	switch name {
	case "original":
		return FlowID(f.NAT.Original.Src, f.NAT.Original.Dst), true
	case "reply":
		return FlowID(f.NAT.Reply.Src, f.NAT.Reply.Dst), true
	case "client":
		return f.NAT.Original.Src.String(), true
	case "local":
		return f.NAT.Reply.Src.String(), true
	case "peer":
		return f.NAT.Reply.Dst.String(), true
	}
	return pick(name, "node", f.By.Node, "rung", f.Rung, "why", f.Why, "state", f.State, "kind", strings.Join(f.NAT.Kinds, " "))
}

func (i *Incident) field(name string) (string, bool) {
	switch name {
	case "confidence":
		return strconv.FormatFloat(i.Confidence, 'f', 2, 64), true
	case "pod":
		return hits(i.Pods)
	case "service":
		return hits(i.Services)
	}
	return pick(name, "rule", i.Rule, "culprit", i.Culprit.Name, "sure", string(i.Culprit.Sure), "kind", string(i.Culprit.Kind),
		"severity", string(i.Severity), "incident", i.ID, "title", i.Title, "why", i.Why)
}

// hits is the names of all, so that ":" finds each.
func hits(all []Hit) (string, bool) {
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return known(strings.Join(names, " "))
}
