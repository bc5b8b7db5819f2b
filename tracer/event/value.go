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

// UnmarshalJSON implements json.Unmarshaler for any decimal that fits 292 years; digits beyond the nanosecond are cut.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	text := string(b)
	whole, frac, hasFrac := text, "", false
	if i := bytes.IndexByte(b, '.'); i >= 0 {
		whole, frac, hasFrac = text[:i], text[i+1:], true
	}
	negative := len(whole) > 0 && whole[0] == '-'
	if negative {
		whole = whole[1:]
	}
	n, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || (hasFrac && frac == "") {
		return fmt.Errorf("%q is not a decimal number of seconds", text)
	}
	if n >= math.MaxInt64/1_000_000_000 {
		return fmt.Errorf("%q seconds are more than 292 years", text)
	}
	total := int64(n) * 1e9
	div := int64(1e8)
	for _, c := range []byte(frac) {
		if c < '0' || c > '9' {
			return fmt.Errorf("%q is not a decimal number of seconds", text)
		}
		total += int64(c-'0') * div
		div /= 10
	}
	if negative {
		total = -total
	}
	*s = Seconds(total)
	return nil
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
