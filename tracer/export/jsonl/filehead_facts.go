package jsonl

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// Rows of one restated line, which must stay below event.MaxLine; the census that wrote them has the same bounds. A line
// of traffic with fewer rows ends its look.
const (
	headRows    = 24
	headTraffic = 200
)

// Facts returns what begins the stream anew, stream.started first. Facts that are told as they were keep their time and
// number. Sockets are told as of the newest moment at which their machine was heard, with their ages moved there: a
// stream mentions a healthy socket only when it changes, so it is taken to be as it was. A socket in trouble is told as of
// the moment at which it was looked at: nothing is known of it since. No line makes a machine seem alive later than it
// was heard, but for the first: it is of the machine that was heard last and carries the stream's time, so that nothing is
// judged before all is told.
//
// Nil where no source has told who it is: such a stream cannot be begun.
func (h *Head) Facts() []event.Event {
	var out []event.Event
	order := slices.Clone(h.order)
	slices.SortStableFunc(order, func(a, b string) int { // whoever was heard last opens the stream
		return cmp.Compare(h.sources[b].opens(), h.sources[a].opens())
	})
	for _, name := range order {
		s := h.sources[name]
		if s.started == nil {
			continue
		}
		e := *s.started
		e.Time = time.Unix(0, s.heard).UTC()
		if len(out) == 0 {
			e.Time = time.Unix(0, h.clock).UTC()
		}
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil
	}
	if h.missed > 0 {
		out = append(out, event.Event{Type: event.StreamLost, Time: out[0].Time, Source: "file", Body: &event.Lost{
			Stage: "head", Count: h.missed, Since: out[0].Time,
		}})
	}
	out = h.tellObjects(out)
	rows := h.rowsBySource()
	for _, name := range order {
		s := h.sources[name]
		out = s.tellSockets(out, name, rows[name], h.shared)
		out = s.tellTraffic(out, name)
	}
	out = h.tellNAT(out)
	for _, name := range order {
		s := h.sources[name]
		out = append(out, s.synced...)
		if s.beat != nil && s.started != nil {
			out = append(out, *s.beat)
		}
	}
	return out
}

// opens ranks the sources that can open a stream by when they were heard; others come last.
func (s *said) opens() int64 {
	if s.started == nil {
		return 0
	}
	return s.heard
}

// tellObjects tells the inventory: what is gone is told and then removed.
func (h *Head) tellObjects(out []event.Event) []event.Event {
	removed := make(map[event.ID]bool)
	var gone []event.Event
	for _, k := range byBirth(h.objects, func(o *object) uint64 { return o.n }) {
		o := h.objects[k]
		out = append(out, o.last)
		if o.gone != nil && !removed[o.gone.ID] {
			removed[o.gone.ID] = true
			gone = append(gone, *o.gone)
		}
	}
	return append(out, gone...)
}

func (h *Head) rowsBySource() map[string][]*held {
	out := make(map[string][]*held)
	for _, k := range byBirth(h.sockets, func(x *held) uint64 { return x.n }) {
		out[k.source] = append(out[k.source], h.sockets[k])
	}
	return out
}

// rowWriter chunks rows of one time into lines.
type rowWriter struct {
	out    []event.Event
	source string
	pass   uint64
	at     int64
	shared []event.Limits
	body   *event.Sockets
	index  map[uint32]int
}

func (w *rowWriter) add(x *held, at int64) {
	if w.body != nil && (w.at != at || len(w.body.Rows) == headRows) {
		w.flush()
	}
	if w.body == nil {
		w.body, w.index, w.at = &event.Sockets{Pass: w.pass}, make(map[uint32]int), at
	}
	i, ok := w.index[x.limits]
	if !ok {
		i = -1 // unknown
		if x.limits != 0 {
			i = len(w.body.Limits)
			w.body.Limits = append(w.body.Limits, w.shared[x.limits])
		}
		w.index[x.limits] = i
	}
	r := x.row
	r.Change, r.Limits = event.SocketSeen, i
	r.Via, r.Socket.K8s = nil, nil // the fold fills in names as they are known now
	shift(&r.TCP, event.Seconds(at-x.at))
	w.body.Rows = append(w.body.Rows, r)
}

