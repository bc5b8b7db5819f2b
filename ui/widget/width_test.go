package widget

import (
	"strconv"
	"testing"

	"github.com/rivo/uniseg"

	"github.com/midhop/midhop/tracer/report"
)

// Report counts columns by a small table of its own, the terminal library by Unicode's: where they differ, columns of a
// table would not stand below each other.
func TestWidthsAgreeWithTheTerminalLibrary(t *testing.T) {
	wrong := 0
	for r := rune(' '); r < 0x2ffff; r++ {
		s := string(r)
		if !strconv.IsPrint(r) || report.Clean(s) != s {
			continue
		}
		if r >= 0x1f1e6 && r <= 0x1f1ff {
			continue // regional indicators: one column each, so that the pair that makes a flag takes two
		}
		if want, got := uniseg.StringWidth(s), report.Width(s); got != want {
			if wrong++; wrong <= 20 {
				t.Errorf("%U %s takes %d columns, not %d", r, s, want, got)
			}
		}
	}
	if wrong > 20 {
		t.Errorf("and %d more", wrong-20)
	}
}
