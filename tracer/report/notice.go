package report

import (
	"fmt"
	"time"

	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// Notice says when sockets would learn that the node which they cross is gone, were it to go now. It is an answer to
// "what if", from limits alone; the deadlines of sockets in trouble are the model's.
type Notice struct {
	Sockets    int           // how many were asked; 0: nothing is known
	Never      int           // of these, idle ones that would never notice: no keepalive
	Idle       time.Duration // the earliest that an idle one notices; 0: none does
	IdleLast   time.Duration // the latest
	Write      time.Duration // the earliest that one notices which keeps writing
	WriteLast  time.Duration // the latest
	WriteExact bool          // by TCP_USER_TIMEOUT; else a lower bound, since the real RTO is not below the least one
}

// NoticeOf looks at some sockets' limits.
func NoticeOf(sockets []model.SocketView) Notice {
	n := Notice{WriteExact: true}
	for i := range sockets {
		l := &sockets[i].Limits
		if l.Retries2 == 0 && l.UserTimeout == 0 {
			continue // limits were not read
		}
		n.Sockets++
		write, exact := writeNotice(l)
		n.WriteExact = n.WriteExact && exact
		n.Write, n.WriteLast = spread(n.Write, n.WriteLast, write)
		idle := idleNotice(l)
		if idle == 0 {
			n.Never++
			continue
		}
		n.Idle, n.IdleLast = spread(n.Idle, n.IdleLast, idle)
	}
	return n
}

func spread(low, high, d time.Duration) (time.Duration, time.Duration) {
	if low == 0 || d < low {
		low = d
	}
	return low, max(high, d)
}

// idleNotice is how long after the last exchange an idle socket gives up; 0: never.
func idleNotice(l *event.Limits) time.Duration {
	from := time.Unix(0, 0)
	d := model.DeadlineOf(event.Progress{State: "established"}, *l, from, from)
	if d.At.IsZero() {
		return 0
	}
	return d.At.Sub(from)
}

// writeNotice is how long after the first unanswered segment a socket that writes gives up.
func writeNotice(l *event.Limits) (d time.Duration, exact bool) {
	from := time.Unix(0, 0)
	due := model.DeadlineOf(event.Progress{State: "established", Unacked: 1}, *l, from, from)
	// TCP_USER_TIMEOUT counts from the first retransmission, which comes an RTO later: not worth a word here.
	return due.At.Sub(from), l.UserTimeout > 0
}

// String says it in words, without a full stop: "idle ones notice after 150 s, writing ones after 15 min or more".
// Empty where nothing is known.
func (n Notice) String() string {
	if n.Sockets == 0 {
		return ""
	}
	var idle string
	switch {
	case n.Never == n.Sockets:
		idle = "idle ones never notice (no keepalive)"
	case n.Never > 0:
		idle = fmt.Sprintf("idle ones notice after %s, %s never (no keepalive)", between(n.Idle, n.IdleLast), Percent(n.Never, n.Sockets))
	default:
		idle = "idle ones notice after " + between(n.Idle, n.IdleLast)
	}
	write := between(n.Write, n.WriteLast)
	if !n.WriteExact {
		write = Spoken(n.Write) + " or more"
	}
	return idle + ", writing ones after " + write
}

func between(low, high time.Duration) string {
	a, b := Spoken(low), Spoken(high)
	if a == b {
		return a
	}
	return a + " to " + b
}
