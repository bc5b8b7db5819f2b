package kernel

import (
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/source/sockets"
)

// converter turns the records of one ring into events.
type converter struct {
	source *Source
	zero   time.Time       // the time of day at which the probes' clock showed 0
	facts  []event.TCPFact // room for the next ones
	limits *event.Limits   // of the record before: most sockets have the same, and share them
}

// factsAtOnce is how many facts are made in one piece: it saves most of the allocator's work in a storm, and one fact that
// somebody keeps does not keep much else.
const factsAtOnce = 16

// set compares the clocks. Once for each batch is enough, and no call into the kernel for each record.
func (c *converter) set() (err error) {
	c.zero, err = c.source.clock.Time(0)
	return err
}

// convert turns one record into an event.
func (c *converter) convert(raw []byte) (told, error) {
	kind, err := bpf.KindOf(raw)
	if err != nil {
		return told{}, err
	}
	switch kind {
	case bpf.KindRetransmit, bpf.KindProbe, bpf.KindResetReceived, bpf.KindError, bpf.KindClosed, bpf.KindResetSent:
		var r bpf.TCPRecord
		if err := bpf.Decode(raw, &r); err != nil {
			return told{}, err
		}
		return c.tcp(&r), nil
	case bpf.KindNATCreated, bpf.KindNATDestroyed:
		var r bpf.NATRecord
		if err := bpf.Decode(raw, &r); err != nil {
			return told{}, err
		}
		return c.source.nat(&r)
	}
	return told{}, fmt.Errorf("record of unknown kind %d", kind)
}

// tcp turns what a hook saw of a socket into a fact.
func (c *converter) tcp(r *bpf.TCPRecord) told {
	if len(c.facts) == 0 {
		c.facts = make([]event.TCPFact, factsAtOnce)
	}
	fact := &c.facts[0]
	c.facts = c.facts[1:]
	fact.Socket, fact.TCP = sockets.Identity(&r.Sock), sockets.Progress(&r.Sock)
	if limits := sockets.LimitsOf(&r.Sock); c.limits == nil || *c.limits != limits {
		c.limits = &limits
	}
	fact.Limits = c.limits
	e := event.Event{Time: c.zero.Add(time.Duration(r.Header.KTime)), Flow: event.FlowID(fact.Socket.Local, fact.Socket.Peer), Body: fact}
	suspicious := true
	switch r.Header.Kind {
	case bpf.KindRetransmit:
		e.Type = event.TCPRetransmit
		fact.TCP.Kind = retransmission(&r.Sock)
		suspicious = r.Sock.Retransmits > 0
	case bpf.KindProbe:
		e.Type = event.TCPProbe
		fact.TCP.Kind = probe(&r.Sock)
		suspicious = r.Sock.ProbesOut > 0
	case bpf.KindResetReceived:
		e.Type = event.TCPReset
		fact.Reset = &event.Reset{By: "peer"}
	case bpf.KindResetSent:
		e.Type = event.TCPReset
		fact.Reset = &event.Reset{By: "nobody's"}
		fact.Limits = nil
	case bpf.KindError:
		e.Type = event.TCPError
		fact.Errno = errno(r.Err)
	case bpf.KindClosed:
		e.Type = event.TCPClosed
		fact.How = how(r)
	}
	t := told{event: e, netns: r.Sock.Netns, selfTest: r.Sock.OfSelfTest()}
	if suspicious {
		t.suspect = fact.Socket.Peer.IP
	}
	return t
}

// retransmission says what made the kernel send a segment again: of an established connection's only those are told for
// which the timer had to run out (tcp_retransmit_timer counts before it sends).
func retransmission(s *bpf.Sock) string {
	if s.State == bpf.StateSynSent {
		return "syn"
	}
	return "rto"
}

// probe says what a probe asks for. Keepalive probes are sent only while nothing is queued or unacknowledged
// (tcp_keepalive_timer), window probes only while something is queued (tcp_probe_timer).
func probe(s *bpf.Sock) string {
	if s.Unsent > 0 {
		return "window"
	}
	return "keepalive"
}

// how says what ended a connection. At the hook sk_err tells why it was aborted, and the state before tells whether both
// sides had said goodbye.
func how(r *bpf.TCPRecord) string {
	switch unix.Errno(r.Err) {
	case 0:
	case unix.ECONNRESET, unix.EPIPE, unix.ECONNREFUSED:
		return "rst"
	default:
		return "abort"
	}
	switch r.OldState {
	case bpf.StateLastAck, bpf.StateClosing, bpf.StateFinWait2, bpf.StateTimeWait:
		return "fin"
	}
	return "app" // tcp_close with data unread or linger 0, tcp_disconnect
}

// errno names an error number, such as ETIMEDOUT; a number without a name is told as it is.
func errno(n int32) string {
	if name := unix.ErrnoName(unix.Errno(n)); name != "" {
		return name
	}
	return strconv.Itoa(int(n))
}
