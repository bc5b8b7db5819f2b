package event

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A plan knows how to read one struct: made once per type from its JSON tags, so that bodies are declared in one place.
type plan struct {
	names    []string
	required uint64 // bits of the members without omitempty or omitzero
	reads    []readFunc
}

// readFunc reads the value at the scanner's position into v.
type readFunc func(s *scanner, v reflect.Value) bool

// bodyPlans holds the plan of every body, by the pointer type that NewBody returns.
var bodyPlans = func() map[reflect.Type]*plan {
	plans := make(map[reflect.Type]*plan)
	for _, t := range Types() {
		if pointer := reflect.TypeOf(NewBody(t)); plans[pointer] == nil {
			plans[pointer] = newPlan(pointer.Elem())
		}
	}
	return plans
}()

func newPlan(t reflect.Type) *plan {
	if t.NumField() > 64 {
		panic(fmt.Sprintf("%s has more members than a plan has bits", t))
	}
	p := &plan{}
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" || !field.IsExported() {
			panic(fmt.Sprintf("%s.%s has no JSON name", t, field.Name))
		}
		if options == "" {
			p.required |= 1 << i
		}
		p.names = append(p.names, name)
		p.reads = append(p.reads, reader(field.Type))
	}
	return p
}

// objectDecoder reads the members of one object in any order; in the order of the struct it finds each at once.
type objectDecoder struct {
	plan *plan
	into reflect.Value
	seen uint64
	next int
}

func (d *objectDecoder) start(body Body) {
	v := reflect.ValueOf(body)
	*d = objectDecoder{plan: bodyPlans[v.Type()], into: v.Elem()}
}

func (d *objectDecoder) member(s *scanner, name []byte) bool {
	for range d.plan.names {
		i := d.next
		if d.next++; d.next == len(d.plan.names) {
			d.next = 0
		}
		if string(name) != d.plan.names[i] {
			continue
		}
		if d.seen&(1<<i) != 0 {
			s.fail("stands twice")
			return s.within(d.plan.names[i])
		}
		if s.literal("null") {
			return true // as if it were absent, as in encoding/json
		}
		d.seen |= 1 << i
		if !d.plan.reads[i](s, d.into.Field(i)) {
			return s.within(d.plan.names[i])
		}
		return true
	}
	return s.skip(0)
}

func (d *objectDecoder) finish(s *scanner) bool {
	if lacking := d.plan.required &^ d.seen; lacking != 0 {
		return s.missing(d.plan.names, lacking)
	}
	return true
}

// optional is implemented by every Opt.
type optional interface{ optional() }

func (Opt[T]) optional() {}

