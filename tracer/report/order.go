package report

import (
	"strconv"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/model"
)

// A column sorts by what it shows, so that an order never contradicts the eye: numbers by size, spans by length, the rest
// by its letters.

// What cells of each sort are ordered by; cells that say nothing come last either way.
const (
	due     = -1e300 // over already
	never   = 1e300
	nothing = 2e300
)

// RankOf returns the place of a cell's text in its column: the least first, or with reverse the other way round. Numbers
// come largest first where it is not reversed, since that is what one looks for; spans shortest first.
func RankOf(text string, reverse bool) model.Rank {
	number, span, ok := measure(text)
	switch {
	case text == "" || text == "-" || text == "?":
		return model.Rank{Number: nothing}
	case !ok && reverse:
		return model.Rank{Text: backwards(text)}
	case !ok:
		return model.Rank{Text: strings.ToLower(text)}
	case span == reverse:
		number = -number
	}
	return model.Rank{Number: number}
}

// backwards gives texts the opposite order.
func backwards(text string) string {
	b := []byte(strings.ToLower(text))
	for i := range b {
		b[i] = ^b[i]
	}
	return string(b) + "\xff" // the longer of two that begin alike comes first
}

// measure reads a cell as a number, and says whether it is a span of time.
func measure(text string) (n float64, span, ok bool) {
	switch text {
	case "due":
		return due, true, true
	case "never":
		return never, true, true
	}
	text = strings.TrimPrefix(text, ">=")
	if text == "" || (text[0] < '0' || text[0] > '9') && text[0] != '<' && text[0] != '-' {
		return 0, false, false
	}
	if part, ok := strings.CutSuffix(text, " %"); ok {
		if part == "<1" {
			return 0.5, false, true
		}
		n, err := strconv.ParseFloat(part, 64)
		return n, false, err == nil
	}
	short, _, _ := strings.Cut(strings.TrimSuffix(text, "!"), "/") // 61k of 61k/262k
	if n, ok := shortNumber(short); ok {
		return n, false, true
	}
	if d, ok := parseSpan(text); ok {
		return d.Seconds(), true, true
	}
	return 0, false, false
}

// shortNumber reads what [Count] and [Short] write.
func shortNumber(text string) (float64, bool) {
	unit := 1.0
	if i := len(text) - 1; i > 0 {
		switch text[i] {
		case 'k':
			unit = 1e3
		case 'M':
			unit = 1e6
		case 'G':
			unit = 1e9
		case 'T':
			unit = 1e12
		}
		if unit > 1 {
			text = text[:i]
		}
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	return n * unit, err == nil
}

// parseSpan reads what [Span] writes.
func parseSpan(text string) (time.Duration, bool) {
	days := time.Duration(0)
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.Atoi(before)
		if err != nil {
			return 0, false
		}
		days, text = time.Duration(n)*24*time.Hour, after
	}
	d, err := time.ParseDuration(text)
	return days + d, err == nil
}
