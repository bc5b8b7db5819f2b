package event

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of values that are skipped; no body of ours is deeper than eight.
const maxDepth = 64

// scanner reads JSON text (RFC 8259) from data, front to back. A method that returns false has left the reason in err,
// or in what the innermost object lacks; callers on the way out put their names before path.
type scanner struct {
	data    []byte
	pos     int
	err     error
	lacking []string // of a MissingError
	path    string
	scratch []byte
}

func (s *scanner) fail(reason string) bool {
	if s.err == nil && s.lacking == nil {
		s.err = fmt.Errorf("%s (byte %d)", reason, s.pos)
	}
	return false
}

// missing fails with the names whose bits are set.
func (s *scanner) missing(names []string, bits uint64) bool {
	for i, name := range names {
		if bits&(1<<i) != 0 {
			s.lacking = append(s.lacking, name)
		}
	}
	return false
}

// within puts the name of an object's member or of an array's place ("[3]") before the path of a failure.
func (s *scanner) within(name string) bool {
	if s.path != "" && s.path[0] != '[' {
		name += "."
	}
	s.path = name + s.path
	return false
}

// failure is the error of a scanner that returned false.
func (s *scanner) failure() error {
	if s.lacking != nil {
		prefix := s.path
		if prefix != "" {
			prefix += "."
		}
		for i := range s.lacking {
			s.lacking[i] = prefix + s.lacking[i]
		}
		return &MissingError{Members: s.lacking}
	}
	if s.path != "" {
		return fmt.Errorf("%s: %w", s.path, s.err)
	}
	return s.err
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) expect(c byte) bool {
	if s.peek() != c || s.pos >= len(s.data) {
		return s.fail(fmt.Sprintf("want %q, have %s", c, s.here()))
	}
	s.pos++
	return true
}

// here names what stands at the position, for errors.
func (s *scanner) here() string {
	if s.pos >= len(s.data) {
		return "the end of the line"
	}
	r, _ := utf8.DecodeRune(s.data[s.pos:])
	return strconv.QuoteRune(r)
}

// eachMember reads an object and calls member at the start of each value, with a name that is valid until the next read.
func (s *scanner) eachMember(member func(name []byte) bool) bool {
	if !s.expect('{') {
		return false
	}
	s.space()
	if s.peek() == '}' {
		s.pos++
		return true
	}
	for {
		name, ok := s.text()
		if !ok {
			return false
		}
		s.space()
		if !s.expect(':') {
			return false
		}
		s.space()
		if !member(name) {
			return false
		}
		if more, ok := s.separator('}'); !more {
			return ok
		}
	}
}

// eachElement reads an array and calls element at the start of each value.
func (s *scanner) eachElement(element func(i int) bool) bool {
	if !s.expect('[') {
		return false
	}
	s.space()
	if s.peek() == ']' {
		s.pos++
		return true
	}
	for i := 0; ; i++ {
		if !element(i) {
			return s.within("[" + strconv.Itoa(i) + "]")
		}
		if more, ok := s.separator(']'); !more {
			return ok
		}
	}
}

// separator reads what follows a value: a comma (more is true) or the end of the object or array.
func (s *scanner) separator(end byte) (more, ok bool) {
	s.space()
	switch s.peek() {
	case ',':
		s.pos++
		s.space()
		return true, true
	case end:
		s.pos++
		return false, true
	}
	return false, s.fail(fmt.Sprintf("want ',' or %q, have %s", end, s.here()))
}

// skip reads a value of any kind.
func (s *scanner) skip(depth int) bool {
	if depth > maxDepth {
		return s.fail("nested too deep")
	}
	switch c := s.peek(); {
	case c == '"':
		_, ok := s.text()
		return ok
	case c == '{':
		return s.eachMember(func([]byte) bool { return s.skip(depth + 1) })
	case c == '[':
		return s.eachElement(func(int) bool { return s.skip(depth + 1) })
	case c == '-' || c >= '0' && c <= '9':
		_, ok := s.number()
		return ok
	}
	return s.literal("true") || s.literal("false") || s.literal("null") || s.fail("want a value, have "+s.here())
}

func (s *scanner) literal(word string) bool {
	if bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		s.pos += len(word)
		return true
	}
	return false
}

