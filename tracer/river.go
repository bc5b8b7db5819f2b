package tracer

import (
	"time"

	"github.com/midhop/midhop/tracer/diagnose"
	"github.com/midhop/midhop/tracer/event"
	"github.com/midhop/midhop/tracer/model"
)

// engineSource is the source of the Engine's own lines: clock lines, its losses, and all findings.
const engineSource = "engine"

// river is the Engine without its goroutines: facts and timer readings in, the written stream out.
//
// Its promise is that the written lines alone reproduce every judgement. Judgement happens at instants of a grid. A line
// of time t first lets every instant up to and including t be judged with the facts folded before it, and is then folded
// itself. A timer may judge instants that no line has reached; where that matters to the order of things, the river
// writes a clock line (a stream.heartbeat of its own) of that instant: before the findings of such an instant, and
// before a line whose time lies before such an instant.
type river struct {
	model *model.Model
	judge *diagnose.Judge
	tick  int64
	ids   *numbers

	clock   int64 // largest time of any written line
	passed  int64 // last instant of the grid that was judged, or known to find nothing
	unsaid  int64 // last instant that only the timer reached, 0 if the lines tell it
	started bool
	out     []event.Event
	extra   []int64 // instants beside the grid, in order; for tests
}

func newRiver(m *model.Model, j *diagnose.Judge, tick time.Duration, ids *numbers) *river {
	return &river{model: m, judge: j, tick: int64(tick), ids: ids}
}

// Times beyond these do not fit the nanoseconds that the fold counts in; no fact has them.
var (
	earliest = time.Unix(0, 0)
	latest   = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// fold takes a batch of facts and returns the lines to write. Anything but facts is left out: findings are computed.
func (r *river) fold(batch []event.Event) []event.Event {
	r.out = make([]event.Event, 0, len(batch)+4)
	for i := range batch {
		ev := &batch[i]
		switch {
		case !ev.Type.IsFact() || ev.Body == nil:
		case ev.Time.Before(earliest) || ev.Time.After(latest):
			r.model.Lose("fold.time", 1)
		default:
			r.line(ev)
		}
	}
	return r.out
}

// timer judges what is due at the reading now, and returns the lines to write.
func (r *river) timer(now int64) []event.Event {
	if !r.started {
		return nil
	}
	r.out = nil
	if at := r.advance(now, true); at > r.clock {
		r.unsaid = at
	}
	return r.out
}

// line folds one fact.
func (r *river) line(ev *event.Event) {
	t := ev.Time.UnixNano()
	if !r.started {
		r.started = true
		r.passed = floor(t, r.tick)
	}
	if t < r.unsaid {
		r.sayClock(r.unsaid)
	}
	r.advance(t, false)
	r.unsaid = 0
	r.write(ev)
}

// advance judges the instants up to and including to. By the timer, it returns the last instant that was judged, 0 if
// none was.
func (r *river) advance(to int64, byTimer bool) (last int64) {
	for {
		at := r.next()
		if at > to {
			break
		}
		findings := r.judge.At(time.Unix(0, at).UTC())
		r.passed, last = at, at
		if len(findings) > 0 && at > r.clock && byTimer {
			r.sayClock(at)
		}
		for i := range findings {
			f := &findings[i]
			f.Source = engineSource
			f.ID = r.ids.next(engineSource)
			r.model.Count(f.Type)
			r.out = append(r.out, *f)
		}
	}
	if !byTimer {
		r.passed = max(r.passed, floor(to, r.tick))
	}
	return last
}

// next returns the next instant at which a judgement may find something.
func (r *river) next() int64 {
	at := r.passed + 1
	if !r.judge.Stale() {
		due, ok := r.judge.Due()
		if !ok {
			return 1<<63 - 1
		}
		at = max(at, due.UnixNano())
	}
	at = ceil(at, r.tick)
	for _, x := range r.extra {
		if x > r.passed && x < at {
			return x
		}
	}
	return at
}

// sayClock writes that the timer has reached an instant.
func (r *river) sayClock(at int64) {
	r.unsaid = 0
	r.write(&event.Event{
		Type: event.StreamHeartbeat, Time: time.Unix(0, at).UTC(), Source: engineSource, Body: &event.Heartbeat{},
	})
}

// write numbers a fact that has no number, folds it, and appends it to the written lines.
func (r *river) write(ev *event.Event) {
	r.clock = max(r.clock, ev.Time.UnixNano())
	r.ids.fill(ev)
	r.model.Apply(ev)
	r.out = append(r.out, *ev)
}

// floor and ceil snap a time to the grid; the grid counts from 1970, so that every run has the same.
func floor(t, tick int64) int64 {
	m := t % tick
	if m < 0 {
		m += tick
	}
	return t - m
}

func ceil(t, tick int64) int64 {
	if f := floor(t, tick); f != t {
		return f + tick
	}
	return t
}

// numbers gives events that have none a source and a number of that source.
type numbers struct {
	local string
	boot  string
	n     map[string]*origin
}

type origin struct {
	name string
	n    uint64
}

func newNumbers(local, boot string) *numbers {
	return &numbers{local: local, boot: boot, n: make(map[string]*origin)}
}

func (n *numbers) fill(ev *event.Event) {
	if ev.Source == "" {
		ev.Source = n.local
	}
	if ev.ID.IsZero() {
		ev.ID = n.next(ev.Source)
	}
}

func (n *numbers) next(source string) event.ID {
	o := n.n[source]
	if o == nil {
		o = &origin{name: source + "-" + n.boot}
		n.n[source] = o
	}
	o.n++
	return event.ID{Origin: o.name, N: o.n}
}