func (w *rowWriter) flush() {
	if w.body != nil {
		w.out = append(w.out, event.Event{Type: event.PathSockets, Time: time.Unix(0, w.at).UTC(), Source: w.source, Body: w.body})
		w.body = nil
	}
}

func (s *said) tellSockets(out []event.Event, name string, rows []*held, shared []event.Limits) []event.Event {
	w := rowWriter{out: out, source: name, pass: s.pass, shared: shared}
	for _, x := range rows {
		if !troubled(&x.row.TCP) {
			w.add(x, s.heard)
		}
	}
	for _, x := range rows {
		if troubled(&x.row.TCP) {
			w.add(x, x.at)
		}
	}
	w.flush()
	return w.out
}

// troubled says whether something that the socket sent is unanswered.
func troubled(p *event.Progress) bool { return p.Retransmits > 0 || p.ProbesOut > 0 }

// shift moves what the kernel knew of a socket to d later. A timer that should have fired by then is not known any more.
func shift(p *event.Progress, d event.Seconds) {
	for _, age := range []*event.Opt[event.Seconds]{&p.ReceivedAge, &p.SentAge, &p.StalledAge} {
		if age.OK {
			age.V += d
		}
	}
	if p.TimerIn.OK {
		if p.TimerIn.V -= d; p.TimerIn.V < 0 {
			p.TimerIn = event.Opt[event.Seconds]{}
		}
	}
}

// tellTraffic tells the newest look again: its shares and the newest receives, but no segments, which were counted before.
// It took as long as it is old, so that nothing later counts as looked at. A component that the look did not find any more
// is told for its newest receive.
func (s *said) tellTraffic(out []event.Event, name string) []event.Event {
	if s.look == 0 {
		return out
	}
	at, look := s.heard, s.look
	rows := make([]event.TrafficRow, 0, len(s.traffic))
	for _, m := range s.traffic {
		r := m.row
		r.Sent, r.Retransmitted, r.ReceivedAge = 0, 0, event.Opt[event.Seconds]{}
		if m.pass != s.pass {
			r.Sockets, r.Active = 0, 0
		}
		if m.received != 0 {
			r.ReceivedAge = event.Known(event.Seconds(max(0, at-m.received)))
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, compareTraffic)
	tell := func(part []event.TrafficRow, omitted int) {
		out = append(out, event.Event{Type: event.PathTraffic, Time: time.Unix(0, at).UTC(), Source: name, Body: &event.Traffic{
			Pass: s.pass, Span: event.Seconds(max(0, look-s.previous)), Took: event.Seconds(max(0, at-look)), Total: s.total,
			Rows: part, Omitted: omitted,
		}})
	}
	for len(rows) >= headTraffic {
		tell(rows[:headTraffic:headTraffic], 0)
		rows = rows[headTraffic:]
	}
	tell(rows, s.omitted)
	return out
}

func compareTraffic(a, b event.TrafficRow) int {
	for _, c := range []int{
		b.Sockets - a.Sockets, a.Peer.AddrPort().Compare(b.Peer.AddrPort()), a.Local.AddrPort().Compare(b.Local.AddrPort()),
		int(a.Netns) - int(b.Netns),
	} {
		if c != 0 {
			return c
		}
	}
	return 0
}

// tellNAT tells every translated connection as found, since it is not set up again.
func (h *Head) tellNAT(out []event.Event) []event.Event {
	for _, k := range byBirth(h.nat, func(x *translated) uint64 { return x.n }) {
		x := h.nat[k]
		b := x.b
		out = append(out, event.Event{Type: event.NATFound, Time: x.at, Source: k.source, Body: &b,
			Flow: flowOf(&b)})
	}
	return out
}

// flowOf names the connection by its original tuple, as the source of NAT facts does.
func flowOf(b *event.NATFact) string {
	if !b.NAT.Original.Src.IP.IsValid() || strings.TrimSpace(b.NAT.Proto) == "" {
		return ""
	}
	return event.FlowID(b.NAT.Original.Src, b.NAT.Original.Dst)
}
