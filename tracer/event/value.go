package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"
)

// Opt is a value that may be unknown. The zero Opt is unknown and is left out of JSON; Known(0) is a known zero.
type Opt[T any] struct {
	V  T
	OK bool
}

// Known returns v as a known value.
func Known[T any](v T) Opt[T] { return Opt[T]{V: v, OK: true} }

// IsZero says whether the value is unknown, so that `omitzero` leaves it out.
func (o Opt[T]) IsZero() bool { return !o.OK }

// Or returns the value, or other where it is unknown.
func (o Opt[T]) Or(other T) T {
	if o.OK {
		return o.V
	}
	return other
}

// MarshalJSON implements json.Marshaler; an unknown value becomes null where it was not left out.
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if !o.OK {
		return []byte("null"), nil
	}
	return json.Marshal(o.V)
}

// UnmarshalJSON implements json.Unmarshaler; null is unknown.
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*o = Opt[T]{}
		return nil
	}
	o.OK = true
	return json.Unmarshal(b, &o.V)
}

// Seconds is a span of time in nanoseconds whose JSON form is decimal seconds, exact to the nanosecond.
type Seconds int64

// Duration returns the span as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// String returns the span as time.Duration prints it.
func (s Seconds) String() string { return time.Duration(s).String() }

// AppendJSON appends the decimal form, such as 0.204 or -3, without trailing zeros.
func (s Seconds) AppendJSON(b []byte) []byte {
	u := uint64(s)
	if s < 0 {
		b = append(b, '-')
		u = -u
	}
	b = strconv.AppendUint(b, u/1e9, 10)
	return appendFraction(b, uint32(u%1e9))
}

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) { return s.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler for any number that fits 292 years, rounded to the nanosecond.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	if plainSeconds(b, s) {
		return nil
	}
	d, ok := parseDecimal(string(b))
	if !ok {
		return fmt.Errorf("%.40q is not a number of seconds", b)
	}
	n, _, ok := d.scaled(9)
	if !ok || n >= math.MaxInt64/1_000_000_000*1_000_000_000 {
		return fmt.Errorf("%.40q seconds are more than 292 years", b)
	}
	*s = Seconds(n)
	if d.negative {
		*s = -*s
	}
	return nil
}

// plainSeconds reads what AppendJSON writes without taking it apart; it returns false for anything else.
func plainSeconds(b []byte, s *Seconds) bool {
	i := 0
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		i++
	}
	start, total := i, int64(0)
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		if total = total*10 + int64(b[i]-'0'); i-start > 8 { // longer ones are rare
			return false
		}
	}
	if i == start {
		return false
	}
	total *= 1e9
	if i < len(b) {
		if b[i] != '.' || i+1 == len(b) {
			return false
		}
		div := int64(1e8)
		for i++; i < len(b); i++ {
			if b[i]-'0' > 9 || div == 0 {
				return false
			}
			total += int64(b[i]-'0') * div
			div /= 10
		}
	}
	if negative {
		total = -total
	}
	*s = Seconds(total)
	return true
}

// Endpoint is one end of a connection. IPv4-mapped addresses are unmapped before they get here.
type Endpoint struct {
	IP   netip.Addr `json:"ip"`
	Port uint16     `json:"port"`
}

// AddrPort returns the endpoint as netip.AddrPort.
func (e Endpoint) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.IP, e.Port) }

// String returns "ip:port", with brackets around IPv6 addresses.
func (e Endpoint) String() string { return e.AddrPort().String() }

// FlowID names one connection for the envelope's flow member, local end first.
func FlowID(local, peer Endpoint) string {
	b := make([]byte, 0, 64)
	b = local.AddrPort().AppendTo(b)
	b = append(b, '-')
	return string(peer.AddrPort().AppendTo(b))
}
