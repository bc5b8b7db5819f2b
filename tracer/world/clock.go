package world

import "time"

// instant is virtual time in nanoseconds since the world began to be watched; it is negative before that.
type instant = int64

// event kinds of the queue.
const (
	doArrive = iota // a packet reaches an end
	doXmit          // a socket's retransmission, tail loss or window probe timer
	doKeep          // a socket's keepalive timer
	doTalk          // an application sends
	doCall          // anything seldom
)

// due is one thing that will happen.
type due struct {
	at   instant
	n    uint64 // of two at one moment, the one that was planned first
	kind uint8
	end  *end
	pack *packet
	call func()
}

func (d *due) before(o *due) bool { return d.at < o.at || d.at == o.at && d.n < o.n }

// queue is a heap of what will happen, the next first.
type queue struct {
	heap []due
	n    uint64
}

func (q *queue) push(d due) {
	q.n++
	d.n = q.n
	h := append(q.heap, d)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !d.before(&h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = d
	q.heap = h
}

func (q *queue) pop() due {
	h := q.heap
	top := h[0]
	last := h[len(h)-1]
	h[len(h)-1] = due{}
	h = h[:len(h)-1]
	q.heap = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= len(h) {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, len(h)); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return top
}

// after plans a call; d may be zero: then it comes after all that is planned for now.
func (w *World) after(d time.Duration, f func()) {
	w.queue.push(due{at: w.now + int64(d), kind: doCall, call: f})
}

func (w *World) at(at instant, f func()) { w.queue.push(due{at: at, kind: doCall, call: f}) }
