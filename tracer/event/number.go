package event

import (
	"math"
	"strconv"
	"strings"
)

// decimal is a JSON number (RFC 8259, 6) taken apart: digits times ten to the power of exp. Writers of JSON differ in how they
// put numbers down (8.5e-05, 1E3, 5.0), and all mean the same.
type decimal struct {
	negative bool
	digits   string // without zeros at either end; empty is zero
	exp      int
}

// maxExponent bounds what an exponent may say: beyond it every number that is not zero is far too large or too small for anything.
const maxExponent = 1 << 20

// parseDecimal takes a number apart whose form is known to be a JSON number's, and returns false for any other.
func parseDecimal(text string) (d decimal, ok bool) {
	mantissa, exponent, has := text, "", false
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent, has = text[:i], text[i+1:], true
	}
	if has {
		n, err := strconv.ParseInt(exponent, 10, 64)
		if err != nil && !isRange(err) {
			return d, false
		}
		d.exp = int(min(max(n, -maxExponent), maxExponent))
	}
	mantissa, d.negative = strings.CutPrefix(mantissa, "-")
	whole, fraction, dot := strings.Cut(mantissa, ".")
	if whole == "" || dot && fraction == "" {
		return d, false
	}
	d.digits = whole + fraction
	for i := range len(d.digits) {
		if d.digits[i]-'0' > 9 {
			return d, false
		}
	}
	d.exp -= len(fraction)
	d.digits = strings.TrimLeft(d.digits, "0")
	trimmed := strings.TrimRight(d.digits, "0")
	d.exp += len(d.digits) - len(trimmed)
	d.digits = trimmed
	return d, true
}

func isRange(err error) bool { return strings.HasSuffix(err.Error(), strconv.ErrRange.Error()) }

// scaled returns the number without its sign, times ten to the power of shift, rounded to the nearest whole; exact says that
// nothing was rounded, ok that it fits.
func (d decimal) scaled(shift int) (n uint64, exact, ok bool) {
	digits, exp := d.digits, d.exp+shift
	exact = true
	up := false
	if exp < 0 && digits != "" {
		exact = false
		cut := len(digits) + exp // digits that are left
		switch {
		case cut < 0:
			digits = ""
		default:
			up = digits[cut] >= '5'
			digits = digits[:cut]
		}
		exp = 0
	}
	if digits == "" {
		if up {
			n = 1
		}
		return n, exact, true
	}
	if len(digits)+exp > 20 {
		return 0, exact, false
	}
	n, err := strconv.ParseUint(digits+strings.Repeat("0", exp), 10, 64)
	if err != nil || up && n == math.MaxUint64 {
		return 0, exact, false
	}
	if up {
		n++
	}
	return n, exact, true
}
