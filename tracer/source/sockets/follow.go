package sockets

import (
	"context"
	"time"

	"github.com/midhop/midhop/bpf"
	"github.com/midhop/midhop/tracer/event"
)

// followPause is the shortest rest between two looks at the sockets in trouble.
const followPause = 250 * time.Millisecond

// follower walks the sockets that a hook has marked as in trouble, and also those that no process holds any more.
// [bpf.Probes] is one; sock_diag is none.
type follower interface {
	Troubled(ctx context.Context, socket func(*bpf.SocketRow)) error
}

// following says whether there is anything to follow: suspicion, or a socket that was in trouble at the last look.
func (s *Source) following() bool {
	if s.follower == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.followed > 0 || time.Now().Before(s.alert)
}

// follow looks at the sockets in trouble only: how they get on is told sooner than by looking at all, and what a process
// has closed while it was stalled is followed to its end.
func (s *Source) follow(ctx context.Context, w *writer) error {
	if s.follower == nil {
		return nil
	}
	before := threadTime()
	s.table.beginFollow()
	followed := 0
	err := s.follower.Troubled(ctx, func(r *bpf.SocketRow) {
		if !s.spaces.Known(r.Sock.Netns) && !s.table.has(r) {
			return // of processes that this census does not see
		}
		s.spaces.keep(r.Sock.Netns) // an orphan may be the last of its namespace
		followed++
		if found, ok := s.table.revisit(r, w.gone); ok && found.change != "" {
			w.row(r, found)
		}
	})
	if err != nil {
		return err
	}
	s.table.endFollow(w.gone)
	s.mu.Lock()
	s.followed = followed
	s.mu.Unlock()
	s.followRest = max(followPause, time.Duration(float64(threadTime()-before)/alertBudget))
	return nil
}

// has says whether a look has met the socket.
func (t *table) has(r *bpf.SocketRow) bool {
	return t.index.Get(t.keyOf(r)) != 0 || t.index.Get(t.tupleKey(&r.Sock, noCookie)) != 0
}

// beginFollow starts a look at the sockets in trouble.
func (t *table) beginFollow() { t.follows++ }

// revisit takes in a row of a socket in trouble, between two looks or within one. It is not ok for a socket that has
// never been met and that some process holds: the next look meets it, with its owner. What was sent is left for the look
// to count.
func (t *table) revisit(r *bpf.SocketRow, gone func(*known)) (found seen, ok bool) {
	s := &r.Sock
	orphan := s.Flags&bpf.FlagOrphan != 0
	i, named := t.find(r, gone)
	known := i != 0
	if !known {
		if !orphan {
			return seen{}, false
		}
		i = t.place(t.keyOf(r), r)
		t.rows.At(i).segsOut, t.rows.At(i).retrans = s.SegsOut, s.TotalRetrans
	}
	k := t.rows.At(i)
	id := t.keyAt(k)
	now := signOf(s)
	settled := t.settle(k, s)
	found = seen{known: k}
	switch {
	case !known:
		found.change = event.SocketSeen
	case now != k.sign || settled || named || orphan && t.orphans[id] == 0 || now.trouble() && uint16(s.SegsIn) != k.segsIn:
		found.change = event.SocketChanged
	}
	k.sign, k.segsIn = now, uint16(s.SegsIn)
	k.unacked, k.rtoMS = smallOf(s.Unacked), smallOf(s.RTOMS)
	k.received(r)
	if orphan {
		t.orphans[id] = t.follows
	}
	return found, true
}

// endFollow tells the end of sockets that no process held and that are in trouble no more.
func (t *table) endFollow(gone func(*known)) {
	for id, followed := range t.orphans {
		i := t.index.Get(id)
		if i == 0 {
			delete(t.orphans, id)
			continue
		}
		if followed != t.follows {
			gone(t.rows.At(i))
			t.forget(id, i)
			delete(t.orphans, id)
		}
	}
}

// forget takes a socket out of the table.
func (t *table) forget(id key, i uint32) {
	t.index.Delete(id, i)
	k := t.rows.At(i)
	t.hosts.Release(k.local)
	t.hosts.Release(k.peer)
	t.holders.Release(k.holder)
	t.rows.Drop(i)
}
