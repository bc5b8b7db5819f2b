package sockets

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// states are the names of the kernel's TCP states (net/tcp_states.h), by their number.
var states = [...]string{
	bpf.StateEstablished: "established",
	bpf.StateSynSent:     "syn_sent",
	bpf.StateSynRecv:     "syn_recv",
	bpf.StateFinWait1:    "fin_wait1",
	bpf.StateFinWait2:    "fin_wait2",
	bpf.StateTimeWait:    "time_wait",
	bpf.StateClose:       "close",
	bpf.StateCloseWait:   "close_wait",
	bpf.StateLastAck:     "last_ack",
	bpf.StateListen:      "listen",
	bpf.StateClosing:     "closing",
	bpf.StateNewSynRecv:  "syn_recv",
}

// State names a TCP state.
func State(state uint8) string {
	if int(state) < len(states) && states[state] != "" {
		return states[state]
	}
	return "unknown"
}

// timers are the event's names of the probes' timers, by their number.
var timers = [...]event.Timer{
	bpf.TimerRetransmit: event.TimerRetransmit,
	bpf.TimerTailLoss:   event.TimerTailLoss,
	bpf.TimerReorder:    event.TimerReorder,
	bpf.TimerProbe0:     event.TimerProbe0,
	bpf.TimerKeepalive:  event.TimerKeepalive,
}

// Identity tells who a socket is; its owner is left out.
func Identity(s *bpf.Sock) event.Socket {
	return event.Socket{
		Cookie: s.Cookie,
		Netns:  s.Netns,
		Local:  endpoint(s.LocalAddr()),
		Peer:   endpoint(s.PeerAddr()),
		Family: family(s.Family),
	}
}

// Progress tells how a socket stands with its peer at the moment of its record.
func Progress(s *bpf.Sock) event.Progress {
	timer := event.TimerNone
	if int(s.Timer) < len(timers) {
		timer = timers[s.Timer]
	}
	p := event.Progress{
		State:       State(s.State),
		Retransmits: s.Retransmits,
		Backoff:     s.Backoff,
		ProbesOut:   s.ProbesOut,
		RTO:         millis(s.RTOMS),
		Unacked:     s.Unacked,
		Unsent:      s.Unsent,
		Timer:       timer,
		ReceivedAge: age(s.ReceivedMS),
		SentAge:     age(s.SentMS),
		StalledAge:  age(s.RetransMS),
		Orphan:      s.Flags&bpf.FlagOrphan != 0,
	}
	if s.SRTTUS != 0 {
		p.SRTT = event.Known(event.Seconds(s.SRTTUS) * event.Seconds(time.Microsecond))
	}
	if s.State != bpf.StateListen {
		p.SendWindow = event.Known(s.SndWnd)
	}
	if p.Timer != event.TimerNone {
		p.TimerIn = event.Known(event.Seconds(s.TimerMS) * event.Seconds(time.Millisecond))
	}
	return p
}

// LimitsOf tells when the kernel would give a socket up.
func LimitsOf(s *bpf.Sock) event.Limits {
	return event.Limits{
		Keepalive:         s.Flags&bpf.FlagKeepalive != 0,
		KeepaliveTime:     millis(s.KeepaliveTimeMS),
		KeepaliveInterval: millis(s.KeepaliveIntvlMS),
		KeepaliveProbes:   s.KeepaliveProbes,
		UserTimeout:       millis(s.UserTimeoutMS),
		Retries2:          s.Retries2,
		SynRetries:        s.SynRetries,
		OrphanRetries:     s.OrphanRetries,
		RTOMin:            age(s.RTOMinMS),
		RTOMax:            age(s.RTOMaxMS),
	}
}

func family(f uint16) event.Family {
	if f == bpf.FamilyIPv6 {
		return event.IPv6
	}
	return event.IPv4
}

func endpoint(a netip.AddrPort) event.Endpoint {
	return event.Endpoint{IP: a.Addr(), Port: a.Port()}
}

func millis(ms uint32) event.Seconds {
	return event.Seconds(ms) * event.Seconds(time.Millisecond)
}

func age(ms uint32) event.Opt[event.Seconds] {
	if ms == bpf.Unknown {
		return event.Opt[event.Seconds]{}
	}
	return event.Known(millis(ms))
}

// shift moves progress to a later moment at which nothing had changed: ages grow, what is to come gets nearer.
func shift(p *event.Progress, later time.Duration) {
	for _, age := range []*event.Opt[event.Seconds]{&p.ReceivedAge, &p.SentAge, &p.StalledAge} {
		if age.OK {
			age.V += event.Seconds(later)
		}
	}
	if p.TimerIn.OK {
		p.TimerIn.V -= event.Seconds(later)
	}
}

func commString(comm [16]byte) string {
	if i := bytes.IndexByte(comm[:], 0); i >= 0 {
		return string(comm[:i])
	}
	return string(comm[:])
}
