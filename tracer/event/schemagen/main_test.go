package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/midhop/midhop/tracer/event"
)

// TestCommittedFilesAreUpToDate fails where a type or a comment was changed and `go generate ./tracer/event` was not run.
func TestCommittedFilesAreUpToDate(t *testing.T) {
	files, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join("..", name))
		if err != nil || !bytes.Equal(have, want) {
			t.Errorf("%s is not what schemagen writes; run go generate ./tracer/event (%v)", name, err)
		}
	}
	pages, err := filepath.Glob(filepath.Join("..", docsDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if _, ok := files[filepath.Join(docsDir, filepath.Base(page))]; !ok {
			t.Errorf("%s belongs to no type", page)
		}
	}
}

// TestClosedSetsAreOfMembers catches a field that was renamed.
func TestClosedSetsAreOfMembers(t *testing.T) {
	v, err := readVocabulary("..")
	if err != nil {
		t.Fatal(err)
	}
	for name := range closed {
		if _, ok := v.fields[name]; !ok {
			t.Errorf("there is no field %s", name)
		}
	}
}

// TestNamedStringsAreClosed catches a named string type whose values were not found.
func TestNamedStringsAreClosed(t *testing.T) {
	v, err := readVocabulary("..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(typ.Elem())
		case reflect.String:
			if typ != reflect.TypeFor[string]() && len(v.values[typ.Name()]) < 2 {
				t.Errorf("%s has the values %q", typ, v.values[typ.Name()])
			}
		case reflect.Struct:
			if inner, ok := optional(typ); ok {
				walk(inner)
				return
			}
			if seen[typ] || !strings.HasSuffix(typ.PkgPath(), "tracer/event") {
				return
			}
			seen[typ] = true
			for i := range typ.NumField() {
				walk(typ.Field(i).Type)
			}
		}
	}
	for _, typ := range event.Types() {
		walk(reflect.TypeOf(event.NewBody(typ)))
	}
}
