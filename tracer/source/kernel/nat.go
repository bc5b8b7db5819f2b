package kernel

import (
	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// conntrackStates are the names of enum tcp_conntrack, by their number; the first is "none".
var conntrackStates = [...]string{
	"", "syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close", "syn_sent2",
}

// nat turns a translated connection that came or went into a fact. It waits for no census: the probes tell only the
// namespace that they were loaded for.
func (s *Source) nat(r *bpf.NATRecord) (told, error) {
	at, err := s.clock.Time(r.Header.KTime)
	if err != nil {
		return told{}, err
	}
	fact := &event.NATFact{
		NAT: event.NAT{
			Proto:    "tcp",
			Original: tuple(&r.Original),
			Reply:    tuple(&r.Reply),
			Kinds:    kinds(r.Status),
			Zone:     r.Zone,
			Mark:     r.Mark,
			Netns:    r.Netns,
		},
		By:   event.By{Node: s.o.Node},
		Rung: s.o.NATRung,
	}
	if int(r.TCPState) < len(conntrackStates) {
		fact.State = conntrackStates[r.TCPState]
	}
	e := event.Event{
		Type: event.NATCreated,
		Time: at,
		Flow: event.FlowID(fact.NAT.Original.Src, fact.NAT.Original.Dst),
		Body: fact,
	}
	if r.Header.Kind == bpf.KindNATDestroyed {
		e.Type = event.NATDestroyed
		fact.Why = why(r)
	}
	return told{event: e, anywhere: true}, nil
}

// why says what ended an entry, as far as it can be known here: its namespace went, somebody deleted it through netlink,
// its ends closed it, or its time was over. The kernel deletes entries before their time for several reasons that look the same.
func why(r *bpf.NATRecord) string {
	switch {
	case r.NetnsGone != 0:
		return "netns"
	case r.PortID != 0:
		return "flushed"
	case r.TCPState == bpf.ConntrackLastAck || r.TCPState == bpf.ConntrackTimeWait || r.TCPState == bpf.ConntrackClose:
		return "closed"
	case r.LeftMS <= 0:
		return "timeout"
	}
	return "unknown"
}

func kinds(status uint32) []string {
	var k []string
	if status&bpf.StatusSourceNAT != 0 {
		k = append(k, "snat")
	}
	if status&bpf.StatusDestNAT != 0 {
		k = append(k, "dnat")
	}
	return k
}

func tuple(t *bpf.NATTuple) event.Tuple {
	src, dst := t.SrcAddr(), t.DstAddr()
	return event.Tuple{
		Src: event.Endpoint{IP: src.Addr(), Port: src.Port()},
		Dst: event.Endpoint{IP: dst.Addr(), Port: dst.Port()},
	}
}
