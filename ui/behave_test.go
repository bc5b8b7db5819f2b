package ui_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui"
	"github.com/midhop/midhop/ui/uitest"
)

func start(t *testing.T, w, h int, change func(*ui.Options)) *uitest.Terminal {
	t.Helper()
	return uitest.Start(t, w, h, uitest.Now, change)
}

func wants(t *testing.T, term *uitest.Terminal, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(term.Text(), text) {
			t.Errorf("%q is not on the screen:\n%s", text, term.Text())
		}
	}
}

func lacks(t *testing.T, term *uitest.Terminal, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(term.Text(), text) {
			t.Errorf("%q is on the screen:\n%s", text, term.Text())
		}
	}
}

// least holds the shortest of a few tries to a bound: a busy machine makes some late, slow code all of them.
func least(t *testing.T, bound time.Duration, f func()) {
	t.Helper()
	var took time.Duration
	for range 5 {
		began := time.Now()
		f()
		if took = time.Since(began); took <= bound {
			return
		}
	}
	t.Errorf("it took %s, each of five times more than %s", took, bound)
}

func TestFirstPaintNeedsNoData(t *testing.T) {
	var term *uitest.Terminal
	least(t, 300*time.Millisecond, func() { term = start(t, 80, 24, nil) })
	wants(t, term, "not looked yet", "q quit")
	lacks(t, term, "healthy", "stalled 0")
}

func TestFromNodeToVictimAndBack(t *testing.T) {
	term := start(t, 80, 24, nil)
	term.Show(uitest.NodeGone())
	term.Press("i")
	wants(t, term, "EVIDENCE FOR", "midhop relief --via node-a")
	term.Press("enter")
	wants(t, term, "node-a > sockets", "external 203.0.113.40:52110", "1 of 13")
	term.Press("j")
	wants(t, term, "external 203.0.113.41:52110", "2 of 13")
	term.Press("esc", "esc")
	wants(t, term, "DOOMED", "1 of 4")
	term.Press("esc")
	wants(t, term, "DOOMED", "1 of 4")
}

func TestQuitting(t *testing.T) {
	for key, want := range map[string]error{"q": nil, "ctrl-c": ui.ErrInterrupted} {
		term := start(t, 80, 24, nil)
		term.Type(key)
		if err := term.Ended(); !errors.Is(err, want) {
			t.Errorf("%s ends with %v", key, err)
		}
	}
}

func TestSelectionStaysWithItsNode(t *testing.T) {
	term := start(t, 80, 24, nil)
	s := uitest.Healthy()
	term.Show(s)
	term.Press("j", "j")
	wants(t, term, ">  node-10 ")

	// The node of the cursor becomes the heaviest: the cursor goes with it.
	term.Pass(time.Minute)
	next := uitest.Healthy()
	next.Version++
	next.Vias[2].Sockets = 9000
	term.Show(next)
	wants(t, term, ">  node-10 ", "1 of 8")

	// It goes away: the cursor stays where it was.
	term.Pass(time.Minute)
	last := uitest.Healthy()
	last.Version += 2
	last.Vias = append(last.Vias[:2:2], last.Vias[3:]...)
	term.Show(last)
	wants(t, term, ">  node-60 ", "1 of 7")
}

func TestOrderIsHeldWhileTheCursorMoves(t *testing.T) {
	term := start(t, 80, 24, nil)
	term.Show(uitest.Healthy())
	term.Press("j", "j")
	change := func(version uint64) *model.Snapshot {
		s := uitest.Healthy()
		s.Version = version
		s.Vias[2].Sockets = 9000
		return s
	}
	term.Show(change(11))
	wants(t, term, "3 of 8", "9,000")
	term.Pass(3 * time.Second)
	term.Show(change(12))
	wants(t, term, "1 of 8")
}

