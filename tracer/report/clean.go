package report

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxClean is the most characters that one cleaned string keeps. Kubernetes names have at most 253 (RFC 1123 subdomain);
// whatever is longer was not meant to be read.
const maxClean = 1024

// maxMarks is the most combining marks that are kept in a row; scripts need three, a tower of them hides other lines.
const maxMarks = 4

// Clean returns s such that a terminal shows every character of it and obeys none: control characters, escape
// sequences, bidirectional overrides, zero-width and other invisible characters, spaces that are not the plain one and
// broken UTF-8 become visible escapes such as \x1b and \u202e. Cleaning twice changes nothing more.
func Clean(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	count, marks := 0, 0
	for i := 0; i < len(s); {
		if count++; count > maxClean {
			b.WriteString(Cut)
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		mark := unicode.In(r, unicode.Mn, unicode.Me)
		if !mark {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x`)
			b.WriteString(hex2(s[i]))
		case mark:
			// A mark needs something to stand on, else it changes what was there before.
			if marks++; marks <= maxMarks && b.Len() > 0 && !unicode.Is(unicode.Variation_Selector, r) {
				b.WriteRune(r)
			}
		case strconv.IsPrint(r) && !isOdd(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += size
	}
	return b.String()
}

func isPlain(s string) bool {
	if len(s) > maxClean {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func hex2(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}

// isOdd names what is printable by category and yet shows nothing (the Hangul fillers, the blank Braille pattern), takes
// more than two columns (long dashes) or changes the character before it (skin tones).
func isOdd(r rune) bool {
	switch r {
	case 0x115f, 0x1160, 0x3164, 0xffa0, 0x2800, 0x2e3a, 0x2e3b:
		return true
	}
	return r >= 0x1f3fb && r <= 0x1f3ff
}

// Cut stands where something was cut off. It cannot be part of a Kubernetes name.
const Cut = "~"

// Width returns how many terminal columns s takes: marks none, East Asian wide characters and emoji two.
func Width(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			for _, r := range s[i:] {
				n += runeWidth(r)
			}
			return n
		}
		n++
	}
	return n
}

// wide holds the main ranges of East_Asian_Width W and F (Unicode 16, EastAsianWidth.txt).
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x231a, 0x231b, 1}, {0x2329, 0x232a, 1}, {0x23e9, 0x23ec, 1}, {0x23f0, 0x23f3, 3},
		{0x25fd, 0x25fe, 1}, {0x2614, 0x2615, 1}, {0x2648, 0x2653, 1}, {0x267f, 0x2693, 20}, {0x26a1, 0x26aa, 9},
		{0x26ab, 0x26bd, 18}, {0x26be, 0x26c4, 6}, {0x26c5, 0x26ce, 9}, {0x26d4, 0x26ea, 22}, {0x26f2, 0x26f3, 1},
		{0x26f5, 0x26fa, 5}, {0x26fd, 0x2705, 8}, {0x270a, 0x270b, 1}, {0x2728, 0x274c, 36}, {0x274e, 0x2753, 5},
		{0x2754, 0x2755, 1}, {0x2757, 0x2795, 62}, {0x2796, 0x2797, 1}, {0x27b0, 0x27bf, 15}, {0x2b1b, 0x2b1c, 1},
		{0x2b50, 0x2b55, 5}, {0x2e80, 0x302d, 1}, {0x3031, 0x303c, 1}, {0x303e, 0x3040, 2}, {0x3041, 0x3247, 1}, {0x3250, 0x3296, 1},
		{0x3298, 0x329a, 2}, {0x329b, 0x33ff, 1}, {0x3400, 0x4dbf, 1}, {0x4e00, 0xa4cf, 1},
		{0xa960, 0xa97c, 1}, {0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe10, 0xfe19, 1}, {0xfe30, 0xfe6f, 1},
		{0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{
		{0x16fe0, 0x18d08, 1}, {0x1aff0, 0x1b2ff, 1}, {0x1f004, 0x1f0cf, 203}, {0x1f18e, 0x1f191, 3},
		{0x1f192, 0x1f19a, 1}, {0x1f200, 0x1f201, 1}, {0x1f203, 0x1f236, 1}, {0x1f238, 0x1f25f, 1}, {0x1f266, 0x1f320, 1}, {0x1f32d, 0x1f335, 1}, {0x1f337, 0x1f37c, 1},
		{0x1f37e, 0x1f393, 1}, {0x1f3a0, 0x1f3ca, 1}, {0x1f3cf, 0x1f3d3, 1}, {0x1f3e0, 0x1f3f0, 1},
		{0x1f3f4, 0x1f3f8, 4}, {0x1f3f9, 0x1f43e, 1}, {0x1f440, 0x1f442, 2}, {0x1f443, 0x1f4fc, 1},
		{0x1f4ff, 0x1f53d, 1}, {0x1f54b, 0x1f54e, 1}, {0x1f550, 0x1f567, 1}, {0x1f57a, 0x1f595, 27},
		{0x1f596, 0x1f5a4, 14}, {0x1f5fb, 0x1f64f, 1}, {0x1f680, 0x1f6c5, 1}, {0x1f6cc, 0x1f6d0, 4},
		{0x1f6d1, 0x1f6d2, 1}, {0x1f6d5, 0x1f6d7, 1}, {0x1f6dc, 0x1f6df, 1}, {0x1f6eb, 0x1f6ec, 1},
		{0x1f6f4, 0x1f6fc, 1}, {0x1f7e0, 0x1f7f0, 1}, {0x1f90c, 0x1f93a, 1}, {0x1f93c, 0x1f945, 1},
		{0x1f947, 0x1f9ff, 1}, {0x1fa70, 0x1faff, 1}, {0x20000, 0x3fffd, 1},
	},
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Other_Grapheme_Extend):
		return 0
	case r >= 0x1100 && unicode.Is(wide, r):
		return 2
	}
	return 1
}

// splitAt cuts s after at most width columns; marks stay with what they stand on.
func splitAt(s string, width int) (head, tail string) {
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > width {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// Fit returns s cut to at most width columns, the last one being [Cut] where something is missing.
func Fit(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	head, _ := splitAt(s, width-1)
	return head + Cut
}

// FitMiddle is [Fit] for names whose end tells them apart, such as those of nodes and pods: it cuts in the middle and
// keeps a little more of the end. A domain goes first.
func FitMiddle(s string, width int) string {
	if Width(s) <= width {
		return s
	}
	if width < 8 {
		return Fit(s, width)
	}
	// The domain is what nodes have in common, and would be most of the tail: ip-10-0-1-2.eu-west-1.compute.internal.
	if host, _, ok := strings.Cut(s, "."); ok && strings.ContainsFunc(host, unicode.IsLetter) {
		switch w := Width(host); {
		case w < width:
			return host + Cut
		case w == width:
			return host // no room for a sign of what is missing, and nothing is that one asks for
		}
		s = host
	}
	runes := []rune(s)
	room, start := (width-1)*3/5, len(runes)
	for start > 0 && room-runeWidth(runes[start-1]) >= 0 {
		start--
		room -= runeWidth(runes[start])
	}
	for start < len(runes) && runeWidth(runes[start]) == 0 {
		start++ // a mark cannot begin the tail
	}
	tail := string(runes[start:])
	head, _ := splitAt(s, width-1-Width(tail))
	return head + Cut + tail
}
