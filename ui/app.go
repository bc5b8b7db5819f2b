package ui

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui/screen"
	"github.com/midhop/midhop/ui/theme"
	"github.com/midhop/midhop/ui/widget"
)

// View is where snapshots come from, such as the Engine.
type View interface {
	// Snapshot returns the newest snapshot, nil where there is none yet. It may take its time: the screen goes on
	// without.
	Snapshot() *model.Snapshot
}

// Pager is a View that can show healthy sockets too, which are not part of a snapshot.
type Pager interface {
	// Page returns a page of sockets; see model.PageQuery. It may take its time.
	Page(ctx context.Context, q model.PageQuery) (model.Page, error)
}

// Sharer is a View that can compare one socket with all others.
type Sharer interface {
	// Share does so, or says that there is no such socket; see model.Share. It may take its time.
	Share(ctx context.Context, key uint64) (s model.Share, ok bool, err error)
}

// Cutter is a View whose facts come from elsewhere, and may cease to come.
type Cutter interface {
	// Cut says since when nothing comes any more, though it should, and why; the zero time where all is well.
	Cut() (since time.Time, why string)
}

// Log keeps events for the log screen; see [NewLog].
type Log = screen.Log

// NewLog returns a log of the newest size events, to be written by a sink and shown by [Run].
func NewLog(size int) *Log { return screen.NewLog(size) }

// ErrInterrupted is what [Run] returns after ctrl-c, as opposed to q.
var ErrInterrupted = errors.New("interrupted")

// Options says what to show and how.
type Options struct {
	View View // one that is a [Pager] too lists healthy sockets
	Log  *Log // nil: no events are shown
	// LogFilter is what the log screen begins with, in the grammar of tracer/filter; empty: everything.
	LogFilter string
	Title     string         // what is watched, such as "lab node-gone"; may be empty
	Replay    bool           // moments are counted from the snapshot's clock and not from the wall clock
	Player    Player         // steers a recording; nil: it cannot be steered, or is live
	NoColor   bool           // no colours; what they say is said by words too
	ASCII     bool           // frames without box characters
	Zone      *time.Location // nil: UTC
	Now       func() time.Time
	History   string // file for what is typed at the prompt; empty: it is forgotten
	// SaveDirs are where s writes to: the first that takes a file. Saved is told the files when the terminal is as
	// before; nil: nobody.
	SaveDirs []string
	Saved    func(paths []string)
	Suspend  func(tcell.Screen) error // what ctrl-z does; nil: as any program, it stops until it is continued
	Screen   tcell.Screen             // nil: the terminal. It is initialised and finished by Run
	Tick     <-chan time.Time         // when to ask for a snapshot; nil: four times a second
	Drawn    func(Drawing)            // called after each drawing, by the goroutine that draws; nil: nobody
}

// BugError is what [Run] returns after a panic: the terminal is as before, and there is something to report.
type BugError struct {
	Cause any
	Stack []byte
}

// Error implements error.
func (e *BugError) Error() string {
	return fmt.Sprintf("the screen broke: %v\n  effect: the terminal is as it was before; nothing else has changed\n"+
		"  remedy: this is a bug in midhop, please report it with these lines; `midhop watch` goes without a screen\n%s", e.Cause, e.Stack)
}

// Drawing says what was just drawn.
type Drawing struct {
	Keys    uint64 // keys and resizes handled so far
	Version uint64 // of the snapshot
	Screen  tcell.Screen
}

// pollEvery is how often a snapshot is asked for, and so how often data is drawn at most.
const pollEvery = 250 * time.Millisecond

// historyLength is how many seconds of doomed sockets are remembered for the trend.
const historyLength = 120