func TestPauseLosesNothing(t *testing.T) {
	term := start(t, 80, 24, nil)
	s := uitest.Healthy()
	term.Show(s)
	term.Press("space")
	gone := uitest.NodeGone()
	gone.Version = s.Version + 1
	gone.Events = map[string]uint64{"path.traffic": 5200, "nat.created": 31000, "tcp.retransmit": 1204}
	before := term.Drawings()
	term.Feed(gone)
	term.AwaitDrawing(before)
	wants(t, term, "PAUSED", "+1,204 events since", "node-60")
	lacks(t, term, "node-a", "LIVE")
	term.Press("space")
	wants(t, term, "LIVE", "node-a gone")
}

func TestNothingIsDrawnWhenNothingChanged(t *testing.T) {
	term := start(t, 80, 24, func(o *ui.Options) { o.Replay = true })
	s := uitest.Healthy()
	term.Show(s)
	before := term.Drawings()
	for range 50 {
		same := *s
		term.Feed(&same)
	}
	term.Press("j") // comes after all that was fed
	if n := term.Drawings() - before; n > 1 {
		t.Errorf("%d drawings of an unchanged snapshot", n-1)
	}
}

func TestEmptyTablesSayWhy(t *testing.T) {
	term := start(t, 80, 24, nil)
	term.Show(uitest.Bare())
	wants(t, term, "no established TCP connection was seen", "midhop lab", "midhop doctor")
	term.Press("3")
	wants(t, term, "no established TCP connection was seen")
	healthy := uitest.Healthy()
	term.Show(healthy)
	wants(t, term, "no stalls seen yet: healthy, 18,714 sockets seen from 1 of 12 nodes")
	term.Press("2")
	wants(t, term, "no stalls seen yet: healthy", "watching since 11:04:12, what died before is not seen")
	term.Press("1", "enter")
	wants(t, term, "4,225 sockets via node-60, none in trouble")
	term.Press("esc", "i")
	wants(t, term, "no incident is open")
}

func TestTroubleWithoutCulpritIsNotCalledHealthy(t *testing.T) {
	term := start(t, 80, 24, nil)
	s := uitest.NodeGone()
	s.Incidents = nil
	term.Show(s)
	wants(t, term, "no incident: 68 sockets in trouble")
	lacks(t, term, "healthy")
}

func TestWhatIsWrongWithMidhopIsOnTheFirstLine(t *testing.T) {
	for _, w := range []int{80, 120} {
		term := start(t, w, 24, nil)
		s := uitest.Healthy()
		s.Lost = map[string]uint64{"ring.bulk": 1204}
		s.Coverage.Missing = []string{"reset"}
		s.Agents = append(s.Agents, model.AgentView{Source: "agent/node-3", Silent: true})
		term.Show(s)
		for _, keys := range [][]string{nil, {"enter"}} {
			term.Press(keys...)
			first, _, _ := strings.Cut(term.Text(), "\n")
			for _, want := range []string{"1/2 agents", "probes 6/7", "LOST 1.2k"} {
				if !strings.Contains(first, want) {
					t.Errorf("at %d columns %q is missing in %q", w, want, first)
				}
			}
		}
	}
}

func TestResizeStorm(t *testing.T) {
	term := start(t, 80, 24, nil)
	term.Show(uitest.NodeGone())
	random := rand.New(rand.NewPCG(7, 7))
	keys := []string{"i", "enter", "esc", "1", "2", "3", "4", "5", "6", "?", "j", "tab", "w", ">", "/", "esc", ":", "esc", "k", "g", "G", "ctrl-d", "pgdn", "pgup"}
	for i := range 300 {
		w, h := random.IntN(240), random.IntN(70)
		term.Resize(w, h)
		term.Press(keys[i%len(keys)])
		if lines := strings.Count(term.Text(), "\n"); lines != h && w > 0 {
			t.Fatalf("%d lines on a screen of %dx%d", lines, w, h)
		}
	}
	term.Resize(80, 24)
	term.Press("1")
	wants(t, term, "INCIDENT critical: node-a gone", "DOOMED")
}

