package redact

import (
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// hasText says whether the strings of a body may hold addresses. The others speak of programs and objects, where 6.1.0.13 is
// the version of a kernel.
func hasText(b event.Body) bool {
	switch b.(type) {
	case *event.Started, *event.Synced, *event.Heartbeat, *event.NodeFact, *event.PodFact, *event.ServiceFact, *event.Table:
		return false
	}
	return true
}

var (
	addrType = reflect.TypeFor[netip.Addr]()
	leaves   = map[reflect.Type]bool{reflect.TypeFor[netip.Prefix](): true, reflect.TypeFor[time.Time](): true}
)

// copyOf returns a copy of a value in which every address is renamed, wherever it stands: a field that is added to an event
// later is renamed without a word about it here. Whoever made the original may still use it.
func (r *Redactor) copyOf(v reflect.Value, text bool) reflect.Value {
	switch t := v.Type(); {
	case t == addrType:
		return reflect.ValueOf(r.addr(v.Interface().(netip.Addr)))
	case leaves[t] || !touches(t, text):
		return v
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out := reflect.New(v.Type().Elem())
		out.Elem().Set(r.copyOf(v.Elem(), text))
		return out
	case reflect.Struct:
		out := reflect.New(v.Type()).Elem()
		out.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(r.copyOf(v.Field(i), text))
			}
		}
		return out
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			out.Index(i).Set(r.copyOf(v.Index(i), text))
		}
		return out
	case reflect.String:
		return reflect.ValueOf(r.text(v.String())).Convert(v.Type())
	}
	return v
}

type touched struct {
	t    reflect.Type
	text bool
}

var touchedTypes sync.Map // touched -> bool

// touches says whether a value of a type can hold an address.
func touches(t reflect.Type, text bool) (yes bool) {
	key := touched{t, text}
	if known, ok := touchedTypes.Load(key); ok {
		return known.(bool)
	}
	defer func() { touchedTypes.Store(key, yes) }()
	switch {
	case t == addrType:
		return true
	case leaves[t]:
		return false
	}
	switch t.Kind() {
	case reflect.String:
		return text
	case reflect.Pointer, reflect.Slice:
		return touches(t.Elem(), text)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && touches(f.Type, text) {
				return true
			}
		}
	}
	return false
}

// spots are parts of a text that may be addresses, with or without a port.
var spots = regexp.MustCompile(`\[[0-9A-Fa-f:.]+\](:[0-9]+)?|[0-9A-Fa-f]*[:.][0-9A-Fa-f:.]*[0-9A-Fa-f]`)

// text renames the addresses of a text. A flow is one: 10.0.0.1:80-192.0.2.1:4711.
func (r *Redactor) text(s string) string {
	if !strings.ContainsAny(s, ".:") {
		return s
	}
	return spots.ReplaceAllStringFunc(s, func(spot string) string {
		if ap, err := netip.ParseAddrPort(spot); err == nil {
			return netip.AddrPortFrom(r.addr(ap.Addr()), ap.Port()).String()
		}
		if ip, err := netip.ParseAddr(spot); err == nil {
			return r.addr(ip).String()
		}
		return spot
	})
}
