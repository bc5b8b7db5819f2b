package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// guard notices what befalls the streams beneath a running hub. No agent and no reader can do it; an operator, or a mistake of a
// cluster's configuration, can, and a fold that waits at the end of a stream that is there no more sees nothing of it.
type guard struct {
	mu      sync.Mutex
	streams map[string]*guarded
	cut     *CutOffError // of the stream of facts
}

// guarded is what was known of one stream at the last look.
type guarded struct {
	created time.Time
	last    uint64
	deleted int
	marks   []mark // oldest first
	trouble string // empty: none
	until   time.Time
	breaks  uint64
}

// mark is when a message of a stream was stored.
type mark struct {
	seq uint64
	at  time.Time
}

const (
	guardEvery = time.Second
	// troubleFor is how long a stream that was made anew, or lost messages, is told of as such: longer than between two looks of
	// whoever watches.
	troubleFor = time.Minute
	// maxMarks bounds what is kept of one stream: one a second of two hours.
	maxMarks = 7200
	// early is how much sooner than at a stream's age the server may remove a message.
	early = 10 * time.Second
)

// watchStreams looks at the streams until ctx ends, and makes those anew that are gone, so that agents have somewhere to tell.
func (h *Hub) watchStreams(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		gone := false
		for _, name := range []string{StreamFacts, StreamLedger, StreamIncidents} {
			try, cancel := context.WithTimeout(ctx, streamTry)
			s, err := h.js.Stream(try, name)
			cancel()
			switch {
			case err == nil:
				h.guard.look(h, name, s.CachedInfo(), time.Now())
			case errors.Is(err, jetstream.ErrStreamNotFound):
				gone = true
				h.guard.broken(h, name, "is gone", time.Now())
			}
		}
		if gone {
			try, cancel := context.WithTimeout(ctx, streamTry)
			if err := ensureStreams(try, h.js, h.opts.Limits); err != nil && ctx.Err() == nil {
				h.log.Warn("a stream that is gone cannot be made anew", "error", err)
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look compares a stream with what it was.
func (g *guard) look(h *Hub, name string, i *jetstream.StreamInfo, now time.Time) {
	if what := g.compare(name, i, now); what != "" {
		g.broken(h, name, what, now)
	}
}

// compare says what befell a stream since the last look, empty where nothing did.
func (g *guard) compare(name string, i *jetstream.StreamInfo, now time.Time) (what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streams == nil {
		g.streams = make(map[string]*guarded)
	}
	s := g.streams[name]
	first := s == nil || s.created.IsZero()
	if s == nil {
		s = &guarded{}
		g.streams[name] = s
	}
	switch {
	case first:
	case !i.Created.Equal(s.created):
		what, s.marks = "was made anew", nil
	case i.State.LastSeq < s.last:
		what, s.marks = "was made shorter", nil
	case i.State.NumDeleted > s.deleted:
		what = "has lost messages from its middle"
	case s.purged(i, now):
		what = "has lost messages before their time"
	}
	s.created, s.last, s.deleted = i.Created, i.State.LastSeq, i.State.NumDeleted
	if n := len(s.marks); i.State.Msgs > 0 && (n == 0 || s.marks[n-1].seq < i.State.LastSeq) {
		s.marks = append(s.marks, mark{i.State.LastSeq, i.State.LastTime})
	}
	// Those before the stream's first message have no use any more; the last of them tells when the first was stored at the soonest.
	for len(s.marks) > 1 && s.marks[1].seq < i.State.FirstSeq || len(s.marks) > maxMarks {
		s.marks = s.marks[1:]
	}
	return what
}

// purged says whether messages went that neither the stream's age nor its size let go.
func (s *guarded) purged(i *jetstream.StreamInfo, now time.Time) bool {
	if i.State.FirstSeq == 0 || i.Config.MaxBytes > 0 && i.State.Bytes*100 >= uint64(i.Config.MaxBytes)*nearly {
		return false
	}
	gone := i.State.FirstSeq - 1
	at, ok := slices.BinarySearchFunc(s.marks, gone, func(m mark, seq uint64) int { return int(int64(m.seq - seq)) })
	if !ok {
		at--
	}
	return at >= 0 && s.marks[at].seq <= gone && now.Sub(s.marks[at].at) < i.Config.MaxAge-early
}

// broken notes that something befell a stream, and tells it once.
func (g *guard) broken(h *Hub, name, what string, now time.Time) {
	g.mu.Lock()
	if g.streams == nil {
		g.streams = make(map[string]*guarded)
	}
	s := g.streams[name]
	if s == nil {
		s = &guarded{}
		g.streams[name] = s
	}
	known := s.trouble == what && now.Before(s.until) && what == "is gone"
	s.trouble, s.until = what, now.Add(troubleFor)
	if !known {
		s.breaks++
	}
	g.mu.Unlock()
	if known {
		return
	}
	h.log.Error("a stream "+what+" beneath this hub", "stream", name,
		"effect", "what it held is not known to a hub that starts, nor to readers; this hub goes on with what it has folded",
		"remedy", "find out who may write to JetStream's API in the account of the streams: only hubs should")
}

// cutOff notes that the stream of facts cannot be read, or, with nil, that it can again.
func (g *guard) cutOff(e *CutOffError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut = e
}

// Trouble says what is wrong with the streams, nil where nothing is. It is for whoever asks whether a hub is ready: what befell a
// stream is told for a minute. It may be called at any time.
func (h *Hub) Trouble() error {
	g := &h.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	now := time.Now()
	for name, s := range g.streams {
		if now.Before(s.until) {
			all = append(all, fmt.Sprintf("the stream %s %s", name, s.trouble))
		}
	}
	if g.cut != nil {
		all = append(all, fmt.Sprintf("the stream %s cannot be read since %s: %v", StreamFacts, g.cut.Heard.UTC().Format(time.RFC3339), g.cut.Err))
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return errors.New(strings.Join(all, "; "))
}

// Breaks counts what befell each stream beneath this hub, by facts, ledger and incidents.
func (h *Hub) Breaks() map[string]uint64 {
	g := &h.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]uint64)
	for short, name := range map[string]string{"facts": StreamFacts, "ledger": StreamLedger, "incidents": StreamIncidents} {
		if s := g.streams[name]; s != nil {
			out[short] = s.breaks
		}
	}
	return out
}
