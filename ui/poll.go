package ui

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui/screen"
)

// news is what the poller hands to the loop.
type news struct {
	snap   *model.Snapshot
	answer *screen.Answer
	cut    screen.Cut
	err    error // the view broke; nothing comes after it
}

// poller asks for snapshots, and what else the screen in view wants to know, on a goroutine of its own, because both may
// have to wait for their maker.
type poller struct {
	view  View
	tick  <-chan time.Time
	wants *atomic.Value // screen.Ask
	wake  <-chan struct{}
	out   chan news // holds one; what was not taken is replaced

	answer *screen.Answer // the newest
	asked  *model.Snapshot
	rest   time.Time // until when the view is left in peace
}

// askShare is the least share of the time in which the view is not asked: whoever folds facts answers, and a page over
// very many sockets takes it a while.
const askShare = 20

func (p *poller) run(ctx context.Context) {
	// A panic here would leave the terminal as it is: it is handed to the loop, which restores it first.
	defer func() {
		if r := recover(); r != nil {
			p.put(ctx, news{err: fmt.Errorf("the view broke: %v\n%s", r, debug.Stack())})
		}
	}()
	for {
		if s := p.view.Snapshot(); s != nil {
			p.ask(ctx, s)
			n := news{snap: s, answer: p.answer}
			if from, ok := p.view.(Cutter); ok {
				n.cut.Since, n.cut.Why = from.Cut()
			}
			p.put(ctx, n)
		}
		select {
		case <-p.tick:
		case <-p.wake:
		case <-ctx.Done():
			return
		}
	}
}

// ask brings the answer up to date, unless what is asked is the same and asking was dear.
func (p *poller) ask(ctx context.Context, s *model.Snapshot) {
	q, _ := p.wants.Load().(screen.Ask)
	began := time.Now()
	switch {
	case q.ID == "":
		p.answer = nil
		return
	case p.answer == nil || p.answer.ID != q.ID:
	case p.asked == s || began.Before(p.rest):
		return
	}
	a := screen.Answer{ID: q.ID}
	if q.Page != nil {
		from, ok := p.view.(Pager)
		if !ok {
			return
		}
		var err error
		if a.Page, err = from.Page(ctx, *q.Page); err != nil {
			return
		}
	} else {
		from, ok := p.view.(Sharer)
		if !ok {
			return
		}
		share, ok, err := from.Share(ctx, q.Share)
		if err != nil {
			return
		}
		if ok {
			a.Share = &share
		}
	}
	p.answer, p.asked = &a, s
	now := time.Now()
	p.rest = now.Add(askShare * now.Sub(began))
}

func (p *poller) put(ctx context.Context, n news) {
	select {
	case <-p.out:
	default:
	}
	select {
	case p.out <- n:
	case <-ctx.Done():
	}
}