func TestLayoutClasses(t *testing.T) {
	term := start(t, 99, 24, nil)
	term.Show(uitest.NodeGone())
	lacks(t, term, "known by status InternalIP")
	term.Resize(100, 24)
	wants(t, term, "known by status InternalIP")
	lacks(t, term, "NODE IS")
	term.Resize(200, 50)
	wants(t, term, "known by status InternalIP", "NODE IS", "CONNTRACK", "SHARE")
	term.Resize(80, 19)
	lacks(t, term, "crossing 194")
	wants(t, term, "INCIDENT critical", "DOOMED")
	term.Resize(39, 12)
	wants(t, term, "INCIDENT critical: node-a gone: 66")
	lacks(t, term, "VIA")
	term.Resize(120, 9)
	wants(t, term, "INCIDENT critical: node-a gone: 66 connections dead, 13 know it")
	if n := len(strings.Fields(strings.Join(strings.Split(term.Text(), "\n")[1:], ""))); n != 0 {
		t.Errorf("more than one line on a low screen:\n%s", term.Text())
	}
}

func TestNoColorAndASCII(t *testing.T) {
	term := start(t, 120, 40, func(o *ui.Options) { o.NoColor = true })
	term.Show(uitest.NodeGone())
	for _, keys := range [][]string{nil, {"i"}, {"3"}, {"?"}} {
		term.Press(keys...)
		for _, style := range term.Styles() {
			if fg, bg, _ := style.Decompose(); fg != tcell.ColorDefault || bg != tcell.ColorDefault {
				t.Fatalf("a cell is coloured after %v", keys)
			}
		}
		for _, r := range term.Text() {
			if r > '~' {
				t.Fatalf("%q is on the screen after %v", r, keys)
			}
		}
	}
}

func TestStatesAreSaidInWords(t *testing.T) {
	term := start(t, 80, 24, func(o *ui.Options) { o.NoColor = true })
	term.Show(uitest.NodeGone())
	wants(t, term, ">x node-a", " ! node-c", "STALLED", "at-risk", "critical")
}

func TestEveryKeyOfTheHelpDoesSomething(t *testing.T) {
	term := start(t, 120, 60, nil)
	term.Show(uitest.NodeGone())
	term.Press("?")
	wants(t, term, "ON THIS SCREEN: nodes", "EVERYWHERE", "freeze the screen", "WORDS", "half a page down")
	term.Press("?")
	wants(t, term, "ON THIS SCREEN: nodes")
	term.Press("esc")
	lacks(t, term, "EVERYWHERE")
}

func TestBoundaryOfATerminalThatPanics(t *testing.T) {
	sim := &finished{SimulationScreen: tcell.NewSimulationScreen("UTF-8")}
	err := ui.Run(t.Context(), ui.Options{View: &uitest.View{}, Screen: sim, Drawn: func(ui.Drawing) { panic("drawing") }})
	var bug *ui.BugError
	if !errors.As(err, &bug) || bug.Cause != "drawing" {
		t.Fatalf("a panic came out as %v", err)
	}
	for _, want := range []string{"drawing", "a bug in midhop, please report", "behave_test.go"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %s", want, err)
		}
	}
	if !sim.fini {
		t.Error("the terminal was not restored")
	}
}

// finished remembers whether the screen was given back.
type finished struct {
	tcell.SimulationScreen
	fini bool
}

func (f *finished) Fini() {
	f.fini = true
	f.SimulationScreen.Fini()
}

// paged is a view that lists healthy sockets.
type paged struct {
	ui.View
	page func(model.PageQuery) model.Page
}

func (p paged) Page(_ context.Context, q model.PageQuery) (model.Page, error) { return p.page(q), nil }

