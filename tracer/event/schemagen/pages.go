package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/midhop/midhop/tracer/event"
)

const generated = "<!-- Generated from tracer/event by `go generate ./tracer/event`; do not edit. -->\n"

// pages returns one page per type and an index.
func (v *vocabulary) pages(examples string) (map[string][]byte, error) {
	lines, err := readExamples(examples)
	if err != nil {
		return nil, err
	}
	pages := make(map[string][]byte)
	var index bytes.Buffer
	index.WriteString(generated + "\n# Events\n\n" +
		"One JSON object a line, UTF-8, at most 64 KiB; `midhop schema` prints the JSON Schema. A fact is something that a source saw; " +
		"a finding is something that the fold concluded from facts. Readers skip members and types that they do not know.\n\n" +
		"Every line begins with `v` (1), `type`, `time` (RFC 3339, UTC), `id` (the origin's own number), `seq` (numbers the lines of this stream: " +
		"a hole is a loss between midhop and you), `source` and, where one applies, `flow`. Absent means unknown, zero means zero.\n\n" +
		"| type | what it is |\n|---|---|\n")
	for _, t := range event.Types() {
		if lines[t] == nil {
			return nil, fmt.Errorf("%s has no example in %s", t, examples)
		}
		fmt.Fprintf(&index, "| [`%s`](%s.md) | %s |\n", t, t, cell(v.events[t]))
		pages[t.String()+".md"] = v.page(t, lines[t])
	}
	pages["README.md"] = index.Bytes()
	return pages, nil
}

// readExamples returns the first example of each type.
func readExamples(path string) (map[event.Type][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := make(map[event.Type][]byte)
	for line := range bytes.Lines(data) {
		e, err := event.Decode(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if lines[e.Type] == nil {
			lines[e.Type] = bytes.TrimSpace(line)
		}
	}
	return lines, nil
}

func (v *vocabulary) page(t event.Type, example []byte) []byte {
	body := reflect.TypeOf(event.NewBody(t)).Elem()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n# `%s`\n\n%s.\n\n%s\n\n", generated, t, sentence(v.events[t]), sentence(v.types[body.Name()]))
	b.WriteString("| member | kind | | meaning |\n|---|---|---|---|\n")
	v.rows(&b, "", body)
	fmt.Fprintf(&b, "\nA line:\n\n```json\n%s\n```\n", example)
	return b.Bytes()
}

// sentence begins with a capital.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// rows writes one row per member, those of objects after them under a path.
func (v *vocabulary) rows(b *bytes.Buffer, path string, t reflect.Type) {
	for _, m := range v.members(t) {
		need := "optional"
		if m.required {
			need = "always"
		}
		about := m.about
		if m.closed != nil {
			values := "`" + strings.Join(m.closed, "`, `") + "`"
			if about == strings.Join(m.closed, ", ") {
				about = ""
			}
			if about != "" {
				about += ". "
			}
			about += "One of " + values
		}
		kind, inner, suffix := describe(m.kind)
		fmt.Fprintf(b, "| `%s%s%s` | %s | %s | %s |\n", path, m.name, suffix, kind, need, cell(about))
		if inner != nil {
			v.rows(b, path+m.name+suffix+".", inner)
		}
	}
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// describe names a kind of value for people; inner is its struct where it is an object or a list of them.
func describe(t reflect.Type) (kind string, inner reflect.Type, suffix string) {
	switch t {
	case reflect.TypeFor[time.Time]():
		return "time", nil, ""
	case reflect.TypeFor[netip.Addr]():
		return "address", nil, ""
	case reflect.TypeFor[netip.Prefix]():
		return "range", nil, ""
	case reflect.TypeFor[event.Seconds]():
		return "seconds", nil, ""
	}
	if value, ok := optional(t); ok {
		return describe(value)
	}
	switch t.Kind() {
	case reflect.Struct:
		return "object", t, ""
	case reflect.Pointer:
		return describe(t.Elem())
	case reflect.Slice:
		kind, inner, suffix := describe(t.Elem())
		return kind + "s", inner, "[]" + suffix
	case reflect.Map:
		return "object of numbers", nil, ""
	case reflect.String:
		return "text", nil, ""
	case reflect.Bool:
		return "true or false", nil, ""
	}
	return "number", nil, ""
}
