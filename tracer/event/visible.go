package event

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Strings of a recording are of whoever made it. What a terminal obeys or does not show, beside what JSON escapes anyhow, is written
// as a JSON escape: the upper control characters, marks that turn the direction of text around, characters of no width. The
// value stays what it is.

// hidden says whether a character is such a one.
func hidden(r rune) bool { return r >= utf8.RuneSelf && !strconv.IsPrint(r) }

// appendHidden appends the escape of a character, of two halves where it takes more than 16 bits.
func appendHidden(b []byte, r rune) []byte {
	if r > 0xffff {
		high, low := utf16.EncodeRune(r)
		return appendHidden(appendHidden(b, high), low)
	}
	return append(b, '\\', 'u', hexDigits[r>>12&0xf], hexDigits[r>>8&0xf], hexDigits[r>>4&0xf], hexDigits[r&0xf])
}

// AppendVisible appends JSON text, in which such characters stand in strings only, with escapes in their place.
func AppendVisible(b, text []byte) []byte {
	start := 0
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		if hidden(r) && (r != utf8.RuneError || size > 1) {
			b = append(b, text[start:i]...)
			b = appendHidden(b, r)
			start = i + size
		}
		i += size
	}
	return append(b, text[start:]...)
}