// reader makes the readFunc of a type. Types that no body uses are refused when the program starts.
func reader(t reflect.Type) readFunc {
	switch t {
	case reflect.TypeFor[time.Time]():
		return func(s *scanner, v reflect.Value) bool {
			value, ok := s.time()
			*v.Addr().Interface().(*time.Time) = value
			return ok
		}
	case reflect.TypeFor[netip.Addr]():
		return func(s *scanner, v reflect.Value) bool {
			value, ok := s.addr()
			*v.Addr().Interface().(*netip.Addr) = value
			return ok
		}
	case reflect.TypeFor[netip.Prefix]():
		return func(s *scanner, v reflect.Value) bool {
			value, ok := s.prefix()
			*v.Addr().Interface().(*netip.Prefix) = value
			return ok
		}
	case reflect.TypeFor[Seconds]():
		return readSeconds
	}
	if t.Implements(reflect.TypeFor[optional]()) {
		value := reader(t.Field(0).Type)
		return func(s *scanner, v reflect.Value) bool {
			v.Field(1).SetBool(true)
			return value(s, v.Field(0))
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		return structReader(t)
	case reflect.Pointer:
		value := reader(t.Elem())
		return func(s *scanner, v reflect.Value) bool {
			v.Set(reflect.New(t.Elem()))
			return value(s, v.Elem())
		}
	case reflect.Slice:
		return sliceReader(t)
	case reflect.Map:
		return settingsReader(t)
	}
	return scalarReader(t)
}

func readSeconds(s *scanner, v reflect.Value) bool {
	text, ok := s.number()
	if !ok {
		return false
	}
	var value Seconds
	if err := value.UnmarshalJSON(text); err != nil {
		return s.fail(err.Error())
	}
	v.SetInt(int64(value))
	return true
}

func structReader(t reflect.Type) readFunc {
	p := newPlan(t)
	return func(s *scanner, v reflect.Value) bool {
		d := objectDecoder{plan: p, into: v}
		return s.eachMember(func(name []byte) bool { return d.member(s, name) }) && d.finish(s)
	}
}

func sliceReader(t reflect.Type) readFunc {
	element := reader(t.Elem())
	return func(s *scanner, v reflect.Value) bool {
		v.Set(reflect.MakeSlice(t, 0, 4))
		return s.eachElement(func(i int) bool {
			if i == v.Cap() {
				v.Grow(i) // doubles
			}
			v.SetLen(i + 1)
			return element(s, v.Index(i))
		})
	}
}

// settingsReader reads an object of numbers; no body has another map.
func settingsReader(t reflect.Type) readFunc {
	if t != reflect.TypeFor[map[string]int64]() {
		panic(fmt.Sprintf("no body may hold a %s", t))
	}
	return func(s *scanner, v reflect.Value) bool {
		settings := make(map[string]int64)
		v.Set(reflect.ValueOf(settings))
		return s.eachMember(func(name []byte) bool {
			key := string(name)
			n, ok := s.integer(64)
			if !ok {
				return s.within(key)
			}
			settings[key] = n
			return true
		})
	}
}

func scalarReader(t reflect.Type) readFunc {
	switch t.Kind() {
	case reflect.String:
		return func(s *scanner, v reflect.Value) bool {
			text, ok := s.text()
			v.SetString(intern(text))
			return ok
		}
	case reflect.Bool:
		return func(s *scanner, v reflect.Value) bool {
			value := s.literal("true")
			v.SetBool(value)
			return value || s.literal("false") || s.fail("want true or false, have "+s.here())
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return func(s *scanner, v reflect.Value) bool {
			n, ok := s.integer(t.Bits())
			v.SetInt(n)
			return ok
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(s *scanner, v reflect.Value) bool {
			n, ok := s.unsigned(t.Bits())
			v.SetUint(n)
			return ok
		}
	case reflect.Float64:
		return func(s *scanner, v reflect.Value) bool {
			text, ok := s.number()
			if !ok {
				return false
			}
			f, err := strconv.ParseFloat(string(text), 64)
			if err != nil {
				return s.fail(fmt.Sprintf("%.40s is too large", text))
			}
			v.SetFloat(f)
			return true
		}
	}
	panic(fmt.Sprintf("no body may hold a %s", t))
}

// words are the strings that stand in nearly every row, kept once.
var words = func() map[string]string {
	m := make(map[string]string)
	for _, w := range []string{
		"established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close", "close_wait", "last_ack",
		"listen", "closing", "rto", "tail_loss", "fast", "syn", "window", "keepalive", "retransmit", "reorder", "probe0",
		"ipv4", "ipv6", "seen", "changed", "gone", "accepted", "dialled", "listening", "entry", "egress", "local", "pod",
		"direct", "unknown", "proved", "inferred", "tcp", "snat", "dnat", "ctnetlink", "dump", "fexit", "kprobe",
		"closed", "timeout", "flushed", "netns", "exact", "lower_bound", "ETIMEDOUT", "ECONNRESET", "engine",
	} {
		m[w] = w
	}
	return m
}()

// intern returns text as a string, without allocating for the words that are common.
func intern(text []byte) string {
	if w, ok := words[string(text)]; ok {
		return w
	}
	return string(text)
}
