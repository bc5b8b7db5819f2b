// Package uitest drives the terminal application on a simulated screen: keys in, text out, compared with golden files. It
// must not know what screens look like.
package uitest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gdamore/tcell/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/rivo/uniseg"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui"
)

// patience is how long a drawing is waited for.
const patience = 3 * time.Minute

// View is a View whose snapshot a test sets. It knows the sockets in trouble and no others.
type View struct {
	snap atomic.Pointer[model.Snapshot]
}

// Share implements ui.Sharer.
func (v *View) Share(_ context.Context, key uint64) (model.Share, bool, error) {
	s := v.Snapshot()
	for i := range s.Trouble {
		if s.Trouble[i].Key == key {
			return Share(s.Trouble[i]), true, nil
		}
	}
	return model.Share{}, false, nil
}

// Snapshot implements ui.View.
func (v *View) Snapshot() *model.Snapshot { return v.snap.Load() }

// Terminal is a running application on a simulated screen.
type Terminal struct {
	t      testing.TB
	view   *View
	sim    tcell.SimulationScreen
	tick   chan time.Time
	now    atomic.Int64
	cancel context.CancelFunc
	done   chan struct{}
	sent   uint64
	w, h   int
	syncs  atomic.Int64

	suspends atomic.Int64

	mu    sync.Mutex
	drawn chan struct{} // closed and replaced at each drawing
	last  drawing
	err   error
}

// drawing is a copy of what was on the screen.
type drawing struct {
	keys, version uint64
	count         int
	text          string
	styles        []tcell.Style
}

// sized is a simulated screen that has its size from the beginning.
type sized struct {
	tcell.SimulationScreen
	w, h  int
	syncs *atomic.Int64
}

// Sync counts how often the screen is painted anew.
func (s sized) Sync() {
	s.syncs.Add(1)
	s.SimulationScreen.Sync()
}

func (s sized) Init() error {
	if err := s.SimulationScreen.Init(); err != nil {
		return err
	}
	s.SetSize(s.w, s.h)
	return nil
}

// New returns a terminal of w columns and h rows on which nothing runs yet. Now is the wall clock, which stands still until
// [Terminal.Pass].
func New(t testing.TB, w, h int, now time.Time) *Terminal {
	term := &Terminal{
		t: t, view: &View{}, sim: tcell.NewSimulationScreen("UTF-8"), tick: make(chan time.Time),
		done: make(chan struct{}), drawn: make(chan struct{}), w: w, h: h,
	}
	term.now.Store(now.UnixNano())
	return term
}

// Options lets an application run on the terminal.
func (t *Terminal) Options(o *ui.Options) {
	o.Screen, o.ASCII, o.Drawn = sized{t.sim, t.w, t.h, &t.syncs}, true, t.note
	o.Suspend = func(tcell.Screen) error { t.suspends.Add(1); return nil }
	o.Now = func() time.Time { return time.Unix(0, t.now.Load()).UTC() }
}

// Run runs an application, which was given the terminal's options, and waits for its first drawing.
func (t *Terminal) Run(run func(context.Context) error) {
	t.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	go func() {
		defer close(t.done)
		t.err = run(ctx)
	}()
	t.t.Cleanup(t.stop)
	t.await("the first drawing", func(d drawing) bool { return d.count > 0 })
}

// Start runs the application on a terminal of w columns and h rows and waits for its first drawing. Snapshots are those
// of [Terminal.Show]. Change may alter the options.
func Start(t testing.TB, w, h int, now time.Time, change func(*ui.Options)) *Terminal {
	t.Helper()
	term := New(t, w, h, now)
	o := ui.Options{View: term.view, Tick: term.tick}
	term.Options(&o)
	if change != nil {
		change(&o)
	}
	term.Run(func(ctx context.Context) error { return ui.Run(ctx, o) })
	return term
}

func (t *Terminal) stop() {
	t.cancel()
	<-t.done
}

