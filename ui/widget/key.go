package widget

import (
	"strings"

	"github.com/gdamore/tcell/v2"
)

// KeyName names a key press as key maps do: "j", "G", "enter", "esc", "up", "space", "ctrl-c".
func KeyName(ev *tcell.EventKey) string {
	switch ev.Key() {
	case tcell.KeyRune:
		if ev.Rune() == ' ' {
			return "space"
		}
		return string(ev.Rune())
	case tcell.KeyEnter:
		return "enter"
	case tcell.KeyEscape:
		return "esc"
	case tcell.KeyBackspace, tcell.KeyBackspace2:
		return "backspace"
	case tcell.KeyTab:
		return "tab"
	case tcell.KeyBacktab:
		return "backtab"
	case tcell.KeyPgUp:
		return "pgup"
	case tcell.KeyPgDn:
		return "pgdn"
	}
	return strings.ReplaceAll(strings.ToLower(tcell.KeyNames[ev.Key()]), "ctrl+", "ctrl-")
}

// Move is a step of a cursor.
type Move int

// The moves.
const (
	Up Move = iota
	Down
	PageUp
	PageDown
	HalfUp
	HalfDown
	Top
	Bottom
)

// Moves maps keys to moves: arrows, the pager's keys and those of vi.
var Moves = []struct {
	Keys []string
	Move Move
	Help string
}{
	{[]string{"j", "down"}, Down, "down"},
	{[]string{"k", "up"}, Up, "up"},
	{[]string{"ctrl-d"}, HalfDown, "half a page down"},
	{[]string{"ctrl-u"}, HalfUp, "half a page up"},
	{[]string{"pgdn", "ctrl-f"}, PageDown, "a page down"},
	{[]string{"pgup", "ctrl-b"}, PageUp, "a page up"},
	{[]string{"g", "home"}, Top, "first row"},
	{[]string{"G", "end"}, Bottom, "last row"},
}

// step returns where a move leads from position at, of n positions with page of them visible.
func (m Move) step(at, n, page int) int {
	page = max(page, 1)
	switch m {
	case Up:
		at--
	case Down:
		at++
	case PageUp:
		at -= page
	case PageDown:
		at += page
	case HalfUp:
		at -= max(page/2, 1)
	case HalfDown:
		at += max(page/2, 1)
	case Top:
		at = 0
	case Bottom:
		at = n - 1
	}
	return max(0, min(at, n-1))
}
