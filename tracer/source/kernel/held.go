package kernel

// maxHeld is how many events wait for their namespace to be known; more of them push the oldest out.
const maxHeld = 4096

// held keeps events of unknown namespaces until a census that began after them is complete. A new namespace becomes known
// by the first census that meets a socket of it, which may well be later than its first event.
type held struct {
	spaces Namespaces
	queue  []waiting
	over   int // pushed out since the last release
}

type waiting struct {
	told
	until uint64 // passes
}

// keeps says whether the event has to wait.
func (h *held) keeps(t *told) bool {
	if h.spaces == nil || t.anywhere || h.spaces.Known(t.netns) {
		return false
	}
	if len(h.queue) == maxHeld {
		h.queue = append(h.queue[:0], h.queue[1:]...)
		h.over++
	}
	// the pass under way began before the event, so the one after it decides
	h.queue = append(h.queue, waiting{*t, h.spaces.Passes() + 2})
	return true
}

// release returns the events whose namespace has become known, in their order, and how many were given up.
func (h *held) release() (out []told, dropped int) {
	dropped, h.over = h.over, 0
	if len(h.queue) == 0 {
		return nil, dropped
	}
	passes := h.spaces.Passes()
	still := h.queue[:0]
	for _, w := range h.queue {
		switch {
		case h.spaces.Known(w.netns):
			out = append(out, w.told)
		case passes >= w.until:
			dropped++
		default:
			still = append(still, w)
		}
	}
	clear(h.queue[len(still):])
	h.queue = still
	return out, dropped
}
