package ui_test

import (
	"testing"

	"github.com/gdamore/tcell/v2"

	"github.com/midhop/midhop/tracer/filter"
	"github.com/midhop/midhop/ui/screen"
	"github.com/midhop/midhop/ui/theme"
	"github.com/midhop/midhop/ui/uitest"
	"github.com/midhop/midhop/ui/widget"
)

// BenchmarkDraw is one drawing of a table of 200,000 sockets; 10 ms is the bound.
func BenchmarkDraw(b *testing.B) {
	sim := tcell.NewSimulationScreen("UTF-8")
	if err := sim.Init(); err != nil {
		b.Fatal(err)
	}
	defer sim.Fini()
	sim.SetSize(120, 40)
	f := &screen.Frame{Snap: many(200_000), Now: uitest.Now, Class: screen.Medium, Height: 40}
	c := widget.Canvas{Screen: sim, Theme: theme.Theme{}}
	for _, test := range []struct {
		name    string
		changed bool // another snapshot each time
	}{{"scrolling", false}, {"new-snapshot", true}} {
		b.Run(test.name, func(b *testing.B) {
			s := screen.NewSockets("")
			for b.Loop() {
				if test.changed {
					next := *f.Snap
					f.Snap = &next
				}
				s.Move(widget.PageDown, f)
				sim.Clear()
				s.Draw(c, widget.Rect{Y: 1, W: 120, H: 37}, f)
				sim.Show()
			}
		})
	}
}

// BenchmarkOrder sorts and filters 200,000 sockets, as a key makes it happen, and draws them. A screen is never given as
// many: a snapshot holds 1,000 in trouble, a page 500, and the rest is chosen and ordered where the state is.
func BenchmarkOrder(b *testing.B) {
	sim := tcell.NewSimulationScreen("UTF-8")
	if err := sim.Init(); err != nil {
		b.Fatal(err)
	}
	defer sim.Fini()
	sim.SetSize(120, 40)
	f := &screen.Frame{Snap: many(200_000), Now: uitest.Now, Class: screen.Medium, Height: 40}
	c := widget.Canvas{Screen: sim, Theme: theme.Theme{}}
	for _, column := range []string{"left", "peer"} {
		b.Run(column, func(b *testing.B) {
			s := screen.NewSockets("")
			for b.Loop() {
				if err := s.SortBy(column); err != nil {
					b.Fatal(err)
				}
				s.Draw(c, widget.Rect{Y: 1, W: 120, H: 37}, f)
			}
		})
	}
	b.Run("filter", func(b *testing.B) {
		s := screen.NewSockets("")
		for i := 0; b.Loop(); i++ {
			taken, err := filter.Parse([]string{"rtx>4", "rtx>3"}[i%2], s.FilterNames())
			if err != nil {
				b.Fatal(err)
			}
			s.SetFilter(taken)
			s.Draw(c, widget.Rect{Y: 1, W: 120, H: 37}, f)
		}
	})
}
