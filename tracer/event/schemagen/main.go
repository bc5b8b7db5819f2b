// Command schemagen writes the JSON Schema of the event stream and one page of documentation per type. It must not hold
// knowledge of its own about events: everything comes from the types, tags and comments of package event and from the
// committed example lines.
//
// It runs in the folder of package event, by `go generate`; a test fails where the committed files differ from what it
// would write.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

// run writes all files, dir being the folder of package event.
func run(dir string) error {
	files, err := generate(dir)
	if err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// docsDir is where the pages go, from the folder of package event.
const docsDir = "../../docs/events"

// generate returns the text of every file by its path from dir.
func generate(dir string) (map[string][]byte, error) {
	v, err := readVocabulary(dir)
	if err != nil {
		return nil, err
	}
	schema, err := v.schema()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"schema.json": schema}
	pages, err := v.pages(filepath.Join(dir, "testdata", "examples.jsonl"))
	if err != nil {
		return nil, err
	}
	for name, text := range pages {
		files[filepath.Join(docsDir, name)] = text
	}
	return files, nil
}
