package report

import (
	"strconv"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// EventNames are the fields that a filter knows of events. Those that an event lacks are unknown for it.
var EventNames = []string{
	"id", "type", "source", "flow", // of every event
	"node", "ns", "pod", "workload", "service", "comm", // where the socket lives and what it belongs to
	"via", "role", "client", "peer", "local", // whence it is spoken to
	"state", "retrans", "probes", "rto", "clock", "left", "errno", // how it fares
	"rule", "culprit", "kind", "severity", "confidence", "stalled", "crossing", "why", // of an incident
	"stage",
}

// Record is one thing that a filter looks at: an event, or one row of an event that has rows.
type Record map[string]string

// Field returns a field's text, false where the record lacks it: what a filter asks.
func (f Record) Field(name string) (string, bool) {
	v, ok := f[name]
	return v, ok
}

func (f Record) set(name, value string) {
	if value != "" {
		f[name] = value
	}
}

// EventRecords returns what a filter sees of an event: a line of rows is taken where one of its rows is.
func EventRecords(e *event.Event) []Record {
	one := func() Record {
		f := make(Record)
		f.set("id", e.ID.String())
		f.set("type", e.Type.String())
		f.set("source", e.Source)
		f.set("flow", e.Flow)
		return f
	}
	f := one()
	switch b := e.Body.(type) {
	case *event.Stall:
		f.socket(&b.Socket)
		f.via(&b.Via)
		f.set("clock", string(b.Clock))
		f.set("errno", b.Errno)
		if b.Client != nil {
			f.set("client", b.Client.IP.String())
		}
		if b.Deadline.OK {
			f.set("left", b.Deadline.V.Sub(e.Time).Round(time.Millisecond).String())
		}
	case *event.TCPFact:
		f.socket(&b.Socket)
		f.via(b.Via)
		f.progress(&b.TCP)
		f.set("errno", b.Errno)
	case *event.Sockets:
		out := make([]Record, len(b.Rows))
		for i := range b.Rows {
			r := &b.Rows[i]
			out[i] = one()
			out[i].socket(&r.Socket)
			out[i].via(r.Via)
			out[i].progress(&r.TCP)
		}
		return out
	case *event.Traffic:
		out := make([]Record, len(b.Rows))
		for i := range b.Rows {
			out[i] = one()
			out[i].set("local", b.Rows[i].Local.String())
			out[i].set("peer", b.Rows[i].Peer.String())
		}
		return out
	case *event.Census:
		out := make([]Record, len(b.Rows))
		for i := range b.Rows {
			r := &b.Rows[i]
			out[i] = one()
			out[i].object("pod", r.Pod)
			out[i].set("service", r.Service)
			out[i].via(&r.Via)
			out[i].set("stalled", strconv.Itoa(r.Stalled))
		}
		return out
	case *event.NATFact:
		f.set("node", b.By.Node)
		f.set("client", b.NAT.Original.Src.String())
		f.set("peer", b.NAT.Reply.Dst.String())
		f.set("local", b.NAT.Reply.Src.String())
		f.set("why", b.Why)
	case *event.Table:
		f.set("node", b.Node)
	case *event.NodeFact:
		f.set("node", b.Node.Name)
		f.set("state", b.What)
	case *event.PodFact:
		f.set("ns", b.Pod.Namespace)
		f.set("pod", b.Pod.Name)
		f.set("workload", b.Pod.Workload)
		f.set("node", b.Pod.Node)
		f.set("state", b.What)
	case *event.ServiceFact:
		f.set("ns", b.Service.Namespace)
		f.set("service", b.Service.Namespace+"/"+b.Service.Name)
		f.set("state", b.What)
	case *event.Asked:
		f.set("node", b.Asked.Node)
		f.set("state", string(b.Asked.Answer))
	case *event.Lost:
		f.set("stage", b.Stage)
	case *event.Gap:
		f.set("node", strings.TrimPrefix(b.Peer, "agent/"))
	case *event.IncidentFinding:
		f.incident(&b.Incident)
	}
	return []Record{f}
}

func (f Record) socket(s *event.Socket) {
	f.set("local", s.Local.String())
	f.set("peer", s.Peer.String())
	f.set("comm", s.Owner.Comm)
	if k := s.K8s; k != nil {
		f.set("node", k.Node)
		f.set("ns", k.Namespace)
		f.set("pod", k.Pod)
		f.set("workload", k.Workload)
		f.set("service", k.Service)
	}
}

// object splits namespace/name.
func (f Record) object(field, name string) {
	ns, rest, ok := strings.Cut(name, "/")
	if !ok {
		ns, rest = "", name
	}
	f.set("ns", ns)
	f.set(field, rest)
}

func (f Record) via(v *event.Via) {
	if v == nil {
		return
	}
	f.set("role", string(v.Role))
	if v.Node != "" {
		f.set("via", v.Node)
	} else if v.IP.IsValid() {
		f.set("via", v.IP.String())
	}
}

func (f Record) progress(p *event.Progress) {
	f.set("state", p.State)
	f.set("retrans", strconv.Itoa(int(p.Retransmits)))
	f.set("probes", strconv.Itoa(int(p.ProbesOut)))
	f.set("rto", p.RTO.String())
}

func (f Record) incident(in *event.Incident) {
	f.set("rule", in.Rule)
	f.set("culprit", in.Culprit.Name)
	f.set("kind", string(in.Culprit.Kind))
	f.set("severity", string(in.Severity))
	f.set("confidence", strconv.FormatFloat(in.Confidence, 'f', 2, 64))
	f.set("stalled", strconv.Itoa(in.Sockets.Stalled))
	f.set("crossing", strconv.Itoa(in.Sockets.Crossing))
	f.set("why", in.Why)
	f.set("state", "open")
	if in.Closed.OK {
		f.set("state", "closed")
	}
	if in.Culprit.Kind == event.CulpritNode {
		f.set("via", in.Culprit.Name)
	}
	f.set("pod", hitNames(in.Pods))
	f.set("service", hitNames(in.Services))
}

func hitNames(hits []event.Hit) string {
	names := make([]string, len(hits))
	for i, h := range hits {
		names[i] = h.Name
	}
	return strings.Join(names, ", ")
}
