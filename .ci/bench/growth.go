package main

import (
	"fmt"
	"html"
	"io"
	"math"
)

// superLinear is from where on growth counts as more than linear: caches get colder on the way.
const superLinear = 1.15

// curve is how one cost grows with the work.
type curve struct {
	What      string    `json:"what"`
	Unit      string    `json:"unit"`
	Points    []point   `json:"points"`
	Exponents []float64 `json:"exponents"` // of each step: cost ~ work^exponent
}

type point struct {
	N float64 `json:"n"`
	V float64 `json:"v"`
}

// growth gathers what was measured at several sizes. Costs per piece are multiplied by the pieces.
func growth(r results) []curve {
	var out []curve
	for _, g := range []struct {
		what, unit  string
		bench, from string
		each        float64 // 0: the figure is the whole; else of one piece, in these parts of the unit
	}{
		{"memory of midhop watch, by sockets", "MB", "BenchmarkWeight/sockets=%d", "own-MB", 0},
		{"first look of midhop watch, by sockets", "CPU ms", "BenchmarkWeight/sockets=%d", "cpu-ms-first-look", 0},
		{"healthy sockets, by sockets", "% of a core", "BenchmarkWeight/sockets=%d", "%core-idle", 0},
		{"folding a first census, by sockets", "CPU ms", "BenchmarkSocketSeen/%d", "cpu-ns/socket", 1e6},
		{"memory of the model, by sockets", "MB", "BenchmarkSocketSeen/%d", "B/socket", 1e6},
		{"folding a first dump, by entries", "CPU ms", "BenchmarkEntrySeen/%d", "cpu-ns/entry", 1e6},
		{"collector's cycle, by sockets", "CPU ms", "BenchmarkCollect/%d", "cpu-ms/cycle", 0},
	} {
		c := curve{What: g.what, Unit: g.unit}
		for _, n := range []int{10_000, 100_000, 1_000_000} {
			if v, ok := r[fmt.Sprintf(g.bench, n)][g.from]; ok && v > 0 {
				if g.each > 0 {
					v *= float64(n) / g.each
				}
				c.Points = append(c.Points, point{float64(n), v})
			}
		}
		for i := 1; i < len(c.Points); i++ {
			a, b := c.Points[i-1], c.Points[i]
			c.Exponents = append(c.Exponents, math.Log(b.V/a.V)/math.Log(b.N/a.N))
		}
		if len(c.Points) > 1 {
			out = append(out, c)
		}
	}
	return out
}

// svg draws the curves, each relative to its first point, on logarithmic axes: a line at the diagonal's slope is linear.
func (r *report) svg(w io.Writer) error {
	const width, height, left, top, plot = 760, 420, 60, 20, 340
	colours := []string{"#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#117a65", "#7f8c8d"}
	x := func(n float64) float64 { return left + plot*(math.Log10(n)-4)/2 }
	y := func(v float64) float64 { return top + plot - plot*math.Log10(v)/2.4 }
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(w, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for e := 0; e <= 2; e++ {
		n, v := math.Pow10(4+e), math.Pow10(e)
		fmt.Fprintf(w, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="#ddd"/><text x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", x(n), top, x(n), top+plot, x(n), top+plot+18, grouped(int64(n)))
		fmt.Fprintf(w, `<line x1="%d" y1="%.0f" x2="%d" y2="%.0f" stroke="#ddd"/><text x="%d" y="%.0f" text-anchor="end">%.0fx</text>`+"\n", left, y(v), left+plot, y(v), left-6, y(v)+4, v)
	}
	fmt.Fprintf(w, `<line x1="%.0f" y1="%.0f" x2="%.0f" y2="%.0f" stroke="#999" stroke-dasharray="4 4"/>`+"\n", x(1e4), y(1), x(1e6), y(100))
	fmt.Fprintf(w, `<text x="%d" y="%d">%s, relative to 10,000; dashed: linear</text>`+"\n", left, top+plot+44, html.EscapeString("cost by work, midhop "+r.Machine.Commit))
	for i, c := range r.Growth {
		colour := colours[i%len(colours)]
		fmt.Fprintf(w, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
		for _, p := range c.Points {
			fmt.Fprintf(w, "%.1f,%.1f ", x(p.N), y(max(p.V/c.Points[0].V, 0.9)))
		}
		fmt.Fprintf(w, `"/><text x="%d" y="%d" fill="%s">%s</text>`+"\n", left+plot+20, top+20+18*i, colour, html.EscapeString(c.What))
	}
	_, err := fmt.Fprintln(w, "</svg>")
	return err
}