// note copies what was drawn; the goroutine that draws calls it.
func (t *Terminal) note(d ui.Drawing) {
	cells, w, _ := t.sim.GetContents()
	var b strings.Builder
	styles := make([]tcell.Style, 0, len(cells))
	var line strings.Builder
	covered := -1 // the cell behind a wide character keeps what was there before
	for i, cell := range cells {
		styles = append(styles, cell.Style)
		if i != covered && len(cell.Runes) > 0 && cell.Runes[0] != 0 {
			line.WriteString(string(cell.Runes))
			if uniseg.StringWidth(string(cell.Runes)) == 2 {
				covered = i + 1
			}
		}
		if (i+1)%w == 0 {
			b.WriteString(strings.TrimRight(line.String(), " "))
			b.WriteByte('\n')
			line.Reset()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = drawing{d.Keys, d.Version, t.last.count + 1, b.String(), styles}
	close(t.drawn)
	t.drawn = make(chan struct{})
}

// await waits until a drawing is as wanted.
func (t *Terminal) await(what string, ok func(drawing) bool) {
	t.t.Helper()
	deadline := time.After(patience)
	for {
		t.mu.Lock()
		last, drawn := t.last, t.drawn
		t.mu.Unlock()
		if ok(last) {
			return
		}
		select {
		case <-drawn:
		case <-t.done:
			t.t.Fatalf("the application ended (%v) while waiting for %s", t.err, what)
		case <-deadline:
			t.t.Fatalf("no %s within %s; the screen shows\n%s", what, patience, last.text)
		}
	}
}

// Show makes a snapshot the newest one and waits until it is drawn.
func (t *Terminal) Show(s *model.Snapshot) {
	t.t.Helper()
	t.Feed(s)
	t.await("drawing of the snapshot", func(d drawing) bool { return d.version == s.Version })
}

// Feed makes a snapshot the newest one and has the application ask for it, without waiting for a drawing.
func (t *Terminal) Feed(s *model.Snapshot) {
	t.t.Helper()
	t.view.snap.Store(s)
	select {
	case t.tick <- time.Time{}:
	case <-t.done:
		t.t.Fatalf("the application ended: %v", t.err)
	case <-time.After(patience):
		t.t.Fatal("nobody asks for snapshots")
	}
}

// Press presses keys and waits until they are dealt with. Keys are named as in the key map.
func (t *Terminal) Press(keys ...string) {
	t.t.Helper()
	for _, key := range keys {
		t.sent++
		ev := keyEvent(key)
		if err := t.sim.PostEvent(ev); err != nil {
			t.t.Fatalf("key %s: %v", key, err)
		}
		t.await("drawing after "+key, func(d drawing) bool { return d.keys >= t.sent })
	}
}

// Await waits until the screen shows all of these texts.
func (t *Terminal) Await(texts ...string) {
	t.t.Helper()
	t.await(fmt.Sprintf("%q", texts), func(d drawing) bool {
		for _, text := range texts {
			if !strings.Contains(d.text, text) {
				return false
			}
		}
		return true
	})
}

// AwaitGone waits until the screen does not show a text any more.
func (t *Terminal) AwaitGone(text string) {
	t.t.Helper()
	t.await("end of "+text, func(d drawing) bool { return !strings.Contains(d.text, text) })
}

// Write types a text, a key for each character.
func (t *Terminal) Write(text string) {
	t.t.Helper()
	for _, r := range text {
		key := string(r)
		if r == ' ' {
			key = "space"
		}
		t.Press(key)
	}
}

// Syncs is how often the screen was painted anew.
func (t *Terminal) Syncs() int64 { return t.syncs.Load() }

// Suspends is how often ctrl-z came.
func (t *Terminal) Suspends() int64 { return t.suspends.Load() }

// Clipboard is what was copied last.
func (t *Terminal) Clipboard() string { return string(t.sim.GetClipboardData()) }

// Resize changes the size of the screen and waits until it is drawn anew.
func (t *Terminal) Resize(w, h int) {
	t.t.Helper()
	t.ResizeOnly(w, h)
	t.await("drawing after a resize", func(d drawing) bool { return d.keys >= t.sent })
}

// ResizeOnly changes the size of the screen without waiting.
func (t *Terminal) ResizeOnly(w, h int) {
	t.sim.SetSize(w, h)
	if t.sim.PostEvent(tcell.NewEventResize(w, h)) == nil {
		t.sent++
	}
}

// Pass lets time go by.
func (t *Terminal) Pass(d time.Duration) { t.now.Add(int64(d)) }

// Text is what the screen shows, a line each, without spaces at the end.
func (t *Terminal) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.text
}

// Styles are the styles of all cells, row by row.
func (t *Terminal) Styles() []tcell.Style {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.styles
}

// Drawings is how often the screen was drawn.
func (t *Terminal) Drawings() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last.count
}

// Ended waits for the end of the application and returns its error.
func (t *Terminal) Ended() error {
	t.t.Helper()
	select {
	case <-t.done:
		return t.err
	case <-time.After(patience):
		t.t.Fatal("the application goes on")
		return nil
	}
}

// Type presses a key without waiting for a drawing.
func (t *Terminal) Type(key string) {
	t.t.Helper()
	if err := t.sim.PostEvent(keyEvent(key)); err != nil {
		t.t.Fatalf("key %s: %v", key, err)
	}
	t.sent++
}

var named = map[string]tcell.Key{
	"enter": tcell.KeyEnter, "esc": tcell.KeyEscape, "up": tcell.KeyUp, "down": tcell.KeyDown, "pgup": tcell.KeyPgUp,
	"pgdn": tcell.KeyPgDn, "home": tcell.KeyHome, "end": tcell.KeyEnd, "tab": tcell.KeyTab, "backspace": tcell.KeyBackspace2,
	"ctrl-c": tcell.KeyCtrlC, "ctrl-d": tcell.KeyCtrlD, "ctrl-u": tcell.KeyCtrlU, "ctrl-f": tcell.KeyCtrlF, "ctrl-b": tcell.KeyCtrlB,
	"ctrl-l": tcell.KeyCtrlL, "ctrl-z": tcell.KeyCtrlZ, "ctrl-w": tcell.KeyCtrlW, "ctrl-k": tcell.KeyCtrlK, "ctrl-a": tcell.KeyCtrlA,
	"ctrl-e": tcell.KeyCtrlE, "left": tcell.KeyLeft, "right": tcell.KeyRight, "backtab": tcell.KeyBacktab, "delete": tcell.KeyDelete,
}

func keyEvent(key string) *tcell.EventKey {
	if k, ok := named[key]; ok {
		return tcell.NewEventKey(k, 0, tcell.ModNone)
	}
	if key == "space" {
		key = " "
	}
	return tcell.NewEventKey(tcell.KeyRune, []rune(key)[0], tcell.ModNone)
}

var update = flag.Bool("update", false, "write golden files anew")

// Golden compares text with the golden file of a name, or writes it with -update.
func Golden(t testing.TB, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), -update writes it anew:\n%s\nthe screen shows\n%s", path, diff, got)
	}
}

// AwaitDrawing waits until the screen was drawn more often than count times.
func (t *Terminal) AwaitDrawing(count int) {
	t.t.Helper()
	t.await("another drawing", func(d drawing) bool { return d.count > count })
}