// number reads a number and returns its text.
func (s *scanner) number() ([]byte, bool) {
	start := s.pos
	if s.peek() == '-' {
		s.pos++
	}
	leadingZero := s.peek() == '0'
	if whole := s.digits(); whole == 0 || leadingZero && whole > 1 {
		return nil, s.fail("want a number, have " + s.here())
	}
	if s.peek() == '.' {
		s.pos++
		if s.digits() == 0 {
			return nil, s.fail("want a digit, have " + s.here())
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if s.digits() == 0 {
			return nil, s.fail("want a digit, have " + s.here())
		}
	}
	return s.data[start:s.pos], true
}

func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	return s.pos - start
}

func (s *scanner) unsigned(bits int) (uint64, bool) {
	text, ok := s.number()
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text), 10, bits)
	if err != nil {
		if d, ok := parseDecimal(string(text)); ok && (!d.negative || d.digits == "") {
			if n, exact, ok := d.scaled(0); ok && exact && n <= 1<<bits-1 {
				return n, true
			}
		}
		return 0, s.fail(fmt.Sprintf("%.40s is not a whole number from 0 to %d", text, uint64(1)<<bits-1))
	}
	return n, true
}

func (s *scanner) integer(bits int) (int64, bool) {
	text, ok := s.number()
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, bits)
	if err != nil {
		if d, ok := parseDecimal(string(text)); ok {
			if n, exact, ok := d.scaled(0); ok && exact && n <= 1<<(bits-1)-1 {
				if d.negative {
					return -int64(n), true
				}
				return int64(n), true
			}
		}
		return 0, s.fail(fmt.Sprintf("%.40s is not a whole number of %d bits", text, bits))
	}
	return n, true
}

// text reads a string. The result is valid until the next read.
func (s *scanner) text() ([]byte, bool) {
	if !s.expect('"') {
		return nil, false
	}
	for i := s.pos; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			text := s.data[s.pos:i]
			s.pos = i + 1
			return text, true
		case c < 0x20:
			s.pos = i
			return nil, s.fail("control character in a string")
		case c == '\\' || c >= utf8.RuneSelf:
			return s.unquote(i)
		}
	}
	s.pos = len(s.data)
	return nil, s.fail("the line ends inside a string")
}

// unquote is text from i on, where the first byte stands that cannot be taken as it is. Broken UTF-8 and lone surrogates
// become U+FFFD, as in encoding/json.
func (s *scanner) unquote(i int) ([]byte, bool) {
	out := append(s.scratch[:0], s.data[s.pos:i]...)
	for i < len(s.data) {
		c := s.data[i]
		switch {
		case c == '"':
			s.pos, s.scratch = i+1, out
			return out, true
		case c < 0x20:
			s.pos = i
			return nil, s.fail("control character in a string")
		case c == '\\':
			r, n := unescape(s.data[i:])
			if n == 0 {
				s.pos = i
				return nil, s.fail("unknown escape in a string")
			}
			out = utf8.AppendRune(out, r)
			i += n
		default:
			r, n := utf8.DecodeRune(s.data[i:])
			out = utf8.AppendRune(out, r)
			i += n
		}
	}
	s.pos = len(s.data)
	return nil, s.fail("the line ends inside a string")
}

// unescape reads the escape at the start of b, and how many bytes it takes; 0 for none that JSON knows.
func unescape(b []byte) (rune, int) {
	if len(b) < 2 {
		return 0, 0
	}
	if i := strings.IndexByte(`"\/bfnrt`, b[1]); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), 2
	}
	r, ok := hexRune(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := hexRune(b[6:]); ok {
		if r := utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, 12
		}
	}
	return utf8.RuneError, 6
}

func hexRune(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}

func (s *scanner) time() (time.Time, bool) {
	text, ok := s.text()
	if !ok {
		return time.Time{}, false
	}
	var t time.Time
	if err := t.UnmarshalText(text); err != nil || clampTime(t) != t.UTC() {
		return time.Time{}, s.fail(fmt.Sprintf("%.40q is not a time as RFC 3339 writes it", text))
	}
	return t.UTC(), true
}

func (s *scanner) addr() (netip.Addr, bool) {
	text, ok := s.text()
	if !ok || len(text) == 0 {
		return netip.Addr{}, ok
	}
	a, err := netip.ParseAddr(string(text))
	if err != nil {
		return netip.Addr{}, s.fail(fmt.Sprintf("%.60q is not an IP address", text))
	}
	return a.Unmap(), true
}

func (s *scanner) prefix() (netip.Prefix, bool) {
	text, ok := s.text()
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(string(text))
	if err != nil {
		return netip.Prefix{}, s.fail(fmt.Sprintf("%.60q is not a CIDR prefix", text))
	}
	return p, true
}
