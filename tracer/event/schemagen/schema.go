package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

// object is a JSON object that keeps its order, so that the schema reads as the types do.
type object []pair

type pair struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, p := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{p.key, p.value} {
			if j > 0 {
				b.WriteByte(':')
			}
			text, err := marshal(part)
			if err != nil {
				return nil, err
			}
			b.Write(text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// schema returns the JSON Schema of one line.
func (v *vocabulary) schema() ([]byte, error) {
	defs := newDefinitions(v)
	var rules []any
	for _, t := range event.Types() {
		rules = append(rules, object{
			{"if", object{{"properties", object{{"type", object{{"const", t.String()}}}}}}},
			{"then", defs.ref(reflect.TypeOf(event.NewBody(t)).Elem())},
		})
	}
	root := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", fmt.Sprintf("urn:midhop:event:%d", event.Version)},
		{"title", "One line of midhop's event stream"},
		{"description", "UTF-8, one JSON object a line, at most 64 KiB. Members and types that a reader does not know are to be skipped. " +
			"Absent means unknown, zero means zero. Names that end in _s are durations in seconds, in _bytes sizes."},
		{"type", "object"},
		{"required", []string{"v", "type", "time", "id", "seq", "source"}},
		{"properties", object{
			{"v", object{{"const", event.Version}, {"description", "Version of the format. New optional members and types leave it as it is."}}},
			{"type", object{{"type", "string"}, {"pattern", `^[a-z]+\.[a-z]+$`}, {"description", "What the event is, and with it which further members there are."}}},
			{"time", object{{"$ref", "#/$defs/time"}, {"description", "When it happened, by the clock of the machine where it happened."}}},
			{"id", object{{"type", "string"}, {"pattern", `^.+-[0-9]+$`}, {"description", "The origin's own number, <source>-<boot>-<n>. It stays the same wherever the event travels."}}},
			{"seq", object{{"type", "integer"}, {"minimum", 1}, {"description", "Numbers the lines of this stream; a hole is a loss between midhop and its reader."}}},
			{"source", object{{"type", "string"}, {"minLength", 1}, {"description", "Who saw it, such as agent/node-b, hub, kube, engine, lab."}}},
			{"flow", object{{"type", "string"}, {"minLength", 1}, {"description", "One connection as ip:port-ip:port, local end first."}}},
		}},
		{"allOf", rules},
		{"$defs", defs.all()},
	}
	text, err := marshal(root)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// definitions collects one entry of $defs per struct, in the order in which they are met.
type definitions struct {
	v     *vocabulary
	order []reflect.Type
	made  map[reflect.Type]object
}

func newDefinitions(v *vocabulary) *definitions {
	return &definitions{v: v, made: map[reflect.Type]object{}}
}

func (d *definitions) ref(t reflect.Type) object {
	if _, ok := d.made[t]; !ok {
		d.made[t] = nil
		d.order = append(d.order, t)
		d.made[t] = d.structure(t)
	}
	return object{{"$ref", "#/$defs/" + t.Name()}}
}

func (d *definitions) structure(t reflect.Type) object {
	var required []string
	properties := object{}
	for _, m := range d.v.members(t) {
		if m.required {
			required = append(required, m.name)
		}
		value := d.value(m.kind, m.closed)
		if m.about != "" {
			value = append(value, pair{"description", m.about})
		}
		properties = append(properties, pair{m.name, value})
	}
	out := object{{"description", d.v.types[t.Name()]}, {"type", "object"}}
	if len(required) > 0 {
		out = append(out, pair{"required", required})
	}
	return append(out, pair{"properties", properties})
}

func (d *definitions) value(t reflect.Type, closed []string) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{{"$ref", "#/$defs/time"}}
	case reflect.TypeFor[netip.Addr]():
		return object{{"$ref", "#/$defs/address"}}
	case reflect.TypeFor[netip.Prefix]():
		return object{{"$ref", "#/$defs/range"}}
	case reflect.TypeFor[event.Seconds]():
		return object{{"type", "number"}}
	}
	if inner, ok := optional(t); ok {
		return d.value(inner, closed)
	}
	switch t.Kind() {
	case reflect.Struct:
		return d.ref(t)
	case reflect.Pointer:
		return d.value(t.Elem(), closed)
	case reflect.Slice:
		return object{{"type", "array"}, {"items", d.value(t.Elem(), closed)}}
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", d.value(t.Elem(), nil)}}
	case reflect.String:
		if closed != nil {
			return object{{"enum", closed}}
		}
		return object{{"type", "string"}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Float64:
		return object{{"type", "number"}}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return object{{"type", "integer"}}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return object{{"type", "integer"}, {"minimum", 0}, {"maximum", uint64(1)<<t.Bits() - 1}}
	case reflect.Uint64:
		return object{{"type", "integer"}, {"minimum", 0}}
	}
	panic(fmt.Sprintf("no schema for %s", t))
}

// optional returns T for an Opt[T].
func optional(t reflect.Type) (reflect.Type, bool) {
	if t.Kind() == reflect.Struct && t.NumField() == 2 && t.Field(0).Name == "V" && t.Field(1).Name == "OK" {
		return t.Field(0).Type, true
	}
	return nil, false
}

func (d *definitions) all() object {
	out := object{
		{"time", object{{"description", "A moment in UTC, RFC 3339 with as many digits of the second as it needs, at most nine."},
			{"type", "string"}, {"format", "date-time"}, {"pattern", `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$`}}},
		{"address", object{{"description", "An IPv4 or IPv6 address; an IPv4-mapped one is written as IPv4."},
			{"type", "string"}, {"pattern", `^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-f:]*:[0-9a-f:.]*(%.+)?)$`}, {"not", object{{"pattern", "^::ffff:[0-9.]+$"}}}}},
		{"range", object{{"description", "A range of addresses, as in 10.244.1.0/24."}, {"type", "string"}, {"pattern", `^[0-9a-f.:]+/[0-9]{1,3}$`}}},
	}
	for _, t := range d.order {
		out = append(out, pair{t.Name(), d.made[t]})
	}
	return out
}