func TestHealthySocketsComeByPage(t *testing.T) {
	healthy := uitest.Socket(90, netip.MustParseAddr("10.9.4.11"), "node-a", false)
	healthy.Status, healthy.Deadline = "ok", time.Time{}
	ended := uitest.Socket(91, netip.MustParseAddr("10.9.4.11"), "node-a", false)
	ended.Status, ended.Errno = "timed-out", "ETIMEDOUT"
	term := start(t, 120, 40, func(o *ui.Options) {
		o.View = paged{o.View, func(q model.PageQuery) model.Page {
			if q.Via != "node-a" {
				return model.Page{}
			}
			return model.Page{Rows: append(uitest.NodeGone().Trouble[:13:13], healthy), Total: 66}
		}}
	})
	s := uitest.NodeGone()
	s.Trouble = append(s.Trouble, ended)
	term.Show(s)
	term.Press("enter")
	wants(t, term, "1 of 14") // 13 in trouble and the one that ended, before the page is there
	before := term.Drawings()
	term.Feed(s)
	term.Feed(s)
	term.AwaitDrawing(before)
	wants(t, term, "1 of 67", "   ok        ws/chat-7f9c-0")
	term.Press("G") // what has ended stands last
	wants(t, term, "67 of 67", "ETIMEDOUT")
}

func TestAViewThatPanicsEndsTheApplication(t *testing.T) {
	term := start(t, 80, 24, func(o *ui.Options) {
		o.View = paged{o.View, func(model.PageQuery) model.Page { panic("no such page") }}
	})
	s := uitest.NodeGone()
	term.Show(s)
	term.Type("3")
	if err := term.Ended(); err == nil || !strings.Contains(err.Error(), "no such page") {
		t.Errorf("the application ended with %v", err)
	}
}

// many returns a snapshot with n sockets in trouble.
func many(n int) *model.Snapshot {
	s := uitest.NodeGone()
	s.Trouble = make([]model.SocketView, n)
	via := netip.MustParseAddr("10.9.4.11")
	for i := range s.Trouble {
		s.Trouble[i] = uitest.Socket(i, via, "node-a", true)
	}
	return s
}

func TestManyRows(t *testing.T) {
	term := start(t, 120, 40, nil)
	s := many(200_000)
	term.Show(s)
	term.Press("3")
	wants(t, term, "1 of 200,000")
	// Four moves with a drawing each; the bound is far above the 10 ms wanted, for slow machines.
	least(t, time.Second, func() {
		term.Press("G")
		wants(t, term, "200,000 of 200,000")
		term.Press("pgup", "k", "g")
	})
}

func TestTheCursorStaysInView(t *testing.T) {
	term := start(t, 80, 40, nil)
	term.Show(uitest.Bare())
	s := many(100)
	term.Show(s)
	term.Press("3")
	wants(t, term, ">x STALLED") // although the end of the table was in view before
	term.Press("pgdn")
	term.Resize(80, 14)
	wants(t, term, ">x STALLED")
	term.Press("G")
	term.Resize(80, 50)
	term.Resize(80, 12)
	wants(t, term, ">x STALLED", "100 of 100")
}

// cutView is a View whose facts cease to come when a test says so.
type cutView struct {
	uitest.View
	cut atomic.Bool
}

// Cut implements ui.Cutter.
func (v *cutView) Cut() (time.Time, string) {
	if !v.cut.Load() {
		return time.Time{}, ""
	}
	return uitest.Now.Add(-time.Minute), "the hub does not take the token"
}

// Snapshot implements ui.View.
func (v *cutView) Snapshot() *model.Snapshot { return uitest.Healthy() }

// TestCutOff shows that nothing comes any more, and calls nothing healthy meanwhile.
func TestCutOff(t *testing.T) {
	for _, size := range [][2]int{{140, 40}, {80, 24}, {40, 8}} {
		v := &cutView{}
		term := start(t, size[0], size[1], func(o *ui.Options) { o.View = v })
		term.Feed(uitest.Healthy())
		term.Await("healthy")
		lacks(t, term, "CUT OFF", "nothing has come")
		v.cut.Store(true)
		term.Feed(uitest.Healthy())
		term.Await("nothing has come since")
		lacks(t, term, "healthy", "LIVE")
		if size[0] >= 80 {
			wants(t, term, "CUT OFF", "11:29:12: the hub does not take the token")
		}
		v.cut.Store(false)
		term.Feed(uitest.Healthy())
		term.Await("healthy")
		lacks(t, term, "CUT OFF", "nothing has come")
	}
}
