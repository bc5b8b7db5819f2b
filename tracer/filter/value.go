package filter

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// anyOf makes one test of several values, each made ready once.
func anyOf(values []string, ready func(string) func(string) bool) func(string) bool {
	tests := make([]func(string) bool, len(values))
	for i, v := range values {
		tests[i] = ready(v)
	}
	if len(tests) == 1 {
		return tests[0]
	}
	return func(text string) bool {
		for _, test := range tests {
			if test(text) {
				return true
			}
		}
		return false
	}
}

// contains makes the test of ":".
func contains(value string) func(string) bool {
	lower := strings.ToLower(value)
	holds := func(text string) bool { return strings.Contains(strings.ToLower(text), lower) }
	if p, err := netip.ParsePrefix(value); err == nil {
		p = unmapPrefix(p)
		return func(text string) bool {
			if a, ok := address(text); ok {
				return p.Contains(a.WithZone(""))
			}
			return holds(text)
		}
	}
	if want, err := netip.ParseAddr(value); err == nil {
		want = want.Unmap()
		return func(text string) bool {
			if a, ok := address(text); ok {
				return a == want
			}
			return holds(text)
		}
	}
	return holds
}

// equals makes the test of "=": the same address, the same quantity, or the same text.
func equals(value string) func(string) bool {
	if want, err := netip.ParseAddr(value); err == nil {
		want = want.Unmap()
		return func(text string) bool {
			a, err := netip.ParseAddr(text)
			return err == nil && a.Unmap() == want
		}
	}
	if want, ok := quantity(value); ok {
		return func(text string) bool {
			have, ok := quantity(text)
			return ok && have == want || !ok && strings.EqualFold(text, value)
		}
	}
	return func(text string) bool { return strings.EqualFold(text, value) }
}

// comparison makes the test of an order. A time is compared with times, anything else with quantities.
func (p *parser) comparison(op string, values []string, at int) (func(string) bool, error) {
	tests := make([]func(string) bool, 0, len(values))
	for _, v := range values {
		if want, err := time.Parse(time.RFC3339Nano, v); err == nil {
			tests = append(tests, func(text string) bool {
				have, err := time.Parse(time.RFC3339Nano, text)
				return err == nil && ordered(op, have.Compare(want))
			})
			continue
		}
		want, ok := quantity(v)
		if !ok {
			return nil, p.fail(at, "%q is not a number, a duration such as 5m, or a time", v)
		}
		tests = append(tests, func(text string) bool {
			have, ok := quantity(text)
			if !ok {
				return false
			}
			order := 0
			if have < want {
				order = -1
			} else if have > want {
				order = 1
			}
			return ordered(op, order)
		})
	}
	return func(text string) bool {
		for _, test := range tests {
			if test(text) {
				return true
			}
		}
		return false
	}, nil
}

func ordered(op string, order int) bool {
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// address reads an address with or without a port.
func address(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap(), true
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap(), true
	}
	return netip.Addr{}, false
}

func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// quantity reads what tables show as a number: 3, 4,225, 23 %, 0.2, a duration (12m16s, 21h, 3d) as seconds, and either
// with >= before it, which says that it is a bound.
func quantity(text string) (float64, bool) {
	text = strings.TrimSpace(text)
	text = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(text, ">="), "≥"))
	text = strings.TrimSpace(strings.TrimSuffix(text, "%"))
	if text == "" || !strings.ContainsAny(text[:1], "0123456789.-+") {
		return 0, false // not "Inf" and "NaN", which ParseFloat knows
	}
	if n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64); err == nil {
		return n, true
	}
	days := 0.0
	if i := strings.IndexByte(text, 'd'); i > 0 {
		n, err := strconv.ParseFloat(text[:i], 64)
		if err != nil {
			return 0, false
		}
		days, text = n*86400, text[i+1:]
		if text == "" {
			return days, true
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, false
	}
	return days + d.Seconds(), true
}
