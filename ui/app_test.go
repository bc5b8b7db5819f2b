package ui_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/midhop/midhop/tracer/model"
	"github.com/midhop/midhop/ui"
	"github.com/midhop/midhop/ui/uitest"
)

// sizes are the terminals that every screen has a golden file for.
var sizes = []struct{ w, h int }{{80, 24}, {120, 40}, {40, 12}, {200, 60}}

func golden(name string, w, h int) string {
	return filepath.Join("testdata", "golden", fmt.Sprintf("%s-%dx%d.txt", name, w, h))
}

func TestScreens(t *testing.T) {
	for _, test := range []struct {
		name string
		snap *model.Snapshot
		keys []string
	}{
		{"starting", uitest.Starting(), nil},
		{"bare", uitest.Bare(), nil},
		{"healthy", uitest.Healthy(), nil},
		{"nodes", uitest.NodeGone(), nil},
		{"incident", uitest.NodeGone(), []string{"i"}},
		{"incidents", uitest.NodeGone(), []string{"2"}},
		{"sockets", uitest.NodeGone(), []string{"enter"}},
		{"log", uitest.NodeGone(), []string{"5"}},
		{"path", uitest.NodeGone(), []string{"enter", "enter"}},
		{"doctor", uitest.NodeGone(), []string{"6"}},
		{"filter", uitest.NodeGone(), []string{"3", "/", "s", "t", "a", "t", "e", ":", "S", "T"}},
		{"filter-wrong", uitest.NodeGone(), []string{"3", "/", "s", "t", "a", "t", ":", "x"}},
		{"wide", uitest.NodeGone(), []string{"w"}},
		{"replay", uitest.NodeGone(), []string{"5"}},
		{"help", uitest.NodeGone(), []string{"?"}},
	} {
		for _, size := range sizes {
			if test.name == "path" && size.h < 20 {
				continue // what is waited for below is not in view
			}
			t.Run(fmt.Sprintf("%s/%dx%d", test.name, size.w, size.h), func(t *testing.T) {
				term := uitest.Start(t, size.w, size.h, uitest.Now, func(o *ui.Options) {
					o.Title = "lab node-gone"
					o.Log = ui.NewLog(100)
					o.Log.Write(uitest.Events())
					if test.name == "replay" {
						o.Replay, o.Player = true, &recorded{play: uitest.Replay()}
					}
				})
				term.Show(test.snap)
				term.Press(test.keys...)
				if test.name == "path" {
					term.Feed(test.snap) // the answer to what the screen asks comes with it
					term.Await("ELSEWHERE")
				}
				uitest.Golden(t, golden(test.name, size.w, size.h), term.Text())
			})
		}
	}
}

// recorded is a recording that only notes what is asked of it.
type recorded struct {
	mu    sync.Mutex
	play  ui.Play
	asked []string
}

func (r *recorded) Play() ui.Play {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.play
}

func (r *recorded) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, what)
}

func (r *recorded) Seek(t time.Time) error { r.note("seek " + t.Format("15:04:05")); return nil }

func (r *recorded) Speed(x float64) { r.note(fmt.Sprintf("speed %g", x)) }

func (r *recorded) Pause(on bool) { r.note(fmt.Sprintf("pause %v", on)) }