// Run shows the application until q (nil), ctrl-c ([ErrInterrupted]) or the end of ctx (nil). The terminal is as before
// when it returns, also after a panic, of which a [BugError] tells.
func Run(ctx context.Context, o Options) (err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Suspend == nil {
		o.Suspend = suspend
	}
	if o.Screen == nil {
		s, err := tcell.NewScreen()
		if err != nil {
			return fmt.Errorf("open terminal: %w", err)
		}
		o.Screen = s
	}
	if err := o.Screen.Init(); err != nil {
		return fmt.Errorf("prepare terminal: %w", err)
	}
	quit := make(chan struct{})
	a := newApp(o)
	defer func() {
		cause := recover()
		close(quit)
		o.Screen.Fini()
		if cause != nil {
			err = &BugError{cause, debug.Stack()}
		}
		if o.Saved != nil && len(a.saved) > 0 {
			o.Saved(a.saved)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := make(chan tcell.Event, 64)
	go o.Screen.ChannelEvents(keys, quit)
	newest := make(chan news, 1)
	a.wake = make(chan struct{}, 1)
	if o.Tick == nil {
		t := time.NewTicker(pollEvery)
		defer t.Stop()
		a.Tick = t.C
	}
	p := poller{view: o.View, tick: a.Tick, wants: &a.wants, wake: a.wake, out: newest}
	go p.run(ctx)
	return a.loop(ctx, keys, newest)
}

// app is the state of the application; only its loop touches it.
type app struct {
	Options
	canvas widget.Canvas
	stack  []screen.Screen // the last is shown
	frame  screen.Frame
	live   news          // newest, also while paused
	wants  atomic.Value  // screen.Ask: what the top screen asks
	wake   chan struct{} // holds one: the top screen asks something else
	rate   rate
	paused bool
	said   string
	until  time.Time // when said goes away
	second int64     // of the last history entry and clock
	keys   uint64

	prompt  prompt
	history history
	times   timeStyle
	saved   []string // files
}

func newApp(o Options) *app {
	a := &app{Options: o}
	a.canvas = widget.Canvas{Screen: o.Screen, Theme: theme.Theme{NoColor: o.NoColor, ASCII: o.ASCII}}
	a.stack = []screen.Screen{screen.NewNodes()}
	a.live = news{snap: &model.Snapshot{}}
	a.frame = screen.Frame{Snap: a.live.snap, Zone: o.Zone, Log: o.Log}
	a.history = openHistory(o.History)
	a.wants.Store(screen.Ask{})
	a.rate.perSecond = -1
	a.clock()
	return a
}

// clock sets the moment that the screen counts from.
func (a *app) clock() {
	a.frame.Wall = a.Now()
	if a.paused {
		return
	}
	if a.Replay {
		a.frame.Now = a.frame.Snap.Clock
	} else {
		a.frame.Now = a.Now()
	}
	a.frame.Until = a.Log.Total()
}

// play asks where the recording is and says whether that is news.
func (a *app) play() bool {
	if a.Player == nil {
		return false
	}
	p, old := a.Player.Play(), a.frame.Play
	a.frame.Play = &p
	return old == nil || !old.At.Equal(p.At) || !old.End.Equal(p.End) || !old.Seeking.Equal(p.Seeking) || old.Paused != p.Paused ||
		old.Ended != p.Ended || old.Speed != p.Speed || int(old.Way*100) != int(p.Way*100) || int(old.Surveyed*100) != int(p.Surveyed*100) ||
		len(old.Moments) != len(p.Moments)
}

func (a *app) loop(ctx context.Context, keys <-chan tcell.Event, newest <-chan news) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	a.draw()
	for {
		dirty := false
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-keys:
			if !ok {
				return errors.New("the terminal went away")
			}
			if end, err := a.drain(ev, keys); end {
				return err
			}
			dirty = true
		case n := <-newest:
			if n.err != nil {
				return n.err
			}
			dirty = a.take(n)
		case <-second.C:
			dirty = !a.paused && !a.Replay || a.expire() || a.play()
		}
		if dirty {
			a.draw()
		}
	}
}

// drain handles an event and all that wait behind it, so that a storm of resizes is drawn once.
func (a *app) drain(ev tcell.Event, keys <-chan tcell.Event) (end bool, err error) {
	for {
		if end, err := a.handle(ev); end {
			return true, err
		}
		select {
		case next, ok := <-keys:
			if !ok {
				return true, errors.New("the terminal went away")
			}
			ev = next
		default:
			return false, nil
		}
	}
}

// take accepts a snapshot and says whether there is anything new to draw.
func (a *app) take(n news) bool {
	s, now := n.snap, a.Now()
	if !a.Replay { // how fast a recording is read is not how fast it happened
		a.rate.note(s, now)
	}
	old := a.live.snap
	changed := s.Version != old.Version || s.Complete != old.Complete || !s.Clock.Equal(old.Clock) || n.answer != a.live.answer || n.cut != a.live.cut
	changed = a.play() || changed
	a.live = n
	if second := now.Unix(); second != a.second {
		a.second = second
		a.frame.History = append(a.frame.History, s.Totals.Doomed())
		a.frame.History = a.frame.History[max(0, len(a.frame.History)-historyLength):]
	}
	if a.paused {
		return changed // the count of what was missed
	}
	a.frame.Snap, a.frame.Answer, a.frame.Cut = n.snap, n.answer, n.cut
	return changed
}

// expire forgets a message whose time is over.
func (a *app) expire() bool {
	if a.said == "" || a.Now().Before(a.until) {
		return false
	}
	a.said = ""
	return true
}

// rate counts events per second over the last few snapshots.
type rate struct {
	total     uint64
	at        time.Time
	perSecond float64 // negative: not known yet
}

// rateOver is the least time over which events are counted.
const rateOver = 2 * time.Second

func (r *rate) note(s *model.Snapshot, now time.Time) {
	total := uint64(0)
	for _, n := range s.Events {
		total += n
	}
	if r.at.IsZero() || total < r.total {
		r.total, r.at = total, now
		return
	}
	if span := now.Sub(r.at); span >= rateOver {
		r.perSecond = float64(total-r.total) / span.Seconds()
		r.total, r.at = total, now
	}
}
