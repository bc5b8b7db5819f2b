package fleet

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// skips tells of messages in a stream that were passed over, since they cannot be read or are somebody else's: each kind at once
// with its sequence, and then, as long as more come, how many. What stands in a stream stops nobody who reads it.
type skips struct {
	log   *slog.Logger // nil: silent
	count atomic.Uint64

	told map[string]time.Time // by stream, subject and reason
}

// maxTold bounds what is remembered to have been told.
const maxTold = 1000

// by takes note of one message. It is not for several goroutines at a time.
func (p *skips) by(stream string, m *message, why error) {
	n := p.count.Add(1)
	if p.log == nil {
		return
	}
	kind, now := stream+" "+m.subject+" "+why.Error(), time.Now()
	if now.Sub(p.told[kind]) < tellEvery {
		return
	}
	if p.told == nil || len(p.told) >= maxTold {
		p.told = make(map[string]time.Time)
	}
	p.told[kind] = now
	p.log.Warn("a message in a stream was passed over", "stream", stream, "sequence", m.seq, "subject", m.subject, "why", why, "so_far", n)
}
