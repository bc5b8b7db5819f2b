package kernel

import (
	"log/slog"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// loss follows the counter of records that found no room in one ring.
type loss struct {
	ring  *bpf.Ring
	told  uint64
	since time.Time
}

// bulkStage is how the loss of NAT facts is told.
const bulkStage = "ring.bulk"

// tell returns an event where records were lost since the last look.
func (l *loss) tell(probes *bpf.Probes, now time.Time, log *slog.Logger) (event.Event, bool) {
	now = now.UTC()
	_, dropped, err := probes.Counts(l.ring)
	if err != nil {
		log.Warn("cannot count lost records", "error", err)
		return event.Event{}, false
	}
	since := l.since
	l.since = now
	if dropped == l.told {
		return event.Event{}, false
	}
	lost := &event.Lost{Stage: "ring." + l.ring.Name(), Count: dropped - l.told, Since: since}
	l.told = dropped
	return event.Event{Type: event.StreamLost, Time: now, Body: lost}, true
}
