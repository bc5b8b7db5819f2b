package model

// history counts what happened in the last 15 minutes, by minute of fact time.
type history struct{ minutes [16]minute }

type minute struct {
	at        int64 // minutes since 1970
	ends      [numEnds]int
	recovered int
}

const nanosPerMinute = int64(60e9)

func (h *history) bucket(t int64) *minute {
	at := t / nanosPerMinute
	b := &h.minutes[at&15]
	if b.at != at {
		*b = minute{at: at}
	}
	return b
}

func (h *history) add(k EndKind, t int64) { h.bucket(t).ends[k]++ }

func (h *history) recovered(t int64) { h.bucket(t).recovered++ }

// sum returns the counts of the 15 minutes before now.
func (h *history) sum(now int64) (ends [numEnds]int, recovered int) {
	from := now/nanosPerMinute - 15
	for i := range h.minutes {
		b := &h.minutes[i]
		if b.at < from {
			continue
		}
		for k, n := range b.ends {
			ends[k] += n
		}
		recovered += b.recovered
	}
	return ends, recovered
}

// keptEnded is how many ended sockets readers may still look at.
const keptEnded = 256

// remember keeps a view of a socket that has just ended.
func (m *Model) remember(id uint32, k EndKind) {
	v := m.view(id, nil)
	switch k {
	case EndTimedOut:
		v.Status = StatusTimedOut
	case EndReset:
		v.Status = StatusReset
	default:
		v.Status = StatusClosed
	}
	if len(m.recent) < keptEnded {
		m.recent = append(m.recent, v)
		return
	}
	m.recent[m.ring] = v
	m.ring = (m.ring + 1) % keptEnded
}

// The words of the status column.
const (
	StatusOK       = "ok"
	StatusAtRisk   = "at-risk"
	StatusStalled  = "STALLED"
	StatusPresumed = "presumed"
	StatusTimedOut = "timed-out"
	StatusReset    = "reset"
	StatusClosed   = "closed"
	StatusDead     = "dead"
	StatusUnknown  = "unknown"
)
