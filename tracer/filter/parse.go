package filter

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error says what is wrong with the text of a filter, and where.
type Error struct {
	Pos  int // the byte where it is
	Msg  string
	char int // the same in characters, from 1
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("filter: %s (character %d)", e.Msg, e.char) }

type parser struct {
	text   string
	fields []string
	pos    int
}

func (p *parser) fail(pos int, format string, args ...any) error {
	return &Error{Pos: pos, Msg: fmt.Sprintf(format, args...), char: utf8.RuneCountInString(p.text[:pos]) + 1}
}

func (p *parser) space() {
	for p.pos < len(p.text) && isSpace(p.text[p.pos]) {
		p.pos++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// operators, the longer before those that they begin with.
var operators = []string{"!=", "<=", ">=", ":", "=", "~", "<", ">"}

func (p *parser) term() (term, error) {
	start := p.pos
	var t term
	if p.text[p.pos] == '!' {
		t.not = true
		p.pos++
	}
	field, op, at := p.fieldAndOperator()
	if op == "" {
		values, err := p.values("", start)
		if err != nil {
			return term{}, err
		}
		t.fields, t.holds = p.fields, anyOf(values, contains)
		return t, nil
	}
	name, ok := p.find(field)
	if !ok {
		return term{}, p.unknown(at, field)
	}
	t.fields = []string{name}
	valuesAt := p.pos
	if op == "~" {
		text, err := p.pattern(field)
		if err != nil {
			return term{}, err
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return term{}, p.fail(valuesAt, "%s is not a regular expression: %s", text, reason(err))
		}
		t.holds = re.MatchString
		return t, nil
	}
	values, err := p.values(field+op, valuesAt)
	if err != nil {
		return term{}, err
	}
	switch op {
	case ":":
		t.holds = anyOf(values, contains)
	case "=":
		t.holds = anyOf(values, equals)
	case "!=":
		t.holds = anyOf(values, equals)
		t.not = !t.not
	default:
		t.holds, err = p.comparison(op, values, valuesAt)
	}
	return t, err
}

func reason(err error) string { return strings.TrimPrefix(err.Error(), "error parsing regexp: ") }

// fieldAndOperator reads both, or nothing where the term is a bare word. A word that is an address as a whole, as of
// IPv6, has no field.
func (p *parser) fieldAndOperator() (field, op string, at int) {
	rest := p.text[p.pos:]
	n := 0
	for n < len(rest) && isName(rest[n], n == 0) {
		n++
	}
	if n == 0 || isAddress(word(rest)) {
		return "", "", 0
	}
	for _, op := range operators {
		if strings.HasPrefix(rest[n:], op) {
			at = p.pos
			p.pos += n + len(op)
			return rest[:n], op, at
		}
	}
	return "", "", 0
}

func isName(c byte, first bool) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
	return letter || !first && (c >= '0' && c <= '9' || c == '.')
}

// word is text up to a space or comma.
func word(text string) string {
	if i := strings.IndexAny(text, " \t\r\n,"); i >= 0 {
		return text[:i]
	}
	return text
}

func isAddress(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	if _, err := netip.ParsePrefix(text); err == nil {
		return true
	}
	_, err := netip.ParseAddrPort(text)
	return err == nil
}

// values reads values with commas between them; after names what stands before them, for errors.
func (p *parser) values(after string, start int) ([]string, error) {
	var all []string
	for {
		v, err := p.value(after, start)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		if p.pos == len(p.text) || p.text[p.pos] != ',' {
			break
		}
		p.pos++
		start = p.pos
	}
	if p.pos < len(p.text) && !isSpace(p.text[p.pos]) {
		return nil, p.fail(p.pos, "want a space or comma after a quoted value")
	}
	return all, nil
}

func (p *parser) value(after string, start int) (string, error) {
	if p.pos < len(p.text) && p.text[p.pos] == '"' {
		return p.quoted()
	}
	begin := p.pos
	for p.pos < len(p.text) && !isSpace(p.text[p.pos]) && p.text[p.pos] != ',' && p.text[p.pos] != '"' {
		p.pos++
	}
	switch {
	case p.pos > begin:
		return p.text[begin:p.pos], nil
	case after == "":
		return "", p.fail(start, "want a value")
	}
	return "", p.fail(begin, "want a value after %s", after)
}

// pattern reads the value of "~", which ends at a space only.
func (p *parser) pattern(field string) (string, error) {
	if p.pos < len(p.text) && p.text[p.pos] == '"' {
		text, err := p.quoted()
		if err == nil && p.pos < len(p.text) && !isSpace(p.text[p.pos]) {
			err = p.fail(p.pos, "want a space after a quoted value")
		}
		return text, err
	}
	begin := p.pos
	for p.pos < len(p.text) && !isSpace(p.text[p.pos]) {
		p.pos++
	}
	if p.pos == begin {
		return "", p.fail(begin, "want a regular expression after %s~", field)
	}
	return p.text[begin:p.pos], nil
}

// quoted reads a value in quotes. A backslash stands for itself before anything but a quote and a backslash.
func (p *parser) quoted() (string, error) {
	start := p.pos
	var b strings.Builder
	for i := start + 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.pos = i + 1
			return b.String(), nil
		case c == '\\' && i+1 < len(p.text) && (p.text[i+1] == '"' || p.text[i+1] == '\\'):
			i++
			b.WriteByte(p.text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail(start, "the quote does not end")
}

func (p *parser) find(field string) (string, bool) {
	i := slices.IndexFunc(p.fields, func(name string) bool { return strings.EqualFold(name, field) })
	if i < 0 {
		return "", false
	}
	return p.fields[i], true
}

// unknown is the error for a field that there is not, with the nearest that there is.
func (p *parser) unknown(at int, field string) error {
	if best := Nearest(field, p.fields); best != "" {
		return p.fail(at, "unknown field %q, did you mean %s?", field, best)
	}
	return p.fail(at, "unknown field %q; there are %s", field, strings.Join(p.fields, ", "))
}

// Nearest returns the name that word was most likely meant to be: one that it begins, else one that a few typing errors
// away from it; "" where none is near.
func Nearest(word string, names []string) string {
	word = strings.ToLower(word)
	best, least := "", len(word)/2+1
	for _, name := range names {
		d := distance(word, strings.ToLower(name))
		if word != "" && strings.HasPrefix(strings.ToLower(name), word) {
			d = 0
		}
		if d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many characters must be changed, added, taken away or swapped with their neighbour to make a out of b
// (optimal string alignment).
func distance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
