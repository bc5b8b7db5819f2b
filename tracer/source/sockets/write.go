package sockets

import (
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// Rows of one line, which must stay below event.MaxLine. A row of sockets has at most about 2,300 bytes when names and
// via are filled in (a pod's and a node's name may have 253 each), a row of traffic 300.
const (
	rowsPerLine    = 24
	trafficPerLine = 200
)

// writer turns what one look finds into lines, and hands each on when it is full. After an error it only counts.
type writer struct {
	source *Source
	emit   func([]event.Event)
	rows   []event.SocketRow
	taken  []uint64 // probes' time of each row
	limits []event.Limits
	index  map[settings]int // of the line's limits
	err    error
}

// row tells a socket that was seen first or changed.
func (w *writer) row(r *bpf.SocketRow, found seen) {
	who := Identity(&r.Sock)
	if found.sign.trouble() {
		w.source.Suspect(who.Peer.IP)
	}
	w.add(found.known, event.SocketRow{Change: found.change, Socket: who, TCP: Progress(&r.Sock)}, r.Header.KTime)
}

// gone tells a socket that is no longer there, as it was when it was seen last.
func (w *writer) gone(k *known) {
	t := w.source.table
	h := t.holders.At(k.holder)
	row := event.SocketRow{
		Change: event.SocketGone,
		Socket: event.Socket{
			Cookie: k.id.cookie(),
			Netns:  h.netns,
			Local:  event.Endpoint{IP: t.localAddr(k), Port: k.localPort},
			Peer:   event.Endpoint{IP: t.peerAddr(k), Port: k.peerPort},
			Family: family(h.family),
		},
		TCP: event.Progress{
			State:       State(k.sign.state),
			Retransmits: k.sign.retransmits,
			Backoff:     k.sign.backoff,
			ProbesOut:   k.sign.probesOut,
			RTO:         millis(k.rtoMS.n()),
			Unacked:     k.unacked.n(),
		},
	}
	taken := k.receivedAt
	if taken != 0 {
		row.TCP.ReceivedAge = event.Known(event.Seconds(0)) // then; flush makes it an age
	}
	w.add(k, row, taken)
}

func (w *writer) add(k *known, row event.SocketRow, taken uint64) {
	t := w.source.table
	row.Role = k.role()
	h := t.holders.At(k.holder)
	row.Socket.Owner = event.Owner{PID: int32(h.pid), Comm: t.comm(h.comm), PodUID: w.source.cgroups.pod(h, t.pass)}
	i, ok := w.index[h.settings]
	if h.settings == (settings{}) {
		i, ok = event.NoLimits, true
	}
	if !ok {
		i = len(w.limits)
		w.limits = append(w.limits, h.settings.limits())
		if w.index == nil {
			w.index = make(map[settings]int)
		}
		w.index[h.settings] = i
	}
	row.Limits = i
	w.rows = append(w.rows, row)
	w.taken = append(w.taken, taken)
	if len(w.rows) == rowsPerLine {
		w.flush()
	}
}

// flush hands the rows on. All ages of a line count from the line's time, so rows that were read earlier are shifted.
func (w *writer) flush() {
	if len(w.rows) == 0 {
		return
	}
	now, err := w.source.clock.Now()
	if err != nil {
		w.err = err
		return
	}
	for i := range w.rows {
		if w.taken[i] != 0 && w.taken[i] < now {
			shift(&w.rows[i].TCP, time.Duration(now-w.taken[i]))
		}
	}
	w.tellAt(now, event.PathSockets, &event.Sockets{Pass: uint64(w.source.table.pass), Limits: w.limits, Rows: w.rows})
	w.rows, w.taken, w.limits = nil, w.taken[:0], nil
	clear(w.index)
}

// traffic tells what moved since the last look, if it is time to.
func (w *writer) traffic(cost time.Duration) {
	t := w.source.traffic
	now, err := w.source.clock.Now()
	if err != nil {
		w.err = err
		return
	}
	rows, omitted, span := t.take(now)
	var repairs []event.Repair
	if len(rows) > 0 {
		repairs = w.source.repairs()
	}
	for len(rows) > 0 {
		n := min(len(rows), trafficPerLine)
		body := &event.Traffic{
			Pass:  uint64(w.source.table.pass),
			Span:  event.Seconds(span),
			Took:  event.Seconds(cost),
			Total: w.source.table.len(),
			Rows:  rows[:n:n],
		}
		if rows = rows[n:]; len(rows) == 0 {
			body.Omitted, body.Repairs = omitted, repairs
		}
		w.tellAt(now, event.PathTraffic, body)
	}
}

// tell hands on a line about this moment.
func (w *writer) tell(t event.Type, body event.Body) {
	now, err := w.source.clock.Now()
	if err != nil {
		w.err = err
		return
	}
	w.tellAt(now, t, body)
}

func (w *writer) tellAt(ktime uint64, t event.Type, body event.Body) {
	at, err := w.source.clock.Time(ktime)
	if err != nil {
		w.err = err
		return
	}
	w.emit([]event.Event{{Type: t, Time: at, Body: body}})
}
