package event

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString appends s in quotes, escaped as encoding/json does without HTML escaping, and more: see hidden.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	b = appendEscaped(b, s)
	return append(b, '"')
}

// asIs says whether all of 8 bytes stand for themselves between quotes. It may deny it of bytes that do, beside one that
// does not, but never the other way round.
func asIs(x uint64) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	quote, back := x^('"'*ones), x^('\\'*ones)
	return (x|((x-0x20*ones)&^x)|((quote-ones)&^quote)|((back-ones)&^back))&highs == 0
}

// appendEscaped is appendString without the quotes. What is not valid UTF-8 becomes U+FFFD, one per byte; what a terminal would
// obey or not show is escaped, see hidden.
func appendEscaped(b []byte, s string) []byte {
	plain := 0
	for plain+8 <= len(s) && asIs(binary.LittleEndian.Uint64([]byte(s[plain:plain+8]))) {
		plain += 8
	}
	for plain < len(s) && s[plain] >= 0x20 && s[plain] < utf8.RuneSelf && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	if plain == len(s) { // as nearly always
		return append(b, s...)
	}
	start := 0
	for i := plain; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscapedByte(b, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, s[start:i]...)
			b = append(b, `\ufffd`...)
			start = i + size
		case hidden(r):
			b = append(b, s[start:i]...)
			b = appendHidden(b, r)
			start = i + size
		}
		i += size
	}
	return append(b, s[start:]...)
}

func appendEscapedByte(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendTime appends t, which must be UTC, in quotes with as many digits of the second as it needs: the form of
// time.RFC3339Nano, for years of four digits.
func appendTime(b []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append(b, '"', byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10))
	b = append2(append(b, '-'), int(month))
	b = append2(append(b, '-'), day)
	b = append2(append(b, 'T'), hour)
	b = append2(append(b, ':'), minute)
	b = append2(append(b, ':'), second)
	b = appendFraction(b, uint32(t.Nanosecond()))
	return append(b, 'Z', '"')
}

func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// appendFraction appends nanoseconds below a second as a decimal fraction without trailing zeros, nothing for 0.
func appendFraction(b []byte, ns uint32) []byte {
	if ns == 0 {
		return b
	}
	digits := 9
	if ns%1_000_000 == 0 { // most spans are whole milliseconds
		ns, digits = ns/1_000_000, 3
	}
	for ns%10 == 0 {
		ns, digits = ns/10, digits-1
	}
	end := len(b) + 1 + digits
	b = append(b, ".000000000"[:1+digits]...)
	for i := end - 1; ns > 0; i-- {
		b[i] = byte('0' + ns%10)
		ns /= 10
	}
	return b
}

// appendAddr appends an address in quotes, "" for the zero Addr. Only a zone can hold bytes that need escaping.
func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Zone() != "" {
		return appendString(b, a.String())
	}
	b = append(b, '"')
	if a.IsValid() {
		b = a.AppendTo(b)
	}
	return append(b, '"')
}

func appendEndpoint(b []byte, e Endpoint) []byte {
	b = append(b, `{"ip":`...)
	b = appendAddr(b, e.IP)
	b = append(b, `,"port":`...)
	b = strconv.AppendUint(b, uint64(e.Port), 10)
	return append(b, '}')
}

// appendText appends a member that is left out where it is empty; name brings its comma, quotes and colon.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendCount appends a member that is left out where it is zero.
func appendCount(b []byte, name string, value uint64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendUint(append(b, name...), value, 10)
}

// appendSpan appends a member that is left out where it is unknown.
func appendSpan(b []byte, name string, value Opt[Seconds]) []byte {
	if !value.OK {
		return b
	}
	return value.V.AppendJSON(append(b, name...))
}
