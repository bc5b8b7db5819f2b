package fleet

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Reach says how far back a stream goes.
type Reach struct {
	Span  time.Duration // from its first message until now, 0 where it has none
	Bytes uint64
	Limit uint64 // of its bytes
	Cut   bool   // the limit on its bytes, and not its age, ends it
}

// reaches are the newest looks, by stream: facts, ledger.
type reaches struct {
	mu sync.Mutex
	by map[string]Reach
}

func (r *reaches) get() map[string]Reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.by)
}

// reachEvery is the time between two looks at how far back the streams go.
const reachEvery = 15 * time.Second

// watchReach looks how far back the streams go until ctx ends, and says where the limit on a stream's size, and not its age,
// ends it: a hub that does not say so is believed to know two hours.
func (h *Hub) watchReach(ctx context.Context) {
	tick := time.NewTicker(reachEvery)
	defer tick.Stop()
	said := make(map[string]bool)
	for {
		for name, stream := range map[string]string{"facts": StreamFacts, "ledger": StreamLedger} {
			r, ok := h.reach(ctx, stream)
			if !ok {
				continue // the stream is away: the last word stands
			}
			h.reaches.mu.Lock()
			if h.reaches.by == nil {
				h.reaches.by = make(map[string]Reach)
			}
			h.reaches.by[name] = r
			h.reaches.mu.Unlock()
			if r.Cut && !said[name] {
				h.warnCut(name, r)
			}
			said[name] = r.Cut
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *Hub) reach(ctx context.Context, stream string) (Reach, bool) {
	ctx, cancel := context.WithTimeout(ctx, streamTry)
	defer cancel()
	s, err := h.js.Stream(ctx, stream)
	if err != nil {
		return Reach{}, false
	}
	return reachOf(s.CachedInfo(), time.Now()), true
}

// nearly is the part of a limit, in percent, at which it is taken for reached: what is over it goes by whole messages.
const nearly = 90

func reachOf(i *jetstream.StreamInfo, now time.Time) Reach {
	r := Reach{Bytes: i.State.Bytes, Limit: uint64(max(0, i.Config.MaxBytes))}
	if i.State.Msgs == 0 {
		return r
	}
	r.Span = max(0, now.Sub(i.State.FirstTime))
	r.Cut = i.State.FirstSeq > 1 && r.Limit > 0 && r.Bytes*100 >= r.Limit*nearly && r.Span*100 < i.Config.MaxAge*nearly
	return r
}

// warnCut says what a stream's limit costs, and which one would do.
func (h *Hub) warnCut(name string, r Reach) {
	age := h.opts.Limits.orDefaults().Age
	effect := "what is older is not known to a hub that starts, nor to whoever asks for it"
	if name == "ledger" && r.Span < warmUp {
		effect = fmt.Sprintf("the clients of a dead node's older connections are not found: that takes two checkpoints, %s", warmUp)
	}
	need := float64(r.Limit) * age.Seconds() / max(r.Span.Seconds(), 1)
	h.log.Warn("a stream is cut short by the limit on its size", "stream", name, "reaches_back", r.Span.Round(time.Second), "wanted", age,
		"effect", effect, "remedy", fmt.Sprintf("--max-size %s, and a disk for twice that", sizeFor(need)))
}

// sizeFor writes a number of bytes as --max-size takes it, rounded up.
func sizeFor(bytes float64) string {
	if bytes <= 1<<30 {
		return fmt.Sprintf("%dM", int64(bytes/(1<<20))+1)
	}
	return fmt.Sprintf("%dG", int64(bytes/(1<<30))+1)
}
